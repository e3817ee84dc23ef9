#!/usr/bin/env python3
"""Compares berth's pools with Netty's pooled direct buffers: the model that berth comes from.

Both sides do the same, interleaved: allocate and release one size by turns, and hold 8192 buffers
per thread with the sizes of a websocket proxy and replace random ones. Prints medians of processor
time per operation, the ratio, and the memory that the pool uses over what lives.

    perf/netty.py [--rounds N] [--build DIR] [--operations N]

Needs Debian's libnetty-java and a JDK. It builds berth's side no more than bench.py does.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
JARS = [f"/usr/share/java/netty-{part}.jar" for part in ("buffer", "common")]
SIDES = ("slices", "blocks", "netty")
PAIRS = (256, 1024, 4096, 16384, 65536)
SLOTS = 8192

# The commonest sizes of a websocket proxy and their weights (Netty's own benchmarks have them); the
# other 355 share the rest, in equal ratios from 24 to 18432 bytes, as workloads/websocket.c has it.
COMMON = {1024: 29289, 256: 21272, 15: 10344, 16639: 9269, 636: 5443, 2048: 2636, 635: 635,
          17: 628, 8447: 555, 637: 459, 634: 349, 36: 338, 48: 338, 9: 316, 21: 316, 16862: 281,
          633: 254, 4351: 226, 8670: 195, 632: 190}
RARE, RARE_WEIGHT = 355, 10


def websocket_sizes():
    sizes = [size for size, weight in COMMON.items() for _ in range(weight)]
    for i in range(RARE):
        sizes += [int(24 * (18432 / 24) ** (i / (RARE - 1)))] * RARE_WEIGHT
    return sizes


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0],
                                     epilog=__doc__.partition("\n\n")[2],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--operations", type=int, default=5_000_000, metavar="N",
                        help="per thread; default 5000000")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR")
    return parser.parse_args()


def refuse(why):
    sys.exit(f"netty.py: {why}")


def compile_netty(folder):
    for tool in ("java", "javac"):
        if shutil.which(tool) is None:
            refuse(f"there is no {tool}: install a JDK (default-jdk-headless)")
    for jar in JARS:
        if not os.path.exists(jar):
            refuse(f"{jar} is not there: install libnetty-java")
    source = os.path.join(ROOT, "perf", "netty", "NettyLoad.java")
    done = subprocess.run(["javac", "-cp", ":".join(JARS), "-d", folder, source], check=False)
    if done.returncode:
        refuse("javac failed")


def command(side, folder, build):
    if side == "netty":
        return ["java", "-XX:MaxDirectMemorySize=4g", "-Dio.netty.leakDetection.level=disabled",
                "-cp", ":".join(JARS + [folder]), "NettyLoad"]
    return [os.path.join(build, "perf", "netty_load"), side]


def run(side, folder, build, row, operations, sizes):
    kind, number, threads = row
    words = [kind, str(number), str(threads), str(operations)]
    with open(sizes, encoding="ascii") as lines:
        done = subprocess.run(command(side, folder, build) + words, stdin=lines,
                              stdout=subprocess.PIPE, check=False)
    if done.returncode:
        refuse(f"{side} failed in {' '.join(words)}")
    return json.loads(done.stdout)


def name_of(row):
    kind, number, threads = row
    what = f"{number} bytes" if kind == "pair" else f"websocket, {number} live"
    return f"{what}, {threads} thread{'s' if threads > 1 else ''}"


def print_row(row, results):
    ns = {side: statistics.median(one["ns"] for one in results[side]) for side in SIDES}
    line = f"{name_of(row):32}" + "".join(f"{ns[side]:10.1f}" for side in SIDES)
    line += f"{ns['netty'] / ns['slices']:10.1f}{ns['netty'] / ns['blocks']:8.1f}"
    if row[0] == "live":
        for side in SIDES:
            used = statistics.median(one["used"] / one["live"] for one in results[side])
            line += f"{used:8.2f}"
    print(line, flush=True)


def main():
    arguments = parse_arguments()
    if not os.path.exists(os.path.join(arguments.build, "perf", "netty_load")):
        refuse(f"{arguments.build}/perf/netty_load is not there: `make netty` builds it")
    with tempfile.TemporaryDirectory() as folder:
        compile_netty(folder)
        sizes = os.path.join(folder, "sizes")
        with open(sizes, "w", encoding="ascii") as file:
            file.writelines(f"{size}\n" for size in websocket_sizes())
        print(f"{'ns of processor time':32}{'slices':>10}{'blocks':>10}{'netty':>10}"
              f"{'netty over':>14}{'':8}{'used over live':>16}", flush=True)
        print(f"{'':32}{'':30}{'slices':>10}{'blocks':>8}" + "".join(f"{s:>8}" for s in SIDES))
        for row in [("pair", size, 1) for size in PAIRS] + [("live", SLOTS, 1), ("live", SLOTS, 4)]:
            results = {side: [] for side in SIDES}
            for _ in range(arguments.rounds):
                for side in SIDES:
                    results[side].append(run(side, folder, arguments.build, row,
                                             arguments.operations, sizes))
            print_row(row, results)


if __name__ == "__main__":
    main()
