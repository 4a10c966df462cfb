"""Which of many changes are real: tests against the spread between processes, corrected for their number. Pure.

A value that P processes measured has the standard error spread / sqrt(P). The spread, the standard deviation of the
logarithm between processes, is pooled over all values of one device and kind, because a few processes of one case
cannot estimate it. Holm's correction keeps the probability of any false alarm among all tests below 1 - CONFIDENCE.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

CONFIDENCE = 0.99
SMALLEST_TOLERANCE, SPREADS_TOLERATED = 0.005, 3
FEWEST_DEGREES = 4  # below this, a recorded spread is used
# For folders with too few processes; docs/statistics.md says how these were recorded.
RECORDED = {("cuda", "time"): 0.0012, ("cuda", "ratio"): 0.0012, ("cpu", "time"): 0.13, ("cpu", "ratio"): 0.015}


class Group(NamedTuple):
    """What a spread is pooled over: backend, device, and kind of value ("time" or "ratio")."""

    backend: str
    device: str
    kind: str


@dataclass(frozen=True)
class Side:
    """One value: its logarithm in each process, and the standard error that a process states for its own value."""

    logs: tuple[float, ...]
    within: float
    group: Group

    @property
    def value(self) -> float:
        """The geometric mean of the processes."""
        return math.exp(float(np.mean(self.logs)))


@dataclass(frozen=True)
class Change:
    """An old and a new value. kind: "time", where more is worse, or "ratio", where less is."""

    old: Side
    new: Side
    kind: str


class Spread(NamedTuple):
    """A standard deviation of logarithms between processes, and its degrees of freedom (infinite: a recorded one)."""

    value: float
    degrees: float


@dataclass(frozen=True)
class Judged:
    """A change with its interval (factors new / old), p value (not corrected), tolerance (a share) and outcome.

    regressed, improved: beyond the tolerance, and significant. same: within it. unclear: beyond it, not significant.
    """

    change: Change
    factor: float
    low: float
    high: float
    p_value: float
    tolerance: float
    outcome: str

    def content(self) -> dict[str, Any]:
        """Its form in JSON."""
        figures = {name: getattr(self, name) for name in ("factor", "low", "high", "p_value", "tolerance", "outcome")}
        values = {"old": self.change.old.value, "new": self.change.new.value}
        return values | {"processes": [len(self.change.old.logs), len(self.change.new.logs)]} | figures


def pooled(sides: Sequence[Side]) -> dict[Group, Spread]:
    """The spread of every group; a recorded one where the sides have too few processes."""
    squares: dict[Group, float] = {side.group: 0.0 for side in sides}
    degrees = dict.fromkeys(squares, 0)
    for side in sides:
        squares[side.group] += float(np.sum((np.array(side.logs) - np.mean(side.logs)) ** 2))
        degrees[side.group] += len(side.logs) - 1
    return {
        group: Spread(math.sqrt(squares[group] / degrees[group]), degrees[group])
        if degrees[group] >= FEWEST_DEGREES
        else Spread(RECORDED[group.backend, group.kind], math.inf)
        for group in squares
    }


def judge(changes: Sequence[Change], spreads: Mapping[Group, Spread], tolerance: float | None) -> list[Judged]:
    """Every change with its outcome. tolerance: a share; None: max(0.5%, 3 x the larger spread of the two sides)."""
    tested = [_tested(change, spreads) for change in changes]
    significant = holm([p_value for *_, p_value in tested], 1 - CONFIDENCE)
    judged = []
    for change, (log, half, p_value), counts in zip(changes, tested, significant, strict=True):
        widest = max(spreads[side.group].value for side in (change.old, change.new))
        allowed = max(SMALLEST_TOLERANCE, SPREADS_TOLERATED * widest) if tolerance is None else tolerance
        factor = math.exp(log)
        found = outcome(factor - 1 if change.kind == "time" else 1 - factor, allowed, counts)
        judged.append(Judged(change, factor, math.exp(log - half), math.exp(log + half), p_value, allowed, found))
    return judged


def outcome(worse: float, tolerance: float, significant: bool) -> str:
    """Of a change by a share `worse` (negative: better)."""
    if abs(worse) <= tolerance * (1 + 1e-9):  # 1.00 to 0.98 is within a tolerance of 2%
        return "same"
    if not significant:
        return "unclear"
    return "regressed" if worse > 0 else "improved"


@dataclass(frozen=True)
class Pair:
    """A ratio of times new / old that several repetitions measured: its logarithms, and the error each one states."""

    logs: tuple[float, ...]
    within: float


class JudgedPair(NamedTuple):
    """A pair's ratio with its interval, p value (not corrected) and outcome, as in Judged."""

    factor: float
    low: float
    high: float
    p_value: float
    outcome: str


def judge_pairs(pairs: Sequence[Pair], tolerance: float) -> list[JudgedPair]:
    """Every pair with its outcome. Its error is by its own spread or the pooled one of all, whichever is larger.

    A ratio within the tolerance whose interval is wider than that is `unclear`, not `same`.
    """
    from scipy.special import stdtr, stdtrit

    if not pairs:
        return []
    degrees = sum(len(pair.logs) - 1 for pair in pairs)
    spread = math.sqrt(sum(float(np.var(pair.logs)) * len(pair.logs) for pair in pairs) / degrees)
    tested = []
    for pair in pairs:
        log, count = float(np.mean(pair.logs)), len(pair.logs)
        widest = max(spread, float(np.std(pair.logs, ddof=1)), pair.within)
        error = widest / math.sqrt(count)
        p_value = 2 * float(stdtr(degrees, -abs(log) / error)) if error else float(log == 0)
        tested.append((log, error * float(stdtrit(degrees, (1 + CONFIDENCE) / 2)), p_value))
    significant = holm([p_value for *_, p_value in tested], 1 - CONFIDENCE)
    return [
        JudgedPair(math.exp(log), math.exp(log - half), math.exp(log + half), p_value,
                   _unless_wide(outcome(math.exp(log) - 1, tolerance, counts), half, tolerance))
        for (log, half, p_value), counts in zip(tested, significant, strict=True)
    ]  # fmt: skip


def _unless_wide(outcome: str, half: float, tolerance: float) -> str:
    return "unclear" if outcome == "same" and half > math.log1p(tolerance) else outcome


def _tested(change: Change, spreads: Mapping[Group, Spread]) -> tuple[float, float, float]:
    """Logarithm of new / old, half of its interval's width, two-sided p value of no change."""
    from scipy.special import stdtr, stdtrit

    log = float(np.mean(change.new.logs) - np.mean(change.old.logs))
    error, degrees = _standard_error(change.old, change.new, spreads)
    half = error * float(stdtrit(degrees, (1 + CONFIDENCE) / 2))
    if error == 0:
        return log, half, 0.0 if log else 1.0
    return log, half, 2 * float(stdtr(degrees, -abs(log) / error))


def _standard_error(old: Side, new: Side, spreads: Mapping[Group, Spread]) -> tuple[float, float]:
    """Standard error of the difference of two sides' means, and its degrees of freedom.

    By the spread between processes (with two groups as Welch and Satterthwaite), but never less than the processes' own
    errors: a recorded spread does not know about a busy machine.
    """
    parts = [(spreads[side.group].value ** 2 / len(side.logs), spreads[side.group].degrees) for side in (old, new)]
    between = sum(variance for variance, _ in parts)
    within = sum(side.within**2 / len(side.logs) for side in (old, new))
    shared = sum(variance**2 / degrees for variance, degrees in parts)
    of_both = between**2 / shared if shared else math.inf
    degrees = parts[0][1] if old.group == new.group else of_both
    return math.sqrt(max(between, within)), min(degrees, 1e6)


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses are rejected so that any is rejected wrongly with probability `alpha` at most (Holm, 1979)."""
    rejected = [False] * len(p_values)
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - place):
            break
        rejected[index] = True
    return rejected
