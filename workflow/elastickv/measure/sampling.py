"""Takes samples: warm-up until stationary, interleaved rounds in rotating order, a stopping rule.

This module knows neither devices nor the names of arms. A reference and a candidate are sampled in rounds, and each of
them once more in every round, which is its control. `take(series)` returns one sample in microseconds, so tests can
pass made-up ones. Callers map reference and candidate to their names: `pair` for input, `Samples.named` for output.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from elastickv.measure import statistics
from elastickv.schemas import measurement
from elastickv.schemas.base import Model
from elastickv.schemas.parts import Control

ARMS = ("reference", "candidate")
CONTROLS = {arm: f"{arm}_again" for arm in ARMS}  # an arm, and the series that samples it once more in every round
SERIES = (*ARMS, *CONTROLS.values())
# In four rounds every series takes every place once and follows every other series once (Williams, 1949, Australian
# Journal of Scientific Research 2).
SQUARE = ((0, 1, 3, 2), (1, 2, 0, 3), (2, 3, 1, 0), (3, 0, 2, 1))
ORDERS = tuple(tuple(SERIES[place] for place in row) for row in SQUARE)
FEWEST_ROUNDS = 30
FEWEST_FOR_INTERVAL = statistics.FEWEST_FOR_BOOTSTRAP
CHECK_EVERY = 10
STOPPING_RESAMPLES = 999
WARMUP_SHARE = 0.25  # of max_seconds; all of it, until there are enough samples for the test
TREND_WINDOW = 10
TREND_LEVEL = 0.05
TREND_TEST = f"Mann-Kendall, last {TREND_WINDOW} samples of each arm, {TREND_LEVEL:.0%}"

Part = TypeVar("Part", bound=Model)


@dataclass(frozen=True)
class Rule:
    """When to stop: when the ratio's interval is narrow and every control is within `control` of 1, or at a bound.

    Bounds are `reps` rounds, including dropped ones, and `max_seconds`. `fixed_reps`, `fixed_warmup`: take exactly the
    given number, regardless of intervals and time.
    """

    reps: int
    warmup: int
    precision: float
    max_seconds: float
    confidence: float
    control: float = float("inf")
    fixed_reps: bool = False
    fixed_warmup: bool = False

    def stops(self, samples: Samples, elapsed: float) -> str | None:
        """The reason to stop now, "reps", "max_seconds" or "precision"; None to continue."""
        count = len(samples)
        if count + len(samples.dropped) >= self.reps:
            return "reps"
        if self.fixed_reps:
            return None
        if elapsed >= self.max_seconds:
            return "max_seconds"
        return "precision" if count == next_look(count) and self.precise(samples) and self.steady(samples) else None

    def precise(self, samples: Samples) -> bool:
        """Whether the interval of reference / candidate is narrower than `precision` to either side."""
        ratio = statistics.median_interval(samples.ratios(), self.confidence, STOPPING_RESAMPLES)
        return statistics.relative_half_width(ratio) < self.precision

    def steady(self, samples: Samples) -> bool:
        """Whether every control's interval, as in the record, is within `control` of 1."""
        controls = samples.controls(self.confidence).values()
        return all(1 - self.control <= one.low and one.high <= 1 + self.control for one in controls)


def next_look(count: int) -> int:
    """The first count from `count` on at which intervals are looked at: each look is a chance to stop too early, and
    takes time, so they become rarer: every 10 rounds, from 1,000 on every 100, and so on."""
    every = max(CHECK_EVERY, 10 ** (len(str(count)) - 2))
    return max(FEWEST_ROUNDS, -(-count // every) * every)


class Dropped(NamedTuple):
    """A round that was disturbed: its place among all rounds, and its sample of each series in the order taken."""

    index: int
    reason: str
    us: dict[str, float]

    def named(self, names: dict[str, str]) -> dict[str, int | str | float | list[str]]:
        """As a record holds it: by `names` instead of series."""
        taken = {names[series]: value for series, value in self.us.items()}
        return {"index": self.index, "order": [*taken], "reason": self.reason, **taken}


@dataclass
class Samples:
    """Raw samples in the order taken, by series, in microseconds; sample i of each belongs to round i.

    `stopped`: the reason given by the rule. `dropped`: whole rounds. `seconds`: when each round ended, from the first
    round's begin.
    """

    order: list[list[str]] = field(default_factory=list)
    us: dict[str, list[float]] = field(default_factory=lambda: {series: [] for series in SERIES})
    dropped: list[Dropped] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    stopped: str | None = None

    def __len__(self) -> int:
        """Rounds that were kept."""
        return len(self.order)

    def kept(self, rounds: Sequence[Any]) -> list[Any]:
        """Of one entry for each round, dropped ones too, those of the rounds that were kept."""
        dropped = {entry.index for entry in self.dropped}
        return [entry for index, entry in enumerate(rounds) if index not in dropped]

    def ratios(self) -> np.ndarray:
        """Of each round: reference / candidate, of the geometric means of both samples of an arm."""
        return statistics.round_ratios(*(self.both(arm) for arm in ARMS))

    def both(self, arm: str) -> tuple[list[float], list[float]]:
        """An arm's two series."""
        return self.us[arm], self.us[CONTROLS[arm]]

    def of(self, arm: str) -> list[float]:
        """All samples of an arm, round by round."""
        return statistics.by_round(*self.both(arm))

    def controls(self, confidence: float) -> dict[str, Control]:
        """By arm: the ratio of its times to its times again."""
        return {arm: statistics.control(self.us[arm], self.us[again], confidence) for arm, again in CONTROLS.items()}

    def named(self, names: dict[str, str], part: type[Part], **more: Any) -> Part:
        """The part of a record that holds `order`, `<name>_us` of each series, `dropped`, and `more` fields.

        names: of `reference` and `candidate` in the record; a control has its arm's name with `_again`.
        """
        names = {**names, **{again: f"{names[arm]}_again" for arm, again in CONTROLS.items()}}
        content = {
            "order": [[names[series] for series in order] for order in self.order],
            **{f"{names[series]}_us": values for series, values in self.us.items()},
            "dropped": [entry.named(names) for entry in self.dropped],
        }
        return part.model_validate(content | more)


def pair(reference: Callable[[], float], candidate: Callable[[], float]) -> Callable[[str], float]:
    """`take` of two arms' own sampling functions. A control runs the very function of its arm."""
    arms = {"reference": reference, "candidate": candidate}
    take = {**arms, **{again: arms[arm] for arm, again in CONTROLS.items()}}
    return lambda series: take[series]()


class WarmUp(NamedTuple):
    """`samples` of each arm were taken; whether these ended `stationary` (None: too few to tell), and what ended them:
    "stationary", or the bound "warmup" or "max_seconds"."""

    samples: int
    stationary: bool | None
    ended: str

    def facts(self) -> measurement.WarmUp:
        """Its form in a record."""
        return measurement.WarmUp(stationary=self.stationary, ended=self.ended, test=TREND_TEST)


def warm_up(take: Callable[[str], float], rule: Rule, clock: Callable[[], float] = time.monotonic) -> WarmUp:
    """Runs both arms in turn until both are stationary, by `stationary`.

    `rule.warmup` and a quarter of `rule.max_seconds` bound it, and all of `rule.max_seconds` while there are too few
    samples to test; an exact count is taken completely, then tested.
    """
    began, taken = clock(), {arm: [] for arm in ARMS}
    for count in range(1, rule.warmup + 1):
        for arm, series in taken.items():
            series.append(take(arm))
        if rule.fixed_warmup:
            continue
        if count >= TREND_WINDOW and _all_stationary(taken, rule):
            return WarmUp(count, True, "stationary")
        if clock() - began > rule.max_seconds * (WARMUP_SHARE if count >= TREND_WINDOW else 1):
            return WarmUp(count, _all_stationary(taken, rule), "max_seconds")
    return WarmUp(rule.warmup, _all_stationary(taken, rule), "warmup")


def _all_stationary(taken: dict[str, list[float]], rule: Rule) -> bool | None:
    series = list(taken.values())
    return all(stationary(one, rule.precision) for one in series) if len(series[0]) >= TREND_WINDOW else None


def stationary(series: Sequence[float], tolerance: float) -> bool:
    """Whether the last ten samples show no trend, or one that changes them by less than `tolerance` (a share) in all.

    The test of Mann (1945, Econometrica 13) and Kendall assumes no distribution and is robust against slow samples;
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


def order_of(index: int) -> tuple[str, ...]:
    """The order of round `index`. Each block of four rounds begins at the next order of the square, so that an order
    does not always meet the same layers where samples go on in a rotation of a multiple of four."""
    return ORDERS[(index + index // len(ORDERS)) % len(ORDERS)]


def interleave(
    take: Callable[[str], float],
    rule: Rule,
    *,
    disturbed: Callable[[], str | None] = lambda: None,
    between: Callable[[int], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Samples:
    """Takes rounds of all series in rotating order until the rule stops it.

    disturbed: called after every round; if it returns a reason (throttling), the round is dropped and recorded.
    between: called before round i; ceilings are sampled there, interleaved with the arms.
    """
    samples, began = Samples(), clock()
    for index in itertools.count():
        between(index)
        order = order_of(index)
        values = {series: take(series) for series in order}
        reason, elapsed = disturbed(), clock() - began
        if reason:
            samples.dropped.append(Dropped(index, reason, values))
        else:
            samples.order.append(list(order))
            samples.seconds.append(elapsed)
            for series, value in values.items():
                samples.us[series].append(value)
        samples.stopped = rule.stops(samples, elapsed)
        if samples.stopped:
            return samples
    raise AssertionError("unreachable: itertools.count() does not end")
