"""What the tests of `berth export` share: the exporter and the processes that it shows, each of
them a context that ends it, and how a test is skipped."""

import http.client
import json
import os
import re
import select
import subprocess
import sys
import time

SKIPPED = 77
PATIENCE_S = 60


class Failed(Exception):
    """There is nothing to test with."""


def environment(**more):
    left_out = ("LD_PRELOAD", "BERTH_CONF", "BERTH_TOPOLOGY_FD")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return dict(kept, **more)


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def skip_if_blind():
    """Where one process of a user may not look into another."""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as file:
            scope = file.read().strip()
    except OSError:
        return
    if scope != "0" and os.geteuid() != 0:
        skip(f"kernel.yama.ptrace_scope is {scope}: only root may read other processes")


def until(condition, what):
    """What the condition gives, once that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise Failed(f"in vain: {what}")


class Program:
    """A process whose first line says that it is ready."""

    ready = r"ready (\d+)"

    def __init__(self, *command, **more):
        self.command, self.environment = command, environment(**more)

    def __enter__(self):
        self.process = subprocess.Popen(self.command, env=self.environment, text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        says = select.select([self.process.stdout], [], [], PATIENCE_S)[0]
        line = self.process.stdout.readline() if says else "(nothing for long)\n"
        found = re.match(self.ready, line)
        if not found:
            Program.__exit__(self)
            raise Failed(f"{self.command}: {line}{self.errors}")
        self.said(found)
        return self

    def said(self, found):
        self.pid = int(found[1])

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors = self.process.stderr.read()
        self.process.stderr.close()


class Exporter(Program):
    """`berth export` on a free port."""

    ready = r"http://(.*):(\d+)/$"

    def __init__(self, tool, *arguments, before=(), address="127.0.0.1:0"):
        super().__init__(*before, tool, "export", "--listen", address, *arguments)

    def said(self, found):
        self.pid = self.process.pid
        self.host, self.port = found[1].strip("[]"), int(found[2])
        self.url = found[0].strip()

    def __exit__(self, *_):
        """Ends it as a user would, so that leaks, and what a sanitizer found, are seen."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=PATIENCE_S)
        status = self.process.returncode
        super().__exit__()
        if status != 0:
            raise Failed(f"the exporter ended with {status}: {self.errors}")

    def ask(self, path, **more):
        """Status, headers and text of the answer."""
        status, headers, body = self.fetch(path, **more)
        return status, headers, body.decode()

    def fetch(self, path, method="GET", body=None, **headers):
        """Status, headers and bytes of the answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body=body, headers={
                name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def text(self, path, **headers):
        status, _, text = self.ask(path, **headers)
        if status != 200:
            raise Failed(f"{path}: {status} {text}")
        return text

    def json(self, path):
        return json.loads(self.text(path))

    def openmetrics(self):
        return self.text("/metrics", Accept="application/openmetrics-text; version=1.0.0")

    def listed(self, pid):
        """The process's entry of the list; None if it is not there."""
        return next((one for one in self.json("/json/list")["processes"] if one["pid"] == pid),
                    None)

    def metrics_of(self, pid):
        return self.json(f"/json?pid={pid}")["processes"][0]["metrics"]
