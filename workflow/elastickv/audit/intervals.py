"""Intervals computed again from raw samples by the method that a record names: the one place that knows the methods.

Written from the papers and not from `statistics.py`, whose results it checks: only the seeded index draws are shared,
`numpy.random.default_rng(seed).integers(0, n, ...)` in the order of the resamples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from elastickv.audit.finding import About

NEVER_FEWER, ALWAYS_FROM = 5, 12  # samples that a bootstrap asks for: versions differ between these
WIDENED = "; widened to the spread of "  # and then how many processes
AT_ONCE = 4_000_000  # indices drawn at a time
# What every published interval is drawn with, whatever its method. To be held against: the bounds are order statistics,
# so another seed or number of resamples often gives the very same ones, and a range is made without either.
DRAWN = {"resamples": 4999, "seed": 0}

Bounds = tuple[float, float]


class Draw(NamedTuple):
    """What a bootstrap is made with."""

    confidence: float
    resamples: int
    seed: int


def _range(values: np.ndarray, _: Draw) -> Bounds:
    return float(values.min()), float(values.max())


def _medians(values: np.ndarray, draw: Draw, block: int = 1) -> np.ndarray:
    """Medians of the resamples: circular blocks (Politis and Romano, 1992); single values when `block` is 1."""
    count, starts_each = len(values), math.ceil(len(values) / block)
    generator = np.random.default_rng(draw.seed)
    rows = max(1, AT_ONCE // count)
    medians = []
    for first in range(0, draw.resamples, rows):
        starts = generator.integers(0, count, size=(min(rows, draw.resamples - first), starts_each))
        index = (starts[:, :, np.newaxis] + np.arange(block)) % count
        medians.append(np.median(values[index.reshape(len(starts), -1)[:, :count]], axis=1))
    return np.concatenate(medians)


def _percentile(values: np.ndarray, draw: Draw, block: int = 1) -> Bounds:
    tail = (1 - draw.confidence) / 2
    low, high = np.percentile(_medians(values, draw, block), [100 * tail, 100 * (1 - tail)])
    return float(low), float(high)


def _leave_one_out(values: np.ndarray) -> np.ndarray:
    """Median without each value in turn, in the order of size."""
    ordered, middle = np.sort(values), len(values) // 2
    place = np.arange(len(values))
    if len(values) % 2 == 0:
        return np.where(place < middle, ordered[middle], ordered[middle - 1])
    below, centre, above = ordered[middle - 1 : middle + 2]
    left, right = (centre + above) / 2, (below + centre) / 2
    return np.where(place < middle, left, np.where(place > middle, right, (below + above) / 2))


def _bca(values: np.ndarray, draw: Draw) -> Bounds:
    """Bias-corrected and accelerated (Efron, 1987): z0 from the share of resamples below, a from the jackknife."""
    from scipy.special import ndtr, ndtri

    medians, centre = _medians(values, draw), np.median(values)
    z0 = ndtri(((medians < centre).sum() + (medians <= centre).sum()) / 2 / len(medians))
    without = _leave_one_out(values)
    influence = without.mean() - without
    with np.errstate(divide="ignore", invalid="ignore"):
        acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    quantile = ndtri((1 - draw.confidence) / 2)
    shifted = z0 + np.array([quantile, -quantile])
    percents = 100 * ndtr(z0 + shifted / (1 - acceleration * shifted))
    if not np.isfinite(percents).all():
        raise ValueError("the bias correction or the acceleration is not a number")
    low, high = np.percentile(medians, percents)
    return float(low), float(high)


def _widened(values: np.ndarray, draw: Draw, block: int) -> Bounds:
    """The percentile interval in logarithms about the median, widened for few blocks (Hesterberg, 2015).

    With K = n / block: by sqrt(K / (K - 1)) t(K - 1; 1 - a / 4) / z(1 - a / 2), a = 1 - confidence.
    """
    from scipy.special import stdtrit

    centre, blocks, error = math.log(np.median(values)), len(values) / block, 1 - draw.confidence
    quantiles = stdtrit(blocks - 1, 1 - error / 4) / NormalDist().inv_cdf(1 - error / 2)
    factor = math.sqrt(blocks / (blocks - 1)) * quantiles
    low, high = (centre + factor * (math.log(end) - centre) for end in _percentile(values, draw, block))
    return math.exp(min(low, centre)), math.exp(max(high, centre))


def autocorrelation(samples: Sequence[float]) -> float:
    """Correlation of the samples' ranks (equal ones share theirs) with those one later; 0 without spread."""
    _, place, equal = np.unique(np.asarray(samples, dtype=float), return_inverse=True, return_counts=True)
    ranks = (equal.cumsum() - equal / 2)[place]
    ranks = ranks - ranks.mean()
    power = (ranks**2).sum()
    return float((ranks[1:] * ranks[:-1]).sum() / power) if power > 0 and len(ranks) > 2 else 0.0


def _block_of(values: np.ndarray) -> int:
    """Block length for the widened bootstrap where a record does not tell: n^(1/3) (sqrt(6) r / (1 - r^2))^(2/3).

    r: autocorrelation of the ranks, plus its bias and two standard errors, at most 0.95; the block at most n / 3.
    """
    count, estimate = len(values), autocorrelation(values)
    r = min(estimate + (1 + 3 * estimate) / count + 2 / math.sqrt(count), 0.95)
    length = round(count ** (1 / 3) * (math.sqrt(6) * r / (1 - r**2)) ** (2 / 3)) if r > 0 else 1
    return max(1, min(length, count // 3))


# Pattern of the `method` string -> bounds; a group in the pattern is the block's length.
METHODS: dict[str, Callable[..., Bounds]] = {
    r"range": _range,
    r"BCa bootstrap": _bca,
    r"percentile bootstrap": _percentile,
    r"circular block bootstrap, block (\d+)": _percentile,
    r"circular block bootstrap, block (\d+), widened": _widened,
}


def _bounds(values: np.ndarray, method: str, draw: Draw) -> Bounds | None:
    """The interval by a named method; None when the name is unknown."""
    for pattern, function in METHODS.items():
        match = re.fullmatch(pattern, method)
        if match:
            return function(values, draw, *map(int, match.groups()))
    return None


@lru_cache(maxsize=4096)
def _cached(values: bytes, method: str, draw: Draw) -> Bounds | None:
    return _bounds(np.frombuffer(values), method, draw)


def check(
    about: About,
    where: str,
    samples: Sequence[float],
    interval: dict[str, Any],
    value: str = "value",
    processes: Sequence[float | None] = (),
) -> None:
    """Checks an interval that names its method, confidence, resamples and seed against its raw samples.

    processes: the values that several processes found (None: it had none), which the interval has to hold.
    """
    series = np.asarray(samples, dtype=float)
    about.same(f"{where}.{value}", interval[value], float(np.median(series)))
    missing = [key for key in ("method", "confidence", "resamples", "seed") if key not in interval]
    if missing:
        about.fault(f"{where}.{missing[0]}", "nothing", "what the interval was made with")
        return
    method, _, _ = interval["method"].partition(WIDENED)
    draw = Draw(*(interval[key] for key in Draw._fields))
    if not _usable(about, where, series, method, draw):
        return
    with about.recomputing(f"{where}.low"):
        bounds = _cached(series.tobytes(), method, draw)
        if bounds is None:
            about.fault(f"{where}.method", repr(method), f"one of {', '.join(METHODS)}")
            return
        values = [found for found in processes if found is not None]
        whole = min((bounds[0], *values)), max((bounds[1], *values))
        for key, expected in zip(("low", "high"), whole, strict=True):
            about.same(f"{where}.{key}", interval[key], expected)
        wanted = f"{method}{WIDENED}{len(processes)} processes" if whole != bounds else method
        about.require(interval["method"] == wanted, f"{where}.method", repr(interval["method"]), repr(wanted))


def _range_allowed(series: np.ndarray) -> set[bool]:
    """Whether the interval may be a range, whether it may be anything else, by how many samples there are."""
    if len(series) < NEVER_FEWER or np.ptp(series) == 0:
        return {True}
    return {False} if len(series) >= ALWAYS_FROM else {True, False}


def _usable(about: About, where: str, series: np.ndarray, method: str, draw: Draw) -> bool:
    """Whether the method fits the samples, a range for few alone, and was drawn as all are."""
    fits = (method == "range") in _range_allowed(series)
    wanted = (
        "a bootstrap: there are enough samples for it" if method == "range" else "range: too few samples for another"
    )
    drawn = [about.same(f"{where}.{key}", getattr(draw, key), value) for key, value in DRAWN.items()]
    return about.require(fits, f"{where}.method", repr(method), wanted) and all(drawn)


def candidates(samples: Sequence[float], confidence: float) -> list[Bounds]:
    """The intervals that a record may hold which does not say how they were made: one by each known method."""
    series, draw = np.asarray(samples, dtype=float), Draw(confidence, **DRAWN)
    allowed, found = _range_allowed(series), []
    if True in allowed:
        found.append(_range(series, draw))
    if False in allowed:
        # Newest first: the nearest of equals is taken.
        old, new = math.ceil(2 * len(series) ** (1 / 3)), _block_of(series)
        methods = (f"circular block bootstrap, block {new}, widened", "BCa bootstrap")
        for method in (*methods, f"circular block bootstrap, block {old}", "percentile bootstrap"):
            try:
                found.append(_cached(series.tobytes(), method, draw))
            except (ArithmeticError, ValueError):  # it does not exist for these values
                continue
    return found


def nearest(options: Sequence[Bounds], found: Bounds) -> Bounds:
    """The candidate that a record's interval can only be, if it is any."""
    return min(options, key=lambda bounds: abs(bounds[0] - found[0]) + abs(bounds[1] - found[1]))


def confidence(about: About, where: str, interval: dict[str, Any], count: int, asked: float) -> None:
    """The confidence of an interval is the one asked for, or all that a range of so few samples has."""
    most = {asked, min(asked, 1 - 2.0 ** (1 - count))} if _is_range(interval) else {asked}
    told = interval.get("confidence")
    about.require(told in most, f"{where}.confidence", told, " or ".join(f"{value:g}" for value in sorted(most)))


def _is_range(interval: dict[str, Any]) -> bool:
    return str(interval.get("method")).partition(WIDENED)[0] == "range"


def unnamed(
    about: About, where: str, samples: Sequence[float], found: dict[str, Any], asked: float, value: str = "value"
) -> None:
    """Checks value, low and high of a record that does not say how they were made."""
    about.same(f"{where}.{value}", found[value], float(np.median(samples)))
    expected = nearest(candidates(samples, asked), (found["low"], found["high"]))
    for key, bound in zip(("low", "high"), expected, strict=True):
        about.same(f"{where}.{key}", found[key], bound)
