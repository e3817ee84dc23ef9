#!/usr/bin/env python3
"""Writes the man pages of the public calls from the comments in the public headers.

    man.py VERSION OUTPUT_FOLDER HEADER...

docs/man/groups says which calls share a page; each call gets a page of its own name that leads
there. A type, an enumeration or a macro appears on the page of the next call after it.
"""

import os
import re
import sys

import headers

GROUPS = os.path.join(os.path.dirname(__file__), "..", "man", "groups")
LABELS = {"Units": "Units", "Errors": "Errors", "Threads": "Threads", "Owns": "Ownership",
          "Blocks": "Blocking", "Since": "Since", "Source": "Source"}


class Page:
    def __init__(self, name, about=""):
        self.name = name
        self.about = about
        self.blocks = []  # (header, block)

    def functions(self):
        return [f for _, block in self.blocks for f in block.functions()]


def read_groups(path):
    """The pages that the file names, and the page of each call that it lists."""
    pages, page_of = {}, {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                name, rest = line.split(None, 1)
                about, calls = rest.split(":")
                pages[name] = Page(name, about.strip())
                page_of.update({call: name for call in calls.split()})
    return pages, page_of


def collect(header_paths):
    """All pages, by name. Exits if the groups name a call that no header declares."""
    pages, page_of = read_groups(GROUPS)
    known = set()
    for path in header_paths:
        waiting = []  # what precedes the next call
        for block in headers.read_header(path):
            waiting.append((path, block))
            if not block.functions():
                continue
            first = block.functions()[0].names[0]
            name = page_of.get(first, "_".join(first.split("_")[:2]))
            pages.setdefault(name, Page(name)).blocks += waiting
            known.update(block.names())
            waiting = []
    unknown = sorted(set(page_of) - known)
    if unknown:
        sys.exit(f"docs/man/groups: no header declares {', '.join(unknown)}")
    return {name: page for name, page in pages.items() if page.blocks}


def escape(text):
    text = text.replace("\\", "\\e")
    text = re.sub(r"(?<![\w])-(?=\w)", r"\\-", text)
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def rich(text):
    """Prose: calls and constants in bold, code in backquotes too."""
    text = escape(text)
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fP", text)
    return re.sub(r"(?<![\w\\])(berth_\w+|(?:BERTH|E)_?[A-Z][A-Z0-9_]+)\b(?!\\fP)", r"\\fB\1\\fP",
                  text)


def shown(declaration):
    """A declaration in a synopsis; of a table only the name, of a call not what exports it."""
    text = declaration.text
    if text.startswith("BERTH_API "):
        text = text.removeprefix("BERTH_API ").replace("\n" + " " * len("BERTH_API "), "\n")
    if declaration.kind == "macro" and text.count("\n") > 4:
        text = text.split("\n")[0].rstrip("\\ ") + " ..."
    return escape(text) + ";" * (declaration.kind != "macro")


def for_users(declaration):
    return not all(name.endswith("_") for name in declaration.names)


def synopsis(page):
    lines = [".nf", ".B #include <berth/berth.h>"]
    before = None
    for _, block in page.blocks:
        if not (before and before.functions() and block.functions()):
            lines.append("")
        lines += [shown(d) for d in block.declarations if for_users(d)]
        before = block
    return lines + [".fi"]


def describe(block):
    if block.comment is None:
        return []
    names = [name for name in block.names() if not name.endswith("_")]
    lines = [".SS " + ", ".join(names)]
    paragraphs, fields = headers.split_comment(block.comment)
    for number, paragraph in enumerate(paragraphs):
        lines += [".PP"] * (number > 0) + [rich(paragraph)]
    for name in headers.FIELDS:
        if name in fields:
            lines += [".TP", f".I {LABELS[name]}", rich(fields[name])]
    if "Otherwise" in fields:
        lines += [".PP", rich(fields["Otherwise"])]
    return lines


def about(page):
    if page.about:
        return page.about
    comment = page.functions() and next(b for _, b in page.blocks if b.functions()).comment or ""
    sentence = re.split(r"[.;:]", " ".join(comment.split()))[0]
    return sentence[:1].lower() + sentence[1:]


def see_also(page, pages):
    text = " ".join(block.comment or "" for _, block in page.blocks)
    page_of = {f.names[0]: p.name for p in pages.values() for f in p.functions()}
    others = {page_of[call] for call in re.findall(r"\bberth_\w+", text) if call in page_of}
    return [f".BR {name} (3)," for name in sorted(others - {page.name})] + [".BR berth (7)"]


def render(page, pages, version):
    names = [f.names[0] for f in page.functions()]
    lines = ['.\\" Generated from the comments in include/berth.',
             f'.TH {page.name.upper()} 3 "" "berth {version}"', ".SH NAME",
             ", ".join(names) + " \\- " + escape(about(page)), ".SH SYNOPSIS"]
    lines += synopsis(page) + [".SH DESCRIPTION"]
    for _, block in page.blocks:
        lines += describe(block)
    return "\n".join(lines + [".SH SEE ALSO"] + see_also(page, pages)) + "\n"


def write(folder, name, text):
    with open(os.path.join(folder, name + ".3"), "w", encoding="utf-8") as file:
        file.write(text)


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    version, folder, *paths = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    pages = collect(paths)
    for page in pages.values():
        write(folder, page.name, render(page, pages, version))
        for function in page.functions():
            if function.names[0] != page.name:
                write(folder, function.names[0], f".so man3/{page.name}.3\n")


if __name__ == "__main__":
    main()
