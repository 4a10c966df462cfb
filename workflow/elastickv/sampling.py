"""How samples are taken: warm-up until stationary, interleaved triples in rotating order, a stopping rule.

Nothing here knows a device: `take(arm)` returns one sample in microseconds, so tests feed made-up ones.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from elastickv import statistics

ARMS = ("baseline", "elastic", "control")
ORDERS = tuple(itertools.permutations(ARMS))
FEWEST_TRIPLES = 30
FEWEST_FOR_INTERVAL = statistics.FEWEST_FOR_BOOTSTRAP
CHECK_EVERY = 10
STOPPING_RESAMPLES = 999
WARMUP_SHARE = 0.25  # of max_seconds
TREND_WINDOW = 10
TREND_LEVEL = 0.05
TREND_TEST = f"Mann-Kendall, last {TREND_WINDOW} samples of each arm, {TREND_LEVEL:.0%}"


@dataclass(frozen=True)
class Rule:
    """When to stop: once the speedup's interval is narrow and the control's within `control` of 1, else at a bound.

    Bounds are `reps` triples, dropped ones included, and `max_seconds`. `exact_reps`, `exact_warmup`: take as many as
    given, whatever the intervals or the clock say.
    """

    reps: int
    warmup: int
    precision: float
    max_seconds: float
    confidence: float
    control: float = float("inf")
    exact_reps: bool = False
    exact_warmup: bool = False

    def stops(self, samples: Samples, elapsed: float) -> str | None:
        """Why the triples taken so far are the last: "reps", "max_seconds" or "precision"; None when they are not."""
        count = len(samples.baseline_us)
        if count + len(samples.dropped) >= self.reps:
            return "reps"
        if self.exact_reps:
            return None
        if elapsed >= self.max_seconds:
            return "max_seconds"
        return "precision" if count == next_look(count) and self.precise(samples) and self.steady(samples) else None

    def precise(self, samples: Samples) -> bool:
        """Whether the speedup's interval is narrower than `precision` to either side."""
        speedup = statistics.ratio_interval(
            samples.baseline_us, samples.elastic_us, self.confidence, STOPPING_RESAMPLES
        )
        return statistics.relative_half_width(speedup) < self.precision

    def steady(self, samples: Samples) -> bool:
        """Whether the control's interval, as the record will state it, lies within `control` of 1."""
        interval = statistics.ratio_interval(samples.baseline_us, samples.control_us, self.confidence)
        return 1 - self.control <= interval["low"] and interval["high"] <= 1 + self.control


def next_look(count: int) -> int:
    """The first count from `count` on at which intervals are looked at: each look is a chance to stop too early, and
    takes time, so they become rarer: every 10 triples, from 1,000 on every 100, and so on."""
    every = max(CHECK_EVERY, 10 ** (len(str(count)) - 2))
    return max(FEWEST_TRIPLES, -(-count // every) * every)


@dataclass
class Samples:
    """Raw samples in the order taken; sample i of each arm belongs to triple i. `stopped`: what the rule said."""

    order: list[list[str]] = field(default_factory=list)
    baseline_us: list[float] = field(default_factory=list)
    elastic_us: list[float] = field(default_factory=list)
    control_us: list[float] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    stopped: str | None = None


class WarmUp(NamedTuple):
    """`samples` of each arm were taken; whether these ended `stationary` (None: too few to tell), and what ended them:
    "stationary", or the bound "warmup" or "max_seconds"."""

    samples: int
    stationary: bool | None
    ended: str

    def facts(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"stationary": self.stationary, "ended": self.ended, "test": TREND_TEST}


def warm_up(take: Callable[[str], float], rule: Rule, clock: Callable[[], float] = time.monotonic) -> WarmUp:
    """Runs baseline and elastic arm in turn until both are stationary, by `stationary`.

    `rule.warmup` and a quarter of `rule.max_seconds` bound it; a count asked for exactly is taken, then tested.
    """
    began, taken = clock(), {arm: [] for arm in ("baseline", "elastic")}
    for count in range(1, rule.warmup + 1):
        for arm, series in taken.items():
            series.append(take(arm))
        if rule.exact_warmup:
            continue
        if count >= TREND_WINDOW and _all_stationary(taken, rule):
            return WarmUp(count, True, "stationary")
        if clock() - began > rule.max_seconds * WARMUP_SHARE:
            return WarmUp(count, _all_stationary(taken, rule), "max_seconds")
    return WarmUp(rule.warmup, _all_stationary(taken, rule), "warmup")


def _all_stationary(taken: dict[str, list[float]], rule: Rule) -> bool | None:
    series = list(taken.values())
    return all(stationary(one, rule.precision) for one in series) if len(series[0]) >= TREND_WINDOW else None


def stationary(series: Sequence[float], tolerance: float) -> bool:
    """Whether the last ten samples show no trend, or one that changes them by less than `tolerance` (a share) in all.

    The test of Mann (1945, Econometrica 13) and Kendall asks for no distribution and a slow sample does not mislead it;
    the slope is the median of those between any two samples (Theil, 1950; Sen, 1968).
    """
    from scipy.stats import kendalltau, theilslopes

    window = np.asarray(series[-TREND_WINDOW:], dtype=float)
    if np.ptp(window) == 0:
        return True
    places = np.arange(len(window))
    trend = kendalltau(places, window).pvalue < TREND_LEVEL
    change = abs(theilslopes(window, places).slope) * (len(window) - 1)
    return not (trend and change > tolerance * np.median(window))


def interleave(
    take: Callable[[str], float],
    rule: Rule,
    *,
    disturbed: Callable[[], str | None] = lambda: None,
    between: Callable[[int], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Samples:
    """Takes triples (baseline, elastic, control) in rotating order until the rule stops it.

    disturbed: asked after every triple; a reason (throttling) drops the triple whole, and is recorded.
    between: called before triple i; ceilings are sampled there, interleaved with the arms.
    """
    samples, began = Samples(), clock()
    for index in itertools.count():
        between(index)
        order = ORDERS[index % len(ORDERS)]
        values = {arm: take(arm) for arm in order}
        reason = disturbed()
        if reason:
            samples.dropped.append({"index": index, "order": list(order), "reason": reason, **values})
        else:
            samples.order.append(list(order))
            for arm in ARMS:
                getattr(samples, f"{arm}_us").append(values[arm])
        samples.stopped = rule.stops(samples, clock() - began)
        if samples.stopped:
            return samples
    raise AssertionError("unreachable: itertools.count() does not end")
