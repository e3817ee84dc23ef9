"""A little SVG: text, lines, bars and axes in colours that can be read on white and on black. It
knows nothing of allocators; plots.py draws with it."""

from html import escape

# By series: for light and for dark backgrounds. The first is the subject's, and the strongest.
COLOURS = (("#c2410c", "#fb923c"), ("#6b7280", "#9ca3af"), ("#1d4ed8", "#60a5fa"),
           ("#15803d", "#4ade80"), ("#7e22ce", "#c084fc"), ("#0e7490", "#22d3ee"),
           ("#a16207", "#facc15"), ("#be185d", "#f472b6"), ("#4d7c0f", "#a3e635"),
           ("#334155", "#cbd5e1"))
DASHES = ("", "2 2", "8 3", "4 2", "9 3 2 3", "14 3", "5 5", "2 4", "12 3 2 3 2 3", "3 1")

STYLE = """
svg { font: 11px system-ui, sans-serif; }
.back { fill: #ffffff; } .ink { fill: #1f2328; } .faint { fill: #59636e; }
.grid { stroke: #d1d9e0; stroke-width: 1; } .axis { stroke: #59636e; stroke-width: 1; }
.line { fill: none; stroke-width: 2; } .small { font-size: 9px; } .title { font-weight: 600; }
"""
DARK = """
.back { fill: #0d1117; } .ink { fill: #e6edf3; } .faint { fill: #9198a1; }
.grid { stroke: #30363d; } .axis { stroke: #9198a1; }
"""


def colour_rules(mode):
    return " ".join(f".f{i} {{ fill: {pair[mode]}; }} .s{i} {{ stroke: {pair[mode]}; }}"
                    for i, pair in enumerate(COLOURS))


class Drawing:
    """Elements of one picture. Coordinates are pixels from the upper left."""

    def __init__(self, width, title):
        self.width, self.height, self.title = width, 0, title
        self.parts = []
        self.text(12, 20, title, "ink title")

    def reach(self, y):
        """The picture is at least this high."""
        self.height = max(self.height, y)

    def text(self, x, y, content, kind="ink", anchor="start"):
        self.reach(y + 8)
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" '
                          f'text-anchor="{anchor}">{escape(content)}</text>')

    def bar(self, x, y, width, height, series, tip=""):
        self.reach(y + height + 8)
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" '
                          f'height="{height:.1f}" class="f{series % len(COLOURS)}">'
                          f"<title>{escape(tip)}</title></rect>")

    def rule(self, x1, y1, x2, y2, kind="grid"):
        self.reach(max(y1, y2) + 8)
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                          f'class="{kind}"/>')

    def line(self, points, series, tip=""):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = DASHES[series % len(DASHES)]
        self.parts.append(f'<polyline points="{path}" class="line s{series % len(COLOURS)}"'
                          + (f' stroke-dasharray="{dash}"' if dash else "")
                          + f"><title>{escape(tip)}</title></polyline>")

    def legend(self, x, y, names, dashed=False):
        """The names of the series in one row, each with its colour (and dash)."""
        for series, name in enumerate(names):
            if dashed:
                self.line([(x, y - 4), (x + 22, y - 4)], series)
            else:
                self.bar(x + 10, y - 9, 10, 10, series)
            self.text(x + 26, y, name)
            x += 40 + 6.5 * len(name)

    def svg(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" '
                f'height="{self.height:.0f}" viewBox="0 0 {self.width} {self.height:.0f}" '
                f'role="img">\n<title>{escape(self.title)}</title>\n<style>{STYLE}'
                f"{colour_rules(0)}\n@media (prefers-color-scheme: dark) {{{DARK}"
                f"{colour_rules(1)} }}\n</style>\n"
                '<rect class="back" width="100%" height="100%"/>\n'
                + "\n".join(self.parts) + "\n</svg>\n")


def round_step(most, steps=6):
    """1, 2 or 5 times a power of ten: about `steps` of them make up most."""
    wanted, step = most / steps, 1.0
    while step > wanted:
        step /= 10
    while step * 10 <= wanted:
        step *= 10
    return next(step * factor for factor in (1, 2, 5, 10) if step * factor >= wanted * 0.99)


def plain(value):
    return f"{value:.10g}"


class Panel:
    """A small chart with two linear axes from 0 and its own title. x_marks are labels by place."""

    def __init__(self, drawing, x, y, width, height):
        self.drawing, self.x, self.y = drawing, x, y
        self.width, self.height = width, height
        self.x_most = self.y_most = 1.0

    def axes(self, title, x_most, y_most, x_label, y_label, x_marks=None):
        self.x_most, step = x_most, round_step(y_most)
        self.y_most = step * -(-y_most // step)
        drawing, bottom = self.drawing, self.y + self.height
        drawing.text(self.x, self.y - 18, title, "ink title")
        drawing.text(self.x, self.y - 5, y_label, "faint small")
        for k in range(round(self.y_most / step) + 1):
            _, y = self.at(0, k * step)
            drawing.rule(self.x, y, self.x + self.width, y, "axis" if k == 0 else "grid")
            drawing.text(self.x - 4, y + 3, plain(k * step), "faint small", "end")
        x_step = round_step(x_most)
        usual = {k * x_step: plain(k * x_step) for k in range(int(x_most / x_step + 1e-9) + 1)}
        for mark, label in (x_marks or usual).items():
            drawing.text(self.at(mark, 0)[0], bottom + 12, label, "faint small", "middle")
        drawing.text(self.x + self.width, bottom + 23, x_label, "faint small", "end")

    def at(self, x, y):
        return (self.x + self.width * x / self.x_most,
                self.y + self.height * (1 - y / self.y_most))

    def plot(self, points, series, name):
        self.drawing.line([self.at(x, y) for x, y in points], series, name)
