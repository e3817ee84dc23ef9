"""Servers that are measured: started, loaded, counted, ended. What is compared with what, and how
it is shown, is serving.py's."""

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import recording

START_S = 20


class Failed(Exception):
    """There is nothing to measure."""


def environment(**more):
    left_out = ("LD_PRELOAD", "BERTH_CONF", "BERTH_TOPOLOGY_FD")
    return {**{k: v for k, v in os.environ.items() if k not in left_out}, **more}


def found(name):
    path = shutil.which(name)
    if not path:
        raise Failed(f"{name} is not installed")
    return path


def text_of(path):
    """A file of /proc; empty if the thread or process has gone."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def free_port():
    return recording.free_port()


class Server:
    """A running server. `port` is where it listens."""

    def __init__(self, command, folder, port=None, preload=None):
        self.log = os.path.join(folder, f"log{len(os.listdir(folder))}")
        more = {"LD_PRELOAD": preload} if preload else {}
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True,
                                            env=environment(**more), cwd=folder)
        try:
            self.port = port or json.loads(self.process.stdout.readline())["port"]
            self.wait_until_it_listens()
        except (ValueError, KeyError):
            self.end()
            raise Failed(f"{command[0]} does not start: {self.said()}") from None

    def wait_until_it_listens(self):
        deadline = time.monotonic() + START_S
        while subprocess.run(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{self.port}"],
                             stderr=subprocess.DEVNULL, check=False).returncode:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise KeyError

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()[-400:]

    def processes(self):
        """It and its children: nginx has a worker."""
        pids = [self.process.pid]
        for path in glob.glob(f"/proc/{pids[0]}/task/*/children"):
            pids += [int(word) for word in text_of(path).split()]
        return pids

    def cpu_ns(self):
        total = 0
        for pid in self.processes():
            for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
                total += int((text_of(path) or "0").split()[0])
        return total

    def resident_kib(self):
        """Memory that is no file's."""
        total = 0
        for pid in self.processes():
            said = re.search(r"RssAnon:\s+(\d+)", text_of(f"/proc/{pid}/status"))
            total += int(said[1]) if said else 0
        return total

    def end(self):
        """What it said last, if that is a figure."""
        self.process.terminate()
        try:
            out, _ = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, _ = self.process.communicate()
        lines = (out or "").splitlines()
        return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}


# ---- loads: each runs for some seconds and returns the number of messages and the seconds ----

def run_client(command, timeout_s):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s + 60,
                          env=environment(), check=False)
    if done.returncode:
        raise Failed(f"{os.path.basename(command[0])}: {done.stdout[-200:]}{done.stderr[-200:]}")
    return done.stdout


def own_load(programs, mode, connections, size, *more):
    def load(port, seconds):
        out = run_client([os.path.join(programs, "load"), mode, str(port), str(connections),
                          str(size), str(seconds), *map(str, more)], seconds)
        figures = json.loads(out)
        return figures["messages"], figures["seconds"]
    return load


PIPELINED = """init = function(args)
    local one, all = wrk.format(), {}
    for i = 1, %d do all[i] = one end
    text = table.concat(all)
end
request = function() return text end
"""


def wrk_load(folder, path, connections, pipelined=1):
    def load(port, seconds):
        script = os.path.join(folder, f"pipelined{pipelined}.lua")
        with open(script, "w", encoding="ascii") as file:
            file.write(PIPELINED % pipelined)
        more = ["-s", script] if pipelined > 1 else []
        out = run_client([found("wrk"), "-t2", f"-c{connections}", f"-d{max(round(seconds), 1)}s", *more,
                          f"http://127.0.0.1:{port}{path}"], seconds)
        wrong = re.search(r"Non-2xx.*|Socket errors.*", out)
        if wrong:
            raise Failed(f"wrk: {wrong[0]}")
        said = re.search(r"(\d+) requests in ([0-9.]+)(m?s)", out)
        return int(said[1]), float(said[2]) / (1000 if said[3] == "ms" else 1)
    return load


def redis_load(test, size, pipelined):
    def load(port, seconds):
        count, began = 0, time.monotonic()
        while time.monotonic() < began + seconds:
            run_client([found("redis-benchmark"), "-p", str(port), "-t", test, "-n", "100000",
                        "-d", str(size), "-P", str(pipelined), "-c", "50", "-q"], 60)
            count += 100_000
        return count, time.monotonic() - began
    return load


# ---- measuring ----

def timed(server, load, seconds):
    """One round: throughput, processor time, memory in the middle."""
    memory = []
    sampler = threading.Timer(seconds / 2, lambda: memory.append(server.resident_kib()))
    before = server.cpu_ns()
    sampler.start()
    messages, took_s = load(server.port, seconds)
    cpu_ns = server.cpu_ns() - before
    sampler.join()
    return {"per_s": messages / took_s, "cpu_us": cpu_ns / 1000 / max(messages, 1),
            "memory_kib": memory[0] if memory else 0}


def system_calls(server, load, seconds):
    """Of the server and its children, per message, and who counted them: perf, which does not slow
    it down, or else strace."""
    pids = ",".join(map(str, server.processes()))
    perf = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", pids]
    counter = None
    if shutil.which("perf"):
        counter = subprocess.Popen(perf, stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)
        if counter.poll() is not None:
            counter = None
    if counter is None:
        counter = subprocess.Popen([found("strace"), "-c", "-f", "-q",
                                    *[word for pid in pids.split(",") for word in ("-p", pid)]],
                                   stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)
    messages, _ = load(server.port, seconds)
    counter.send_signal(signal.SIGINT)
    _, said = counter.communicate(timeout=30)
    if counter.args[0] == "perf":
        return int(said.strip().splitlines()[-1].split(",")[0]) / max(messages, 1), "perf"
    total = re.search(r"^100\.00.*?(\d+)(?:\s+\d+)?\s+total$", said, re.M)
    return int(total[1]) / max(messages, 1), "strace"


def counted(start, load, counter, seconds):
    """Calls of malloc, calls of memcpy and bytes that those copied, per message, in the steady
    state; and of the pool, over all."""
    server = start(counter)
    try:
        load(server.port, 0.3)
        server.process.send_signal(signal.SIGUSR1)
        messages, _ = load(server.port, seconds)
        server.process.send_signal(signal.SIGUSR2)
        time.sleep(0.3)
        figures = json.loads(server.said().splitlines()[-1])
    finally:
        last = server.end()
    result = {name: value / max(messages, 1) for name, value in figures.items()}
    if "pool_allocations" in last:
        result["pool_allocations"] = last["pool_allocations"] / max(last["messages"], 1)
        result["pool_live"] = last["pool_live"]
    return result
