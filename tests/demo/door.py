"""The third door: `berth export` for as long as the demonstration takes, and what the tool says of a
process from outside."""

import json
import subprocess
import urllib.request

import server

PATIENCE_S = 20
PENDING = 3  # berth ctl: the process has not come by yet


class Export:
    """A running exporter on a free port of the loopback interface; a context that ends it. `url` is
    None where the tool was built without it."""

    def __init__(self, tool):
        self.tool = tool
        self.url = self.exit_status = None

    def __enter__(self):
        self.process = subprocess.Popen(
            [self.tool, "export", "--listen", "127.0.0.1:0", "--classes"],
            env=server.environment(), text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        self.url = self.process.stdout.readline().strip() or None
        if self.url is None:
            said = self.process.stderr.read()
            self.__exit__()
            if "without libmicrohttpd" not in said:
                raise server.Failed(said)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.exit_status = self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def text(self, path):
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE_S) as answer:
            return answer.read().decode()

    def listed(self, pid):
        """What it says of a process in a line; None if it does not know it."""
        processes = json.loads(self.text("json/list"))["processes"]
        return next((one for one in processes if one["pid"] == pid), None)


def ask(tool, *arguments):
    """The lines that a command of the tool prints."""
    done = subprocess.run([tool, *arguments], env=server.environment(), capture_output=True,
                          text=True, timeout=PATIENCE_S, check=False)
    if done.returncode not in (0, PENDING):
        raise server.Failed(f"berth {' '.join(arguments)}: {done.stderr}")
    return done.stdout.splitlines()
