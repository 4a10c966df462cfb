"""The result of a check: its level, what was found, and the command that fixes it."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = ("ok", "note", "problem")


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
