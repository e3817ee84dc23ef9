#!/usr/bin/env python3
"""`berth top` under a pseudo terminal: keys, views, resizing, monochrome, and how it leaves.

    tests/cli/top.py TOOL CHILD

Would be broken if this failed: who watches a server could be left with a garbled terminal, or with
figures that stand still.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

TOOL, CHILD = sys.argv[1:3]
DEADLINE_S = 60
LINES_FOR_ALL = 400  # whatever else runs on berth just then
faults = []


def expect(condition, what):
    if not condition:
        faults.append(what)
    print("ok:" if condition else "FAILED:", what, flush=True)


def resize(fd, lines, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


class Top:
    """The tool on a terminal of its own."""

    def __init__(self, term="xterm", lines=24, columns=100, arguments=("--delay", "0.2")):
        self.master, self.slave = pty.openpty()
        resize(self.slave, lines, columns)
        self.before = termios.tcgetattr(self.slave)
        environment = dict(os.environ, TERM=term)
        environment.pop("NO_COLOR", None)
        self.process = subprocess.Popen([TOOL, "top", *arguments], stdin=self.slave,
                                        stdout=self.slave, stderr=self.slave, env=environment,
                                        start_new_session=True)
        self.seen = ""

    def shows(self, pattern, within_s=DEADLINE_S):
        """Waits until the pattern was written since the last such call that found one."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            found = re.search(pattern, self.seen, re.S)
            if found:
                self.seen = self.seen[found.end():]
                return True
            if not self.read() and self.process.poll() is not None:
                return False
        return False

    def read(self):
        """False if nothing came for a while."""
        if not select.select([self.master], [], [], 0.2)[0]:
            return False
        self.seen += os.read(self.master, 65536).decode(errors="replace")
        return True

    def keys(self, text):
        os.write(self.master, text.encode())

    def ends(self, signal_number=None):
        """Its status after q, or after a signal; None if it goes on."""
        if signal_number is None:
            self.keys("q")
        else:
            self.process.send_signal(signal_number)
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
        if self.process.poll() is None:
            self.process.kill()
            return None
        status = self.process.returncode
        expect(termios.tcgetattr(self.slave) == self.before, "the terminal is as it was")
        os.close(self.master)
        os.close(self.slave)
        return status


def batch(*arguments):
    return subprocess.run([TOOL, "top", *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False, timeout=DEADLINE_S)


def first_line(process):
    if not select.select([process.stdout], [], [], DEADLINE_S)[0]:
        raise TimeoutError("the child does not get ready")
    return process.stdout.readline()


def look_closer(top):
    """The process that uses most may be another one, and may have ended meanwhile."""
    for _ in range(20):
        top.keys("\r")
        if top.shows("ARENAS OF", within_s=5):
            return True
        top.keys("\x1b")
    return False


def views(pid):
    top = Top(lines=LINES_FOR_ALL)
    expect(top.shows(r"PID.*LIVE.*USED.*IDLE.*LIMIT.*USED%.*ALLOC/s"), "headings")
    expect(top.shows(rf"{pid}\b.*64\.0M"), "the process and its limit")
    expect(top.shows("q end  h help"), "a line of keys")
    top.keys("h")
    expect(top.shows("No process is stopped"), "help")
    top.keys("x")
    expect(top.shows("q end  h help"), "back from help")
    expect(look_closer(top), "arenas of the selected process")
    expect(top.shows("CLASSES OF"), "its classes")
    top.keys("\x1b")
    expect(top.shows("Enter look closer"), "back in the table")
    top.keys("++++++")
    expect(top.shows(r"12\.8 s"), "a longer delay")
    top.keys("------")
    resize(top.slave, 12, 60)
    top.process.send_signal(signal.SIGWINCH)
    expect(top.shows(r"\x1b\[2J.*q end  h help"), "a smaller screen is drawn anew")
    resize(top.slave, 1, 10)
    top.process.send_signal(signal.SIGWINCH)
    time.sleep(0.5)
    expect(top.process.poll() is None, "a screen of one line is survived")
    expect(top.ends() == 0, "q ends it")


def rates_go_on(pid):
    """A stopped process is shown, with figures that become older."""
    os.kill(pid, signal.SIGSTOP)
    top = Top(lines=LINES_FOR_ALL, arguments=("--delay", "0.2", "--sort", "age"))
    expect(top.shows(rf"{pid}\b"), "a stopped process is shown")
    expect(top.ends() == 0, "q ends it")
    os.kill(pid, signal.SIGCONT)


def colours():
    colourful = Top("xterm")
    expect(colourful.shows("LIVE"), "a terminal with colours")
    expect(colourful.ends(signal.SIGTERM) is not None, "a signal ends it")
    plain = Top("vt100")
    expect(plain.shows("LIVE"), "a terminal without colours")
    expect(not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain.seen), "no colour is sent there")
    expect(plain.ends() == 0, "q ends it")


def without_terminal(pid):
    run = batch()
    expect(run.returncode == 1 and "--batch" in run.stderr, "no terminal: it says what helps")
    unknown = Top("no-such-type")
    expect(unknown.shows("no-such-type"), "an unknown terminal is named")
    expect(unknown.process.wait(DEADLINE_S) == 1, "and is an error")
    run = batch("--batch", "2", "--delay", "0.2")
    expect(run.returncode == 0, "--batch needs none")
    expect(len(re.findall(rf"^ *{pid} ", run.stdout, re.M)) == 2, "the process is in both tables")
    for wrong in (["--batch", "0"], ["--delay", "x"], ["--sort", "nothing"], ["1"]):
        run = batch(*wrong)
        expect(run.returncode == 2 and wrong[-1] in run.stderr, f"refuses {wrong}")


def main():
    child = subprocess.Popen([TOOL, "run", "-c", "limit:64M", CHILD, "hold"],
                             stdout=subprocess.PIPE, text=True)
    try:
        pid = int(first_line(child).split()[1])
        views(pid)
        rates_go_on(pid)
        colours()
        without_terminal(pid)
    finally:
        child.kill()
        child.wait()
    sys.exit(bool(faults))


main()
