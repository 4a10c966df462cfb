"""Intervals and the sampling rule, on hand-made samples."""

import numpy as np
import pytest

from elastickv import sampling, statistics


def test_trimming_takes_floor_of_the_percentage_off_each_end():
    kept = statistics.trimmed(range(50), truncate=5)
    assert kept.tolist() == list(range(2, 48))


def test_cv_is_of_the_trimmed_samples_with_ddof_1():
    samples = [10.0] * 48 + [1000.0, 1.0]
    stats = statistics.arm_statistics(samples, truncate=5)
    assert stats["cv"] == 0
    assert stats["cv_untrimmed"] == pytest.approx(np.std(samples, ddof=1) / np.mean(samples))
    assert stats["median_us"] == 10


def test_speedup_is_the_median_of_pairwise_ratios_not_the_ratio_of_medians():
    baseline, elastic = [2.0, 30.0, 8.0, 10.0, 4.0], [1.0, 10.0, 4.0, 5.0, 2.0]
    assert statistics.ratio_interval(baseline, elastic, 0.99)["value"] == 2


def test_interval_holds_the_true_ratio_under_common_drift():
    rng = np.random.default_rng(3)
    drift = np.linspace(1, 1.3, 200)
    baseline = 20 * drift * (1 + 0.01 * rng.standard_normal(200))
    elastic = 10 * drift * (1 + 0.01 * rng.standard_normal(200))
    interval = statistics.ratio_interval(baseline, elastic, 0.99)
    assert interval["low"] <= 2 <= interval["high"]
    assert statistics.relative_half_width(interval) < 0.005
    assert interval["method"] == "BCa bootstrap"


def test_autocorrelated_ratios_take_a_block_bootstrap_and_a_wider_interval():
    rng = np.random.default_rng(4)
    noise = rng.standard_normal(300)
    walk = np.zeros(300)
    for i in range(1, 300):
        walk[i] = 0.8 * walk[i - 1] + noise[i]
    correlated = statistics.median_interval(2 + 0.01 * walk, 0.99)
    shuffled = statistics.median_interval(rng.permutation(2 + 0.01 * walk), 0.99)
    assert "block" in correlated["method"]
    assert correlated["high"] - correlated["low"] > shuffled["high"] - shuffled["low"]


def test_same_samples_same_interval():
    values = np.random.default_rng(5).standard_normal(50) + 3
    assert statistics.median_interval(values, 0.99) == statistics.median_interval(values, 0.99)


def test_constant_and_tiny_series_give_their_range():
    assert statistics.median_interval([2.0] * 30, 0.99)["low"] == 2.0
    few = statistics.median_interval([1.0, 3.0, 2.0], 0.99)
    assert (few["low"], few["high"], few["method"]) == (1.0, 3.0, "range")


def test_nearly_constant_series_has_finite_bounds():
    interval = statistics.median_interval([2.0] * 40 + [2.1], 0.99)
    assert interval["low"] <= interval["value"] <= interval["high"]


def rule(**changes) -> sampling.Rule:
    settings = {"reps": 100, "warmup": 50, "precision": 0.005, "max_seconds": 20, "confidence": 0.99}
    return sampling.Rule(**{**settings, **changes})


def test_quiet_samples_stop_early_and_loud_ones_go_on():
    rng = np.random.default_rng(6)
    quiet = sampling.interleave(lambda arm: (2 if arm != "elastic" else 1) * (1 + 1e-4 * rng.random()), rule())
    loud = sampling.interleave(lambda arm: (2 if arm != "elastic" else 1) * (1 + rng.random()), rule())
    assert len(quiet.baseline_us) == sampling.FEWEST_TRIPLES
    assert len(loud.baseline_us) == 100


def test_arms_alternate_in_recorded_rotating_order():
    taken = []

    def take(arm: str) -> float:
        taken.append(arm)
        return 1.0

    samples = sampling.interleave(take, rule(reps=12, exact_reps=True))
    assert [arm for order in samples.order for arm in order] == taken
    first = [order[0] for order in samples.order]
    assert {arm: first.count(arm) for arm in sampling.ARMS} == {"baseline": 4, "elastic": 4, "control": 4}


def test_throttled_triples_are_dropped_whole_and_recorded():
    answers = iter([None, "thermal", None, None])
    samples = sampling.interleave(lambda _: 1.0, rule(reps=4, exact_reps=True), disturbed=lambda: next(answers))
    assert len(samples.baseline_us) == len(samples.elastic_us) == len(samples.control_us) == 3
    assert samples.dropped[0]["reason"] == "thermal"
    assert samples.dropped[0]["index"] == 1


def test_the_clock_ends_a_measurement_that_never_settles():
    now = iter(range(0, 10_000, 3))
    rng = np.random.default_rng(7)
    samples = sampling.interleave(lambda _: 1 + rng.random(), rule(max_seconds=30), clock=lambda: next(now))
    assert len(samples.baseline_us) == 10


def test_warm_up_waits_until_both_arms_are_stationary():
    ramp = {"baseline": iter([5, 4, 3, 2] + [1] * 100), "elastic": iter([1] * 100)}
    count = sampling.warm_up(lambda arm: float(next(ramp[arm])), rule())
    assert 10 < count < 50


def test_exact_warm_up_takes_what_was_asked_for():
    assert sampling.warm_up(lambda _: 1.0, rule(warmup=13, exact_warmup=True)) == 13


def test_an_unsteady_control_keeps_it_going_until_it_is_steady():
    """A few slow samples at the start widen the control's interval, not the speedup's: others make up for them."""
    rng = np.random.default_rng(3)
    controls = iter([1.03] * 8 + [1.0] * 1000)

    def take(arm: str) -> float:
        noise = 1 + 1e-4 * rng.random()
        return {"baseline": 2.0, "elastic": 1.0}.get(arm) * noise if arm != "control" else 2 * next(controls) * noise

    careless = sampling.interleave(take, rule())
    controls = iter([1.03] * 8 + [1.0] * 1000)
    careful = sampling.interleave(take, rule(control=0.005))
    assert len(careless.control_us) == sampling.FEWEST_TRIPLES < len(careful.control_us) < rule().reps
    control = statistics.ratio_interval(careful.baseline_us, careful.control_us, 0.99)
    assert control["high"] <= 1.005
    assert control["low"] >= 0.995
