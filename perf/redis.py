#!/usr/bin/env python3
"""Redis as a load: requests per second, the server's processor time, and its memory while 1 KiB
values are overwritten by values of 300 bytes and then all is flushed.

    perf/redis.py [--quick] NAME=PATH ...      (by itself; bench.py has it as the row `redis`)

What is compared with what: Debian's redis-server is linked with libjemalloc.so.2, so without a
preload it runs on jemalloc. A preloaded library comes before that one, and a preloaded libc.so.6
too: that is how the row of glibc is made. Which library the server's malloc is bound to is asked of
the dynamic linker before each run, and recorded. A server with an allocator inside (Redis's own
build) cannot be compared this way and is refused.

The server listens on a private unix socket, keeps nothing on disk and ends with the run.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import allocators
import machine
import measure

KEYS, KEYS_QUICK = 1_000_000, 200_000
REQUESTS, REQUESTS_QUICK = 500_000, 150_000
TESTS = "set,get,incr,lpush,lpop,sadd,hset,zadd"
PIPELINE = 500
STRIDE = 611_953  # a prime: overwrites in an order unlike that of the first writing
KEY = b"key:%011d"
SAMPLE_S = 0.05
IDLE_S = 2


class Refused(Exception):
    """Redis is not there, or cannot be measured with this allocator."""


def find(name):
    path = shutil.which(name)
    if not path:
        raise Refused(f"{name} is not installed (Debian: redis-server, redis-tools)")
    return path


def libc_path():
    """Where this process's own C library lies: preloading it puts glibc's malloc first."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            if re.search(r"/libc\.so\.6$|/libc-2\.\d+\.so$", line.rstrip()):
                return line.split(maxsplit=5)[5].strip()
    raise Refused("the C library was not found")


def preload_for(allocator):
    """The allocator as the server has to be given it: glibc's by name, before its own jemalloc."""
    path = allocator.path or libc_path()
    return allocators.Allocator(allocator.name, path, allocator.version, allocator.environment)


def bound_to(server, allocator):
    """The library that the server's malloc comes from, as the dynamic linker tells."""
    environment = dict(measure.environment_for(allocator), LD_DEBUG="bindings", LD_BIND_NOW="1",
                       LD_PRELOAD=allocator.path)
    told = subprocess.run([server, "--version"], env=environment, capture_output=True, text=True,
                          check=False).stderr
    name = re.escape(os.path.basename(server))
    bound = re.search(rf"binding file \S*{name} \[0\] to (\S+) \[0\]: normal symbol `malloc'", told)
    if not bound:
        raise Refused("the server brings an allocator of its own inside")
    if os.path.realpath(bound[1]) != os.path.realpath(allocator.path):
        raise Refused(f"the server's malloc is {bound[1]}: the preload did not take")
    return bound[1]


def pack(*words):
    """One command in Redis's protocol."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


class Client:
    """The few commands needed, over a unix socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb")

    def ask(self, *words):
        self.socket.sendall(pack(*words))
        return self.answer()

    def answer(self):
        line = self.stream.readline().rstrip(b"\r\n")
        if line.startswith(b"-"):
            raise Refused(f"redis answers {line.decode(errors='replace')}")
        if not line.startswith(b"$"):
            return line[1:]
        return self.stream.read(int(line[1:]) + 2)[:-2]

    def info(self):
        pairs = (line.split(":", 1) for line in self.ask(b"INFO").decode().splitlines())
        return dict(pair for pair in pairs if len(pair) == 2)

    def set_all(self, count, value, stride):
        """Writes the value under `count` keys, key by key in steps of stride, many in flight."""
        for first in range(0, count, PIPELINE):
            numbers = range(first, min(first + PIPELINE, count))
            self.socket.sendall(b"".join(
                pack(b"SET", KEY % (number * stride % count), value) for number in numbers))
            for _ in numbers:
                self.answer()


class Server:
    """A running redis-server under the launcher."""

    def __init__(self, programs, allocator, folder):
        self.socket_path = os.path.join(folder, "redis.sock")
        self.out = os.path.join(folder, "launch.json")
        self.log = os.path.join(folder, "redis.log")
        command = measure.launcher_command(programs, allocator, self.out, measure.TIMEOUT_S)
        command += [find("redis-server"), "--port", "0", "--unixsocket", self.socket_path,
                    "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", folder,
                    "--logfile", self.log]
        self.process = subprocess.Popen(command, env=measure.environment_for(allocator),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.client = self.connect()
        self.pid = int(self.client.info()["process_id"])

    def connect(self):
        for _ in range(200):
            with contextlib.suppress(OSError):
                return Client(self.socket_path)
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.stop()
        raise Refused("the server did not start")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()

    def resident_kib(self):
        rollup = machine.field_of(f"/proc/{self.pid}/smaps_rollup", "Rss")
        return int(rollup.split()[0]) if rollup else 0

    def cpu_s(self):
        info = self.client.info()
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


class Sampler(threading.Thread):
    """Resident memory of the server, every SAMPLE_S."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.samples, self.ended = pid, [], threading.Event()
        self.phases = []  # (name, when it ended)
        self.began = time.monotonic()
        self.start()

    def phase_ended(self, name):
        self.phases.append((name, round(time.monotonic() - self.began, 3)))

    def run(self):
        page_kib = os.sysconf("SC_PAGE_SIZE") // 1024
        while not self.ended.wait(SAMPLE_S):
            words = machine.first_line(f"/proc/{self.pid}/statm").split()
            if len(words) > 1:
                self.samples.append((round(time.monotonic() - self.began, 3),
                                     int(words[1]) * page_kib))

    def stop(self):
        self.ended.set()
        self.join()
        return self.samples


def drive(server, requests):
    """redis-benchmark's usual commands. (seconds, requests made)."""
    command = [find("redis-benchmark"), "-s", server.socket_path, "--csv", "-t", TESTS, "-P", "16",
               "-n", str(requests), "-r", "100000", "-d", "100"]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          timeout=measure.TIMEOUT_S)
    seconds = time.monotonic() - began
    if done.returncode:
        raise Refused(f"redis-benchmark failed: {done.stderr.strip()[-200:]}")
    lines = [line for line in done.stdout.splitlines() if re.match(r'"[A-Z]+.*",', line)]
    return seconds, requests * len(lines)


def memory_phases(server, keys, sampler):
    """Fill with 1 KiB values, overwrite with 300 bytes, flush, wait. Notes of each."""
    notes = {}
    client = server.client

    def note(name):
        sampler.phase_ended(name)
        used = int(client.info()["used_memory"]) / 1024
        resident = server.resident_kib()
        notes[f"used_{name}_kib"], notes[f"resident_{name}_kib"] = used, resident
        notes[f"resident_{name}_over_used"] = resident / used

    client.set_all(keys, b"x" * 1024, 1)
    note("1k")
    client.set_all(keys, b"y" * 300, STRIDE)
    note("300")
    client.ask(b"FLUSHALL", b"SYNC")
    time.sleep(IDLE_S)
    note("flushed")
    return notes


def measured(programs, allocator, folder, quick):
    server = Server(programs, allocator, folder)
    sampler = Sampler(server.pid)
    others = machine.Others()
    try:
        cpu = server.cpu_s()
        wall_s, requests = drive(server, REQUESTS_QUICK if quick else REQUESTS)
        cpu = server.cpu_s() - cpu
        server.client.ask(b"FLUSHALL", b"SYNC")
        sampler.phase_ended("requests")
        notes = memory_phases(server, KEYS_QUICK if quick else KEYS, sampler)
    finally:
        samples = sampler.stop()
        server.stop()
    with open(server.out, encoding="ascii") as file:
        figures = measure.read_json(file.read())
    notes["requests_per_s"] = requests / wall_s
    figures.update(wall_s=wall_s, cpu_s=cpu, operations=requests, notes=notes, samples=samples,
                   phases=sampler.phases, faults=figures.get("process_faults", 0),
                   end_kib=notes["resident_flushed_kib"],
                   others=others.share(),
                   failure="" if figures.get("exit") == 0 else "the server ended badly")
    return figures


def missing():
    """Why there can be no measurement at all, or an empty text."""
    try:
        for program in ("redis-server", "redis-benchmark"):
            find(program)
    except Refused as reason:
        return str(reason)
    return ""


def run(programs, allocator, quick):
    """The figures, in the form of measure.run_load. `failure` says why there are none."""
    try:
        preloaded = preload_for(allocator)
        bound = bound_to(find("redis-server"), preloaded)
        with tempfile.TemporaryDirectory(prefix="berth-redis.") as folder:
            figures = measured(programs, preloaded, folder, quick)
        figures["malloc"] = bound
        return figures
    except (Refused, OSError, subprocess.TimeoutExpired) as error:
        return {"failure": f"redis: {error}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer keys and requests")
    parser.add_argument("--programs", default="build/release/perf", help="where `launch` lies")
    parser.add_argument("library", nargs="*", metavar="NAME=PATH", help="glibc, if none is named")
    arguments = parser.parse_args()
    try:
        programs = measure.Programs(arguments.programs)
        chosen = [allocators.from_argument(text) for text in arguments.library]
    except ValueError as error:
        parser.error(str(error))
    for allocator in chosen or [allocators.glibc()]:
        figures = run(programs, allocator, arguments.quick)
        figures.pop("samples", None)
        figures.pop("phases", None)
        json.dump({"allocator": allocator.name, **figures}, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
