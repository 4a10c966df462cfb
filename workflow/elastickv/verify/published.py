"""`report.md` and the posts: written again from the records and compared; and every number in a post looked up."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Any

from elastickv.report import markdown, phrases, social
from elastickv.report.inputs import Inputs
from elastickv.verify.finding import NOTHING, About
from elastickv.verify.reading import Folder

POSTS, TRACE = "social_media_content.txt", "social_media_content.json"
MOST_LINES = 8
CONTEXT = 60
NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?[x%]?(?!\w)")


def report(folder: Folder, inputs: Inputs, builds_known: bool) -> None:
    """report.md, line by line. What builds held is only known in the checkout that has them.

    builds_known: whether the builds of this checkout are those of the run.
    """
    text = folder.text("report.md")
    if text is None:
        return
    about = folder.findings.of("report.md", "lines of the report")
    found, expected = text.splitlines(), markdown.report(inputs).splitlines()
    if not builds_known:
        found, expected = _without_builds(found), _without_builds(expected)
        about.note("what the builds of its run held is not known in this checkout: that column is not compared")
    _lines(about, found, expected)


def _without_builds(lines: list[str]) -> list[str]:
    """The lines of a report with the table of builds cut to what the records say: the fingerprints that they used."""
    start = next((index for index, line in enumerate(lines) if line == "## Build"), None)
    if start is None:
        return lines
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("## ")), len(lines))
    rows = [[cell.strip() for cell in line.strip("|").split("|")[:3]] for line in lines[start:end]]
    used = ["| " + " | ".join(row) for row in rows if row[-1] == "yes"]
    return lines[: start + 1] + used + lines[end:]


def _lines(about: About, found: list[str], expected: list[str]) -> None:
    about.findings.checked[about.kind] += len(expected)
    if found == expected:
        return
    faults = 0
    for kind, f0, f1, e0, e1 in SequenceMatcher(None, found, expected, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        for offset in range(max(f1 - f0, e1 - e0)):
            here = found[f0 + offset] if f0 + offset < f1 else None
            there = expected[e0 + offset] if e0 + offset < e1 else None
            faults += 1
            if faults <= MOST_LINES:
                about.fault(f"line {f0 + offset + 1}", *_around_difference(here, there))
    if faults > MOST_LINES:
        about.fault("(file)", f"{faults - MOST_LINES} more lines that differ", "the report that the records give")


def _around_difference(found: str | None, expected: str | None) -> tuple[str, str]:
    """Two lines cut to where they begin to differ."""
    if found is None or expected is None:
        return tuple(repr(NOTHING) if line is None else repr(line[: 2 * CONTEXT]) for line in (found, expected))
    pairs = zip(found, expected, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(expected)))
    start = max(0, first - CONTEXT // 2)
    return tuple(repr(line[start : start + CONTEXT]) for line in (found, expected))


def posts(folder: Folder, inputs: Inputs) -> None:
    """The posts and their trace, written again; the text file holds both posts under their headings."""
    expected = social.posts(inputs)
    trace = folder.record(TRACE) if folder.has(TRACE) else None
    if trace is not None:
        _numbers(folder, trace, inputs)
        folder.findings.of(TRACE, "fields of the posts").same("", trace, expected)
    text = folder.text(POSTS) if folder.has(POSTS) else None
    if text is not None:
        whole = [
            ["=== X ===", expected["posts"]["x"]["text"], ""],
            ["=== LinkedIn ===", expected["posts"]["linkedin"]["text"]],
        ]
        lines = "\n".join(line for section in whole for line in section).splitlines()
        _lines(folder.findings.of(POSTS, "lines of the posts"), text.splitlines(), lines)


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
    models = [phrases.name(b.record["model"]["name"], "", forbidden) for b in inputs.baselines if b.record]
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
