"""What a check says: how it stands, what was found, and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = ("ok", "note", "problem")


@dataclass(frozen=True)
class Finding:
    """One row of the doctor's table.

    level: `ok`; `note` (worth knowing, the config runs all the same); `problem` (the config needs it, it is missing).
    fix: the exact command, or None where there is nothing to mend.
    """

    check: str
    level: str
    found: str
    fix: str | None = None
    theme: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", found)


def note(check: str, found: str, fix: str | None = None) -> Finding:
    """Worth knowing; the config runs all the same."""
    return Finding(check, "note", found, fix)


def problem(check: str, found: str, fix: str) -> Finding:
    """The config needs it, and it is missing."""
    return Finding(check, "problem", found, fix)
