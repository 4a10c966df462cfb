"""`report.md` and the posts: written again from the records and compared; and every number in a post looked up."""

from __future__ import annotations

import re
from typing import Any

from elastickv.audit import wording
from elastickv.audit.finding import About
from elastickv.audit.reading import Folder
from elastickv.report import markdown, phrases, social
from elastickv.report.inputs import Inputs

POSTS, TRACE = "social_media_content.txt", "social_media_content.json"
RESULTS = ("", "Results", "Cases without a result", "Times, bytes and checks")  # in the reports of every version
NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?[x%]?(?!\w)")


def report(folder: Folder, inputs: Inputs) -> None:
    """report.md, section by section."""
    text = folder.text("report.md")
    if text is None:
        return
    about = folder.findings.of("report.md", "cells and texts of the report")
    found, expected = wording.sections(text), wording.sections(markdown.report(inputs))
    lacking = [title for title in expected if title not in found]
    for title in lacking:
        about.require(title not in RESULTS, repr(title), "no such section", "the section that the records give")
    reworded = [
        title for title in found if title in expected and not _section(about, title, found[title], expected[title])
    ]
    for title in (title for title in found if title not in expected):
        about.fault(repr(title), "a section", "no such section: nothing in the records gives it")
    if lacking or reworded:
        parts = [f"has no section {title!r}" for title in lacking]
        parts += [f"words {title or 'its beginning'!r} otherwise" for title in reworded]
        about.note(f"written by another version of this package: {', '.join(parts)}")


def _section(about: About, title: str, found: wording.Section, expected: wording.Section) -> bool:
    """Tables cell by cell, the rest by what it claims; returns whether the words are the same too."""
    same = wording.same(about, title or "(beginning)", "\n".join(found.prose), "\n".join(expected.prose))
    wanted = list(expected.tables)
    for table in found.tables:
        twin = next((other for alike in ALIKE for other in wanted if alike(table) == alike(other)), None)
        if twin is None:
            about.fault(
                title, f"a table of {', '.join(table.header)}", "no such table: nothing in the records gives it"
            )
        else:
            wanted.remove(twin)
            same &= _table(about, title, table, twin)
    if wanted:
        about.require(title not in RESULTS, title, "no such table", f"a table of {', '.join(wanted[0].header)}")
    return same and not wanted


# How a table is known, the surest way first: a version may have added columns, another have renamed the first.
ALIKE = (
    lambda table: table.header,
    lambda table: table.header[:1],
    lambda table: (table.header[1:], [row[0] for row in table.rows]),
)


def _table(about: About, title: str, found: wording.Table, expected: wording.Table) -> bool:
    """The columns that both have, row by row; whether they have the same. One that nothing gives is a fault."""
    named = [_columns(table) for table in (found, expected)]
    for name, _ in (column for column in named[0] if column not in named[1]):
        about.fault(f"{title}: column {name!r}", "a column", "no such column: nothing in the records gives it")
    told, wanted = ([row[0] for row in table.rows] for table in (found, expected))
    if about.require(told == wanted, f"{title}: rows", ", ".join(told), ", ".join(wanted)):
        for here, there in zip(found.rows, expected.rows, strict=True):
            cells = dict(zip(named[1], there, strict=True))
            for column, cell in zip(named[0], here, strict=True):
                if column in cells:
                    where = f"{title}: {here[0]}" + (f": {column[0]}" if column[0] else "")
                    about.require(cell == cells[column], where, cell, cells[column])
    return found.header == expected.header


def _columns(table: wording.Table) -> list[tuple[str, int]]:
    """Names that tell columns apart; the first has none, for it names the rows in every version."""
    return [(name, table.header[:i].count(name)) if i else ("", -1) for i, name in enumerate(table.header)]


def posts(folder: Folder, inputs: Inputs) -> None:
    """The posts and their trace, written again; the text file holds both posts under their headings."""
    expected = social.posts(inputs).model_dump()
    trace = folder.record(TRACE) if folder.has(TRACE) else None
    if trace is not None:
        _numbers(folder, trace, inputs)
        _trace(folder, trace, expected)
    text = folder.text(POSTS) if folder.has(POSTS) else None
    if text is not None:
        about = folder.findings.of(POSTS, "posts")
        if trace is not None:  # the very text, whoever worded it
            about.require(text == _file(trace), "(text)", *wording.around_difference(text, _file(trace)))
        elif not wording.same(about, "(text)", text, _file(expected)):
            about.note("worded by another version of this package")


def _file(trace: dict[str, Any]) -> str:
    x, linkedin = (trace["posts"][network]["text"] for network in ("x", "linkedin"))
    return f"=== X ===\n{x}\n\n=== LinkedIn ===\n{linkedin}\n"


def _trace(folder: Folder, trace: dict[str, Any], expected: dict[str, Any]) -> None:
    """Everything but words has to be what the records give: device, golden cases, numbers, where they come from."""
    about = folder.findings.of(TRACE, "fields of the posts")
    same = True
    for network, post in trace["posts"].items():
        same &= wording.same(about, f"posts.{network}.text", post["text"], expected["posts"][network]["text"])
    texts = [post["text"] for post in trace["variants"]]
    wanted = [post["text"] for post in expected["variants"]]
    for index, pair in enumerate(zip(texts, wanted, strict=False)):
        same &= wording.same(about, f"variants.{index}.text", *pair)
    about.same("", _without_words(trace), _without_words(expected))
    counted = {"x": (social.x_length, social.X_LIMIT), "linkedin": (social.linkedin_length, social.LINKEDIN_LIMIT)}
    for network, (length, limit) in counted.items():
        said = trace["posts"][network]["length"]
        about.same(f"posts.{network}.length", said, length(trace["posts"][network]["text"]))
        about.require(said <= limit, f"posts.{network}.length", said, f"at most {limit}")
    if not same:
        about.note("worded by another version of this package")


def _without_words(trace: dict[str, Any]) -> dict[str, Any]:
    """A trace without the texts and their lengths."""

    def bare(post: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in post.items() if key not in ("text", "length")}

    posts = {network: bare(post) for network, post in trace["posts"].items()}
    return {**trace, "posts": posts, "variants": [bare(post) for post in trace["variants"]]}


def _numbers(folder: Folder, trace: dict[str, Any], inputs: Inputs) -> None:
    """Every number of every post, in order, stands in the trace; and the field it names holds it, to its digits."""
    about = folder.findings.of(TRACE, "published numbers traced")
    everything = {f"posts.{name}": post for name, post in trace["posts"].items()}
    everything |= {f"variants.{index}": post for index, post in enumerate(trace["variants"])}
    for where, post in everything.items():
        written = NUMBER.findall(_without_names(post["text"], inputs))
        told = [number["text"] for number in post["numbers"]]
        about.require(written == told, f"{where}.numbers", f"{told} traced", f"{written}, as the post says")
        for index, number in enumerate(post["numbers"]):
            with about.recomputing(f"{where}.numbers.{index}"):
                _number(folder, about, f"{where}.numbers.{index}", number)


def _without_names(text: str, inputs: Inputs) -> str:
    """A post without the names of devices and models, which may hold numbers that claim nothing."""
    forbidden = social.forbidden_words(inputs)
    models = [phrases.name(b.record.model.name, "", forbidden) for b in inputs.baselines if b.record]
    for name in (social.device_name(inputs), *models):
        text = text.replace(name, "") if name else text
    return text


def _number(folder: Folder, about: About, where: str, number: dict[str, Any]) -> None:
    """One number against the record on the disk: its value, and its text to the digits that it shows."""
    content = folder.record(number["file"]) if folder.has(number["file"]) else None
    if content is None:
        about.fault(f"{where}.file", number["file"], "a record of this folder")
        return
    values = [_at(content, pointer) for pointer in number["fields"]]
    expected = len(values) if number["how"] == "count" else values[0]
    source = f"{number['file']}{number['fields'][0]}"
    if not about.require(number["value"] == expected, f"{where}.value", number["value"], f"{expected} ({source})"):
        return
    shown = number["text"].rstrip("x%").replace(",", "")
    scale = 100 if number["text"].endswith("%") else 1
    digits = len(shown.partition(".")[2])
    rounding = 0.5 * 10**-digits * 1.000001
    holds = abs(float(shown) - expected * scale) <= rounding + 1e-9
    about.require(holds, f"{where}.text", number["text"], f"{expected * scale:.6g} to its digits ({source})")


def _at(content: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901). Raises LookupError."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        content = content[int(key)] if isinstance(content, list) else content[key]
    return content
