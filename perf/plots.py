"""The pictures: bars of time and of memory by row, lines of throughput by threads, and lines of
resident memory through time. Returns SVG texts by file name; writes no file."""

from svg import Drawing, Panel

WIDTH = 980
BAR, GAP, LABELS = 8, 2, 116
OVER_CLIP = 6.0  # resident over live
CLIP = 4.0  # bars of more than this many times the best peer are cut, and say so


def bar_group(drawing, x, y, width, row, metric, figures):
    """One row's bars, its name on the left. Returns the height."""
    scale = width / CLIP
    best = figures.best_peer(row, metric)
    for series, allocator in enumerate(figures.allocators):
        over = figures.over_best(row, allocator, metric)
        top = y + series * (BAR + GAP)
        if over is None:
            drawing.text(x + 3, top + BAR, "failed", "faint small")
            continue
        shown = min(over, CLIP)
        drawing.bar(x, top, shown * scale, BAR, series,
                    f"{row}, {allocator}: {over:.2f} x {best[0]}")
        cut = "  (cut)" if over > CLIP else ""
        drawing.text(x + shown * scale + 3, top + BAR, f"{over:.2f}{cut}", "faint small")
    height = len(figures.allocators) * (BAR + GAP)
    drawing.text(x - 6, y + height / 2 + 3, row, "ink", "end")
    return height


def bars(figures, metric, title):
    """Bars in two columns; 1 is the best peer of the row."""
    rows = [row for row in figures.rows_for(metric) if figures.best_peer(row, metric)]
    if not rows:
        return None
    drawing = Drawing(WIDTH, f"{title} over the best peer of each row (shorter is better)")
    drawing.legend(2, 42, figures.allocators)
    group = len(figures.allocators) * (BAR + GAP) + 8
    half = -(-len(rows) // 2)
    for column in range(2):
        x, y = LABELS + column * WIDTH / 2, 58
        width = WIDTH / 2 - LABELS - 70
        mine = rows[column * half:(column + 1) * half]
        if not mine:
            continue
        best = x + width / CLIP
        drawing.rule(x, y - 4, x, y + group * len(mine) - 4, "axis")
        for row in mine:
            bar_group(drawing, x, y, width, row, metric, figures)
            y += group
        drawing.rule(best, 54, best, y - 4, "axis")
    return drawing.svg()


def panels(drawing, count, height=170, top=84):
    """`count` panels in rows of three."""
    width, gap = (WIDTH - 60) / 3 - 44, 44
    for k in range(count):
        x, y = 48 + k % 3 * (width + gap), top + k // 3 * (height + 70)
        yield Panel(drawing, x, y, width, height)


def scaling(figures):
    """Millions of operations a second by threads, a panel per series."""
    series = {}
    for row in figures.rows.values():
        if row["series"]:
            series.setdefault(row["series"], []).append(row)
    series = {name: rows for name, rows in series.items() if len(rows) > 1}
    if not series:
        return None
    drawing = Drawing(WIDTH, "Millions of operations a second by threads (higher is better)")
    drawing.legend(12, 42, figures.allocators, dashed=True)
    for panel, (name, rows) in zip(panels(drawing, len(series)), series.items(), strict=True):
        lines = {allocator: rates(figures, rows, allocator) for allocator in figures.allocators}
        most = max((rate for points in lines.values() for _, rate in points), default=1)
        counts = [row["threads"] for row in rows]
        panel.axes(name, max(counts), most, "threads", "Mop/s",
                   {count: str(count) for count in counts})
        for index, (allocator, points) in enumerate(lines.items()):
            panel.plot(points, index, allocator)
    drawing.reach(drawing.height + 10)
    return drawing.svg()


def rates(figures, rows, allocator):
    points = []
    for row in rows:
        seconds = figures.median(row["name"], allocator, "wall_s")
        operations = figures.median(row["name"], allocator, "operations")
        if seconds:
            points.append((row["threads"], operations / seconds / 1e6))
    return points


def median_run(figures, row, allocator):
    """Of the runs with samples, the one whose length is the median; None without any."""
    runs = sorted((run for run in figures.good(row, allocator) if run.get("samples")),
                  key=lambda run: run["samples"][-1][0])
    return runs[len(runs) // 2] if runs else None


def thinned(samples):
    """At most 400 of them, in seconds and MiB."""
    return [(at, kib / 1024) for at, kib in samples[::max(len(samples) // 400, 1)]]


def samples_of(figures, row, allocator):
    run = median_run(figures, row, allocator)
    return thinned(run["samples"]) if run else []


def by_phase(figures, row, allocator):
    """Samples with the time in phases: 1.5 is the middle of the second one. The phases take each
    allocator a different time, and so can be laid over each other."""
    run = median_run(figures, row, allocator)
    points, begin = [], 0
    for number, (_, end) in enumerate(run["phases"] if run else []):
        points += [(number + (at - begin) / (end - begin), mib)
                   for at, mib in thinned(run["samples"]) if begin <= at < end]
        begin = end
    return points


def lines_panel(panel, lines, title, x_most, x_label, x_marks=None):
    """Resident memory in MiB, a line per allocator."""
    most = max(mib for points in lines.values() for _, mib in points)
    panel.axes(title, x_most, most, x_label, "MiB resident", x_marks)
    for series, (name, points) in enumerate(lines.items()):
        panel.plot(points, series, name)


def shrink(figures):
    """Resident memory through time, a panel per row."""
    lines = {row: {name: samples_of(figures, row, name) for name in figures.allocators}
             for row in ("shrink", "shrink-single") if row in figures.rows}
    lines = {row: by_name for row, by_name in lines.items() if any(by_name.values())}
    if not lines:
        return None
    drawing = Drawing(WIDTH, "Resident memory after a burst: 400 MB, 95 % freed, light traffic")
    drawing.legend(12, 42, figures.allocators, dashed=True)
    width = (WIDTH - 60) / len(lines) - 44
    for k, (row, by_name) in enumerate(lines.items()):
        panel = Panel(drawing, 48 + k * (width + 44), 84, width, 240)
        seconds = max(at for points in by_name.values() for at, _ in points)
        lines_panel(panel, by_name, row, seconds, "seconds")
    drawing.reach(drawing.height + 10)
    return drawing.svg()


def redis(figures):
    """The server's resident memory through its phases."""
    lines = {name: by_phase(figures, "redis", name)
             for name in figures.allocators} if "redis" in figures.rows else {}
    if not any(lines.values()):
        return None
    drawing = Drawing(WIDTH, "Resident memory of redis-server, phase by phase")
    drawing.legend(12, 42, figures.allocators, dashed=True)
    panel = Panel(drawing, 48, 84, WIDTH - 80, 260)
    names = ("requests, then flush", "1 KiB values", "300 bytes over them", "2 s after FLUSHALL")
    marks = {number + 0.5: name for number, name in enumerate(names)}
    lines_panel(panel, lines, "redis", len(names), "", marks)
    for number in range(1, len(names)):
        x = panel.at(number, 0)[0]
        drawing.rule(x, panel.y, x, panel.y + panel.height)
    return drawing.svg()


def resident_and_live(figures, row, allocator):
    """Both in MiB, by the seconds of the record."""
    run = median_run(figures, row, allocator)
    samples = [sample for sample in run["samples"] if len(sample) > 2] if run else []
    return [(at, resident / 1024, live / 1024) for at, resident, live in samples]


def trace_panels(drawing, figures, row, y):
    """Resident memory with what is live, and the one over the other while enough is live."""
    points = {name: resident_and_live(figures, row, name) for name in figures.allocators}
    most_live = max((live for one in points.values() for _, _, live in one), default=0)
    if not most_live:
        return
    width, seconds = (WIDTH - 60) / 2 - 44, max(one[-1][0] for one in points.values() if one)
    lines = {name: [(at, resident) for at, resident, _ in one] for name, one in points.items()}
    longest = max(points.values(), key=len)
    lines["live"] = [(at, live) for at, _, live in longest]
    lines_panel(Panel(drawing, 48, y, width, 170), lines, row, seconds, "seconds of the record")
    over = {name: [(at, min(resident / live, OVER_CLIP)) for at, resident, live in one
                   if live * 4 > most_live] for name, one in points.items()}
    panel = Panel(drawing, 92 + width, y, width, 170)
    panel.axes(f"{row}: resident over live", seconds,
               max(value for one in over.values() for _, value in one), "seconds of the record",
               "where a quarter of the peak is live; 1 is best")
    for series, one in enumerate(over.values()):
        panel.plot(one, series, figures.allocators[series])


def trace_memory(figures):
    drawing = Drawing(WIDTH, "Resident memory of replayed servers")
    drawing.legend(12, 42, [*figures.allocators, "live"], dashed=True)
    for number, row in enumerate(figures.rows):
        trace_panels(drawing, figures, row, 84 + number * 240)
    drawing.reach(drawing.height + 10)
    return drawing.svg()


def trace_plots(figures):
    """Those of trace.py."""
    plots = {
        "time.svg": bars(figures, "wall_s", "Wall time"),
        "cpu.svg": bars(figures, "cpu_s", "Processor time"),
        "peak.svg": bars(figures, "peak_kib", "Peak resident memory"),
        "memory.svg": trace_memory(figures),
    }
    return {name: svg for name, svg in plots.items() if svg}


def all_plots(figures):
    """SVG by file name, of what there is to show."""
    plots = {
        "time.svg": bars(figures, "wall_s", "Wall time"),
        "cpu.svg": bars(figures, "cpu_s", "Processor time"),
        "memory.svg": bars(figures, "peak_kib", "Peak resident memory"),
        "scaling.svg": scaling(figures),
        "shrink.svg": shrink(figures),
        "redis.svg": redis(figures),
    }
    return {name: svg for name, svg in plots.items() if svg}
