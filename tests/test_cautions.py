"""What the report warns of, out of the records alone."""

from __future__ import annotations

import pytest
from results_folder import elastickv, example, judged, make, put, short_cycle, typed

from elastickv.measure import processes
from elastickv.report import cautions
from elastickv.schemas.measurement import Measurement

TOO_FEW = "too few for an interval of 99%: its speedup is not shown"


def of_record(record: dict) -> list[str]:
    """The cautions of a record."""
    return cautions.of_record(typed(record))


def changed(part: str, **changes) -> dict:
    record = example("4096_golden_ticket")
    record[part] |= changes
    return record


def test_a_steady_record_needs_no_caution():
    record = changed("statistics", autocorrelation=0.1)
    record["resolved"]["warm_up"] = {"stationary": True, "ended": "stationary", "test": "a test"}
    assert of_record(record) == []
    implied = example("4096_golden_ticket")
    del implied["resolved"]["warm_up"]
    assert of_record(implied) == []


@pytest.mark.parametrize(("found", "warned"), [(0.5, False), (0.51, True), (-0.9, False)])
def test_strong_autocorrelation_is_named(found, warned):
    said = of_record(changed("statistics", autocorrelation=found))
    assert bool(said) == warned
    assert not warned or "autocorrelation 0.51" in said[0]


@pytest.mark.parametrize(("stationary", "warned"), [(False, True), (True, False), (None, True)])
def test_a_warm_up_that_did_not_settle_is_named(stationary, warned):
    ended = {"stationary": stationary, "ended": "warmup", "test": "a test"}
    assert bool(of_record(changed("resolved", warm_up=ended))) == warned


def test_a_warm_up_test_that_did_not_run_is_named():
    ended = {"stationary": None, "ended": "max_seconds", "test": "a test"}
    stated = of_record(changed("resolved", warm_up=ended, warmup=4))
    assert "the warm-up test did not run: the warm-up of 4 samples per arm was too short" in stated[0]


@pytest.mark.parametrize(("pure", "beaten"), [(2.3, True), (2.5, False), (None, False)])
def test_a_case_faster_than_the_pure_pass_is_not_bounded_by_it(pure, beaten):
    stated = of_record(changed("bytes", reachable_ceiling=pure))
    assert (
        stated == ["faster than the pure passes over the same bytes (2.30x): the pure pass is no bound here"] * beaten
    )


def spread_over(*speedups: float) -> dict:
    """The golden example as the middle one of several processes."""
    responses = []
    for factor in speedups:
        fields = example("4096_golden_ticket")
        interval = fields["statistics"]["speedup"]
        interval |= {key: interval[key] * factor for key in ("value", "low", "high")}
        responses.append(Measurement.model_validate(fields))
    return processes.combine(responses).model_dump(mode="json")


def test_processes_that_differ_widen_the_interval_and_need_no_caution():
    assert of_record(spread_over(0.95, 1, 1.05)) == []


@pytest.mark.parametrize(("samples", "found"), [(1, "1 sample, "), (7, "7 samples, "), (8, None), (12, None)])
def test_an_inference_cycle_of_too_few_samples_is_named(samples, found):
    said = of_record(short_cycle("4096_golden_ticket", samples))
    assert said == ([f"the inference cycle has {found}{TOO_FEW}"] if found else [])


def test_an_older_record_s_short_cycle_is_named_without_its_samples():
    record = short_cycle("4096_golden_ticket", 1)
    del record["inference_cycle"]["samples"]
    assert of_record(record) == [f"the inference cycle has too few samples{TOO_FEW.removeprefix('too few')}"]


def test_the_report_has_them_where_there_are_any(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket", "1024_standard"))
    put(results, changed("statistics", autocorrelation=0.8))
    text = elastickv(["report", "markdown"], judged(results), "report.md").read_text(encoding="utf-8")
    section = text.split("## Cautions")[1].split("##")[0]
    assert "`4096_golden_ticket`: successive ratios" in section
    assert "1024_standard" not in section
    put(results, example("4096_golden_ticket"))
    text = elastickv(["report", "markdown"], results, "report.md").read_text(encoding="utf-8")
    assert "## Cautions" not in text
