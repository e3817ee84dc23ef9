"""Measuring in rounds, and telling of it: round by round, row by row, allocator by allocator, so
that whatever else the machine does meets all of them alike. What one run is, a subclass says."""

import json
import os
import sys

import allocators
import figures
import machine
import measure
import tables


class Rounds:
    """A whole measurement: its settings, and the runs so far."""

    def __init__(self, build, rounds, found, rows, form, settings):
        self.programs = measure.Programs(os.path.join(build, "perf"))
        self.rounds, self.allocators, self.rows = rounds, found, rows
        self.results = {
            "format": form,
            "machine": machine.describe(),
            "settings": {"rounds": rounds, **settings},
            "allocators": [one.describe() for one in found],
            "rows": [row.describe() for row in rows],
            "runs": [],
        }

    def run_one(self, round_number, row, allocator):
        """The figures of one run; `failure` says why there are none."""
        raise NotImplementedError

    def measure(self):
        """All rounds. Who goes first in a row changes from round to round."""
        for number in range(self.rounds):
            turn = number % len(self.allocators)
            order = self.allocators[turn:] + self.allocators[:turn]
            for row in self.rows:
                for allocator in order:
                    run = self.run_one(number, row, allocator)
                    run.update(round=number, row=row.name, allocator=allocator.name)
                    self.results["runs"].append(run)
                    self.tell(run)

    def tell(self, run):
        """One line of progress."""
        what = run["failure"] or (f"{run['wall_s']:8.3f} s  cpu {run['cpu_s']:8.3f} s  "
                                  f"peak {run['peak_kib'] / 1024:8.1f} MiB")
        print(f"[{run['round'] + 1}/{self.rounds}] {run['row']:16} {run['allocator']:12} {what}",
              file=sys.stderr, flush=True)

    def measure_and_publish(self, folder, draw):
        """The exit status. An interrupted measurement shows what it has."""
        status = 0
        try:
            self.measure()
        except KeyboardInterrupt:
            print("stopped; what was measured so far:", file=sys.stderr)
            status = 130
        return status if publish(self.results, folder, draw) else 1


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def publish(results, folder, draw):
    """Writes and prints everything; draw makes the pictures. True if berth, and what is called so,
    never failed."""
    os.makedirs(folder, exist_ok=True)
    found = figures.Figures(results)
    subject = allocators.BERTH if allocators.BERTH in found.allocators else found.allocators[0]
    text = tables.report(results, found, subject)
    print(text)
    written = [write(folder, "results.json", json.dumps(results, indent=1) + "\n"),
               write(folder, "report.txt", text + "\n")]
    written += [write(folder, name, svg) for name, svg in draw(found).items()]
    print("written:", *(os.path.relpath(path) for path in written))
    return not any(name not in found.peers for _, name, _, _ in found.failures())
