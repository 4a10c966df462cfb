"""The result of a check: its level, what was found, and the command that fixes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

MOST_NAMED = 5  # of the cases with the same problem


@dataclass(frozen=True)
class Finding:
    """One row of the doctor's table.

    level: `ok`; `note` (worth knowing, but the config can run); `problem` (something that the config needs is missing).
    fix: the exact command, or None if nothing needs fixing.
    """

    check: str
    level: str
    found: str
    fix: str | None = None
    theme: str = ""


def ok(check: str, found: str) -> Finding:
    """A check that passed."""
    return Finding(check, "ok", found)


def note(check: str, found: str, fix: str | None = None) -> Finding:
    """Worth knowing, but the config can run."""
    return Finding(check, "note", found, fix)


def problem(check: str, found: str, fix: str) -> Finding:
    """Something that the config needs is missing."""
    return Finding(check, "problem", found, fix)


def few(findings: Iterable[Finding], check: str, what: str) -> Iterator[Finding]:
    """The first findings; `what` describes how the rest, which are only counted, are like them."""
    rest = iter(findings)
    yield from islice(rest, MOST_NAMED)
    count = sum(1 for _ in rest)
    if count:
        yield note(check, f"{count} more cases {what}")
