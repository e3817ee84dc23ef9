"""The picture of the demonstration: resident memory of the servers through time."""

from svg import Drawing, Panel

MB = 1_000_000
WIDTH, HEIGHT = 860, 320
LEFT, TOP = 60, 92


def flush_of(server):
    return next(at for at, name in server.marks if name == "FLUSHALL")


def resident(servers):
    """A line for each server; their times are shifted so that FLUSHALL is at one place."""
    flush = max(flush_of(server) for server in servers)
    lines = {server.name: [(at + flush - flush_of(server), size / MB)
                           for at, size in server.samples] for server in servers}
    x_most = max(at for points in lines.values() for at, _ in points)
    y_most = max(size for points in lines.values() for _, size in points)
    drawing = Drawing(WIDTH, "Resident memory of redis-server: 480,000 values of 1 KiB, "
                             "then FLUSHALL")
    drawing.legend(LEFT, 44, lines, dashed=True)
    panel = Panel(drawing, LEFT, TOP, WIDTH - LEFT - 80, HEIGHT)
    seconds = range(-int(flush), int(x_most - flush) + 1)
    panel.axes("", x_most, y_most, "seconds from FLUSHALL", "MB",
               {flush + second: str(second) for second in seconds})
    x, top = panel.at(flush, 0)[0], panel.y
    drawing.rule(x, top, x, top + HEIGHT, "axis")
    drawing.text(x + 5, top + 12, "FLUSHALL", "faint")
    for series, (name, points) in enumerate(lines.items()):
        panel.plot(points, series, name)
        x, y = panel.at(*points[-1])
        drawing.text(x + 6, y + 4, f"{points[-1][1]:.0f} MB")
    return drawing.svg()
