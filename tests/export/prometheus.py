#!/usr/bin/env python3
"""Prometheus, Debian's, scrapes a Redis on berth through `berth export`; promtool judges the rest.

    tests/export/prometheus.py TOOL HOLDER STARTS

STARTS: 0 if the door cannot be preloaded into other programs (sanitizers). Would be broken if this
failed: dashboards and alerts that look right, and show nothing or never fire.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.parse
import urllib.request

sys.dont_write_bytecode = True
from exporter import Exporter, PATIENCE_S, Program, environment, skip  # noqa: E402
from exporter import skip_if_blind, until  # noqa: E402

TOOL, HOLDER = (os.path.abspath(path) for path in sys.argv[1:3])
HERE = os.path.dirname(os.path.abspath(__file__))
OPERATIONS = os.path.join(HERE, "..", "..", "docs", "operations")
KEYS, VALUE_BYTES = 20000, 500


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server(Program):
    """A process that is ready when its port answers; another port if that was taken meanwhile."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="berth-export.")
        for _ in range(5):
            self.port = free_port()
            with open(os.path.join(self.folder.name, "log"), "w", encoding="utf-8") as log:
                self.process = subprocess.Popen(self.arguments(), env=self.environment, stdout=log,
                                                stderr=log, stdin=subprocess.DEVNULL)
            try:
                if until(lambda: self.process.poll() is not None or self.answers(), "it answers"):
                    if self.process.poll() is None:
                        self.pid = self.process.pid
                        return self
            except BaseException:
                self.__exit__()
                raise
        with open(os.path.join(self.folder.name, "log"), encoding="utf-8") as log:
            raise RuntimeError(f"{self.arguments()}: {log.read()}")

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self.folder.cleanup()


def open_text(path):
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


class Redis(Server):
    def arguments(self):
        # An idle process writes its figures down by its maintenance thread.
        return [TOOL, "run", "-c", "limit:256M,maintenance:true", "--", "redis-server", "--bind", "127.0.0.1",
                "--port", str(self.port), "--save", "", "--appendonly", "no", "--dir",
                self.folder.name]

    def answers(self):
        try:
            return self.say(b"PING\r\n", 1)
        except OSError:
            return False

    def say(self, commands, answers):
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as client:
            client.sendall(commands)
            got = b""
            while got.count(b"\r\n") < answers:
                more = client.recv(65536)
                if not more:
                    return False
                got += more
            return got.startswith(b"+")

    def stands_still(self):
        tasks = f"/proc/{self.pid}/task"
        return all(open_text(f"{tasks}/{task}/stat").rpartition(")")[2].split()[0] == "T"
                   for task in os.listdir(tasks))

    def fill(self):
        value = b"x" * VALUE_BYTES
        for first in range(0, KEYS, 1000):
            self.say(b"".join(b"SET key:%d %s\r\n" % (key, value)
                              for key in range(first, first + 1000)), 1000)


class Prometheus(Server):
    """Scrapes as docs/operations/prometheus.yml says, but often, and at another port."""

    def __init__(self, exporter):
        super().__init__()
        self.exporter = exporter

    def arguments(self):
        with open(os.path.join(OPERATIONS, "prometheus.yml"), encoding="utf-8") as file:
            config = file.read()
        for old, new in (("interval: 15s", "interval: 1s"), ("127.0.0.1:9464", self.scraped()),
                         ("- alerts.yml", f"- {os.path.join(OPERATIONS, 'alerts.yml')}")):
            assert old in config, old
            config = config.replace(old, new)
        path = os.path.join(self.folder.name, "prometheus.yml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config)
        return ["prometheus", f"--config.file={path}",
                f"--storage.tsdb.path={os.path.join(self.folder.name, 'data')}",
                f"--web.listen-address=127.0.0.1:{self.port}"]

    def scraped(self):
        return f"{self.exporter.host}:{self.exporter.port}"

    def ask(self, path, **arguments):
        query = urllib.parse.urlencode(arguments)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}",
                                    timeout=PATIENCE_S) as answer:
            return json.load(answer)["data"]

    def answers(self):
        try:
            return bool(self.ask("status/buildinfo"))
        except OSError:
            return False

    def value(self, query):
        """The value of the only series; None if there is none or several."""
        found = self.ask("query", query=query)["result"]
        return float(found[0]["value"][1]) if len(found) == 1 else None


def expressions():
    with open(os.path.join(OPERATIONS, "dashboard.json"), encoding="utf-8") as file:
        dashboard = json.load(file)
    panels = [inner for panel in dashboard["panels"]
              for inner in [panel, *panel.get("panels", [])] if "targets" in inner]
    assert len({panel["id"] for panel in panels}) == len(panels) > 50
    return [target["expr"] for panel in panels for target in panel["targets"]]


def promtool(*arguments, text=None):
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True,
                          timeout=PATIENCE_S, check=False)
    return done.returncode, done.stdout + done.stderr


class Scraped(unittest.TestCase):
    def test_a_query_returns_the_live_bytes_of_a_redis(self):
        if sys.argv[3] == "0":
            self.skipTest("nothing can be preloaded into other programs in this build")
        if not shutil.which("redis-server"):
            self.skipTest("redis-server is not installed")
        # The holder has a tag, which Redis has not.
        with Redis() as redis, Program(HOLDER), \
                Exporter(TOOL, "--arenas", "--classes", "--slow") as exporter, \
                Prometheus(exporter) as prometheus:
            redis.fill()
            until(lambda: exporter.metrics_of(redis.pid)["process"]["live_high_bytes"]
                  > KEYS * VALUE_BYTES, "the values are in its figures")
            redis.process.send_signal(signal.SIGSTOP)  # its figures stand still; they can be read
            until(redis.stands_still, "it stops")
            series = f'{{comm="redis-server",pid="{redis.pid}"}}'
            live = exporter.metrics_of(redis.pid)["process"]["live_high_bytes"]
            self.assertGreater(live, KEYS * VALUE_BYTES)
            until(lambda: prometheus.value(f"berth_live_high_bytes{series}") == live,
                  "the query returns the live bytes")
            self.assertEqual(prometheus.value(f"berth_limit_bytes{series}"), 256 << 20)
            [target] = prometheus.ask("targets")["activeTargets"]
            self.assertEqual((target["health"], target["lastError"]), ("up", ""))
            self.check_dashboard(prometheus)
            rules = prometheus.ask("rules")["groups"][0]["rules"]
            until(lambda: all(rule["health"] == "ok" for rule in
                              prometheus.ask("rules")["groups"][0]["rules"]), "all rules evaluate")
            self.assertGreater(len(rules), 5)

    def check_dashboard(self, prometheus):
        names = set(prometheus.ask("label/__name__/values"))
        for expression in expressions():
            for name in re.findall(r"\bberth_\w+", expression):
                self.assertIn(name, names, expression)
            query = re.sub(r"\$(instance|comm|pid)", ".*", expression)
            self.assertIn("result", prometheus.ask(
                "query", query=query.replace("$__rate_interval", "1m")))


class Promtool(unittest.TestCase):
    def test_it_finds_no_fault_with_the_classic_format(self):
        with Program(HOLDER), \
                Exporter(TOOL, "--arenas", "--classes", "--slow") as exporter:
            text = exporter.text("/metrics")
            self.assertEqual(promtool("check", "metrics", text=text), (0, ""))
            # It does judge.
            self.assertNotEqual(promtool("check", "metrics", text=text.replace(
                "berth_frees_total", "berth_frees"))[0], 0)

    def test_it_finds_no_fault_with_the_rules_and_the_configuration(self):
        for what, name in (("rules", "alerts.yml"), ("config", "prometheus.yml")):
            status, said = promtool("check", what, os.path.join(OPERATIONS, name))
            self.assertEqual(status, 0, said)

    def test_the_alerts_fire_when_they_should(self):
        with open(os.path.join(HERE, "alerts.yml"), encoding="utf-8") as file:
            text = file.read().replace("RULES", os.path.join(OPERATIONS, "alerts.yml"))
        with tempfile.NamedTemporaryFile("w", suffix=".yml", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            status, said = promtool("test", "rules", file.name)
        self.assertEqual(status, 0, said)


if __name__ == "__main__":
    skip_if_blind()
    for needed in ("prometheus", "promtool"):
        if not shutil.which(needed):
            skip(f"{needed} is not installed (Debian: prometheus)")
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)  # says where it stands
