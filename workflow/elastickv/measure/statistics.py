"""Intervals, coefficients of variation and the A/A control: numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from elastickv.schemas.parts import Arm, Control, Interval

RESAMPLES = 4999
FEWEST_FOR_BOOTSTRAP = 12  # with 8 and autocorrelation 0.5, a 99% interval covers the true value in 97% of cases
FEWEST_BLOCKS = 3
AUTOCORRELATED = 0.5  # above it, the interval may cover the true value less often than stated; reports add a caution
STRONGEST = 0.95  # autocorrelation that blocks are made for: a block's length has no bound at 1
VALUES_AT_ONCE = 4_000_000
LARGEST_LOG = 600.0  # of a bound: two processes that differ have an interval of many orders of magnitude


def trimmed(samples: Sequence[float], truncate: float) -> np.ndarray:
    """Sorted samples less floor(n * truncate / 100) off each end."""
    ordered = np.sort(np.asarray(samples, dtype=float))
    cut = math.floor(len(ordered) * truncate / 100)
    return ordered[cut : len(ordered) - cut]


def variation(samples: Sequence[float] | np.ndarray) -> float:
    """Coefficient of variation: standard deviation (ddof 1) over mean; 0 for a single sample."""
    return float(np.std(samples, ddof=1) / np.mean(samples)) if len(samples) > 1 else 0.0


def arm_statistics(samples_us: Sequence[float], truncate: float) -> Arm:
    """Median, means (us) and coefficients of variation of one arm's samples."""
    kept = trimmed(samples_us, truncate)
    everything = np.asarray(samples_us, dtype=float)
    return Arm(
        median_us=float(np.median(everything)),
        mean_us=float(np.mean(everything)),
        trimmed_mean_us=float(np.mean(kept)),
        cv=variation(everything),
        cv_trimmed=variation(kept),
        count=len(everything),
    )


def autocorrelation(values: Sequence[float]) -> float:
    """Correlation of the values' ranks with those one later, -1 to 1; 0 where there are fewer than three, or one rank.

    Of ranks, so that a few slow samples do not hide it (Wald and Wolfowitz, 1943, Annals of Mathematical Statistics).
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # equal values share their mean rank
    centred = ranks - ranks.mean()
    power = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / power if power > 0 and len(ranks) > 2 else 0.0


def block_length(values: np.ndarray) -> int:
    """Values in a block of the bootstrap: n^(1/3) (sqrt(6) r / (1 - r^2))^(2/3), from 1 to n / 3 (Carlstein, 1986).

    That is for an AR(1) series with coefficient r. Blocks that are too short, by a chance low estimate, cost coverage
    and too long ones a little width, so r is the estimate, less its bias (Kendall, 1954), plus two standard errors.
    """
    count, estimate = len(values), autocorrelation(values)
    coefficient = min(estimate + (1 + 3 * estimate) / count + 2 / math.sqrt(count), STRONGEST)
    if coefficient <= 0:
        return 1
    best = count ** (1 / 3) * (math.sqrt(6) * coefficient / (1 - coefficient**2)) ** (2 / 3)
    return max(1, min(round(best), count // FEWEST_BLOCKS))


def widening(blocks: float, confidence: float) -> float:
    """Factor on a percentile interval out of `blocks` blocks (values / block length, need not be whole).

    sqrt(K / (K - 1)) t(K - 1) / z, t and z at 1 - a / 4 and 1 - a / 2 (a = 1 - confidence): resamples of a few blocks
    vary too little (Hesterberg, 2015, The American Statistician 69), and half of the error is kept for
    stopping when the interval happens to be narrow.
    """
    from scipy.special import ndtri, stdtrit

    error = 1 - confidence
    factor = stdtrit(blocks - 1, 1 - error / 4) / ndtri(1 - error / 2)
    return float(math.sqrt(blocks / (blocks - 1)) * factor)


def resampled_medians(values: np.ndarray, block: int, resamples: int, seed: int) -> np.ndarray:
    """Medians of circular block bootstrap resamples (Politis and Romano, 1992).

    A resample is made of whole blocks of consecutive values, the first one following the last, cut to as many values.
    """
    count, blocks_each = len(values), math.ceil(len(values) / block)
    ordered, ranks = _ranked(values)
    blocks = np.lib.stride_tricks.sliding_window_view(np.concatenate([ranks, ranks[: block - 1]]), block)
    middle = [(count - 1) // 2, count // 2]
    rng, at_once = np.random.default_rng(seed), max(1, VALUES_AT_ONCE // count)
    medians = []
    for first in range(0, resamples, at_once):
        starts = rng.integers(0, count, size=(min(at_once, resamples - first), blocks_each))
        drawn = blocks[starts].reshape(len(starts), -1)[:, :count]
        medians.append(ordered[np.sort(drawn, axis=1)[:, middle]].mean(axis=1))
    return np.concatenate(medians)


def _ranked(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values in order, and the place of each among them: small integers sort an order of magnitude faster."""
    places = np.argsort(values, kind="stable")
    ranks = np.empty(len(values), np.uint16 if len(values) <= 1 << 16 else np.uint32)
    ranks[places] = np.arange(len(values))
    return values[places], ranks


def median_interval(values: Sequence[float], confidence: float, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The median of positive `values` with a two-sided interval; `confidence` in it is what the interval has.

    A circular block bootstrap, as docs/statistics.md describes and tests it. Fewer than `FEWEST_FOR_BOOTSTRAP` values
    give their range, which holds the median with 1 - 2^(1 - n) at the most; values without spread their one value.
    Raises ValueError when a value is not positive.
    """
    series = np.asarray(values, dtype=float)
    if not (series > 0).all():
        raise ValueError("an interval needs positive values")
    value = float(np.median(series))
    if len(series) < FEWEST_FOR_BOOTSTRAP or np.ptp(series) == 0:
        method, low, high = "range", float(series.min()), float(series.max())
        confidence = min(confidence, 1 - 2.0 ** (1 - len(series)))
    else:
        block, tail = block_length(series), (1 - confidence) / 2
        method = f"circular block bootstrap, block {block}, widened"
        ends = np.quantile(resampled_medians(series, block, resamples, seed), [tail, 1 - tail])
        # Widened about the median, in logarithms, so that the interval stays positive.
        low, high = (float(end) for end in value * (ends / value) ** widening(len(series) / block, confidence))
    return Interval(
        value=value,
        low=min(low, value),
        high=max(high, value),
        confidence=confidence,
        method=method,
        resamples=resamples,
        seed=seed,
    )


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> np.ndarray:
    """Pairwise ratios numerator / denominator."""
    return np.asarray(numerator, dtype=float) / np.asarray(denominator, dtype=float)


def by_round(times: Sequence[float], again: Sequence[float]) -> list[float]:
    """Both samples of an arm in each round, one round after the other."""
    return [one for both in zip(times, again, strict=True) for one in both]


def round_ratios(
    numerator: tuple[Sequence[float], Sequence[float]], denominator: tuple[Sequence[float], Sequence[float]]
) -> np.ndarray:
    """Of each round, sqrt(a a' / (b b')): a, a' are both samples of the numerator's arm, b, b' of the denominator's."""
    return np.sqrt(ratios(numerator[0], denominator[0]) * ratios(numerator[1], denominator[1]))


def ratio_interval(
    numerator: Sequence[float],
    denominator: Sequence[float],
    confidence: float,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Median of the pairwise ratios numerator / denominator with its interval."""
    return median_interval(ratios(numerator, denominator), confidence, resamples, seed)


def control(times: Sequence[float], again: Sequence[float], confidence: float) -> Control:
    """The A/A control of an arm: its times over its times again."""
    interval = ratio_interval(times, again, confidence)
    return Control(ratio=interval.value, **interval.model_dump(exclude={"value"}))


def relative_half_width(interval: Interval) -> float:
    """Half the interval's width over its value."""
    return (interval.high - interval.low) / 2 / interval.value


def over_processes(values: Sequence[float], confidence: float, within: Sequence[Interval] = ()) -> Interval:
    """Mean of the log ratios of several processes (two or more), with its t interval: mean +- t s / sqrt(P).

    values: a positive ratio of each process. within: the intervals inside the processes; to either side, the result is
    no narrower than their median, and its confidence is not above the lowest of theirs.
    """
    from scipy.special import stdtrit

    logs, count = np.log(np.asarray(values, dtype=float)), len(values)
    half = float(stdtrit(count - 1, (1 + confidence) / 2)) * float(np.std(logs, ddof=1)) / math.sqrt(count)
    below = max(half, _median(math.log(one.value / one.low) for one in within))
    above = max(half, _median(math.log(one.high / one.value) for one in within))
    mean, widened = float(np.mean(logs)), (below, above) != (half, half)
    return Interval(
        value=math.exp(mean),
        low=math.exp(max(mean - below, -LARGEST_LOG)),
        high=math.exp(min(mean + above, LARGEST_LOG)),
        confidence=min([confidence, *(one.confidence for one in within)]),
        method=f"mean of the logarithms of {count} processes, t" + (", as wide as within one" if widened else ""),
        resamples=0,
        seed=0,
    )


def _median(values: Iterable[float]) -> float:
    """The median; 0 of no values."""
    known = list(values)
    return float(np.median(known)) if known else 0.0
