#!/usr/bin/env python3
"""Servers on berth against twins on malloc and copies, nginx, Redis and Netty: throughput, processor
time, memory, system calls, allocations and copied bytes, per message.

    perf/serving.py [--quick] [--only echo,files,hub,fanout] [--rounds N] [--out DIR] [--docs]

Runs are interleaved: round, then row, then server, who goes first changes each round. Both sides
share the machine with their clients, so processor time says more than throughput. Every byte that
comes back from echo servers and the hub is checked; what wrk and redis-benchmark get, only by them.
System calls are counted in a pass of their own, by perf or strace; calls of malloc and memcpy in
another, by a preloaded library. --docs writes the tables into docs/performance.md.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

import machine  # noqa: E402
import served  # noqa: E402
from served import Failed, Server  # noqa: E402
from svg import Drawing  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NETTY = "/usr/share/java"
RING = "berth, io_uring"
SIZES = {"1k": 1024, "4k": 4096, "64k": 65536, "1m": 1 << 20}

NGINX = """worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    open_file_cache max=1000;
    open_file_cache_valid 1s;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


class Bench:
    """The programs and a folder for what they need."""

    def __init__(self, build, folder):
        self.programs = os.path.join(build, "perf", "servers")
        self.folder, self.missing = folder, {}
        self.counter = os.path.join(self.programs, "count.so")
        self.files = os.path.join(folder, "files")
        os.mkdir(self.files)
        for name, size in SIZES.items():
            with open(os.path.join(self.files, name), "wb") as file:
                file.write(os.urandom(size))
        os.chmod(folder, 0o755)
        self.redis = None

    def own(self, name, *arguments):
        path = os.path.join(self.programs, name)
        return lambda preload=None: Server([path, *arguments], self.folder, preload=preload)

    def nginx(self, _preload=None):
        port = served.free_port()
        conf = os.path.join(self.folder, "nginx.conf")
        user = "user root;\n" if os.getuid() == 0 else ""
        with open(conf, "w", encoding="ascii") as file:
            file.write(user + NGINX.format(folder=self.folder, port=port, root=self.files))
        return Server([served.found("nginx"), "-p", self.folder, "-c", conf], self.folder, port)

    def netty(self, _preload=None):
        jars = [f"{NETTY}/netty-{part}.jar"
                for part in ("buffer", "common", "transport", "resolver", "handler")]
        lacking = [jar for jar in jars if not os.path.exists(jar)]
        if lacking or not shutil.which("javac"):
            raise Failed("libnetty-java and a JDK are not installed")
        classes = ":".join(jars)
        subprocess.run(["javac", "-cp", classes, "-d", self.folder,
                        f"{ROOT}/perf/servers/Echo.java"], check=True)
        server = Server(["java", "-cp", f"{classes}:{self.folder}", "Echo"], self.folder)
        served.own_load(self.programs, "echo", 64, 1024)(server.port, 3)  # compiled by then
        return server

    def start_redis(self):
        """The one behind the hubs."""
        if self.redis is None:
            port = served.free_port()
            self.redis = Server([served.found("redis-server"), "--bind", "127.0.0.1", "--port",
                                 str(port), "--save", "", "--appendonly", "no"], self.folder, port)
        return self.redis.port

    def end(self):
        if self.redis is not None:
            self.redis.end()


class Row:
    """A load, and the servers that get it: a function that starts each."""

    def __init__(self, name, load, sides):
        self.name, self.load, self.sides = name, load, sides
        self.rounds = {side: [] for side in sides}
        self.once = {side: {} for side in sides}

    def figure(self, side, name):
        values = [one[name] for one in self.rounds[side]]
        return statistics.median(values) if values else None


def echo_rows(bench):
    sides = {"berth": bench.own("echo"), RING: bench.own("echo-uring"),
             "twin": bench.own("echo-twin"), "Netty": bench.netty}
    return [Row(f"echo {text}", served.own_load(bench.programs, "echo", 64, size), sides)
            for text, size in (("1 KiB", 1024), ("16 KiB", 16384))]


def files_rows(bench):
    sides = {"berth": bench.own("files", bench.files), RING: bench.own("files-uring", bench.files),
             "twin": bench.own("files-twin", bench.files), "nginx": bench.nginx}
    loads = (("1 KiB", "/1k", 1), ("4 KiB", "/4k", 1), ("4 KiB, 8 pipelined", "/4k", 8),
             ("64 KiB", "/64k", 1), ("1 MiB", "/1m", 1))
    return [Row(f"file {text}", served.wrk_load(bench.folder, path, 64, pipelined), sides)
            for text, path, pipelined in loads]


def hub_rows(bench):
    redis = str(bench.start_redis())
    sides = {"berth": bench.own("hub", redis), "twin": bench.own("hub-twin", redis)}
    rows = [Row(f"{test.upper()} 1 KiB, 16 pipelined", served.redis_load(test, 1024, 16), sides)
            for test in ("set", "get")]
    return rows + [Row(f"publish {text} to 64",
                       served.own_load(bench.programs, "fan", 64, size, 8), sides)
                   for text, size in (("4 KiB", 4096), ("64 KiB", 65536))]


ROWS = {"echo": echo_rows, "files": files_rows, "hub": hub_rows}


def measure(bench, rows, rounds, seconds, say):
    for turn in range(rounds):
        for row in rows:
            sides = list(row.sides)
            for side in sides[turn % len(sides):] + sides[:turn % len(sides)]:
                measure_once(bench, row, side, seconds, turn == 0)
        say(f"round {turn + 1} of {rounds} is done")


def measure_once(bench, row, side, seconds, first):
    if side in bench.missing:
        return
    try:
        server = row.sides[side]()
    except (Failed, OSError, subprocess.SubprocessError) as error:
        bench.missing[side] = str(error)
        return
    try:
        row.rounds[side].append(served.timed(server, row.load, seconds))
        if first:
            calls, by = served.system_calls(server, row.load, seconds)
            row.once[side].update(system_calls=calls, counted_by=by)
    finally:
        server.end()
    if first and side in ("berth", RING, "twin") and os.path.exists(bench.counter):
        row.once[side].update(served.counted(row.sides[side], row.load, bench.counter, seconds))


def fanout(bench):
    """The comparison inside a program, by size."""
    out = []
    for size in (4096, 65536):
        done = subprocess.run([os.path.join(bench.programs, "fanout"), str(size)], check=True,
                              capture_output=True, text=True)
        out.append(json.loads(done.stdout))
    return out


# ---- what is shown ----

COLUMNS = (("messages/s", "per_s", "{:,.0f}"), ("CPU us", "cpu_us", "{:.2f}"),
           ("memory KiB", "memory_kib", "{:,.0f}"), ("calls", "system_calls", "{:.2f}"),
           ("mallocs", "allocations", "{:.4f}"), ("copied B", "copied_bytes", "{:,.0f}"),
           ("pool blocks", "pool_allocations", "{:.4f}"))


def cell(row, side, name, form):
    value = row.figure(side, name) if name in ("per_s", "cpu_us", "memory_kib") \
        else row.once[side].get(name)
    return "-" if value is None else form.format(value)


def table(rows):
    lines = ["| load | server | " + " | ".join(title for title, *_ in COLUMNS) + " |",
             "|---|---|" + "---:|" * len(COLUMNS)]
    for row in rows:
        for side in row.sides:
            if row.rounds[side]:
                cells = [cell(row, side, name, form) for _, name, form in COLUMNS]
                lines.append(f"| {row.name} | {side} | " + " | ".join(cells) + " |")
    return lines


def fanout_table(figures):
    lines = ["| bytes | shared ns | copied ns | faster | held shared | held copied | less |",
             "|---:|---:|---:|---:|---:|---:|---:|"]
    for one in figures:
        lines.append(f"| {one['bytes']} | {one['shared_ns']:,} | {one['copied_ns']:,} | "
                     f"{one['copied_ns'] / one['shared_ns']:.0f} x | {one['shared_held']:,} | "
                     f"{one['copied_held']:,} | "
                     f"{one['copied_held'] / one['shared_held']:.0f} x |")
    return lines


def report(rows, figures, bench, conditions):
    lines = [conditions, ""]
    if rows:
        lines += table(rows)
    if figures:
        lines += ["", "One message for 64 connections, 64 of which wait, in a program, by itself:",
                  "", *fanout_table(figures)]
    lines += [f"\n{side} was left out: {why}" for side, why in bench.missing.items()]
    return "\n".join(lines) + "\n"


def plot(rows):
    """Processor time of a message over the twin's, as bars that are cut at four times."""
    names = list(dict.fromkeys(side for row in rows for side in row.sides))
    drawing = Drawing(760, "Processor time of a message, the twin's being 1 (shorter is better)")
    drawing.legend(160, 42, names)
    y, scale, clip = 60, 140, 4
    top = y
    for row in rows:
        twin = row.figure("twin", "cpu_us")
        sides = [side for side in row.sides if row.rounds[side] and twin]
        drawing.text(180, y + 5 * len(sides) + 3, row.name, "ink", "end")
        for side in sides:
            over = row.figure(side, "cpu_us") / twin
            shown = min(over, clip) * scale
            drawing.bar(190, y, shown, 8, names.index(side), f"{row.name}, {side}: {over:.2f}")
            drawing.text(193 + shown, y + 8, f"{over:.2f}{' (cut)' if over > clip else ''}",
                         "faint small")
            y += 10
        y += 8
    drawing.rule(190 + scale, top - 4, 190 + scale, y - 4, "axis")
    return drawing.svg()


def write_docs(text, picture):
    with open(os.path.join(ROOT, "docs", "servers.svg"), "w", encoding="utf-8") as file:
        file.write(picture)
    path = os.path.join(ROOT, "docs", "performance.md")
    begin, end = "<!-- servers: begin -->\n", "<!-- servers: end -->"
    with open(path, encoding="utf-8") as file:
        before, rest = file.read().split(begin)
    with open(path, "w", encoding="utf-8") as file:
        file.write(before + begin + "\n" + text + "\n" + end + rest.split(end)[1])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of a second each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--only", default="echo,files,hub,fanout")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    parser.add_argument("--out", default=os.path.join(ROOT, "build", "servers"))
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    chosen.build = os.path.abspath(chosen.build)
    if chosen.quick:
        chosen.rounds, chosen.seconds = 1, 1
    chosen.only = chosen.only.split(",")
    unknown = [name for name in chosen.only if name not in (*ROWS, "fanout")]
    if unknown:
        parser.error(f"there is no {unknown[0]}")
    return chosen


def main():
    chosen = arguments()
    others = machine.Others()
    with tempfile.TemporaryDirectory(prefix="berth-servers.") as folder:
        bench = Bench(chosen.build, folder)
        try:
            rows = [row for name in chosen.only if name in ROWS for row in ROWS[name](bench)]
            measure(bench, rows, chosen.rounds, chosen.seconds,
                    lambda text: print(text, file=sys.stderr))
            figures = fanout(bench) if "fanout" in chosen.only else []
        except (Failed, OSError, subprocess.SubprocessError) as error:
            sys.exit(f"serving.py: {error}")
        finally:
            bench.end()
    about = machine.describe()
    by = {one.get("counted_by") for row in rows for one in row.once.values()} - {None}
    conditions = (f"Medians of {chosen.rounds} interleaved rounds of {chosen.seconds:g} s, "
                  f"{about['date'][:10]}, {about['cores']} virtual processors "
                  f"({about['processor']}), Linux {about['kernel'].split('-')[0]}; other work took "
                  f"{others.share():.0%} of the machine. System calls by "
                  f"{' and '.join(sorted(by)) or 'nobody'}.")
    text = report(rows, figures, bench, conditions)
    os.makedirs(chosen.out, exist_ok=True)
    with open(os.path.join(chosen.out, "report.md"), "w", encoding="utf-8") as file:
        file.write(text)
    with open(os.path.join(chosen.out, "results.json"), "w", encoding="utf-8") as file:
        json.dump({"machine": about, "fanout": figures, "missing": bench.missing,
                   "rows": {row.name: {"rounds": row.rounds, "once": row.once} for row in rows}},
                  file, indent=1)
    with open(os.path.join(chosen.out, "servers.svg"), "w", encoding="utf-8") as file:
        file.write(plot(rows))
    if chosen.docs:
        write_docs(text, plot(rows))
    print(text)


if __name__ == "__main__":
    main()
