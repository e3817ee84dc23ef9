"""A redis-server under an allocator: started, driven by Redis's own tools, sampled, ended. It judges
nothing."""

import csv
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

VALUES, VALUE_BYTES = 480_000, 1024
KEYS_MOST = 2_000_000_000  # so many that hardly a random key comes twice
SAMPLE_S = 0.02
PAGE = os.sysconf("SC_PAGE_SIZE")
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Failed(Exception):
    """There is nothing to show."""


def environment():
    """The caller's, without what would change the allocator."""
    left_out = ("LD_PRELOAD", "BERTH_CONF", "BERTH_TOPOLOGY_FD")
    return {name: value for name, value in os.environ.items() if name not in left_out}


def find(name):
    path = shutil.which(name)
    if not path:
        raise Failed(f"{name} is not installed (Debian: redis-server, redis-tools)")
    return path


def malloc_of(command):
    """The file that redis-server's malloc is bound to, by the dynamic linker's own account."""
    told = subprocess.run([*command, find("redis-server"), "--version"], text=True, check=False,
                          env=dict(environment(), LD_DEBUG="bindings", LD_BIND_NOW="1"),
                          capture_output=True, timeout=30).stderr
    bound = re.search(r"binding file \S*redis-server \[0\] to (\S+) \[0\]: normal symbol `malloc'",
                      told)
    if not bound:
        raise Failed("this redis-server has an allocator inside, which cannot be replaced")
    return bound[1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Redis:
    """A running server; a context that ends it. `samples` are (seconds, resident bytes), `marks`
    (seconds, name), both from the start; `filled` and `flushed` are for whoever drives it."""

    def __init__(self, command, name):
        self.command, self.name = command, name
        self.samples, self.marks = [], []
        self.filled = self.flushed = 0
        self.exit_status = self.process = None
        self.folder = tempfile.TemporaryDirectory(prefix="berth-demo.")
        self.began = time.monotonic()
        self.ended = threading.Event()
        self.sampler = threading.Thread(target=self.sample, daemon=True)

    def __enter__(self):
        try:
            if not any(self.start() for _ in range(5)):
                raise Failed("redis-server does not start: " + self.errors())
        except BaseException:
            self.folder.cleanup()
            raise
        self.began = time.monotonic()
        self.sampler.start()
        return self

    def __exit__(self, *_):
        self.stop_sampling()
        self.stop()
        self.last_errors = self.errors()
        self.folder.cleanup()

    def start(self):
        """False if it ended at once: another program may have taken the port."""
        self.port = free_port()
        with open(os.path.join(self.folder.name, "errors"), "w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [*self.command, find("redis-server"), "--bind", "127.0.0.1", "--port",
                 str(self.port), "--save", "", "--appendonly", "no", "--daemonize", "no",
                 "--dir", self.folder.name, "--logfile", os.path.join(self.folder.name, "log")],
                env=environment(), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        for _ in range(200):
            if self.process.poll() is not None:
                return False
            if self.tool("redis-cli", "ping").stdout.strip() == "PONG":
                return True
            time.sleep(0.05)
        self.stop()
        return False

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.exit_status = self.process.wait()

    def errors(self):
        """What it printed itself; its log is another file."""
        if not os.path.isdir(self.folder.name):
            return self.last_errors
        with open(os.path.join(self.folder.name, "errors"), encoding="utf-8") as file:
            return file.read()

    def tool(self, name, *arguments):
        return subprocess.run([find(name), "-h", "127.0.0.1", "-p", str(self.port), *arguments],
                              capture_output=True, text=True, timeout=60, env=environment(),
                              check=False)

    def ask(self, *words):
        done = self.tool("redis-cli", *words)
        if done.returncode or done.stdout.startswith(("ERR", "OOM")):
            raise Failed(f"redis: {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def benchmark(self, tests, requests, keys):
        """Requests a second, by test."""
        done = self.tool("redis-benchmark", "-t", tests, "-n", str(requests), "-r", str(keys), "-d",
                         str(VALUE_BYTES), "-P", "16", "--csv")
        rows = [row for row in csv.reader(done.stdout.splitlines()) if len(row) > 1]
        rates = {row[0]: float(row[1]) for row in rows if row[0] != "test"}
        if done.returncode or not rates:
            raise Failed(f"redis-benchmark: {done.stdout[-200:]}{done.stderr[-200:]}")
        return rates

    def resident(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * PAGE

    def sample(self):
        while not self.ended.wait(SAMPLE_S):
            try:
                self.samples.append((time.monotonic() - self.began, self.resident()))
            except (OSError, IndexError):
                return

    def stop_sampling(self):
        self.ended.set()
        self.sampler.join()

    def mark(self, name):
        self.marks.append((time.monotonic() - self.began, name))


def bytes_of_text(lines, name):
    """A size in berth's text form of the metrics; 0 if it is not there."""
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[0] == name and words[2] in UNITS:
            return round(float(words[1]) * UNITS[words[2]])
    return 0
