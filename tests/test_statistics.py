"""Intervals and variation, on hand-made samples; how often the intervals hold the truth, by simulation."""

import sys

import numpy as np
import pytest
from conftest import ROOT

from elastickv.measure import statistics

sys.path.append(str(ROOT / "tools"))
import interval_coverage as coverage


def test_trimming_takes_floor_of_the_percentage_off_each_end():
    kept = statistics.trimmed(range(50), truncate=5)
    assert kept.tolist() == list(range(2, 48))


def test_cv_is_of_the_trimmed_samples_with_ddof_1():
    samples = [10.0] * 48 + [1000.0, 1.0]
    stats = statistics.arm_statistics(samples, truncate=5)
    assert stats.cv_trimmed == 0
    assert stats.cv == pytest.approx(np.std(samples, ddof=1) / np.mean(samples))
    assert stats.median_us == 10


def test_speedup_is_the_median_of_pairwise_ratios_not_the_ratio_of_medians():
    full, elastic = [2.0, 30.0, 8.0, 10.0, 4.0], [1.0, 10.0, 4.0, 5.0, 2.0]
    assert statistics.ratio_interval(full, elastic, 0.99).value == 2


def ar1(rng: np.random.Generator, count: int, coefficient: float) -> np.ndarray:
    series = rng.standard_normal(count)
    for i in range(1, count):
        series[i] += coefficient * series[i - 1]
    return series


def test_interval_holds_the_true_ratio_under_common_drift():
    rng = np.random.default_rng(3)
    drift = np.linspace(1, 1.3, 200)
    full = 20 * drift * (1 + 0.01 * rng.standard_normal(200))
    elastic = 10 * drift * (1 + 0.01 * rng.standard_normal(200))
    interval = statistics.ratio_interval(full, elastic, 0.99)
    assert interval.low <= 2 <= interval.high
    assert statistics.relative_half_width(interval) < 0.005


def test_autocorrelated_ratios_take_longer_blocks_and_a_wider_interval():
    rng = np.random.default_rng(4)
    walk = 2 + 0.01 * ar1(rng, 300, 0.8)
    shuffled = rng.permutation(walk)
    assert statistics.block_length(walk) > 2 * statistics.block_length(shuffled)
    wide, narrow = (statistics.median_interval(values, 0.99) for values in (walk, shuffled))
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert f"block {statistics.block_length(walk)}, widened" in wide.method


def test_autocorrelation_is_of_ranks_so_that_slow_samples_do_not_hide_it():
    rng = np.random.default_rng(8)
    series = ar1(rng, 400, 0.7)
    with_slow_ones = np.where(rng.random(400) < 0.05, series + 1000, series)
    assert statistics.autocorrelation(series) == pytest.approx(0.7, abs=0.1)
    assert statistics.autocorrelation(with_slow_ones) > 0.4
    assert abs(statistics.autocorrelation(rng.permutation(series))) < 0.15
    assert statistics.autocorrelation([3.0] * 50) == 0
    assert statistics.autocorrelation([1.0, 2.0] * 25) == pytest.approx(-1, abs=0.05)


def test_blocks_are_at_least_three_however_strong_the_autocorrelation():
    for count in (12, 30, 100):
        assert 1 < statistics.block_length(np.arange(1.0, count + 1)) <= count / 3


@pytest.mark.parametrize("count", [12, 41, 100])
def test_resampled_medians_are_those_of_circular_blocks(count):
    values, block = np.random.default_rng(9).standard_normal(count) + 5, 5
    starts = np.random.default_rng(2).integers(0, count, size=(999, -(-count // block)))
    index = (starts[:, :, None] + np.arange(block)).reshape(999, -1)[:, :count] % count
    assert (statistics.resampled_medians(values, block, 999, seed=2) == np.median(values[index], axis=1)).all()


def test_many_values_are_resampled_in_parts_that_change_nothing(monkeypatch):
    values = np.random.default_rng(9).standard_normal(50) + 5
    whole = statistics.resampled_medians(values, 4, 999, seed=2)
    monkeypatch.setattr(statistics, "VALUES_AT_ONCE", 1000)
    assert (statistics.resampled_medians(values, 4, 999, seed=2) == whole).all()


def test_few_blocks_widen_the_interval():
    factors = [statistics.widening(blocks, 0.99) for blocks in (3, 5, 10, 30, 1e6)]
    assert factors == sorted(factors, reverse=True)
    # Many blocks: what is left is the half of the error kept for stopping early, z(0.9975) / z(0.995).
    assert factors[-1] == pytest.approx(2.8070 / 2.5758, rel=1e-3)


def test_same_samples_same_interval():
    values = np.random.default_rng(5).standard_normal(50) + 3
    assert statistics.median_interval(values, 0.99) == statistics.median_interval(values, 0.99)


def test_values_without_spread_give_their_one_value():
    interval = statistics.median_interval([2.0] * 30, 0.99)
    assert (interval.low, interval.high, interval.confidence) == (2.0, 2.0, 0.99)


def test_a_range_of_few_values_has_the_confidence_that_it_has():
    few = statistics.median_interval([1.0, 3.0, 2.0], 0.99)
    assert (few.low, few.high, few.method) == (1.0, 3.0, "range")
    assert few.confidence == 0.75
    assert statistics.median_interval([1.0], 0.99).confidence == 0
    assert statistics.median_interval(np.arange(1.0, 12.0), 0.99).confidence == 0.99
    assert statistics.median_interval(np.arange(1.0, 13.0), 0.99).method != "range"


def test_nearly_constant_series_has_finite_bounds():
    interval = statistics.median_interval([2.0] * 40 + [2.1], 0.99)
    assert interval.low <= interval.value <= interval.high


def test_bounds_stay_positive_however_wide():
    values = np.exp(np.random.default_rng(1).normal(0, 3, 12))
    assert statistics.median_interval(values, 0.99).low > 0


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_what_is_no_time_is_refused(bad):
    with pytest.raises(ValueError, match="positive"):
        statistics.median_interval([1.0, bad, 2.0], 0.99)


SHORT = [("normal, AR(1) 0.5", "on the way"), ("Student t, 3, AR(1) 0.5", "time for 12"), (coverage.LOAD, "loud")]


@pytest.mark.parametrize("cell", SHORT, ids=str)
def test_intervals_hold_the_truth_as_often_as_they_say(cell):
    least = coverage.PROMISED - 2 * coverage.error(coverage.PROMISED, 120)
    assert coverage.one_process(*cell, trials=120, seed=2).covered >= least


def test_the_simulation_finds_intervals_that_are_too_narrow(monkeypatch):
    monkeypatch.setattr(statistics, "block_length", lambda values: 1)
    monkeypatch.setattr(statistics, "widening", lambda blocks, confidence: 1.0)
    assert coverage.one_process("normal, AR(1) 0.5", "loud", trials=120, seed=2).covered < 0.95


def test_strong_autocorrelation_is_reported():
    strong, weak = (coverage.one_process(name, "loud", 30, 1) for name in ("normal, AR(1) 0.9", "normal"))
    assert strong.reported > 0.9
    assert weak.reported == 0


def row_of(**wanted) -> coverage.Judged:
    return next(row for row in coverage.JUDGED if wanted.items() <= row._asdict().items())


def test_imprecise_intervals_hold_the_truth_also_with_a_bias_that_a_control_shows():
    found = coverage.judged(row_of(bias=0.04), trials=50, seed=2)
    assert found.count["imprecise"] > 25
    assert found.unwidened < 0.8
    assert found.covered["imprecise"] >= coverage.PROMISED


@pytest.mark.parametrize("count", [3, 5])
def test_imprecise_results_of_several_processes_hold_the_truth(count):
    found = coverage.judged(row_of(backend="cuda", processes=count), trials=40, seed=2)
    assert found.count["imprecise"] > 20
    assert found.covered["imprecise"] >= coverage.PROMISED


def test_an_interval_of_several_processes_holds_what_one_process_misses():
    found = coverage.pooled(coverage.Pooled("quiet", "normal", 0.003), trials=50, groups=400, seed=2)
    assert found["burst", 1].covered < 0.5
    assert all(one.covered >= 0.975 for (_, count), one in found.items() if count > 1)


def test_processes_of_two_kinds_are_covered_rarely_where_all_are_of_one_kind():
    """Three of four times three processes of two equally frequent kinds are of both: no interval can know it."""
    found = coverage.pooled(next(row for row in coverage.POOLED if not row.promised), trials=50, groups=400, seed=2)
    assert min(one.covered for one in found.values()) < coverage.PROMISED


def page_table() -> str:
    text = (ROOT / "docs/statistics.md").read_text(encoding="utf-8")
    return text.partition(coverage.BEGIN)[2].partition(coverage.END)[0]


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines() if row.startswith("| ")]


def nothing() -> coverage.Tables:
    """Tables of all rows and columns without a simulated figure."""
    kinds = [
        (kind, count) for count in coverage.COUNTS for kind in ("burst", "sustained") if count > 1 or kind == "burst"
    ]
    status = dict.fromkeys(("ok", "imprecise", "noisy"), 1)
    return coverage.Tables(
        {(name, regime): coverage.Outcome(1, 1, 0) for name in coverage.NOISES for regime in coverage.REGIMES},
        [coverage.Verdicts(status, dict.fromkeys(("ok", "imprecise"), 1.0), 1.0, 0.1)] * len(coverage.JUDGED),
        [dict.fromkeys(kinds, coverage.Intervals(1, 0.1))] * len(coverage.POOLED),
    )


def test_the_coverage_tables_in_the_docs_are_of_this_code():
    expected = coverage.table(nothing())
    assert page_table().startswith(coverage.settings())
    assert [row[0] for row in cells(page_table())] == [row[0] for row in cells(expected)]
    headings = ("noise", "between processes")
    assert [row for row in cells(page_table()) if row[0] in headings] == [
        row for row in cells(expected) if row[0] in headings
    ]


def test_cells_of_the_coverage_tables_are_made_again():
    """Of two tables, those whose simulation is short. A trial more or less may be the processor's arithmetic."""
    rows = {row[0]: row[1:] for row in cells(page_table())}
    columns = dict(zip(coverage.REGIMES, rows["normal"], strict=False))
    covered = coverage.one_process("normal", "time for 12").covered
    assert float(columns["time for 12"].split("%")[0]) == pytest.approx(100 * covered, abs=0.3)
    short = row_of(time_for=12)
    shares = [float(cell.rstrip("%")) for cell in rows[str(short)][:3]]
    count = coverage.judged(short).count
    assert shares == pytest.approx([100 * one / coverage.TRIALS for one in count.values()], abs=1)
