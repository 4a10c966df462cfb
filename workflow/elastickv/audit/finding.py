"""The findings of `verify`: faults with file, field, found and expected values; notes; and counts of checks."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

RELATIVE = 1e-9  # allows another order of summation; an edited digit of a published figure differs by far more
LONGEST = 160  # characters of a value that a fault shows
BEFORE = 30  # of them before two texts part


NOTHING = type("Nothing", (), {"__repr__": lambda _: "nothing"})()  # stands for a value that a record lacks


@dataclass(frozen=True)
class Fault:
    """One fault in one place."""

    file: str
    field: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file}: {self.field}: found {self.found}, expected {self.expected}"


@dataclass
class Findings:
    """Everything found in one results folder. `checked` counts by kind: files hashed, figures recomputed, ..."""

    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)

    def of(self, file: str, kind: str = "figures") -> About:
        """A checker whose faults name `file`, and whose comparisons count as `kind`."""
        return About(self, file, kind)


@dataclass(frozen=True)
class About:
    """Compares the contents of one file with the expected contents."""

    findings: Findings
    file: str
    kind: str

    def fault(self, where: str, found: Any, expected: Any) -> None:
        """Notes that a field is wrong. Strings are taken as words, other values are written as JSON."""
        words = (value if isinstance(value, str) else _value(value) for value in (found, expected))
        self.findings.faults.append(Fault(self.file, where or "(top)", *words))

    def note(self, text: str) -> None:
        """Adds an observation that is not a fault."""
        self.findings.notes.append(f"{self.file}: {text}")

    def require(self, holds: bool, where: str, found: Any, expected: Any) -> bool:
        """A fault unless `holds`; returns whether it does."""
        self.findings.checked[self.kind] += 1
        if not holds:
            self.fault(where, found, expected)
        return holds

    def same(self, where: str, found: Any, expected: Any, relative: float = RELATIVE) -> bool:
        """A fault wherever `found` differs from `expected`: numbers beyond `relative`, containers by their parts."""
        if isinstance(found, dict) and isinstance(expected, dict):
            keys = [*expected, *(key for key in found if key not in expected)]
            parts = [(key, found.get(key, NOTHING), expected.get(key, NOTHING)) for key in keys]
        elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
            parts = [(index, *pair) for index, pair in enumerate(zip(found, expected, strict=True))]
        else:
            stated = _parting(found, expected) if found != expected else (found, expected)
            return self.require(_alike(found, expected, relative), where, *map(_value, stated))
        return all([self.same(f"{where}.{key}" if where else str(key), *pair, relative) for key, *pair in parts])

    @contextmanager
    def recomputing(self, where: str) -> Iterator[None]:
        """An exception while recomputing from a record that matches its schema is a fault of the record."""
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, csv.Error) as error:
            self.fault(where, f"what cannot be recomputed ({type(error).__name__}: {error})", "figures that follow")


def _alike(found: Any, expected: Any, relative: float) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (found, expected))
    if numbers and (isinstance(found, float) or isinstance(expected, float)):
        return math.isclose(found, expected, rel_tol=relative, abs_tol=1e-12)
    return (numbers or type(found) is type(expected)) and found == expected


def _parting(found: Any, expected: Any) -> tuple[Any, Any]:
    """Two long texts cut to where they begin to differ; anything else as it is."""
    if not (isinstance(found, str) and isinstance(expected, str) and max(len(found), len(expected)) > LONGEST):
        return found, expected
    pairs = enumerate(zip(found, expected, strict=False))
    parting = next((place for place, (here, there) in pairs if here != there), min(len(found), len(expected)))
    start = max(0, parting - BEFORE)
    return tuple(text[start : start + LONGEST // 2] for text in (found, expected))


def _value(value: Any) -> str:
    """A value as JSON, on one line and not too long."""
    text = repr(value) if value is NOTHING else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
