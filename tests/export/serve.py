#!/usr/bin/env python3
"""`berth export` as scrapers, browsers and mistaken clients meet it.

    tests/export/serve.py TOOL HOLDER STARTS [TEST...]

STARTS is for its neighbours.

Would be broken if this failed: what Prometheus reads of a machine's processes, or the promise that
nothing that a process or a client does keeps the others from being shown.
"""

import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import xml.etree.ElementTree

sys.dont_write_bytecode = True
import openmetrics  # noqa: E402
from exporter import Exporter, PATIENCE_S, Program, environment, skip_if_blind, until  # noqa: E402

TOOL, HOLDER = (os.path.abspath(path) for path in sys.argv[1:3])
HOSTILE = '"\\<b>{}\n,=\'&;'  # 15 bytes at most


def holder(*arguments):
    return Program(HOLDER, *arguments, BERTH_CONF="limit:64M")


def sampled():
    return Program(HOLDER, "sampled", BERTH_CONF="sample:4K,limit:64M")


def of_process(families, name, pid, **labels):
    """The process's sample of a family, or None."""
    found = [value for series, value in families[name].samples.items()
             if dict(series, **labels) == dict(series) and dict(series).get("pid") == str(pid)]
    return found[0] if len(found) == 1 else None


def classic_samples(text):
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")}


class Metrics(unittest.TestCase):
    def test_both_formats_have_the_same_series_of_all_processes(self):
        with holder("first") as one, holder("second") as two, \
                Exporter(TOOL, "--arenas", "--classes", "--slow") as exporter:
            status, headers, text = exporter.ask("/metrics", Accept="application/openmetrics-text")
            self.assertEqual((status, headers["Content-Type"]), (
                200, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
            families = openmetrics.read(text)
            for process, name in ((one, "first"), (two, "second")):
                self.assertEqual(of_process(families, "berth_limit_bytes", process.pid, comm=name),
                                 64 << 20)
                self.assertEqual(of_process(families, "berth_pool_limit_bytes", process.pid,
                                            pool="held.pool"), 32 << 20)
                self.assertIsNotNone(of_process(families, "berth_class_lent_blocks", process.pid,
                                                pool="held.pool", size="304"))
                self.assertIsNotNone(of_process(families, "berth_arena_chunks", process.pid,
                                                pool="held.pool", arena="0"))
            status, headers, classic = exporter.ask("/metrics")
            self.assertEqual(headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
            mine = re.compile(rf'pid="({one.pid}|{two.pid})"')
            self.assertEqual({s for s in classic_samples(classic) if mine.search(s)},
                             {s for s in classic_samples(text) if mine.search(s)})

    def test_only_what_is_asked_for_is_exported(self):
        with holder(), Exporter(TOOL) as exporter:
            families = openmetrics.read(exporter.openmetrics())
            self.assertIn("berth_pool_used_bytes", families)
            self.assertFalse([name for name in families if re.match("berth_(arena|class|slow)_", name)])

    def test_the_figures_are_those_of_berth_stat(self):
        with holder() as one, Exporter(TOOL) as exporter:
            told = json.loads(subprocess.run(
                [TOOL, "stat", "--json", "--arenas", "--classes", "--tags", "--slow", str(one.pid)],
                env=environment(), capture_output=True, check=True, timeout=PATIENCE_S).stdout)
            self.assertEqual(exporter.metrics_of(one.pid), told)
            self.assertEqual(told["pid"], one.pid)
            families = openmetrics.read(exporter.openmetrics())
            for name, value in told["process"].items():
                self.assertEqual(of_process(families, f"berth_{name}", one.pid), value, name)
            self.assertGreater(of_process(families, "berth_resident_bytes", one.pid), 5 << 20)
            self.assertGreaterEqual(of_process(families, "berth_figures_age_seconds", one.pid), 0)

    def test_a_name_can_be_anything(self):
        with holder(HOSTILE) as one, Exporter(TOOL) as exporter:
            listed = exporter.listed(one.pid)
            # The kernel writes a backslash as two, and a newline as a backslash and an n.
            self.assertEqual(listed["command"], HOSTILE.replace("\\", "\\\\").replace("\n", "\\n"))
            families = openmetrics.read(exporter.openmetrics())
            self.assertEqual(of_process(families, "berth_limit_bytes", one.pid,
                                        comm=listed["command"]), 64 << 20)
            self.assertNotIn("<b>", exporter.text("/json") + exporter.text("/json/list"))


class Processes(unittest.TestCase):
    def test_they_come_and_go(self):
        with Exporter(TOOL) as exporter:
            for _ in range(3):
                with holder() as one:
                    self.assertEqual(exporter.listed(one.pid)["state"], "read")
                    self.assertIn(f'pid="{one.pid}"', exporter.openmetrics())
                until(lambda pid=one.pid: exporter.listed(pid) is None, "it is gone")
                self.assertEqual(exporter.ask(f"/json?pid={one.pid}")[0], 404)
                self.assertEqual(exporter.ask(f"/json/history?pid={one.pid}")[0], 404)
                openmetrics.read(exporter.openmetrics())

    def test_many_that_end_at_once_do_no_harm(self):
        stop = threading.Event()

        def churn():
            while not stop.is_set():
                with subprocess.Popen([HOLDER, "x", "y", "z"], env=environment(),
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as one:
                    try:
                        one.wait(timeout=1)
                    except subprocess.TimeoutExpired:
                        one.kill()

        churners = [threading.Thread(target=churn) for _ in range(4)]
        with Exporter(TOOL) as exporter:
            for one in churners:
                one.start()
            try:
                for _ in range(30):
                    openmetrics.read(exporter.openmetrics())
                    json.loads(exporter.text("/json"))
            finally:
                stop.set()
                for one in churners:
                    one.join()

    def test_history_grows_and_can_be_asked_for_from_a_time_on(self):
        with holder() as one, Exporter(TOOL) as exporter:
            path = f"/json/history?pid={one.pid}"
            past = until(lambda: (lambda h: len(h["points"]) >= 3 and h)(exporter.json(path)),
                         "three points")
            series = [entry["name"] for entry in past["series"]]
            figures = exporter.metrics_of(one.pid)
            for point in past["points"]:
                self.assertEqual(len(point), 1 + len(series))
            latest = dict(zip(series, past["points"][-1][1:]))
            self.assertEqual(latest["limit_bytes"], 64 << 20)
            parts = [entry["name"] for entry in past["series"] if "group" in entry]
            self.assertEqual(sum(latest[name] for name in parts),
                             figures["process"]["mapped_bytes"])
            times = [point[0] for point in past["points"]]
            self.assertEqual(times, sorted(set(times)))
            later = exporter.json(f"{path}&after={times[0]}")["points"]
            self.assertGreater(later[0][0], times[0])

    def test_one_that_cannot_be_read_is_shown_with_the_reason(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, to be somebody else")
        nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
        if subprocess.run([*nobody, TOOL, "--version"], capture_output=True,
                          check=False).returncode != 0:
            self.skipTest("another user cannot reach the build")
        with Program(*nobody, HOLDER, "shy", "undumpable") as shy, \
                Program(*nobody, HOLDER, "open") as other, holder("root's") as roots, \
                Exporter(TOOL, before=nobody) as exporter:
            entry = exporter.listed(shy.pid)
            self.assertEqual((entry["state"], entry["command"]), ("refused", "shy"))
            self.assertIn("is not dumpable", entry["why"])
            self.assertEqual(exporter.listed(other.pid)["state"], "read")
            self.assertIsNone(exporter.listed(roots.pid))
            families = openmetrics.read(exporter.openmetrics())
            states = families["berth_export_processes"].samples
            self.assertGreaterEqual(states[(("state", "refused"),)], 1)
            self.assertIsNone(of_process(families, "berth_limit_bytes", shy.pid))

    def test_one_without_figures_is_shown_as_that(self):
        with Program(HOLDER, BERTH_CONF="stats_page:false") as one, Exporter(TOOL) as exporter:
            entry = exporter.listed(one.pid)
            self.assertEqual(entry["state"], "pageless")
            self.assertIn("stats_page", entry["why"])
            self.assertEqual(exporter.json(f"/json/history?pid={one.pid}")["points"], [])


def strings_of(profile):
    """The texts of a profile.proto: they are field 6, and it is not nested."""
    def varint(at):
        value = shift = 0
        while profile[at] >= 0x80:
            value |= (profile[at] & 0x7f) << shift
            at, shift = at + 1, shift + 7
        return value | profile[at] << shift, at + 1

    at, found = 0, []
    while at < len(profile):
        tag, at = varint(at)
        length, after = varint(at)
        if tag & 7 == 2:
            found += [profile[after:after + length].decode()] if tag >> 3 == 6 else []
            after += length
        at = after
    return found


class Profiles(unittest.TestCase):
    def test_pprof_gets_profiles_of_what_is_held_and_what_was_allocated(self):
        with sampled() as one, holder(), Exporter(TOOL) as exporter:
            for name, first in (("heap", "inuse_space"), ("allocs", "alloc_space")):
                path = f"/debug/pprof/{name}?pid={one.pid}"
                status, headers, profile = exporter.fetch(path)
                self.assertEqual((status, headers["Content-Type"]),
                                 (200, "application/octet-stream"))
                self.assertEqual(headers["Content-Disposition"],
                                 f'attachment; filename="{name}-{one.pid}.pprof"')
                self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
                if profile.startswith(b"\x1f\x8b"):
                    profile = gzip.decompress(profile)
                texts = strings_of(profile)
                self.assertEqual(texts[0], "")
                self.assertEqual(texts[-1], first)
                self.assertIn(HOLDER, texts)
                self.assertEqual(exporter.fetch(path, method="HEAD")[2], b"")
                self.assertEqual(exporter.ask(path, method="POST")[0], 405)
                self.assertEqual(exporter.ask(path, Host="rebound.example")[0], 403)

    def test_without_a_process_they_tell_which_there_are(self):
        with sampled() as one, holder("second") as two, Exporter(TOOL) as exporter:
            for path in ("/debug/pprof/heap", "/debug/pprof/allocs", "/json/sites"):
                status, headers, said = exporter.ask(path)
                self.assertEqual((status, headers["Content-Type"]),
                                 (400, "text/plain; charset=utf-8"))
                self.assertIsNone(headers["Content-Disposition"])
                self.assertIn(f"{path}?pid=PID", said)
                self.assertRegex(said, rf"(?m)^ *{one.pid}  sampled$")
                self.assertRegex(said, rf"(?m)^ *{two.pid}  second$")

    def test_the_only_one_need_not_be_named(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, to be somebody who has one process only")
        somebody = ("setpriv", "--reuid", "64087", "--regid", "64087", "--clear-groups")
        if subprocess.run([*somebody, TOOL, "--version"], capture_output=True,
                          check=False).returncode != 0:
            self.skipTest("another user cannot reach the build")
        with Exporter(TOOL, before=somebody) as exporter:
            status, _, said = exporter.ask("/debug/pprof/heap")
            self.assertEqual(status, 400)
            self.assertIn("berth run -- COMMAND", said)
            with Program(*somebody, HOLDER, "only", BERTH_CONF="sample:4K") as one:
                status, headers, _ = exporter.fetch("/debug/pprof/heap")
                self.assertEqual(status, 200)
                self.assertIn(f"heap-{one.pid}.", headers["Content-Disposition"])
                self.assertEqual(exporter.json("/json/sites")["pid"], one.pid)

    def test_one_that_takes_no_samples_says_how_to_switch_them_on(self):
        with holder() as one, Exporter(TOOL) as exporter:
            status, headers, said = exporter.ask(f"/debug/pprof/heap?pid={one.pid}")
            self.assertEqual((status, headers["Content-Type"]), (409, "text/plain; charset=utf-8"))
            self.assertIsNone(headers["Content-Disposition"])
            self.assertIn(f"`berth ctl {one.pid} sample=512K`", said)
            sites = exporter.json(f"/json/sites?pid={one.pid}")
            self.assertEqual((sites["pid"], sites["state"]), (one.pid, "none"))
            self.assertIn(f"`berth ctl {one.pid} sample=512K`", sites["why"])

    def test_the_top_sites_are_those_that_hold_most(self):
        with sampled() as one, Exporter(TOOL) as exporter:
            told = exporter.json(f"/json/sites?pid={one.pid}")
            self.assertEqual((told["state"], told["interval_bytes"]), ("read", 4096))
            sites = told["sites"]
            self.assertTrue(2 <= len(sites) <= 50 and len(sites) <= told["sites_all"])
            self.assertEqual(sites, sorted(sites, key=lambda site: -site["bytes"]))
            self.assertEqual(told["bytes"], sum(site["bytes"] for site in sites))
            self.assertGreaterEqual(sites[0]["bytes"], 5 << 20)  # that block is sampled for sure
            self.assertEqual(sites[0]["library"], os.path.basename(HOLDER))
            named = {(site["function"], site["file"], site["line"], site["library"])
                     for site in sites}
            self.assertEqual(len(named), len(sites))

    def test_the_map_is_a_picture_that_runs_nothing(self):
        with holder() as one, Exporter(TOOL) as exporter:
            status, headers, picture = exporter.ask(f"/map.svg?pid={one.pid}")
            self.assertEqual((status, headers["Content-Type"]), (200, "image/svg+xml"))
            root = xml.etree.ElementTree.fromstring(picture)
            self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
            self.assertIn(f"process {one.pid}", "".join(root.itertext()))
            policy = headers["Content-Security-Policy"].split("; ")
            self.assertIn("default-src 'none'", policy)
            self.assertIn("sandbox", policy)
            self.assertNotIn("script-src", " ".join(policy))
            self.assertEqual(exporter.ask(f"/map.svg?pid={one.pid}", Host="rebound.example")[0],
                             403)

    def test_a_file_can_be_called_anything(self):
        with tempfile.TemporaryDirectory() as folder:
            name = "a'\"<b>&amp;\\.c"
            program = shutil.copy(HOLDER, os.path.join(folder, name))
            with Program(program, BERTH_CONF="sample:4K") as one, Exporter(TOOL) as exporter:
                text = exporter.text(f"/json/sites?pid={one.pid}")
                self.assertNotIn("<", text)
                self.assertEqual(json.loads(text)["sites"][0]["library"], name)


class Requests(unittest.TestCase):
    def test_mistaken_ones_get_the_status_that_says_so(self):
        with Exporter(TOOL) as exporter:
            for path, status in (("/nothing", 404), ("/json/", 404), ("//", 404),
                                 ("/json?pid=999999999", 404), ("/json?pid=x", 400),
                                 ("/json?pid=-1", 400), ("/json?pid=99999999999999999999", 400),
                                 ("/json/history", 400), ("/json/history?pid=", 400),
                                 ("/json/history?pid=1&after=-1", 400), ("/metrics?x=y", 200),
                                 ("/json/sites?pid=999999999", 404), ("/json/sites?pid=x", 400),
                                 ("/map.svg?pid=999999999", 404), ("/map.svg?pid=x", 400),
                                 ("/debug/pprof/heap?pid=999999999", 404),
                                 ("/debug/pprof/heap?pid=-1", 400), ("/debug/pprof/", 404),
                                 ("/debug/pprof/allocs?pid=1&seconds=5", 400)):
                self.assertEqual(exporter.ask(path)[0], status, path)
            for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
                status, headers, _ = exporter.ask("/metrics", method=method)
                self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD"), method)
            self.assertEqual(exporter.ask("/metrics", method="POST", body="x" * 100000)[0], 405)
            self.assertEqual(exporter.ask("/metrics", body="x")[0], 413)
            self.assertEqual(exporter.ask("/metrics", method="HEAD")[2], "")

    def test_other_names_are_refused(self):
        with Exporter(TOOL) as exporter:
            self.assertEqual(exporter.ask("/metrics", Host="rebound.example")[0], 403)
            self.assertEqual(exporter.ask("/metrics", Host="localhost")[0], 200)

    def test_nothing_may_be_kept_framed_or_loaded_from_elsewhere(self):
        with Exporter(TOOL) as exporter:
            for path in ("/", "/metrics", "/json", "/nothing"):
                headers = exporter.ask(path)[1]
                policy = headers["Content-Security-Policy"]
                self.assertIn("default-src 'none'", policy)
                self.assertIn("frame-ancestors 'none'", policy)
                self.assertNotIn("unsafe", policy)
                self.assertEqual(headers["Cache-Control"], "no-store")
                self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
            nonces = [re.findall(r"nonce-(\w{32})", exporter.ask("/")[1]["Content-Security-Policy"])
                      for _ in range(2)]
            self.assertNotEqual(nonces[0][0], nonces[1][0])
            page = exporter.text("/")
            self.assertNotIn("@NONCE@", page)
            self.assertEqual(re.findall(r'(?:src|href)="(?!data:|/)[^"]*"', page), [])

    def test_garbage_does_no_harm(self):
        with Exporter(TOOL) as exporter:
            for garbage in (b"\0" * 1000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 500,
                            b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
                            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
                            b"GET /%00%ff%2e%2e/ HTTP/1.1\r\nHost: localhost\r\n\r\n"):
                with socket.create_connection((exporter.host, exporter.port),
                                              timeout=PATIENCE_S) as client:
                    try:
                        client.sendall(garbage)
                        client.shutdown(socket.SHUT_WR)
                        client.settimeout(0.5)
                        while client.recv(65536):
                            pass
                    except OSError:
                        pass  # it was cut off, or left waiting for more
            openmetrics.read(exporter.openmetrics())

    def test_connections_are_bounded(self):
        with Exporter(TOOL) as exporter:
            clients = [socket.create_connection((exporter.host, exporter.port))
                       for _ in range(100)]
            counts = [0]

            def settled():
                counts.append(len(os.listdir(f"/proc/{exporter.pid}/fd")))
                return counts[-1] > 50 and len(set(counts[-10:])) == 1

            until(settled, "they are accepted")
            self.assertLess(counts[-1], 80)
            for client in clients:
                client.close()
            openmetrics.read(exporter.openmetrics())


class Life(unittest.TestCase):
    def refused(self, *arguments, before=()):
        """Exit status and what it printed on stderr."""
        done = subprocess.run([*before, TOOL, "export", *arguments], env=environment(), text=True,
                              capture_output=True, timeout=PATIENCE_S, check=False)
        self.assertEqual(done.stdout, "")
        return done.returncode, done.stderr

    def test_a_signal_ends_it_in_order(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with Exporter(TOOL) as exporter:
                exporter.ask("/metrics")
                exporter.process.send_signal(number)
                self.assertEqual(exporter.process.wait(timeout=PATIENCE_S), 0)
                address = f"127.0.0.1:{exporter.port}"
                with Exporter(TOOL, address=address) as again:
                    self.assertEqual(again.port, exporter.port)
            self.assertEqual(exporter.errors, "")

    def test_addresses_that_cannot_be_had(self):
        with Exporter(TOOL) as exporter:
            status, said = self.refused("--listen", f"127.0.0.1:{exporter.port}")
            self.assertEqual(status, 1)
            self.assertIn("Address already in use", said)
        status, said = self.refused("--listen", "192.0.2.1:9464")
        self.assertEqual(status, 1)
        self.assertIn("192.0.2.1", said)
        for text in ("9464", "localhost", "1.2.3.4:x", ""):
            status, said = self.refused("--listen", text)
            self.assertEqual(status, 2)
            self.assertIn(f'"{text}" is no address', said)
        self.assertEqual(self.refused("4711")[0], 2)

    def test_a_port_for_root_only_is_refused_to_others(self):
        nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            first = int(file.read())
        if os.geteuid() != 0 or first < 2:
            self.skipTest("needs root, to be somebody else, and ports that are for root")
        if subprocess.run([*nobody, TOOL, "--version"], capture_output=True,
                          check=False).returncode != 0:
            self.skipTest("another user cannot reach the build")
        status, said = self.refused("--listen", "127.0.0.1:1", before=nobody)
        self.assertEqual(status, 1)
        self.assertIn("ports below 1024 are for root", said)

    def test_an_address_that_others_reach_is_warned_of(self):
        apart = ("unshare", "--net")  # nobody reaches it there
        if os.geteuid() != 0 or subprocess.run([*apart, "true"], capture_output=True,
                                               check=False).returncode != 0:
            self.skipTest("needs a network of its own")
        with Exporter(TOOL, before=apart, address="0.0.0.0:0") as exporter:
            exporter.process.terminate()
            exporter.process.wait(timeout=PATIENCE_S)
        self.assertIn("warning: 0.0.0.0:", exporter.errors)
        self.assertIn("can be reached from other machines", exporter.errors)


if __name__ == "__main__":
    skip_if_blind()
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)  # says where it stands
