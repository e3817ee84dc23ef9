#!/usr/bin/env python3
"""Compares a map's sums with the metrics of the same process, which stands still.

    tests/cli/map_is_true.py MAP.json STAT.json
"""

import json
import sys

NAMES = ("chunk_bytes", "slab_lent_bytes", "slab_free_bytes", "slab_tail_bytes", "run_lent_bytes",
         "run_cached_bytes", "run_free_bytes", "run_dirty_bytes", "huge_bytes", "huge_blocks",
         "file_bytes")

with open(sys.argv[1], encoding="utf-8") as file:
    drawn = json.load(file)
with open(sys.argv[2], encoding="utf-8") as file:
    said = json.load(file)

faults = []
if drawn["torn"] != 0:
    faults.append(f"{drawn['torn']} records made no sense")
pools = {pool["pool"]: pool for pool in drawn["pools"]}
for pool in said["pools"]:
    for name in NAMES:
        if pools[pool["name"]][name] != pool[name]:
            faults.append(f"{name}: {pools[pool['name']][name]} drawn, {pool[name]} said")
pages = sum(len(stretch["states"]) for stretch in drawn["stretches"])
if pages * drawn["page_bytes"] != sum(sum(part[name] for name in
                                          ("chunk_bytes", "huge_bytes", "file_bytes",
                                           "retained_bytes"))
                                      for part in [*drawn["pools"], drawn["unowned"]]):
    faults.append("the pages are not all of the memory")
print("\n".join(faults))
sys.exit(bool(faults))
