"""Published text compared by what it claims: numbers, marks, verdicts and names with digits, in order.

Words may differ, since a folder can have been written by another version of this package; what they claim may not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from elastickv.audit.finding import About

CONTEXT = 60
STATUSES = ("ok", "imprecise", "noisy", "incorrect", "failed", "out_of_memory", "unsupported")
VERDICTS = ("golden", "excellent", "good", "same", "slower", "invalid", "skipped")
CLAIM = re.compile(rf"[✅⭐☆✓✗‡~]|\b(?:{'|'.join((*STATUSES, *VERDICTS))})\b|[\w.,]*\d[\w.,]*[x%]?")


def claims(text: str) -> list[str]:
    """Numbers, words with digits, marks, statuses and verdicts of a text, in order."""
    return [claim.strip(".,") for claim in CLAIM.findall(text)]


def same(about: About, where: str, found: str, expected: str) -> bool:
    """A fault when two texts claim different things; returns whether even their words are the same."""
    about.findings.checked[about.kind] += 1
    if found == expected:
        return True
    if claims(found) != claims(expected):
        about.fault(where, *around_difference(found, expected))
    return False


def around_difference(found: str, expected: str) -> tuple[str, str]:
    """Two texts cut to where what they claim begins to differ; where only words do, to the first of those."""
    places = [_first_other(text, claims(other)) for text, other in ((found, expected), (expected, found))]
    if claims(found) == claims(expected):
        pairs = enumerate(zip(found, expected, strict=False))
        first = next((place for place, (here, there) in pairs if here != there), min(len(found), len(expected)))
        places = [first, first]
    return tuple(
        repr(text[max(0, place - CONTEXT // 2) : place + CONTEXT // 2])
        for text, place in zip((found, expected), places, strict=True)
    )


def _first_other(text: str, others: list[str]) -> int:
    """Where a text's first claim stands that is not the one of `others` at its place."""
    for index, match in enumerate(CLAIM.finditer(text)):
        if index >= len(others) or match[0].strip(".,") != others[index]:
            return match.start()
    return len(text)


@dataclass
class Table:
    """A pipe table: header cells, and rows of as many cells."""

    header: list[str]
    rows: list[list[str]] = field(default_factory=list)


@dataclass
class Section:
    """A part of a Markdown text from one heading of the second level to the next: its tables and its other lines."""

    tables: list[Table] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)


def sections(markdown: str) -> dict[str, Section]:
    """Sections by heading; what stands before the first has the heading ''."""
    found = {"": Section()}
    section, in_table = found[""], False
    for line in markdown.splitlines():
        if line.startswith("## "):
            section = found.setdefault(line[3:], Section())
        elif line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not in_table:
                section.tables.append(Table(cells))
            elif set(line) - set("|:- "):
                section.tables[-1].rows.append(cells)
        elif line.strip():
            section.prose.append(line)
        in_table = line.startswith("|")
    return found
