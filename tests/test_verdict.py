"""Thresholds -> verdict: outcomes, the ladder, and what never gets a number."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_folder import LIMITS, THRESHOLDS, elastickv, example, limits_of, make, put, typed

from elastickv import records
from elastickv.judge import verdict


def judged(record):
    """The entry as verdicts.json holds it."""
    entry = records.content(verdict.judge(typed(record), LIMITS))
    records.check({"schema": "verdicts/2", "thresholds": THRESHOLDS, "cases": [entry]}, "verdict", "test")
    return entry


def with_speedup(low, high, name="4096_golden_ticket"):
    """The example with another speedup interval, its A/A control exactly 1 and ceilings out of the way."""
    record = example(name)
    record["statistics"]["speedup"] |= {"value": (low + high) / 2, "low": low, "high": high}
    for control in record["statistics"]["controls"].values():
        control |= {"ratio": 1.0, "low": 1.0, "high": 1.0}
    return record


def outcomes(entry):
    return {name: criterion["outcome"] for name, criterion in entry["criteria"].items()}


def test_golden_needs_four_passes_and_gets_a_star_for_the_roofline():
    record = example("4096_elementwise")
    entry = judged(record)
    assert (entry["verdict"], entry["mark"], set(outcomes(entry).values())) == ("golden_ticket", "✅☆", {"pass"})
    for key in ("roofline", "roofline_low"):
        record["efficiency"]["elastic"][key] = 0.75
    assert judged(record)["criteria"]["roofline"]["outcome"] == "ambiguous"
    assert judged(record)["mark"] == "✅"


@pytest.mark.parametrize(
    ("low", "high", "outcome", "name"),
    [
        (1.95, 1.97, "pass", "excellent"),
        (1.94, 1.96, "ambiguous", "excellent"),
        (1.90, 1.94, "fail", "excellent"),
        (1.69, 1.96, "ambiguous", "good"),
        (1.01, 1.02, "fail", "good"),
        (1.00, 1.02, "fail", "same"),
        (0.97, 0.99, "fail", "slower"),
    ],
)
def test_the_interval_decides_not_the_value(low, high, outcome, name):
    entry = judged(with_speedup(low, high))
    assert entry["criteria"]["speedup"]["outcome"] == outcome
    assert entry["verdict"] == name  # memory efficiency fails in this example, so never golden
    assert entry["criteria"]["speedup"]["reason"]


@pytest.mark.parametrize(("low", "high", "name"), [(0.8, 0.9999, "slower"), (0.9, 1.1, "same"), (1.0, 1.2, "same")])
def test_what_is_not_faster_is_no_win_whatever_the_thresholds(low, high, name):
    record = with_speedup(low, high, "4096_elementwise")
    entry = verdict.judge(typed(record), LIMITS.model_copy(update={"speedup": 0.5, "excellent": 0.5}))
    assert set(outcomes(entry.model_dump()).values()) == {"pass"}
    assert (entry.verdict, entry.mark) == (name, verdict.MARKS[name])
    record = with_speedup(1.01, 1.2, "4096_elementwise")
    assert verdict.judge(typed(record), LIMITS.model_copy(update={"speedup": 0.5})).verdict == "golden_ticket"


def test_only_the_byte_ceiling_makes_a_speedup_unreachable():
    entry = judged(example("1024_standard"))
    assert entry["verdict"] == "good"
    found = entry["criteria"]["speedup"]
    assert found["outcome"] == "unreachable"
    assert found["reason"] == (
        f"the byte ceiling 1.594x is below 1.95x; pure passes over the same bytes: {entry['reachable_ceiling']:.4g}x"
    )
    record = with_speedup(1.7, 1.8)
    record["bytes"]["reachable_ceiling"] = 1.6  # slower than the case itself: no bound
    found = judged(record)["criteria"]["speedup"]
    assert (found["outcome"], found["reason"]) == (
        "fail",
        "1.75 [1.7, 1.8] is below 1.95; pure passes over the same bytes: 1.6x",
    )


def test_a_pure_pass_below_the_threshold_stands_beside_and_decides_nothing():
    record = example("4096_golden_ticket")
    slow, fast = {"pure_memory": 0.6, "pure_roofline": 0.7}, {"memory": 0.75, "memory_low": 0.74, "memory_high": 0.76}
    record["efficiency"]["elastic"] |= slow | {"roofline": 0.65, "roofline_low": 0.64, "roofline_high": 0.66}
    record["efficiency"]["elastic"] |= fast
    entry = judged(record)
    assert outcomes(entry) == {
        "speedup": "pass",
        "sustained": "pass",
        "cv": "pass",
        "memory_efficiency": "pass",
        "roofline": "fail",
    }
    assert (
        "a pure pass over the same bytes, launched the same way, reaches 0.7" in entry["criteria"]["roofline"]["reason"]
    )


def test_a_cpu_is_never_golden():
    record = example("4096_cpu")
    entry = judged(record)
    assert outcomes(entry) == {
        "speedup": "pass",
        "sustained": "not_applicable",
        "cv": "pass",
        "memory_efficiency": "not_applicable",
        "roofline": "pass",
    }
    assert entry["verdict"] == "excellent"
    assert "CPU" in entry["criteria"]["memory_efficiency"]["reason"]


def test_warm_caches_take_memory_and_roofline_out():
    record = example("4096_elementwise")
    record["resolved"]["cold"] = False
    entry = judged(record)
    assert outcomes(entry)["memory_efficiency"] == outcomes(entry)["roofline"] == "not_applicable"
    assert entry["criteria"]["roofline"]["value"] is None
    assert entry["verdict"] == "excellent"


def test_cv_has_no_interval():
    record = example("4096_elementwise")
    record["processes"]["cv"] = 0.05
    record["statistics"]["elastic"] |= {"cv": 0.001, "cv_trimmed": 0.001}
    assert judged(record)["verdict"] == "golden_ticket"
    record["processes"]["cv"] = 0.0501  # however steady the published process and the trimmed samples are
    entry = judged(record)
    assert entry["criteria"]["cv"] | {"reason": ""} == {
        "value": 0.0501,
        "low": None,
        "high": None,
        "threshold": 0.05,
        "outcome": "fail",
        "reason": "",
    }
    assert entry["verdict"] == "excellent"


def test_nothing_compressed_is_the_same_whatever_the_clock_says():
    record = with_speedup(1.8, 1.9)
    moved = record["bytes"]
    moved |= {"elastic": moved["full"], "ceiling": 1.0, "ceiling_slots": 1.0}
    entry = judged(record)
    assert (entry["verdict"], entry["mark"]) == ("same", "=")
    assert "nothing was compressed" in entry["reason"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("4096_noisy", "invalid"),
        ("4096_incorrect", "invalid"),
        ("4096_failed", "invalid"),
        ("65536_batch64", "skipped"),
        ("4096_dim72", "skipped"),
    ],
)
def test_what_was_not_measured_well_has_no_numbers(name, expected):
    entry = judged(example(name))
    assert entry["verdict"] == expected
    assert set(outcomes(entry).values()) == {"not_applicable"}
    assert all(entry["criteria"][c][k] is None for c in entry["criteria"] for k in ("value", "low", "high"))
    assert example(name)["reason"] in entry["reason"]


def test_a_speedup_beyond_the_bytes_is_invalid():
    ceiling = example("4096_golden_ticket")["bytes"]["ceiling"]
    assert judged(with_speedup(ceiling - 0.01, ceiling + 0.02))["verdict"] == "excellent"
    entry = judged(with_speedup(ceiling + 0.01, ceiling + 0.02))
    assert entry["verdict"] == "invalid"
    assert entry["criteria"]["speedup"]["value"] is None
    assert entry["status"] == "noisy"
    assert "above the byte ceiling" in entry["reason"] and "of the read ceiling" in entry["reason"]


def test_an_interval_that_reaches_below_the_byte_ceiling_is_published():
    ceiling = example("4096_golden_ticket")["bytes"]["ceiling"]
    assert judged(with_speedup(ceiling - 0.01, ceiling + 0.03))["verdict"] == "excellent"


def test_the_row_says_how_many_rounds_ran_under_the_power_cap():
    record = example("4096_elementwise")
    record["throttling"]["power_capped_rounds"] = 58
    assert "58 of 60 rounds under the power cap" in judged(record)["reason"]
    record["throttling"]["power_capped_rounds"] = 0
    assert "power cap" not in judged(record)["reason"]


def test_a_record_marked_ok_with_a_wrong_answer_is_invalid():
    record = example("4096_elementwise")
    record["correctness"]["elastic"]["relative_error"] = 0.5
    entry = judged(record)
    assert entry["verdict"] == "invalid"
    assert "elastic arm" in entry["reason"]


def test_an_interval_upside_down_is_invalid():
    assert judged(with_speedup(2.0, 1.9))["verdict"] == "invalid"


@given(low=st.floats(0.1, 4), width=st.floats(0, 1), cv=st.floats(0, 0.2), memory=st.floats(0, 1), cold=st.booleans())
def test_golden_exactly_when_all_three_bounds_hold(low, width, cv, memory, cold):
    record = with_speedup(low, low + width, "4096_elementwise")
    record["bytes"] |= {"ceiling": 4.0, "reachable_ceiling": 4.0, "elastic": 67108864}
    record["resolved"]["cold"] = cold
    record["processes"]["cv"] = cv
    record["efficiency"]["elastic"] |= {"memory": memory, "memory_low": memory, "memory_high": memory}
    entry = judged(record)
    golden = low >= 1.95 and cv <= 0.05 and memory >= 0.70 and cold
    assert (entry["verdict"] == "golden_ticket") is golden
    assert ("✅" in entry["mark"]) is golden


def test_command_judges_every_case_of_the_plan_in_order(tmp_path):
    cases = ("4096_golden_ticket", "4096_elementwise", "4096_noisy", "4096_incorrect", "4096_failed", "4096_cpu")
    results = make(tmp_path / "results", cases)
    (results / "results_4096_cpu.json").unlink()
    (results / "results_4096_failed.json").write_text('{"schema": NaN}')
    put(results, example("4096_dim72"))  # not in the plan: gone from every table
    verdicts = json.loads(elastickv(["verdict"], results, "verdicts.json").read_text(encoding="utf-8"))
    assert verdicts["thresholds"] == THRESHOLDS
    assert [entry["case"] for entry in verdicts["cases"]] == list(cases)
    missing, broken = verdicts["cases"][5], verdicts["cases"][4]
    assert (missing["status"], missing["verdict"], missing["reason"]) == ("failed", "invalid", "no record")
    assert "NaN is not JSON" in broken["reason"]


def test_a_record_of_another_case_is_not_judged_as_this_one(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket", "4096_elementwise"))
    impostor = example("4096_golden_ticket")
    impostor["case"]["seq"] = 8192
    put(results, impostor)
    first, second = json.loads(elastickv(["verdict"], results, "verdicts.json").read_text(encoding="utf-8"))["cases"]
    assert "another case" in first["reason"]
    assert second["verdict"] == "golden_ticket"


def test_bad_thresholds_are_a_clear_error(tmp_path, capsys):
    from elastickv.cli import main

    results = make(tmp_path / "results", ("4096_elementwise",), golden={"speedup": "fast"})
    arguments = ["--cases", str(results / ".plan/cases.json"), "--results", str(results), "--out", str(tmp_path / "v")]
    assert main(["verdict", *limits_of("verdict", results), *arguments]) == 2
    assert "golden.json" in capsys.readouterr().err
    assert not (tmp_path / "v").exists()
