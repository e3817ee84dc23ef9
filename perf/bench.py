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
import measure
import plots
import redis
import rounds
import rows

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


def find_rows(arguments):
    chosen = rows.choose(rows.all_rows(arguments.threads, arguments.quick), arguments.only,
                         arguments.skip)
    reason = redis.missing()
    if reason and any(row.load == "redis" for row in chosen):
        print(f"no row redis: {reason}", file=sys.stderr)
        chosen = [row for row in chosen if row.load != "redis"]
    return chosen


class Bench(rounds.Rounds):
    """One whole measurement of the loads."""

    def __init__(self, arguments):
        found = allocators.choose(arguments.build, arguments.library, arguments.set,
                                  arguments.without)
        self.work_percent = 20 if arguments.quick else 100
        self.with_calls = not arguments.no_calls
        self.quick = arguments.quick
        super().__init__(arguments.build, arguments.rounds, found, find_rows(arguments), FORMAT,
                         {"threads": arguments.threads, "work_percent": self.work_percent,
                          "quick": self.quick})

    def run_one(self, round_number, row, allocator):
        if row.load == "redis":
            return redis.run(self.programs, allocator, self.quick)
        run = measure.run_load(self.programs, allocator, row, self.work_percent)
        if row.calls and self.with_calls and round_number == 0:
            run["calls_per_1000"] = measure.count_calls(
                self.programs, allocator, row, max(self.work_percent // 4, 1))
        return run


def load_results(path):
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    if results.get("format") != FORMAT:
        raise ValueError(f"{path}: not results of this version of bench.py")
    return results


def main():
    parser, arguments = parse_arguments()
    try:
        if arguments.load:
            results = load_results(arguments.load)
            return 0 if rounds.publish(results, arguments.out, plots.all_plots) else 1
        bench = Bench(arguments)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if arguments.list:
        for row in bench.rows:
            print(f"{row.name:18} {row.about}")
        for allocator in bench.allocators:
            print(f"{allocator.name:18} {allocator.version}  {allocator.path or ''}")
        return 0
    return bench.measure_and_publish(arguments.out, plots.all_plots)


if __name__ == "__main__":
    sys.exit(main())
