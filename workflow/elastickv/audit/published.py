"""Checks `report.md` and the posts: looks up every number in its record, and generates every text again."""

from __future__ import annotations

import re
from typing import Any

from elastickv.audit import noise, remade, tables
from elastickv.audit.finding import About
from elastickv.audit.reading import Folder, is_record
from elastickv.schemas.lengths import LIMITS

JUDGED = {"results": noise.judged, "peers": noise.judged_peer}  # records by the beginning of their name
POSTS, TRACE = "social_media_content.txt", "social_media_content.json"
NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?[x%]?(?!\w)")
IN_NAMES = "A-Za-z0-9_ ()+,./-"  # characters that a name in a post may have


def report(folder: Folder, inputs: remade.Inputs) -> None:
    """report.md: the numbers of its tables, then all of it."""
    text = folder.text("report.md")
    if text is None:
        return
    limits = folder.record("verdicts.json")["thresholds"]["noise"]

    def read(name: str) -> dict[str, Any] | None:
        record, judge = folder.record(name), JUDGED.get(name.partition("_")[0])
        return judge(record, limits) if record and judge else record

    about = folder.findings.of("report.md", "published numbers traced")
    with about.recomputing("(tables)"):
        tables.report_numbers(about, text, read)
    remade.report(folder.findings.of("report.md", "lines of the report"), text, inputs)


def posts(folder: Folder, inputs: remade.Inputs) -> None:
    """The posts and their trace; the text file holds both posts under their headings."""
    expected = remade.posts(inputs)
    trace = folder.record(TRACE)
    if trace is not None:
        _numbers(folder, trace)
        about = folder.findings.of(TRACE, "fields of the posts")
        for network, limit in LIMITS.items():
            length = trace["posts"][network]["length"]
            about.require(length <= limit, f"posts.{network}.length", length, f"at most {limit}")
        about.same("", trace, expected)
    text = folder.text(POSTS)
    if text is not None:
        x, linkedin = ((trace or expected)["posts"][network]["text"] for network in LIMITS)
        file = f"=== X ===\n{x}\n\n=== LinkedIn ===\n{linkedin}\n"
        folder.findings.of(POSTS, "posts").same("(text)", text, file)


def _numbers(folder: Folder, trace: dict[str, Any]) -> None:
    """Every number of every post is in the trace, in order, and equals the field that it names, to its digits."""
    about = folder.findings.of(TRACE, "published numbers traced")
    everything = {f"posts.{name}": post for name, post in trace["posts"].items()}
    everything |= {f"variants.{index}": post for index, post in enumerate(trace["variants"])}
    for where, post in everything.items():
        written = NUMBER.findall(_without_name(post["text"], trace["device"]))
        stated = [number["text"] for number in post["numbers"]]
        about.require(written == stated, f"{where}.numbers", f"{stated} traced", f"{written}, as in the post")
        for index, number in enumerate(post["numbers"]):
            with about.recomputing(f"{where}.numbers.{index}"):
                _number(folder, about, f"{where}.numbers.{index}", number)


def _without_name(text: str, name: str | None) -> str:
    """A post without the name of the device, whose numbers are not results."""
    words = re.sub(f"[^{IN_NAMES}]", " ", re.sub(r"\((?:R|TM)\)", "", name or "")).split()
    shortened = (" ".join(words[:count]).rstrip(",") for count in range(len(words), 0, -1))  # a post cuts a long one
    found = next((form for form in shortened if form in text), None)
    return text.replace(found, "") if found else text


def _number(folder: Folder, about: About, where: str, number: dict[str, Any]) -> None:
    """One number against the record on the disk: its value, and its text to the digits that it shows."""
    content = folder.record(number["file"]) if is_record(number["file"]) else None
    if content is None:
        about.fault(f"{where}.file", number["file"], "a record of this folder")
        return
    values = [_at(content, pointer) for pointer in number["fields"]]
    expected = len(values) if number["how"] == "count" else values[0]
    source = f"{number['file']}{number['fields'][0]}"
    if about.require(number["value"] == expected, f"{where}.value", number["value"], f"{expected} ({source})"):
        stated = f"{expected:.6g} to the digits shown ({source})"
        about.require(tables.shows(number["text"], expected), f"{where}.text", number["text"], stated)


def _at(content: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901). Raises LookupError."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        content = content[int(key)] if isinstance(content, list) else content[key]
    return content
