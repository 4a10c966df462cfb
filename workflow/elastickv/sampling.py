"""How samples are taken: warm-up until stationary, interleaved triples in rotating order, a stopping rule.

Nothing here knows a device: `take(arm)` returns one sample in microseconds, so tests feed made-up ones.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from elastickv import statistics

ARMS = ("baseline", "elastic", "control")
ORDERS = tuple(itertools.permutations(ARMS))
WARMUP_BLOCK = 5
STATIONARY = 0.01
FEWEST_TRIPLES = 20
CHECK_EVERY = 10
STOPPING_RESAMPLES = 999


@dataclass(frozen=True)
class Rule:
    """When to stop: once the speedup's interval is narrow and the control's within `control` of 1, else at a bound.

    `exact`: take `warmup` and `reps` as given, whatever the intervals or the clock say.
    """

    reps: int
    warmup: int
    precision: float
    max_seconds: float
    confidence: float
    control: float = float("inf")
    exact_reps: bool = False
    exact_warmup: bool = False

    def satisfied(self, samples: Samples, elapsed: float) -> bool:
        """Whether the triples taken so far are enough."""
        count = len(samples.baseline_us)
        attempts = count + len(samples.dropped)
        if attempts >= self.reps or self.exact_reps:
            return attempts >= self.reps
        if elapsed >= self.max_seconds:
            return True
        if count < FEWEST_TRIPLES or count % CHECK_EVERY:
            return False
        speedup = statistics.ratio_interval(
            samples.baseline_us, samples.elastic_us, self.confidence, STOPPING_RESAMPLES
        )
        return statistics.relative_half_width(speedup) < self.precision and self.steady(samples)

    def steady(self, samples: Samples) -> bool:
        """Whether the control's interval, as the record will state it, lies within `control` of 1."""
        interval = statistics.ratio_interval(samples.baseline_us, samples.control_us, self.confidence)
        return 1 - self.control <= interval["low"] and interval["high"] <= 1 + self.control


@dataclass
class Samples:
    """Raw samples in the order taken; sample i of each arm belongs to triple i."""

    order: list[list[str]] = field(default_factory=list)
    baseline_us: list[float] = field(default_factory=list)
    elastic_us: list[float] = field(default_factory=list)
    control_us: list[float] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)


def warm_up(take: Callable[[str], float], rule: Rule, clock: Callable[[], float] = time.monotonic) -> int:
    """Runs arms in turn until they are stationary; returns how many warm-up samples each arm took.

    Stationary: for both arms the medians of the last two blocks of five samples differ by less than 1%. `rule.warmup`
    and a quarter of `rule.max_seconds` bound it, unless the count is exact.
    """
    began, taken = clock(), {arm: [] for arm in ("baseline", "elastic")}
    for count in range(1, rule.warmup + 1):
        for arm, series in taken.items():
            series.append(take(arm))
        if rule.exact_warmup:
            continue
        settled = count >= 2 * WARMUP_BLOCK and all(map(_stationary, taken.values()))
        if settled or clock() - began > rule.max_seconds / 4:
            return count
    return rule.warmup


def _stationary(series: list[float]) -> bool:
    last, before = np.median(series[-WARMUP_BLOCK:]), np.median(series[-2 * WARMUP_BLOCK : -WARMUP_BLOCK])
    return bool(abs(last - before) <= STATIONARY * before)


def interleave(
    take: Callable[[str], float],
    rule: Rule,
    *,
    disturbed: Callable[[], str | None] = lambda: None,
    between: Callable[[int], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Samples:
    """Takes triples (baseline, elastic, control) in rotating order until the rule is satisfied.

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
        if rule.satisfied(samples, clock() - began):
            return samples
    raise AssertionError("unreachable: itertools.count() does not end")
