"""Runs commands under the recorder and makes traces of what they did. What the commands are, and
what load they get, is servers.py's business."""

import contextlib
import glob
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass

import allocators
import measure
import tracefile

ORDER_AT = 64  # where a raw file counts its records; see trace/raw.h
START_S = 20
LOAD_S = 1200  # no load takes longer, on a busy machine either


class Refused(Exception):
    """It cannot be recorded, or the load failed."""


@dataclass
class Process:
    """What was recorded of one process."""

    raw: str
    records: int


class Session:
    """A folder that everything happens in, and what was started there. With the session it ends."""

    def __init__(self, programs):
        self.programs = programs
        self.stack = contextlib.ExitStack()
        self.started = []

    def __enter__(self):
        self.folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="berth-trace."))
        self.raw = os.path.join(self.folder, "raw")
        os.mkdir(self.raw)
        # Servers change their user, who must find the library and be able to write.
        os.chmod(self.folder, 0o777)
        os.chmod(self.raw, 0o777)
        library = shutil.copy(self.programs.recorder, self.folder)
        os.chmod(library, 0o755)
        self.recorder = allocators.Allocator("recorder", library, environment={
            "BERTH_TRACE": os.path.join(self.raw, "process")})
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            self.stop(process)
        self.stack.close()

    def path(self, name):
        return os.path.join(self.folder, name)

    def file(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def start(self, *command, recorded=True, **options):
        """A server under the launcher, which ends all that it started."""
        allocator = self.recorder if recorded else allocators.glibc()
        launch = measure.launcher_command(self.programs, allocator, os.devnull, LOAD_S)
        with open(self.path("log"), "ab") as log:
            process = subprocess.Popen(launch + list(command), stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL,
                                       env=measure.environment_for(allocator), **options)
        self.started.append(process)
        return process

    def stop(self, process):
        if process.poll() is None:
            process.terminate()
        process.wait()

    def log_end(self):
        with contextlib.suppress(OSError), open(self.path("log"), encoding="utf-8",
                                                errors="replace") as log:
            return log.read().strip()[-300:]
        return ""

    def until(self, ready, process, what):
        """Waits until a server answers."""
        for _ in range(START_S * 20):
            if ready():
                return
            if process.poll() is not None:
                break
            time.sleep(0.05)
        raise Refused(f"{what} did not start: {self.log_end()}")

    def until_listens(self, port, process, what):
        def listens():
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            return False

        self.until(listens, process, what)

    def check(self, *command, **options):
        """A command of the load, not recorded. Returns what it prints."""
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              timeout=LOAD_S, **options)
        if done.returncode:
            raise Refused(f"{os.path.basename(command[0])} failed: "
                          f"{(done.stderr or done.stdout).strip()[-300:]}")
        return done.stdout

    def processes(self):
        """Those that recorded anything, the busiest first."""
        found = []
        for raw in glob.glob(os.path.join(self.raw, "*.raw")):
            with open(raw, "rb") as file:
                file.seek(ORDER_AT)
                found.append(Process(raw, struct.unpack("<Q", file.read(8))[0]))
        return sorted((one for one in found if one.records), key=lambda one: -one.records)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command_of(name, package):
    """Where a program lies; servers are not on every user's path."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Refused(f"{name} is not installed (Debian: {package})")
    return path


def finish(session, out, all_processes):
    """Traces of the busiest process, or of all of them as OUT.1 and so on. [Trace]"""
    found = session.processes()
    if not found:
        raise Refused("nothing was recorded: the program's allocator lies in its own file, or it "
                      "runs with raised privileges " + session.log_end())
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    traces = []
    for number, process in enumerate(found if all_processes else found[:1]):
        path = out if number == 0 else f"{out.removesuffix('.trace')}.{number}.trace"
        session.check(session.programs.finish, process.raw, path)
        traces.append(tracefile.read(path))
    others = len(found) - len(traces)
    if others:
        print(f"{os.path.relpath(out)}: the busiest of {len(found)} processes; the others made "
              f"{sum(one.records for one in found[1:])} records (--all keeps them)")
    return traces


def record_command(programs, command, out, all_processes):
    """Any command, whose input and output stay its own."""
    with Session(programs) as session:
        environment = dict(os.environ, **session.recorder.environment,
                           LD_PRELOAD=session.recorder.path)
        try:
            status = subprocess.run(command, env=environment, check=False).returncode
        except OSError as error:
            raise Refused(f"{command[0]} could not be run: {error.strerror}") from error
        if status:
            print(f"{command[0]} ended with status {status}")
        return finish(session, out, all_processes)
