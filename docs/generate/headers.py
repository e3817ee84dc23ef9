"""Reads the public headers: which declarations there are, and what their comments say.

A header is a sequence of blocks: a comment that begins with /** and the declarations that follow it
up to an empty line. Declarations without such a comment are a block whose comment is None. Names that
end in _ are not for users. Made for the way the headers in include/berth are written, not for C in
general.
"""

import re
from dataclasses import dataclass, field

FIELDS = ("Units", "Errors", "Threads", "Owns", "Blocks", "Since", "Source")


@dataclass
class Declaration:
    kind: str  # function, type, enum, macro
    names: list  # what it declares; for an enum without a name, its members
    text: str  # as in the header, without the semicolon


@dataclass
class Block:
    line: int  # of its first declaration
    comment: str | None
    declarations: list = field(default_factory=list)

    def functions(self):
        return [d for d in self.declarations if d.kind == "function"]

    def names(self):
        return [name for d in self.declarations for name in d.names]


def comment_text(raw):
    """The words of a comment, without its stars."""
    raw = re.sub(r"^/\*\*?|\*/$", "", raw.strip())
    lines = [re.sub(r"^\s*\*? ?", "", line) for line in raw.split("\n")]
    return "\n".join(line.rstrip() for line in lines).strip()


def split_comment(comment):
    """A comment as its paragraphs of prose, and a dictionary of its fields. What follows from
    another call ("Otherwise as berth_alloc.") is the field "Otherwise"."""
    paragraphs, fields = [], {}
    names = "|".join(FIELDS)
    for paragraph in re.split(r"\n\s*\n", comment):
        text = " ".join(paragraph.split())
        parts = re.split(rf"(?:^|(?<=[.;)] ))({names}): ", text)
        prose = [parts[0].strip()]
        for name, body in zip(parts[1::2], parts[2::2]):
            body, *rest = re.split(r"(?=\bOtherwise as )", body, maxsplit=1)
            fields[name] = body.strip()
            if rest:
                fields["Otherwise"] = rest[0].strip()
        match = re.match(r"(.*?)(Otherwise as \w+[^.]*\.)$", prose[0])
        if match:
            prose[0], fields["Otherwise"] = match.group(1).strip(), match.group(2)
        if prose[0]:
            paragraphs.append(prose[0])
    return paragraphs, fields


def declaration(text):
    """One declaration, or None for what declares nothing (a pragma, a bare brace). Of a function
    that is defined inline, what is before its body."""
    if text.startswith("static inline "):
        text = text[:text.index("{")].rstrip()
    code = re.sub(r"/\*.*?\*/", " ", text, flags=re.S).strip()
    if code.startswith("#define"):
        return Declaration("macro", [re.match(r"#define\s+(\w+)", code).group(1)], text)
    if code.startswith("#") or not code.strip("{};"):
        return None
    if code.startswith("typedef"):
        name = re.search(r"(\w+)\s*\(|(\w+)\s*$", code)
        return Declaration("type", [name.group(1) or name.group(2)], text)
    tag = re.match(r"(struct|union|enum)\s*(\w*)[^{(]*\{(.*)\}", code, re.S)
    if tag and tag.group(1) == "enum":
        members = re.findall(r"(?:^|,)\s*(\w+)", tag.group(3))
        return Declaration("enum", [tag.group(2)] if tag.group(2) else members, text)
    if tag:
        return Declaration("type", [tag.group(2)], text)
    name = re.search(r"\b(berth_\w+)\s*\(", code)
    if name:
        return Declaration("function", [name.group(1)], text)
    name = re.search(r"(\w+)\s*(\[.*\])?$", code)
    return Declaration("variable", [name.group(1) if name else code], text)


def split_declarations(code):
    """Splits at semicolons, ends of inline functions and line ends of macros, outside braces and
    comments."""
    parts, start, depth, i = [], 0, 0, 0
    while i < len(code):
        if code.startswith("/*", i):
            i = code.index("*/", i) + 2
            continue
        if code[i] == "#" and code[start:i].strip() == "":
            end = re.compile(r"(?<!\\)(\n|$)").search(code, i).end()
            parts.append(code[i:end].rstrip())
            start = i = max(end, i + 1)
            continue
        depth += {"{": 1, "}": -1}.get(code[i], 0)
        inline_end = code[i] == "}" and code[start:i].lstrip().startswith("static inline ")
        if depth == 0 and (code[i] == ";" or inline_end):
            parts.append(code[start:i].strip())
            start = i + 1
        i += 1
    return parts + [code[start:].strip()]


def without_scaffold(text):
    """Blanks, line by line, what is not about declarations: guards, conditions, includes."""
    text = re.sub(r'#ifdef __cplusplus\n(extern "C" \{|\})\n#endif',
                  lambda match: "\n" * match.group(0).count("\n"), text)
    guard = re.search(r"#ifndef (\w+_H)\n#define \1\n", text)
    if guard:
        text = text.replace(guard.group(0), "\n\n")
    return re.sub(r"^#\s*(include|if|ifdef|ifndef|else|elif|endif|pragma|undef)\b.*$", "", text,
                  flags=re.M)


def read_header(path):
    """The blocks of a header."""
    with open(path, encoding="utf-8") as file:
        text = without_scaffold(file.read())
    blocks = []
    pattern = re.compile(r"(?:/\*.*?\*/|[^\n])+(?:\n(?:/\*.*?\*/|[^\n])+)*", re.S)
    for match in pattern.finditer(text):
        chunk = match.group(0)
        line = text.count("\n", 0, match.start()) + 1
        leading = re.match(r"\s*(/\*.*?\*/)\s*", chunk, re.S)
        comment, code = None, chunk
        if leading:
            code = chunk[leading.end():]
            line += chunk.count("\n", 0, leading.end())
            if leading.group(1).startswith("/**"):
                comment = comment_text(leading.group(1))
        declarations = [d for d in map(declaration, split_declarations(code)) if d]
        if declarations:
            blocks.append(Block(line, comment, declarations))
    return blocks
