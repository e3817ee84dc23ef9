"""Results as plain text: a table per row, then the ratios of all rows, then the means. What the
figures are is decided in figures.py."""

METRICS = (("wall_s", "wall time"), ("cpu_s", "processor time"), ("peak_kib", "peak memory"),
           ("after", "memory afterwards"))


def aligned(heading, lines):
    """Text lines: the first column to the left, the others to the right."""
    widths = [max(len(line[i]) for line in [heading, *lines]) for i in range(len(heading))]
    return ["  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                      for i, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
            for line in [heading, *lines]]


def number(value, digits=3):
    """Three significant digits or so, without exponents; a dash for what is missing."""
    if value is None:
        return "-"
    magnitude = abs(value)
    decimals = next((places for limit, places in ((100, 0), (10, 1), (1, 2))
                     if magnitude >= limit), digits)
    return f"{value:.{decimals}f}"


def ratio(value):
    return "-" if value is None else f"{value:.2f}"


def row_heading(row):
    heading = ["allocator", "ns/op", "wall s", "min..max", "x best", "cpu s", "peak MiB", "x best",
               "end MiB", "faults k"]
    return heading + [label for _, label, _ in row["notes"]]


def row_line(row, allocator, figures):
    name = row["name"]

    def median(metric, divisor=1):
        value = figures.median(name, allocator, metric)
        return number(value / divisor if value is not None else None)

    wall = figures.spread(name, allocator, "wall_s")
    if not wall:
        why = "failed" if figures.runs.get((name, allocator)) else "not run"
        return [allocator, why] + ["-"] * (8 + len(row["notes"]))
    operations = figures.median(name, allocator, "operations")
    line = [allocator, number(wall.median * 1e9 / operations) if operations else "-",
            number(wall.median), f"{number(wall.low)}..{number(wall.high)}",
            ratio(figures.over_best(name, allocator, "wall_s")), median("cpu_s"),
            median("peak_kib", 1024), ratio(figures.over_best(name, allocator, "peak_kib")),
            median("end_kib", 1024), median("faults", 1000)]
    return line + [median("note:" + note, divisor) for note, _, divisor in row["notes"]]


def calls_table(name, figures):
    """System calls per 1000 operations by kind, where they were counted."""
    counted = {allocator: run["calls_per_1000"] for allocator in figures.allocators
               for run in figures.good(name, allocator) if run.get("calls_per_1000")}
    if not counted:
        return []
    kinds = list(dict.fromkeys(kind for calls in counted.values() for kind in calls))
    lines = [[allocator, number(sum(calls.values()), 2)]
             + [number(calls[kind], 2) if calls.get(kind) else "-" for kind in kinds]
             for allocator, calls in counted.items()]
    return ["", *aligned(["calls per 1000 operations", "all", *kinds], lines)]


def row_table(name, figures):
    row = figures.rows[name]
    lines = [row_line(row, allocator, figures) for allocator in figures.allocators]
    return [f"== {name}: {row['about']}", *aligned(row_heading(row), lines),
            *calls_table(name, figures), ""]


def ratios_table(metric, title, figures):
    """The median of each allocator over the best peer's, row by row, and the mean below."""
    lines = []
    for row in figures.rows_for(metric):
        best = figures.best_peer(row, metric)
        lines.append([row] + [ratio(figures.over_best(row, allocator, metric))
                              for allocator in figures.allocators] + [best[0] if best else "-"])
    if not lines:
        return []
    lines.append(["geometric mean"] + [ratio(figures.mean_over_best(allocator, metric))
                                       for allocator in figures.allocators] + [""])
    return [f"== {title} over the best peer of each row",
            *aligned(["row", *figures.allocators, "best peer"], lines), ""]


def means_table(figures, subject):
    """The subject over each peer, as geometric means over all rows that count."""
    others = [name for name in figures.allocators if name != subject]
    lines = []
    for metric, title in METRICS:
        means = {name: figures.mean_over(subject, name, metric) for name in others}
        counts = {count for _, count in means.values() if count}
        if not counts:
            continue
        hardest = figures.best_single_peer(subject, metric)
        lines.append([title, str(max(counts))]
                     + [ratio(means[name][0]) + ("*" if means[name][1] < max(counts) else "")
                        for name in others]
                     + [f"{hardest[0]} {ratio(hardest[1])}" if hardest else "-"])
    if not lines:
        return []
    return [f"== {subject} over each peer: geometric means (below 1: {subject} needs less; "
            "*: over fewer rows, some failed)",
            *aligned(["", "rows", *others, "hardest peer"], lines), ""]


def amount(settings):
    """What was done in a round."""
    return settings.get("about") or (f"{settings['threads']} threads, "
                                     f"{settings['work_percent']} % of the full work")


def conditions(results, figures):
    machine, settings = results["machine"], results["settings"]
    caches = ", ".join(f"{level} {size}" for level, size in machine["caches"].items())
    lines = [f"{machine['processor']}, {machine['cores']} cores"
             f"{' (virtual)' if machine['virtual'] else ''}, {caches}, "
             f"{machine['memory_mib']} MiB; Linux {machine['kernel']}, huge pages "
             f"{machine['huge_pages']}; {machine['date']}",
             f"{settings['rounds']} rounds, {amount(settings)}; medians over the rounds"]
    lines += [f"{name}: {version}" for name, version in figures.versions.items()]
    noise, others = figures.noise(), figures.others()
    if noise:
        lines.append(f"noise: the control row, which allocates nothing, took {noise.low:.3f} .. "
                     f"{noise.median:.3f} .. {noise.high:.3f} s")
    if others:
        lines.append(f"other work took {100 * others.low:.0f} .. {100 * others.median:.0f} .. "
                     f"{100 * others.high:.0f} % of the machine during the runs"
                     + ("; wall times mean little then, see processor time"
                        if others.median > 0.2 else ""))
    return lines + [""]


def failures(figures):
    lines = [f"failed: {row} with {allocator}, {count} times: {reason}"
             for row, allocator, count, reason in figures.failures()]
    return lines + [""] if lines else []


def report(results, figures, subject):
    """All of it as one text."""
    lines = conditions(results, figures)
    for name in figures.rows:
        lines += row_table(name, figures)
    for metric, title in METRICS:
        lines += ratios_table(metric, title, figures)
    lines += means_table(figures, subject)
    return "\n".join(lines + failures(figures))
