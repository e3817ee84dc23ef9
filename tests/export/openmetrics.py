"""A strict reader of OpenMetrics 1.0, of what this project writes of it.

read(text) gives {family: Family}, or raises Bad with the line that is at fault. It refuses what a
lenient reader would pass over: families that come twice or are interleaved, metadata in another
order, samples without metadata, wrong suffixes, units that are not in the name, labels that come
twice, series that come twice, blank lines, and text after the end.
"""

import re

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
VALUE = re.compile(r"(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?Inf|NaN)")
SUFFIXES = {"gauge": ("",), "counter": ("_total",), "info": ("_info",),
            "histogram": ("_bucket", "_count", "_sum")}
UNESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class Bad(Exception):
    """The text is not OpenMetrics."""


class Family:
    def __init__(self, name):
        self.name = name
        self.type = self.unit = self.help = None
        self.samples = {}  # {((label, value), ...): number}


def metadata(line, families, current):
    word, name, rest = (line[2:].split(" ", 2) + [""])[:3]
    if not NAME.fullmatch(name):
        raise Bad(f"the name: {line}")
    if word == "TYPE":
        if name in families:
            raise Bad(f"a family comes twice: {line}")
        if rest not in SUFFIXES:
            raise Bad(f"the type: {line}")
        current = families[name] = Family(name)
        current.type = rest
        return current
    if current is None or current.name != name or current.samples:
        raise Bad(f"not where its family begins: {line}")
    if word == "UNIT":
        if current.unit is not None or current.help is not None or not name.endswith("_" + rest):
            raise Bad(f"the unit: {line}")
        current.unit = rest
    elif word == "HELP":
        if current.help is not None or not rest or re.search(r"\\(?![\\n\"])", rest):
            raise Bad(f"the help: {line}")
        current.help = rest
    else:
        raise Bad(f"a comment: {line}")
    return current


def labels_of(text, line):
    """{a="b",c="d"}, all of it."""
    found, at = [], 1
    while text[at] != "}":
        label = LABEL.match(text, at)
        if not label:
            raise Bad(f"a label: {line}")
        found.append((label[1], re.sub(r'\\[\\"n]', lambda m: UNESCAPED[m[0]], label[2])))
        at = label.end()
        if text[at] == "," and text[at + 1] != "}":
            at += 1
        elif text[at] != "}":
            raise Bad(f"after a label: {line}")
    if len({name for name, _ in found}) != len(found):
        raise Bad(f"a label comes twice: {line}")
    return tuple(sorted(found)), at + 1


def sample(line, family):
    name = NAME.match(line)
    if family is None or not name or name[0] not in [family.name + end for end
                                                     in SUFFIXES[family.type]]:
        raise Bad(f"a sample outside its family: {line}")
    at, labels = name.end(), ()
    if line[at:at + 1] == "{":
        labels, length = labels_of(line[at:], line)
        at += length
    if line[at:at + 1] != " " or not VALUE.fullmatch(line[at + 1:]):
        raise Bad(f"the value: {line}")
    value = float(line[at + 1:])
    if family.type == "counter" and not 0 <= value < float("inf"):
        raise Bad(f"no value of a counter: {line}")
    if family.type == "info" and value != 1:
        raise Bad(f"an info is 1: {line}")
    if family.type == "histogram":
        labels = (("", name[0].removeprefix(family.name)), *labels)
    if labels in family.samples:
        raise Bad(f"a series comes twice: {line}")
    family.samples[labels] = value


def check_histogram(family):
    """Buckets ascend, count what is below, and end with +Inf, which is the count."""
    buckets = {}
    for series, value in family.samples.items():
        labels = dict(series)
        if labels.pop("") == "_bucket":
            bound = float(labels.pop("le"))
            buckets.setdefault(tuple(sorted(labels.items())), []).append((bound, value))
    for labels, found in buckets.items():
        counts = [value for _, value in found]
        if found != sorted(found) or counts != sorted(counts) or found[-1][0] != float("inf") \
                or family.samples.get((("", "_count"), *labels)) != counts[-1]:
            raise Bad(f"the buckets of {family.name}: {labels}")
    if not buckets and family.samples:
        raise Bad(f"no buckets: {family.name}")


def read(text):
    if not text.endswith("\n# EOF\n"):
        raise Bad("it does not end with # EOF")
    if "\r" in text:
        raise Bad("a carriage return")
    families, current = {}, None
    for line in text.removesuffix("# EOF\n").split("\n")[:-1]:
        if line.startswith("# "):
            current = metadata(line, families, current)
        else:
            sample(line, current)
    for family in families.values():
        if family.help is None:
            raise Bad(f"no help: {family.name}")
        if family.type == "histogram":
            check_histogram(family)
    return families
