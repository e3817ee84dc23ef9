#!/usr/bin/env python3
"""Measures berth against the other allocators of this machine, and prints and plots what it found.

Round by round, row by row, allocator by allocator, so that whatever else the machine does meets all
of them alike. Peers are glibc's malloc, the distribution's jemalloc, mimalloc and tcmalloc as far
as they are installed, and what the command line names. Results go to a folder: JSON, text and SVG.

    perf/bench.py                                  everything, 3 rounds
    perf/bench.py --quick                          a fifth of the work, 2 rounds
    perf/bench.py --only server,redis --rounds 3
    perf/bench.py mimalloc3=/opt/lib/libmimalloc.so.3.0
    perf/bench.py --load build/bench/results.json  tables and plots of an earlier run

It builds nothing: `make bench` does that first.
"""

import argparse
import json
import os
import sys

import allocators
import figures
import machine
import measure
import plots
import redis
import rows
import tables

FORMAT = 1
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def words(text):
    return [word for word in text.split(",") if word]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0],
                                     epilog=__doc__.partition("\n\n")[2],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("library", nargs="*", metavar="NAME=PATH",
        help="another allocator to compare; NAME berth-.. is a variant of berth, not a peer")
    add("--rounds", type=int, metavar="N", help="default 3, or 2 with --quick")
    add("--quick", action="store_true", help="a fifth of the work, shorter quiet times")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N",
        help="of the threaded rows; default: the processors")
    add("--only", type=words, default=[], metavar="ROW,..", help="these rows (or their beginnings)")
    add("--skip", type=words, default=[], metavar="ROW,..", help="all but these rows")
    add("--without", type=words, default=[], metavar="NAME,..", help="leave allocators out")
    add("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR",
        help="where libberth-malloc.so and perf/ lie")
    add("--out", default=os.path.join(ROOT, "build", "bench"), metavar="DIR",
        help="where results.json, report.txt and the plots go")
    add("--set", action="append", default=[], metavar="NAME:VARIABLE=VALUE",
        help="an environment variable for one allocator")
    add("--no-calls", action="store_true", help="do not count system calls")
    add("--load", metavar="JSON", help="show an earlier run; measure nothing")
    add("--list", action="store_true", help="name the rows and the allocators")
    arguments = parser.parse_args()
    if arguments.rounds is None:
        arguments.rounds = 2 if arguments.quick else 3
    if arguments.rounds < 1 or arguments.threads < 1:
        parser.error("--rounds and --threads are at least 1")
    return parser, arguments


def find_allocators(arguments):
    library = os.path.join(arguments.build, "libberth-malloc.so")
    if not os.path.isfile(library):
        raise ValueError(f"{library} is not built: run `make`, or name its folder with --build")
    packaged, missing = allocators.find_packaged()
    for name, package in missing:
        print(f"{name} is not installed (Debian: {package}); going on without", file=sys.stderr)
    named = [allocators.from_argument(text) for text in arguments.library]
    found = [allocators.berth(library), allocators.glibc(), *packaged, *named]
    if len({one.name for one in found}) < len(found):
        raise ValueError("two allocators have the same name")
    allocators.apply_environment(found, arguments.set)
    return [one for one in found if one.name not in arguments.without]


def find_rows(arguments):
    chosen = rows.choose(rows.all_rows(arguments.threads, arguments.quick), arguments.only,
                         arguments.skip)
    reason = redis.missing()
    if reason and any(row.load == "redis" for row in chosen):
        print(f"no row redis: {reason}", file=sys.stderr)
        chosen = [row for row in chosen if row.load != "redis"]
    return chosen


class Bench:
    """One whole measurement: its settings, and the runs so far."""

    def __init__(self, arguments):
        self.allocators = find_allocators(arguments)
        self.rows = find_rows(arguments)
        self.programs = measure.Programs(os.path.join(arguments.build, "perf"))
        self.rounds = arguments.rounds
        self.work_percent = 20 if arguments.quick else 100
        self.with_calls = not arguments.no_calls
        self.quick = arguments.quick
        self.results = {
            "format": FORMAT,
            "machine": machine.describe(),
            "settings": {"rounds": self.rounds, "threads": arguments.threads,
                         "work_percent": self.work_percent, "quick": self.quick},
            "allocators": [one.describe() for one in self.allocators],
            "rows": [row.describe() for row in self.rows],
            "runs": [],
        }

    def run_one(self, round_number, row, allocator):
        if row.load == "redis":
            run = redis.run(self.programs, allocator, self.quick)
        else:
            run = measure.run_load(self.programs, allocator, row, self.work_percent)
            if row.calls and self.with_calls and round_number == 0:
                run["calls_per_1000"] = measure.count_calls(
                    self.programs, allocator, row, max(self.work_percent // 4, 1))
        run.update(round=round_number, row=row.name, allocator=allocator.name)
        return run

    def measure(self):
        """All rounds. Who goes first in a row changes from round to round."""
        for number in range(self.rounds):
            turn = number % len(self.allocators)
            order = self.allocators[turn:] + self.allocators[:turn]
            for row in self.rows:
                for allocator in order:
                    run = self.run_one(number, row, allocator)
                    self.results["runs"].append(run)
                    self.tell(run)

    def tell(self, run):
        """One line of progress."""
        what = run["failure"] or (f"{run['wall_s']:8.3f} s  cpu {run['cpu_s']:8.3f} s  "
                                  f"peak {run['peak_kib'] / 1024:8.1f} MiB")
        print(f"[{run['round'] + 1}/{self.rounds}] {run['row']:16} {run['allocator']:12} {what}",
              file=sys.stderr, flush=True)


def load_results(path):
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    if results.get("format") != FORMAT:
        raise ValueError(f"{path}: not results of this version of bench.py")
    return results


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def publish(results, folder):
    """Writes and prints everything. True if berth, and what is called so, never failed."""
    os.makedirs(folder, exist_ok=True)
    found = figures.Figures(results)
    subject = allocators.BERTH if allocators.BERTH in found.allocators else found.allocators[0]
    text = tables.report(results, found, subject)
    print(text)
    written = [write(folder, "results.json", json.dumps(results, indent=1) + "\n"),
               write(folder, "report.txt", text + "\n")]
    written += [write(folder, name, svg) for name, svg in plots.all_plots(found).items()]
    print("written:", *(os.path.relpath(path) for path in written))
    return not any(name not in found.peers for _, name, _, _ in found.failures())


def main():
    parser, arguments = parse_arguments()
    try:
        if arguments.load:
            return 0 if publish(load_results(arguments.load), arguments.out) else 1
        bench = Bench(arguments)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if arguments.list:
        for row in bench.rows:
            print(f"{row.name:18} {row.about}")
        for allocator in bench.allocators:
            print(f"{allocator.name:18} {allocator.version}  {allocator.path or ''}")
        return 0
    status = 0
    try:
        bench.measure()
    except KeyboardInterrupt:
        print("stopped; what was measured so far:", file=sys.stderr)
        status = 130
    return status if publish(bench.results, arguments.out) else 1


if __name__ == "__main__":
    sys.exit(main())
