"""The rows of the benchmark: which load runs with which arguments, and what its figures are for.
What a load does, and what it punishes, stands in its file in workloads/."""

import glob
import re
from dataclasses import dataclass, field

LARGE_WINDOW_MIB_MIN, LARGE_WINDOW_MIB_MAX = 64, 300


@dataclass(frozen=True)
class Row:
    name: str
    about: str
    load: str  # a load of the program `loads`, or "redis"
    threads: int = 1
    options: dict = field(default_factory=dict)
    timed: bool = True  # counts in the mean of times
    peak: bool = False  # holds enough memory for its peak to count in the mean of peaks
    after: str = ""  # the note that says what is resident when the load is over
    notes: tuple = ()  # notes to show in the table: (name, heading, divisor)
    calls: bool = False  # system calls are counted, in a run of their own
    series: str = ""  # one line per allocator over the threads, in the plot of scaling

    def arguments(self, work_percent):
        options = dict(self.options, threads=self.threads, work=work_percent)
        return [self.load] + [f"{key}={value}" for key, value in options.items()]

    def describe(self):
        return {key: getattr(self, key) for key in self.__dataclass_fields__}


def last_level_cache_mib():
    """The largest cache that the kernel knows of; 0 if it knows none."""
    sizes = [0]
    for path in glob.glob("/sys/devices/system/cpu/cpu0/cache/index*/size"):
        with open(path, encoding="ascii") as file:
            number = re.match(r"(\d+)([KMG]?)", file.read())
        sizes.append(int(number[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[number[2]])
    return max(sizes) // 2**20


def large_window_mib():
    """Twice the last-level cache, so that most accesses miss it, but no more than is polite."""
    return min(max(2 * last_level_cache_mib(), LARGE_WINDOW_MIB_MIN), LARGE_WINDOW_MIB_MAX)


def thread_counts(threads, quick):
    """1, 2, 4 .. threads; only the ends in quick mode."""
    counts = [1]
    while not quick and counts[-1] * 2 < threads:
        counts.append(counts[-1] * 2)
    return counts + ([threads] if threads > 1 else [])


def scaled(name, about, counts, **more):
    """A row per thread count. Those between the ends are for the plot of scaling only."""
    ends = (counts[0], counts[-1])
    return [Row(f"{name}-{count}", f"{about}, {count} thread{'s' if count > 1 else ''}", name,
                count, timed=count in ends, series=name, calls=more.get("calls_at") == count,
                **{key: value for key, value in more.items() if key != "calls_at"})
            for count in counts]


def exchange(producers, consumers):
    return Row(f"exchange-{producers}to{consumers}", f"{producers} allocating, {consumers} freeing",
               "exchange", producers + consumers,
               {"producers": producers, "consumers": consumers})


def exchanges(threads):
    half, rest = max(threads // 2, 1), max(threads - 1, 1)
    ratios = [(1, 1), (1, rest), (rest, 1), (2, 2), (half, half)]
    return [exchange(*ratio) for ratio in dict.fromkeys(ratios) if sum(ratio) <= max(threads, 2)]


LATENCY_NOTES = tuple(
    (f"{call}_{key}_ns", f"{call} {label}", 1)
    for call in ("malloc", "free")
    for key, label in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"), ("p9999", "p99.99"),
                       ("max", "max")))
SHRINK_NOTES = (("live_kib", "live MiB", 1024), ("resident_burst_kib", "at peak", 1024),
                ("resident_freed_kib", "freed", 1024), ("resident_1s_kib", "after 1 s", 1024),
                ("resident_quiet_kib", "at the end", 1024))
IDLE_NOTES = (("growth_kib", "growth MiB", 1024), ("growth_after_1s_kib", "after 1 s", 1024),
              ("growth_per_thread_kib", "KiB a thread", 1))
REDIS_NOTES = (("requests_per_s", "1000 req/s", 1000), ("used_1k_kib", "1K used", 1024),
               ("resident_1k_kib", "resident", 1024), ("resident_300_kib", "300 B resident", 1024),
               ("resident_300_over_used", "over used", 1),
               ("resident_flushed_kib", "flushed", 1024))


def shrink(name, about, quick, **options):
    seconds = 3 if quick else 10
    return Row(name, about, "shrink", 4, dict(options, seconds=seconds), timed=True, peak=True,
               after="resident_quiet_kib", notes=SHRINK_NOTES)


def all_rows(threads, quick):
    counts = thread_counts(threads, quick)
    return [
        Row("control", "no allocation: the noise of the machine", "control", threads, timed=False),
        Row("pair-64", "malloc and free by turns, 64 bytes", "pair", 1, {"size": 64}),
        Row("pair-random", "malloc and free by turns, 16 to 1024 bytes", "pair"),
        Row("burst-100", "100 of 16 to 512 bytes, then free all", "burst", 1, {"count": 100}),
        Row("burst-10000", "10,000 of 16 to 512 bytes, then free all", "burst", 1,
            {"count": 10000}),
        *scaled("window", "4096 live of 16 to 512 bytes", counts),
        Row("window-large", f"{large_window_mib()} MiB live of 16 to 512 bytes", "window", 1,
            {"mib": large_window_mib()}, peak=True),
        *scaled("server", "16 B to 192 KiB, a quarter freed elsewhere", counts, peak=True,
                calls_at=threads),
        *scaled("websocket", "a websocket proxy's sizes, 8192 live", counts, peak=True),
        *scaled("buffers", "64 live of 16 to 256 KiB", counts, peak=True, calls_at=threads),
        Row("large", "20 live of 5 to 25 MB", "large", peak=True, calls=True),
        Row("grow", "realloc by half, 64 bytes to 4 MiB", "grow", peak=True, calls=True),
        Row("zeroed", "calloc, 64 bytes to 1 MiB", "zeroed"),
        *exchanges(threads),
        Row("churn", "threads that live for 5000 allocations", "churn", threads),
        Row("sharing-active", "false sharing by new objects", "sharing-active", threads),
        Row("sharing-passive", "false sharing by inherited objects", "sharing-passive", threads),
        Row("idle", "3000 threads touch 20 sizes, then sleep", "idle", threads, timed=False,
            after="growth_after_1s_kib", notes=IDLE_NOTES),
        shrink("shrink", "400 MB of mixed sizes, 95 % freed, light traffic", quick),
        shrink("shrink-single", "400 MB of 512 bytes, 95 % freed, light traffic", quick, size=512),
        Row("latency", "processor time of single calls, server traffic, ns", "latency", threads,
            timed=False, notes=LATENCY_NOTES, calls=True),
        Row("redis", "redis-server over a unix socket", "redis", 1, {"quick": quick}, peak=True,
            after="resident_flushed_kib", notes=REDIS_NOTES),
    ]


def choose(rows, only, skip):
    """Rows by name, by the beginning of a name up to a dash, or all. Unknown names are refused."""
    def matches(row, word):
        return row.name == word or row.name.startswith(word + "-")

    for word in only + skip:
        if not any(matches(row, word) for row in rows):
            raise ValueError(f"{word}: no such row; --list names them")
    kept = [row for row in rows if not only or any(matches(row, word) for word in only)]
    return [row for row in kept if not any(matches(row, word) for word in skip)]
