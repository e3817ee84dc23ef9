"""Reads what a trace says of itself, and shows it. The layout is that of trace/format.h; the words
behind the header are the replay's business."""

import os
import struct
from dataclasses import dataclass

import tables

MAGIC, VERSION = b"berthtrc", 1
CALLS = ("malloc", "calloc", "aligned", "realloc", "free")
COUNTS = ("live_peak_bytes", "live_peak_blocks", "live_end_bytes", "live_end_blocks",
          "requested_bytes", "crossed", "inherited", "waits", "duration_ms", "pid", "full")
BUCKETS = 64
HEADER = struct.Struct(f"<8sII5Q{len(CALLS)}Q{len(COUNTS)}Q{BUCKETS}Q{BUCKETS}Q32s")
THREAD = struct.Struct("<3Q")
BAR = 40


class NoTrace(Exception):
    """The file is not a whole trace."""


@dataclass
class Trace:
    path: str
    program: str
    threads: list  # (words, whether it ended before the process)
    calls: dict
    counts: dict
    sizes: tuple
    lifetimes: tuple

    @property
    def name(self):
        return os.path.basename(self.path).removesuffix(".trace")

    @property
    def operations(self):
        return sum(self.calls.values())

    def about(self):
        return (f"{self.program}, {self.operations} calls, {len(self.threads)} threads, "
                f"{self.counts['live_peak_bytes'] / 2**20:.1f} MiB live at most")


def read(path):
    with open(path, "rb") as file:
        head = file.read(HEADER.size)
        if len(head) < HEADER.size or not head.startswith(MAGIC):
            raise NoTrace(f"{path}: not a trace, or cut off")
        _, version, threads, _, words, *rest = HEADER.unpack(head)
        if version != VERSION:
            raise NoTrace(f"{path}: a trace of another version; record it again")
        length = HEADER.size + THREAD.size * threads + 8 * words
        if os.fstat(file.fileno()).st_size != length:
            raise NoTrace(f"{path}: cut off, or damaged")
        table = file.read(THREAD.size * threads)
    rest = rest[3:]  # slots, and where the peak is
    calls, rest = rest[:len(CALLS)], rest[len(CALLS):]
    counts, rest = rest[:len(COUNTS)], rest[len(COUNTS):]
    return Trace(path, rest[-1].rstrip(b"\0").decode(errors="replace"),
                 [(count, bool(ended)) for _, count, ended in THREAD.iter_unpack(table)],
                 dict(zip(CALLS, calls, strict=True)), dict(zip(COUNTS, counts, strict=True)),
                 tuple(rest[:BUCKETS]), tuple(rest[BUCKETS:2 * BUCKETS]))


def size_name(log2):
    """2 to this, with a unit."""
    return f"{1 << log2 % 10}{('', 'K', 'M', 'G', 'T', 'P', 'E')[log2 // 10]}"


def histogram(title, unit, buckets):
    used = [k for k, count in enumerate(buckets) if count]
    if not used:
        return []
    whole, most = sum(buckets), max(buckets)
    lines = [[f"{'0' if k == 0 else size_name(k)} ..", str(buckets[k]),
              f"{100 * buckets[k] / whole:.1f} %", "#" * round(BAR * buckets[k] / most)]
             for k in range(used[0], used[-1] + 1)]
    shown = tables.aligned([unit, "count", "share", ""], [line[:3] + [""] for line in lines])
    return ["", title, shown[0]] + [f"{text:36} {line[3]}".rstrip()
                                    for text, line in zip(shown[1:], lines, strict=True)]


def threads_lines(trace):
    busiest = sorted((words for words, _ in trace.threads), reverse=True)
    ended = sum(ended for _, ended in trace.threads)
    more = " .." if len(busiest) > 8 else ""
    return [f"{len(trace.threads)} threads, {ended} of them ended before the process; words: "
            + ", ".join(map(str, busiest[:8])) + more]


def show(trace):
    """The whole as text."""
    counts = trace.counts
    freed = trace.calls["free"]
    lines = [f"== {trace.path}: {trace.program}, process {counts['pid']}, "
             f"{counts['duration_ms'] / 1000:.1f} s",
             f"{trace.operations} calls: "
             + ", ".join(f"{count} {name}" for name, count in trace.calls.items() if count),
             *threads_lines(trace),
             f"live at most {counts['live_peak_bytes']} bytes, {counts['live_peak_blocks']} blocks;"
             f" at the end {counts['live_end_bytes']} bytes, {counts['live_end_blocks']} blocks",
             f"requested {counts['requested_bytes']} bytes in all",
             f"freed by another thread: {counts['crossed']} of {freed}"
             + (f" ({100 * counts['crossed'] / freed:.1f} %)" if freed else "")
             + f"; {counts['waits']} waits keep their order"]
    if counts["inherited"]:
        lines.append(f"left out: {counts['inherited']} frees and reallocs of blocks from before a "
                     "fork")
    if counts["full"]:
        lines.append("the recording stopped before the process did: its file was full")
    lines += histogram("allocations by size", "bytes", trace.sizes)
    lines += histogram("freed blocks by the calls that they lived for", "calls", trace.lifetimes)
    return "\n".join(lines)
