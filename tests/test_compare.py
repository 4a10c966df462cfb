"""`elastickv compare`: a change counts when both intervals and the tolerance agree; the rest is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import results_folder
from results_folder import example, list_cases, make, put

from elastickv.cli import main
from elastickv.judge.compare import judge
from elastickv.judge.verdict import Bounded

CASES = ("4096_golden_ticket", "1024_standard")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make(tmp_path / "old", CASES)


@pytest.fixture
def new(old: Path, tmp_path: Path) -> Path:
    return shutil.copytree(old, tmp_path / "new")


def scaled(case: str, speedup: float = 1.0, roofline: float = 1.0) -> dict[str, Any]:
    """The example of a case with its speedup and the elastic arm's roofline, intervals included, scaled."""
    record = example(case)
    for key in ("value", "low", "high"):
        record["statistics"]["speedup"][key] *= speedup
    for key in ("roofline", "roofline_low", "roofline_high"):
        record["efficiency"]["elastic"][key] *= roofline
    return record


def compared(capsys: pytest.CaptureFixture, *arguments: str | Path) -> tuple[int, list[str]]:
    """Exit code and the lines printed on stdout and stderr."""
    code = main(["compare", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, (printed.out + printed.err).splitlines()


def row(lines: list[str], case: str) -> str:
    return next(line for line in lines if line.startswith(case))


def test_a_folder_is_the_same_as_itself(capsys, old):
    put(old, example("1024_standard") | {"status": "noisy", "reason": "for a test"})
    code, lines = compared(capsys, old, old)
    assert code == 0
    record = example("4096_golden_ticket")
    faster, efficient = record["statistics"]["speedup"], record["efficiency"]["elastic"]
    speedup = "{value:.3f}x [{low:.3f}, {high:.3f}]".format(**faster)
    roofline = "{roofline:.1%} [{roofline_low:.1%}, {roofline_high:.1%}]".format(**efficient)
    roofline = roofline.replace("%,", ",").replace("%]", "]")
    stated = " ".join(row(lines, "4096_golden_ticket").split())
    assert stated == f"4096_golden_ticket {speedup} {speedup} +0.0% same {roofline} {roofline} +0.0% same"
    assert lines[-1] == "1 same, 1 not compared (tolerance 0.02)"


@pytest.mark.parametrize(("metric", "place"), [("speedup", 1), ("roofline", 2)])
def test_a_loss_beyond_intervals_and_tolerance_is_a_regression(old, new, capsys, metric, place):
    put(new, scaled("4096_golden_ticket", **{metric: 0.9}))
    code, lines = compared(capsys, old, new)
    assert code == 1
    stated = " ".join(row(lines, "4096_golden_ticket").split())
    assert "-10.0% regressed" in stated
    assert stated.count("regressed") == 1
    assert stated.endswith("regressed") == (place == 2)
    assert lines[-1] == "1 regressed, 1 same (tolerance 0.02)"
    code, lines = compared(capsys, new, old)
    assert code == 0
    assert "+11.1% improved" in " ".join(row(lines, "4096_golden_ticket").split())


def test_the_tolerance_decides_where_intervals_are_narrow(old, new, capsys):
    put(new, scaled("4096_golden_ticket", speedup=0.985))
    assert compared(capsys, old, new)[0] == 0
    assert compared(capsys, old, new, "--tolerance", "0.01")[0] == 1
    assert compared(capsys, old, new, "--tolerance=0.02")[0] == 0


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        ((2.0, 1.99, 2.01), (2.0, 1.99, 2.01), "same"),
        ((2.0, 1.99, 2.01), (1.97, 1.96, 1.98), "same"),  # intervals apart, within the tolerance
        ((2.0, 1.99, 2.01), (1.9, 1.89, 1.91), "regressed"),
        ((2.0, 1.99, 2.01), (1.9, 1.8, 2.0), "unclear"),  # beyond the tolerance, intervals meet
        ((2.0, 1.9, 2.2), (1.9, 1.89, 1.91), "unclear"),
        ((2.0, 1.99, 2.01), (2.2, 2.1, 2.3), "improved"),
        ((2.0, 1.99, 2.15), (2.2, 2.1, 2.3), "unclear"),
        ((1.0, 0.99, 1.01), (0.98, 0.97, 0.985), "same"),  # at the tolerance, not beyond it
    ],
)
def test_outcomes(was, now, expected):
    assert judge(Bounded(*was), Bounded(*now), 0.02)[2] == expected


def test_a_metric_that_one_side_lacks_is_not_judged(old, new, capsys):
    record = example("4096_golden_ticket")
    for key in ("roofline", "roofline_low", "roofline_high"):
        record["efficiency"]["elastic"][key] = None
    put(new, record)
    code, lines = compared(capsys, old, new)
    assert code == 0
    assert row(lines, "4096_golden_ticket").split()[-1] == "–"


def ended(case: str, status: str, **changes: Any) -> dict[str, Any]:
    return results_folder.without_result(example(case), status, f"for a test: {status}") | changes


@pytest.mark.parametrize(
    ("status", "changes", "code"),
    [
        ("failed", {}, 1),
        ("incorrect", {"correctness": example("4096_incorrect")["correctness"]}, 1),
        ("out_of_memory", {}, 0),
        ("unsupported", {}, 0),
    ],
)
def test_a_case_that_is_no_longer_right_is_a_regression(old, new, capsys, status, changes, code):
    put(new, ended("4096_golden_ticket", status, **changes))
    found, lines = compared(capsys, old, new)
    assert found == code
    stated = f"4096_golden_ticket: {status}: for a test: {status} (old: ok)"
    assert f"{'regressed' if code else 'not compared'}: {stated}" in lines
    assert lines[-1] == f"1 same, 1 {'no longer right' if code else 'not compared'} (tolerance 0.02)"
    assert compared(capsys, new, old)[0] == 0
    assert compared(capsys, new, new)[0] == 0  # it was not right before


def test_a_claim_beyond_the_bytes_is_no_result(old, new, capsys):
    put(new, scaled("4096_golden_ticket", speedup=2.0))
    _, lines = compared(capsys, old, new)
    assert any("not compared: 4096_golden_ticket: " in line and "above the byte ceiling" in line for line in lines)


def test_an_unreadable_record_is_a_regression_where_there_was_a_result(old, new, capsys):
    (new / "results_4096_golden_ticket.json").write_text('{"schema"', encoding="utf-8")
    code, lines = compared(capsys, old, new)
    assert code == 1
    assert any(line.startswith("regressed: 4096_golden_ticket: unreadable: ") for line in lines)


def test_noise_is_not_compared(old, new, capsys):
    put(new, example("4096_golden_ticket") | {"status": "noisy", "reason": "for a test"})
    code, lines = compared(capsys, old, new)
    assert code == 0
    assert "not compared: 4096_golden_ticket: noisy: for a test (old: ok)" in lines


def test_cases_of_one_folder_alone_are_listed(old, tmp_path, capsys):
    new = make(tmp_path / "new", ("1024_standard", "4096_elementwise"))
    code, lines = compared(capsys, old, new)
    assert code == 0
    assert "only in the old folder: 4096_golden_ticket" in lines
    assert "only in the new folder: 4096_elementwise" in lines


def test_another_shape_under_the_same_name_is_not_compared(old, new, capsys):
    record = scaled("4096_golden_ticket", speedup=0.5)
    record["case"] |= {"compress": 2, "measure": {**record["case"]["measure"], "reps": 7}}
    put(new, record)
    code, lines = compared(capsys, old, new)
    assert code == 0
    assert "not compared: 4096_golden_ticket: different cases with the same name: compress changed" in lines


def test_other_devices_are_refused_unless_asked_for(old, new, capsys):
    for case in CASES:
        record = scaled(case, speedup=0.5)
        record["device"]["name"] = "NVIDIA B200"
        put(new, record)
    code, lines = compared(capsys, old, new)
    assert code == 2
    assert "on NVIDIA H200 in the old folder, on NVIDIA B200 in the new one: use --across-devices" in lines[0]
    assert compared(capsys, old, new, "--across-devices")[0] == 1


@pytest.mark.parametrize(
    ("tolerance", "stated"),
    [("-0.1", "-0.1"), ("nan", "nan"), ("1", "1"), ("inf", "inf"), ("abc", '"abc"'), ("", '""')],
)
def test_a_tolerance_that_is_none_is_refused(old, new, capsys, tolerance, stated):
    code, lines = compared(capsys, old, new, f"--tolerance={tolerance}")
    assert code == 2
    assert lines == [f"elastickv: --tolerance: must be a fraction from 0 to below 1, not {stated}"]


def test_folders_that_cannot_be_compared_are_refused(old, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    other = make(tmp_path / "other", ("4096_elementwise",))
    for arguments, stated in (
        ((old, tmp_path / "nothing"), "does not exist"),
        ((tmp_path / "empty", old), "not a results folder"),
        ((old, other), "no case in common"),
    ):
        code, lines = compared(capsys, *arguments)
        assert code == 2
        assert stated in lines[0]


def test_the_order_is_the_new_folders_plan(old, new, capsys):
    list_cases(new, list(reversed(CASES)))
    _, lines = compared(capsys, old, new)
    assert [line.split()[0] for line in lines[2:4]] == list(reversed(CASES))
