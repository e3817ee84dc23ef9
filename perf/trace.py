#!/usr/bin/env python3
"""Records the allocation calls of real servers, and replays them on other allocators.

    perf/trace.py record redis                     to build/trace/redis.trace
    perf/trace.py record -o make.trace -- make -B  any command
    perf/trace.py show build/trace/redis.trace     what is in it
    perf/trace.py replay build/trace/*.trace mimalloc3=/opt/lib/libmimalloc.so.3.0
    perf/trace.py all                              records what is installed, replays all of it

Servers: redis, nginx, memcached, haproxy, postgresql. A trace is of one process: of several, the
one that made the most calls is kept, or all with --all. A replay makes the same calls from as many
threads, in the order in which blocks pass between them. It builds nothing: `make traces` does that
first. Tables and plots go to build/trace/.
"""

import argparse
import os
import sys

import allocators
import measure
import plots
import recording
import rounds
import rows
import servers
import tracefile

FORMAT = 1
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, "build", "trace")
TIMED_CALLS_MIN = 100_000  # fewer calls take less time than a process takes to begin
PEAK_BYTES_MIN = 16 << 20

NOTES = (
    ("live_peak_kib", "live MiB", 1024),
    ("resident_at_peak_kib", "then res.", 1024),
    ("over_live_at_peak", "over live", 1),
    ("live_end_kib", "end live", 1024),
    ("over_live_at_end", "over live", 1),
    ("over_live_worst", "worst", 1),
    ("waited_s", "waited s", 1),
)


class Replays(rounds.Rounds):
    """Traces on allocators, in rounds."""

    def __init__(self, arguments, traces, found):
        self.paths = {trace.name: trace.path for trace in traces}
        self.options = [f"touch={arguments.touch}", f"speed={arguments.speed}"]
        self.paced = arguments.speed > 0
        about = f"blocks touched: {arguments.touch}" + (
            f", at {arguments.speed} % of the record's speed" if arguments.speed else "")
        super().__init__(arguments.build, arguments.rounds, found, [row_of(one) for one in traces],
                         FORMAT, {"about": about})

    def run_one(self, round_number, row, allocator):
        """Twice: for the time, and watched, for the memory; once if the record gives the time."""
        command = [self.programs.replay, self.paths[row.name], *self.options]
        watched = measure.run_program(self.programs, allocator, [*command, "watch"])
        run = watched if self.paced else measure.run_program(self.programs, allocator, command)
        run["failure"] = run["failure"] or watched["failure"]
        if not run["failure"]:
            notes = watched["notes"] | run["notes"]
            run.update(notes=notes, samples=watched.get("samples", []),
                       peak_kib=notes["resident_most_kib"], end_kib=notes["resident_end_kib"])
            if notes["live_end_kib"] * 4 < notes["live_peak_kib"]:
                del notes["over_live_at_end"]  # of next to nothing
        return run


def row_of(trace):
    return rows.Row(trace.name, trace.about(), "replay", len(trace.threads),
                    timed=trace.operations >= TIMED_CALLS_MIN,
                    peak=trace.counts["live_peak_bytes"] >= PEAK_BYTES_MIN,
                    after="resident_end_kib", notes=NOTES)


def read_traces(paths):
    traces = [tracefile.read(path) for path in paths]
    if len({trace.name for trace in traces}) < len(traces):
        raise ValueError("two traces have the same name")
    return traces


def replay(arguments, traces, named):
    found = allocators.choose(arguments.build, named, arguments.set, arguments.without)
    replays = Replays(arguments, traces, found)
    return replays.measure_and_publish(arguments.out, plots.trace_plots)


def run_replay(arguments):
    named = [word for word in arguments.file if "=" in word]
    return replay(arguments, read_traces([word for word in arguments.file if "=" not in word]),
                  named)


def record_server(programs, name, work, out, all_processes):
    with recording.Session(programs) as session:
        servers.record(session, name, work)
        return recording.finish(session, out, all_processes)


def tell(traces):
    for trace in traces:
        print(f"{os.path.relpath(trace.path)}: {trace.about()}", flush=True)


def run_record(arguments):
    programs = measure.Programs(os.path.join(arguments.build, "perf"))
    what = arguments.server or os.path.basename((arguments.command or [""])[0])
    if not what or (arguments.server and arguments.command):
        raise ValueError("name a server, or a command after --")
    out = arguments.output or os.path.join(OUT, f"{what}.trace")
    if arguments.command:
        tell(recording.record_command(programs, arguments.command, out, arguments.all))
    else:
        tell(record_server(programs, what, arguments.work, out, arguments.all))
    return 0


def run_show(arguments):
    print("\n\n".join(tracefile.show(tracefile.read(path)) for path in arguments.file))
    return 0


def run_all(arguments):
    programs = measure.Programs(os.path.join(arguments.build, "perf"))
    traces = []
    for name in servers.SERVERS:
        try:
            out = os.path.join(arguments.out, f"{name}.trace")
            traces += record_server(programs, name, arguments.work, out, False)
            tell(traces[-1:])
        except recording.Refused as reason:
            print(f"no trace of {name}: {reason}", file=sys.stderr)
    if not traces:
        raise ValueError("no server could be recorded")
    return replay(arguments, traces, arguments.library)


def words(text):
    return [word for word in text.split(",") if word]


def add_build(parser):
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR",
                        help="where libberth-malloc.so and perf/ lie")


def add_work(parser):
    parser.add_argument("--work", type=int, default=100, metavar="PERCENT",
                        help="of the usual load; default 100")


def add_replay(parser):
    add = parser.add_argument
    add("--rounds", type=int, default=5, metavar="N", help="default 5")
    add("--without", type=words, default=[], metavar="NAME,..", help="leave allocators out")
    add("--set", action="append", default=[], metavar="NAME:VARIABLE=VALUE",
        help="an environment variable for one allocator")
    add("--touch", choices=("ends", "pages", "all"), default="pages",
        help="what is written into a block: its ends, besides a byte in each page, everything")
    add("--speed", type=int, default=0, metavar="PERCENT",
        help="of the record's own; 0, the default: as fast as can be")
    add("--out", default=OUT, metavar="DIR", help="where results, report and plots go")
    add_build(parser)


def parse_arguments(command_line):
    """Words after -- are the command to record."""
    cut = command_line.index("--") if "--" in command_line else len(command_line)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0],
                                     epilog=__doc__.partition("\n\n")[2],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True, metavar="record|replay|show|all")
    one = kinds.add_parser("record", help="a server under its load, or a command")
    one.add_argument("server", nargs="?", choices=list(servers.SERVERS))
    one.add_argument("-o", "--output", metavar="FILE")
    one.add_argument("--all", action="store_true", help="a trace for each process")
    add_work(one)
    add_build(one)
    one.set_defaults(run=run_record)
    one = kinds.add_parser("replay", help="traces on all allocators")
    one.add_argument("file", nargs="+", metavar="FILE|NAME=PATH",
                     help="a trace, or another allocator; berth-.. is a variant of berth, no peer")
    add_replay(one)
    one.set_defaults(run=run_replay)
    one = kinds.add_parser("show", help="what traces contain")
    one.add_argument("file", nargs="+", metavar="FILE")
    one.set_defaults(run=run_show)
    one = kinds.add_parser("all", help="record what is installed, and replay it")
    one.add_argument("library", nargs="*", metavar="NAME=PATH")
    add_work(one)
    add_replay(one)
    one.set_defaults(run=run_all)
    arguments = parser.parse_args(command_line[:cut])
    arguments.command = command_line[cut + 1:]
    return parser, arguments


def main():
    parser, arguments = parse_arguments(sys.argv[1:])
    try:
        return arguments.run(arguments)
    except (ValueError, OSError, recording.Refused, tracefile.NoTrace) as error:
        parser.exit(1, f"trace.py: {error}\n")


if __name__ == "__main__":
    sys.exit(main())
