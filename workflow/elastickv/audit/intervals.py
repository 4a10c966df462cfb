"""Recomputes intervals from raw samples: the range of few samples, otherwise the widened block bootstrap.

Implemented from the papers, independently of `statistics.py`, which it checks: only the seeded index draws are shared,
`numpy.random.default_rng(seed).integers(0, n, ...)` in the order of the resamples.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

from elastickv.audit.finding import About

FEWEST = 12  # fewest samples for the bootstrap; fewer give their range
LARGEST_LOG = 600  # of a bound
AT_ONCE = 4_000_000  # indices drawn at a time
# The parameters of every published interval. They must be compared explicitly: bounds are order statistics, so another
# seed or number of resamples often gives the same ones, and a range uses neither.
DRAWN = {"resamples": 4999, "seed": 0}

Bounds = tuple[float, float]


def _medians(values: np.ndarray, block: int, resamples: int) -> np.ndarray:
    """Medians of the resamples: circular blocks (Politis and Romano, 1992)."""
    count, starts_each = len(values), math.ceil(len(values) / block)
    generator = np.random.default_rng(DRAWN["seed"])
    rows = max(1, AT_ONCE // count)
    medians = []
    for first in range(0, resamples, rows):
        starts = generator.integers(0, count, size=(min(rows, resamples - first), starts_each))
        index = (starts[:, :, np.newaxis] + np.arange(block)) % count
        medians.append(np.median(values[index.reshape(len(starts), -1)[:, :count]], axis=1))
    return np.concatenate(medians)


def _widened(values: np.ndarray, confidence: float, block: int, resamples: int) -> Bounds:
    """The percentile interval in logarithms about the median, widened for few blocks (Hesterberg, 2015).

    With K = n / block: by sqrt(K / (K - 1)) t(K - 1; 1 - a / 4) / z(1 - a / 2), a = 1 - confidence.
    """
    from scipy.special import stdtrit

    centre, blocks, error = math.log(np.median(values)), len(values) / block, 1 - confidence
    quantiles = stdtrit(blocks - 1, 1 - error / 4) / NormalDist().inv_cdf(1 - error / 2)
    factor = math.sqrt(blocks / (blocks - 1)) * quantiles
    percentiles = np.percentile(_medians(values, block, resamples), [50 * error, 100 - 50 * error])
    low, high = (centre + factor * (math.log(end) - centre) for end in percentiles)
    return math.exp(min(low, centre)), math.exp(max(high, centre))


def autocorrelation(samples: Sequence[float]) -> float:
    """Correlation of the samples' ranks (equal ones share theirs) with those one later; 0 without spread."""
    _, place, equal = np.unique(np.asarray(samples, dtype=float), return_inverse=True, return_counts=True)
    ranks = (equal.cumsum() - equal / 2)[place]
    ranks = ranks - ranks.mean()
    power = (ranks**2).sum()
    return float((ranks[1:] * ranks[:-1]).sum() / power) if power > 0 and len(ranks) > 2 else 0.0


def _block_of(values: np.ndarray) -> int:
    """Block length of the bootstrap: n^(1/3) (sqrt(6) r / (1 - r^2))^(2/3).

    r: autocorrelation of the ranks, plus its bias and two standard errors, at most 0.95; the block at most n / 3.
    """
    count, estimate = len(values), autocorrelation(values)
    r = min(estimate + (1 + 3 * estimate) / count + 2 / math.sqrt(count), 0.95)
    length = round(count ** (1 / 3) * (math.sqrt(6) * r / (1 - r**2)) ** (2 / 3)) if r > 0 else 1
    return max(1, min(length, count // 3))


def _is_range(values: np.ndarray) -> bool:
    return len(values) < FEWEST or bool(np.ptp(values) == 0)


def _method(values: np.ndarray) -> str:
    """What a record calls the method for these samples: there is one for each number of them."""
    return "range" if _is_range(values) else f"circular block bootstrap, block {_block_of(values)}, widened"


@lru_cache(maxsize=4096)
def _cached(values: bytes, confidence: float, resamples: int) -> Bounds:
    series = np.frombuffer(values)
    if _is_range(series):
        return float(series.min()), float(series.max())
    return _widened(series, confidence, _block_of(series), resamples)


def bounds(samples: Sequence[float], confidence: float, resamples: int = DRAWN["resamples"]) -> Bounds:
    """The interval of the samples' median."""
    return _cached(np.asarray(samples, dtype=float).tobytes(), confidence, resamples)


def plain(about: About, where: str, samples: Sequence[float], found: dict[str, Any], confidence: float) -> None:
    """Checks an interval of a record that holds its value and bounds alone."""
    about.same(f"{where}.value", found["value"], float(np.median(samples)))
    for key, bound in zip(("low", "high"), bounds(samples, confidence), strict=True):
        about.same(f"{where}.{key}", found[key], bound)


def of_ratios(
    about: About,
    where: str,
    pair: tuple[Sequence[float], Sequence[float]],
    interval: dict[str, Any],
    requested: float,
) -> None:
    """Checks the interval of the ratios of two series of times, one ratio a round. A control's value is `ratio`."""
    check(about, where, [above / below for above, below in zip(*pair, strict=True)], interval, requested)


def check(about: About, where: str, samples: Sequence[float], interval: dict[str, Any], requested: float) -> None:
    """Checks an interval that names its method, confidence, resamples and seed against its raw samples.

    requested: its confidence; a range of few samples may have less.
    """
    series, stated = np.asarray(samples, dtype=float), interval["confidence"]
    allowed = {requested} | ({1 - 2.0 ** (1 - len(series))} if interval["method"].startswith("range") else set())
    words = " or ".join(f"{value:g}" for value in sorted(allowed))
    about.require(stated <= requested and stated in allowed, f"{where}.confidence", stated, words)
    value = "ratio" if "ratio" in interval else "value"
    about.same(f"{where}.{value}", interval[value], float(np.median(series)))
    for key, drawn in DRAWN.items():
        about.same(f"{where}.{key}", interval[key], drawn)
    with about.recomputing(f"{where}.low"):
        for key, expected in zip(("low", "high"), bounds(samples, stated), strict=True):
            about.same(f"{where}.{key}", interval[key], expected)
        method = _method(series)
        about.require(interval["method"] == method, f"{where}.method", repr(interval["method"]), repr(method))


def over_processes(
    about: About,
    where: str,
    values: Sequence[float],
    interval: dict[str, Any],
    requested: float,
    within: Sequence[dict[str, Any]] = (),
) -> None:
    """Checks the interval of several processes' values: Student's t of their logarithms.

    within: their own intervals; the middle one of their widths, to each side, is the least width.
    """
    from scipy.special import stdtrit

    logs, count = [math.log(value) for value in values], len(values)
    centre = math.fsum(logs) / count
    error = math.sqrt(math.fsum((log - centre) ** 2 for log in logs) / (count - 1) / count)
    spread = -float(stdtrit(count - 1, (1 - requested) / 2)) * error
    sides = [
        [math.log(one["value"] / one["low"]) for one in within],
        [math.log(one["high"] / one["value"]) for one in within],
    ]
    down, up = (max(spread, statistics.median(widths or [0.0])) for widths in sides)
    expected = {"value": centre, "low": max(centre - down, -LARGEST_LOG), "high": min(centre + up, LARGEST_LOG)}
    for key, log in expected.items():
        about.same(f"{where}.{key}", interval[key], math.exp(log))
    confidence = min([requested, *(one["confidence"] for one in within)])
    about.same(f"{where}.confidence", interval["confidence"], confidence)
    for key in DRAWN:
        about.same(f"{where}.{key}", interval[key], 0)  # nothing is drawn for several processes
    methods = [f"mean of the logarithms of {count} processes, t{more}" for more in ("", ", as wide as within one")]
    method = methods[max(down, up) > spread]
    about.require(interval["method"] == method, f"{where}.method", repr(interval["method"]), repr(method))
