"""Intervals, coefficients of variation and the A/A control: numbers in, numbers out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

RESAMPLES = 4999
FEWEST_FOR_BOOTSTRAP = 5


def trimmed(samples: Sequence[float], truncate: float) -> np.ndarray:
    """Sorted samples less floor(n * truncate / 100) off each end."""
    ordered = np.sort(np.asarray(samples, dtype=float))
    cut = math.floor(len(ordered) * truncate / 100)
    return ordered[cut : len(ordered) - cut]


def variation(samples: np.ndarray) -> float:
    """Coefficient of variation: standard deviation (ddof 1) over mean; 0 for a single sample."""
    return float(np.std(samples, ddof=1) / np.mean(samples)) if len(samples) > 1 else 0.0


def arm_statistics(samples_us: Sequence[float], truncate: float) -> dict[str, Any]:
    """Median, means (us) and coefficients of variation of one arm's samples."""
    kept = trimmed(samples_us, truncate)
    everything = np.asarray(samples_us, dtype=float)
    return {
        "median_us": float(np.median(everything)),
        "mean_us": float(np.mean(everything)),
        "trimmed_mean_us": float(np.mean(kept)),
        "cv": variation(kept),
        "cv_untrimmed": variation(everything),
        "count": len(everything),
    }


def lag1_autocorrelation(values: np.ndarray) -> float:
    """Sample autocorrelation at lag 1 (0 for constant or very short series)."""
    centred = values - values.mean()
    power = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / power if power > 0 and len(values) > 2 else 0.0


def _block_medians(values: np.ndarray, block: int, resamples: int, seed: int) -> np.ndarray:
    """Medians of circular block bootstrap resamples (Politis and Romano, 1992)."""
    count = len(values)
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, count, size=(resamples, math.ceil(count / block)))
    index = (starts[:, :, None] + np.arange(block)) % count
    return np.median(values[index.reshape(resamples, -1)[:, :count]], axis=1)


def _bca(values: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap of the median (Efron, 1987), by SciPy."""
    from scipy.stats import DegenerateDataWarning, bootstrap

    rng = np.random.default_rng(seed)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)  # the caller handles the NaN that comes with it
        result = bootstrap(
            (values,), np.median, n_resamples=resamples, confidence_level=confidence, method="BCa", rng=rng, batch=500
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def median_interval(
    values: Sequence[float], confidence: float, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """The median of `values` with a two-sided interval.

    Autocorrelated values (lag 1 beyond 2 / sqrt(n)) take a circular block bootstrap with blocks of ceil(2 n^(1/3)),
    others BCa. Fewer than five values, or values without spread, give their range.
    """
    series = np.asarray(values, dtype=float)
    if len(series) < FEWEST_FOR_BOOTSTRAP or np.ptp(series) == 0:
        method, low, high = "range", float(series.min()), float(series.max())
    elif lag1_autocorrelation(series) > 2 / math.sqrt(len(series)):
        block = math.ceil(2 * len(series) ** (1 / 3))
        medians = _block_medians(series, block, resamples, seed)
        tail = (1 - confidence) / 2
        low, high = (float(x) for x in np.quantile(medians, [tail, 1 - tail]))
        method = f"circular block bootstrap, block {block}"
    else:
        method = "BCa bootstrap"
        low, high = _bca(series, confidence, resamples, seed)
        if not (math.isfinite(low) and math.isfinite(high)):
            # Nearly all values are equal: the acceleration is 0 / 0 and the plain percentile interval is exact enough.
            medians = _block_medians(series, 1, resamples, seed)
            tail = (1 - confidence) / 2
            low, high = (float(x) for x in np.quantile(medians, [tail, 1 - tail]))
            method = "percentile bootstrap"
    return {
        "value": float(np.median(series)),
        "low": low,
        "high": high,
        "confidence": confidence,
        "method": method,
        "resamples": resamples,
        "seed": seed,
    }


def ratio_interval(
    numerator: Sequence[float],
    denominator: Sequence[float],
    confidence: float,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Median of the pairwise ratios numerator / denominator with its interval: the speedup, and the A/A control."""
    ratios = np.asarray(numerator, dtype=float) / np.asarray(denominator, dtype=float)
    return median_interval(ratios, confidence, resamples, seed)


def relative_half_width(interval: dict[str, Any]) -> float:
    """Half the interval's width over its value."""
    return (interval["high"] - interval["low"]) / 2 / interval["value"]
