"""Warm-up, order and stopping rule, fed with made-up samples and clocks."""

import itertools
import math

import numpy as np

from elastickv.measure import sampling
from elastickv.schemas.base import Model


def rule(**changes) -> sampling.Rule:
    settings = {"reps": 100, "warmup": 50, "precision": 0.005, "max_seconds": 20, "confidence": 0.99}
    return sampling.Rule(**{**settings, **changes})


def test_quiet_samples_stop_early_and_loud_ones_go_on():
    rng = np.random.default_rng(6)
    quiet = sampling.interleave(
        lambda series: (2 if series.startswith("reference") else 1) * (1 + 1e-4 * rng.random()), rule()
    )
    loud = sampling.interleave(lambda series: (2 if series.startswith("reference") else 1) * (1 + rng.random()), rule())
    assert (len(quiet.us["reference"]), quiet.stopped) == (sampling.FEWEST_ROUNDS, "precision")
    assert (len(loud.us["reference"]), loud.stopped) == (100, "reps")


def test_fixed_reps_are_taken_whatever_clock_and_intervals_say():
    now = iter(range(0, 10_000, 100))
    samples = sampling.interleave(lambda _: 1.0, rule(reps=45, fixed_reps=True), clock=lambda: next(now))
    assert (len(samples.us["reference"]), samples.stopped) == (45, "reps")


def test_intervals_are_looked_at_rarely_and_more_rarely_as_rounds_grow():
    looks = [count for count in range(1, 3000) if sampling.next_look(count) == count]
    assert looks[:3] == [30, 40, 50]
    assert [count for count in looks if count > 980][:4] == [990, 1000, 1100, 1200]


def test_all_rounds_dropped_ends_at_a_bound_with_nothing_but_them():
    samples = sampling.interleave(lambda _: 1.0, rule(reps=40), disturbed=lambda: "thermal")
    assert (len(samples.dropped), samples.us["reference"], samples.stopped) == (40, [], "reps")


def test_arms_alternate_in_recorded_rotating_order():
    taken = []

    def take(series: str) -> float:
        taken.append(series)
        return 1.0

    samples = sampling.interleave(take, rule(reps=16, fixed_reps=True))
    assert [series for order in samples.order for series in order] == taken
    first = [order[0] for order in samples.order]
    assert {series: first.count(series) for series in sampling.SERIES} == dict.fromkeys(sampling.SERIES, 4)
    followed = {pair for order in samples.order for pair in itertools.pairwise(order)}
    assert followed == set(itertools.permutations(sampling.SERIES, 2))  # each series comes after each other one


def test_throttled_rounds_are_dropped_whole_and_recorded():
    answers = iter([None, "thermal", None, None])
    samples = sampling.interleave(lambda _: 1.0, rule(reps=4, fixed_reps=True), disturbed=lambda: next(answers))
    assert len(samples.us["reference"]) == len(samples.us["candidate"]) == len(samples.us["reference_again"]) == 3
    assert samples.dropped[0].reason == "thermal"
    assert samples.dropped[0].index == 1


def test_the_clock_ends_a_measurement_that_never_settles():
    now = iter(range(0, 10_000, 3))
    rng = np.random.default_rng(7)
    samples = sampling.interleave(lambda _: 1 + rng.random(), rule(max_seconds=30), clock=lambda: next(now))
    assert (len(samples.us["reference"]), samples.stopped) == (10, "max_seconds")


def test_warm_up_waits_until_both_arms_are_stationary():
    ramp = {"reference": iter([5, 4, 3, 2] + [1] * 100), "candidate": iter([1] * 100)}
    done = sampling.warm_up(lambda arm: float(next(ramp[arm])), rule(), clock=lambda: 0.0)
    assert 10 < done.samples < 20
    assert (done.stationary, done.ended) == (True, "stationary")


def test_warm_up_that_never_settles_ends_at_its_bound_and_says_so():
    taken = iter(range(1, 1000))
    done = sampling.warm_up(lambda _: float(next(taken)), rule(warmup=30), clock=lambda: 0.0)
    assert done == (30, False, "warmup")


def test_warm_up_ends_when_its_share_of_the_time_is_up():
    now, taken = iter(range(1000)), iter(range(1, 1000))
    done = sampling.warm_up(lambda _: float(next(taken)), rule(max_seconds=60), clock=lambda: next(now))
    assert done == (16, False, "max_seconds")


def test_warm_up_goes_on_beyond_its_share_until_it_can_be_tested():
    now = iter(range(1000))
    done = sampling.warm_up(lambda _: 1.0, rule(max_seconds=20), clock=lambda: next(now))
    assert done == (10, True, "stationary")
    now = iter(range(0, 10_000, 3))
    done = sampling.warm_up(lambda _: 1.0, rule(max_seconds=20), clock=lambda: next(now))
    assert done == (7, None, "max_seconds")  # not even in all of the time
    assert done.facts().stationary is None


def test_stationary_is_no_trend_or_a_small_one():
    rng = np.random.default_rng(2)
    flat = 100 + rng.standard_normal(10)
    rising = 100 + np.arange(10) + 0.1 * rng.standard_normal(10)
    assert sampling.stationary(flat, 0.005)
    assert not sampling.stationary(rising, 0.005)
    assert not sampling.stationary(rising[::-1], 0.005)
    assert sampling.stationary(100 + 0.01 * np.arange(10), 0.005)  # certain, but a thousandth in all
    assert sampling.stationary([*rising, *[120.0] * 10], 0.005)  # only the last ten count
    slow_one = flat.copy()
    slow_one[-1] = 1000
    assert sampling.stationary(slow_one, 0.005)


def test_stationary_samples_are_hardly_ever_kept_waiting():
    rng = np.random.default_rng(5)
    passed = [sampling.stationary(100 * (1 + 0.05 * rng.standard_t(3, 10)), 0.005) for _ in range(300)]
    assert 0.9 < np.mean(passed) < 1


def test_fixed_warm_up_takes_what_was_asked_for():
    assert sampling.warm_up(lambda _: 1.0, rule(warmup=13, fixed_warmup=True)) == (13, True, "warmup")
    assert sampling.warm_up(lambda _: 1.0, rule(warmup=0)) == (0, None, "warmup")


SLOW = {"reference": 1 / 1.03, "reference_again": 1.03, "candidate": 1.0, "candidate_again": 1.0}


def test_an_unsteady_control_keeps_it_going_until_it_is_steady():
    """A few slow samples at the start widen the control's interval, not the ratio's: others make up for them."""
    rng = np.random.default_rng(3)

    def takes():
        factors = {series: iter([factor] * 8 + [1.0] * 1000) for series, factor in SLOW.items()}
        return lambda series: (
            (1 + 1e-4 * rng.random()) * (2 if series.startswith("reference") else 1) * next(factors[series])
        )

    careless = sampling.interleave(takes(), rule())
    careful = sampling.interleave(takes(), rule(control=0.005))
    assert len(careless) == sampling.FEWEST_ROUNDS < len(careful) < rule().reps
    control = careful.controls(0.99)["reference"]
    assert 0.995 <= control.low <= control.ratio <= control.high <= 1.005


def test_a_pair_samples_two_arms_and_takes_a_control_from_its_own_arm():
    take = sampling.pair(lambda: 2.0, lambda: 1.0)
    assert {series: take(series) for series in sampling.SERIES} == {
        "reference": 2.0, "candidate": 1.0, "reference_again": 2.0, "candidate_again": 1.0
    }  # fmt: skip


def test_a_rounds_ratio_is_of_both_samples_of_each_arm():
    times = {"reference": 8.0, "reference_again": 2.0, "candidate": 1.0, "candidate_again": 4.0}
    samples = sampling.interleave(times.__getitem__, rule(reps=3, fixed_reps=True))
    assert list(samples.ratios()) == [2.0] * 3  # sqrt(8 * 2 / (1 * 4))
    assert samples.of("candidate") == [1.0, 4.0] * 3


def test_an_arm_that_only_its_own_control_shows_to_be_biased_is_seen():
    """A control of the reference alone would be exactly 1."""
    times = {"reference": 2.0, "reference_again": 2.0, "candidate": 1.0, "candidate_again": 1.1}
    samples = sampling.interleave(times.__getitem__, rule(reps=30, fixed_reps=True))
    controls = samples.controls(0.99)
    assert controls["reference"].ratio == 1
    assert math.isclose(controls["candidate"].ratio, 1 / 1.1)
    assert not rule(control=0.005).steady(samples)


def test_when_each_kept_round_ended_is_kept_and_dropped_rounds_take_their_readings_along():
    now, answers = itertools.count(), iter([None, "thermal", None])
    samples = sampling.interleave(
        lambda _: 1.0, rule(reps=3, fixed_reps=True), disturbed=lambda: next(answers), clock=lambda: float(next(now))
    )
    assert samples.seconds == [1.0, 3.0]
    assert samples.kept(["first", "second", "third"]) == ["first", "third"]


class Sides(Model):
    """A part of a record of a caller who names the arms in his own way."""

    order: list[list[str]]
    left_us: list[float]
    right_us: list[float]
    left_again_us: list[float]
    right_again_us: list[float]
    dropped: list[dict]


def test_the_series_of_a_record_have_the_names_of_their_caller():
    answers, values = iter([None, "thermal"]), iter(range(1, 9))
    samples = sampling.interleave(
        lambda _: float(next(values)), rule(reps=2, fixed_reps=True), disturbed=lambda: next(answers)
    )
    assert samples.named({"reference": "left", "candidate": "right"}, Sides).model_dump() == {
        "order": [["left", "right", "right_again", "left_again"]],
        "left_us": [1.0],
        "right_us": [2.0],
        "left_again_us": [4.0],
        "right_again_us": [3.0],
        "dropped": [
            {
                "index": 1,
                "order": ["right", "left_again", "left", "right_again"],
                "reason": "thermal",
                "right": 5.0,
                "left_again": 6.0,
                "left": 7.0,
                "right_again": 8.0,
            }
        ],
    }
