"""Statistics over a set of results: medians and spreads, ratios and geometric means. It prints
nothing and measures nothing; tables.py and plots.py show what it finds."""

import math
import statistics
from dataclasses import dataclass

# Below this, a resident memory after the load is noise, and a ratio of it means nothing.
AFTER_KIB_MIN = 1024


@dataclass(frozen=True)
class Spread:
    """One figure over the rounds."""

    median: float
    low: float
    high: float
    count: int


def spread(values):
    return Spread(statistics.median(values), min(values), max(values), len(values))


def mean_of_ratios(ratios):
    """The geometric mean, or None of nothing."""
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None


class Figures:
    """Results by row and allocator. rows and allocators are as described in the results."""

    def __init__(self, results):
        self.rows = {row["name"]: row for row in results["rows"]}
        self.allocators = [one["name"] for one in results["allocators"]]
        self.peers = [one["name"] for one in results["allocators"] if one["peer"]]
        self.versions = {one["name"]: one["version"] for one in results["allocators"]}
        self.runs = {}
        for run in results["runs"]:
            self.runs.setdefault((run["row"], run["allocator"]), []).append(run)

    def good(self, row, allocator):
        return [run for run in self.runs.get((row, allocator), []) if not run["failure"]]

    def failures(self):
        """(row, allocator, how often, the first reason) of what failed."""
        failed = []
        for (row, allocator), runs in self.runs.items():
            reasons = [run["failure"] for run in runs if run["failure"]]
            if reasons:
                failed.append((row, allocator, len(reasons), reasons[0]))
        return failed

    def values(self, row, allocator, metric):
        runs = self.good(row, allocator)
        if metric == "after":
            note = self.rows[row]["after"]
            return [max(run["notes"][note], AFTER_KIB_MIN) for run in runs] if note else []
        if metric.startswith("note:"):
            note = metric.removeprefix("note:")
            return [run["notes"][note] for run in runs if note in run["notes"]]
        return [run[metric] for run in runs]

    def spread(self, row, allocator, metric):
        values = self.values(row, allocator, metric)
        return spread(values) if values else None

    def median(self, row, allocator, metric):
        found = self.spread(row, allocator, metric)
        return found.median if found else None

    def best_peer(self, row, metric):
        """(name, median) of the peer with the least, or None."""
        medians = [(self.median(row, peer, metric), peer) for peer in self.peers]
        found = [(median, peer) for median, peer in medians if median]
        return min(found)[::-1] if found else None

    def over_best(self, row, allocator, metric):
        """The allocator's median over the best peer's; None where either is missing."""
        best, own = self.best_peer(row, metric), self.median(row, allocator, metric)
        return own / best[1] if best and own else None

    def over(self, row, allocator, other, metric):
        own, theirs = self.median(row, allocator, metric), self.median(row, other, metric)
        return own / theirs if own and theirs else None

    def rows_for(self, metric):
        """The rows that count in a mean of this metric."""
        wanted = {"wall_s": "timed", "cpu_s": "timed", "peak_kib": "peak", "after": "after"}[metric]
        return [name for name, row in self.rows.items() if row[wanted]]

    def mean_over(self, allocator, other, metric):
        """(geometric mean of allocator over other, over how many rows)."""
        ratios = [self.over(row, allocator, other, metric) for row in self.rows_for(metric)]
        ratios = [ratio for ratio in ratios if ratio]
        return mean_of_ratios(ratios), len(ratios)

    def mean_over_best(self, allocator, metric):
        ratios = [self.over_best(row, allocator, metric) for row in self.rows_for(metric)]
        return mean_of_ratios([ratio for ratio in ratios if ratio])

    def best_single_peer(self, allocator, metric):
        """(name, mean) of the peer that the allocator compares worst with, or None."""
        means = [(self.mean_over(allocator, peer, metric)[0], peer) for peer in self.peers
                 if peer != allocator]
        means = [pair for pair in means if pair[0]]
        return max(means)[::-1] if means else None

    def noise(self):
        """(least, median, most) wall time of the control row over all its runs, or None."""
        values = [run["wall_s"] for (row, _), runs in self.runs.items() if row == "control"
                  for run in runs if not run["failure"]]
        return spread(values) if values else None

    def others(self):
        """The share of the machine that other work took, over all runs."""
        values = [run["others"] for runs in self.runs.values() for run in runs
                  if not run["failure"]]
        return spread(values) if values else None
