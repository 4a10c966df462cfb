"""`elastickv compare`: a change counts beyond the tolerance and the spread between processes; the rest is named."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import results_folder
from conftest import ROOT
from results_folder import example, list_cases, make, put

from elastickv import records
from elastickv.cli import main
from elastickv.judge import changes, observed
from elastickv.schemas.measurement import Measurement

sys.path.append(str(ROOT / "tools"))
import comparison_power as power

CASES = ("4096_golden_ticket", "1024_standard")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make(tmp_path / "old", CASES)


@pytest.fixture
def new(old: Path, tmp_path: Path) -> Path:
    return shutil.copytree(old, tmp_path / "new")


def scaled(case: str, full: float = 1.0, elastic: float = 1.0, cycle: float = 1.0) -> dict[str, Any]:
    """The example of a case with the times of its arms scaled, and those of the elastic arm's inference cycle."""
    record = example(case)
    statistics, made = record["statistics"], record["inference_cycle"]
    for key in ("median_us", "mean_us", "trimmed_mean_us"):
        statistics["full"][key] *= full
        statistics["elastic"][key] *= elastic
    for key in ("value", "low", "high"):
        statistics["speedup"][key] *= full / elastic
        made["speedup"][key] /= cycle
    made["layer_steps_per_second"]["elastic"] /= cycle
    for run in record["processes"]["runs"]:
        for name, by in {"full": full, "full_again": full, "elastic": elastic, "elastic_again": elastic}.items():
            run[f"{name}_us"] = [value * by for value in run[f"{name}_us"]]
        for key in ("value", "low", "high"):
            run["speedup"][key] *= full / elastic
            run["cycle_speedup"][key] /= cycle
        run["layer_steps_per_second"]["elastic"] /= cycle
    return record


def elsewhere(record: dict[str, Any], card: int = 2) -> dict[str, Any]:
    """The record, of another GPU."""
    record["device"]["uuid"] = f"GPU-00000000-0000-0000-0000-{card:012d}"
    return record


def of_processes(record: dict[str, Any], factors: list[tuple[float, float]]) -> dict[str, Any]:
    """The record as several processes measured it, the times of each arm scaled by a factor in each process."""
    statistics, cycle = record["statistics"], record["inference_cycle"]["speedup"]

    def run(full: float, elastic: float) -> dict[str, Any]:
        speedup = statistics["speedup"]
        scaled = {key: speedup[key] * full / elastic for key in ("value", "low", "high")}
        found = {"speedup": speedup | scaled, "controls": statistics["controls"], "cycle_speedup": cycle}
        found |= {"layer_steps_per_second": record["inference_cycle"]["layer_steps_per_second"], "cv": 0.0}
        for arm, by in (("full", full), ("elastic", elastic)):
            found |= {f"{arm}{series}": [statistics[arm]["median_us"] * by] for series in ("_us", "_again_us")}
        return {"status": "ok", "reason": None, **found}

    runs = [run(*each) for each in factors]
    values = [one["speedup"]["value"] for one in runs]
    spread = {"low": min(values), "high": max(values)}
    return record | {"processes": {"published": 0, "spread": spread, "cv": 0.0, "runs": runs}}


def compared(capsys: pytest.CaptureFixture, *arguments: str | Path) -> tuple[int, list[str]]:
    """Exit code and the lines printed on stdout and stderr."""
    code = main(["compare", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, (printed.out + printed.err).splitlines()


def rows(lines: list[str], case: str) -> dict[str, str]:
    """The outcome of each metric of a case."""
    begin = next(index for index, line in enumerate(lines) if line.startswith(case))
    found = {}
    for line in lines[begin:]:
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        if not cells or (found and not line.startswith(" ")):
            break
        metric = cells[0] if line.startswith(" ") else cells[1]
        found[metric] = cells[-1]
    return found


METRICS = ("full", "elastic", "full cycle", "elastic cycle", "speedup", "cycle speedup")
SAME = dict.fromkeys(METRICS, "same")


def test_a_folder_is_the_same_as_itself(capsys, old):
    put(old, example("1024_standard") | {"status": "noisy", "reason": "for a test"})
    code, lines = compared(capsys, old, old)
    assert code == 0
    assert rows(lines, "4096_golden_ticket") == SAME
    assert lines[-1] == "1 same, 1 not compared"


@pytest.mark.parametrize(
    ("factors", "code", "expected"),
    [
        ({"full": 1.1}, 1, {"full": "regressed", "speedup": "explained"}),
        ({"full": 0.9}, 0, {"full": "improved", "speedup": "explained"}),
        ({"elastic": 1.019}, 1, {"elastic": "regressed", "speedup": "regressed"}),
        ({"elastic": 0.9}, 0, {"elastic": "improved", "speedup": "improved"}),
        ({"cycle": 1.05}, 1, {"elastic cycle": "regressed", "cycle speedup": "regressed"}),
        ({"full": 1.1, "elastic": 1.1}, 1, {"full": "regressed", "elastic": "regressed"}),
        ({"elastic": 1.004}, 0, {}),
    ],
)
def test_every_time_and_ratio_is_judged(old, new, capsys, factors, code, expected):
    put(new, scaled("4096_golden_ticket", **factors))
    found, lines = compared(capsys, old, new)
    assert found == code
    assert rows(lines, "4096_golden_ticket") == SAME | expected
    assert rows(lines, "1024_standard") == SAME


@pytest.mark.parametrize("change", ["card", "power limit", "unknown"])
def test_times_are_compared_on_one_gpu_under_one_power_limit_alone(old, new, capsys, change):
    record = scaled("4096_golden_ticket", full=1.1, elastic=1.1)
    if change == "card":
        elsewhere(record)
    elif change == "power limit":
        record["machine"]["gpu"]["power_limit_w"]["value"] = 500.0
    else:
        record["device"]["uuid"] = None
    put(new, record)
    code, lines = compared(capsys, old, new)
    assert code == 0
    assert rows(lines, "4096_golden_ticket") == {"speedup": "same", "cycle speedup": "same"}
    stated = "only ratios compared, since the records are not of one GPU and power limit: 4096_golden_ticket"
    assert stated in lines
    put(new, elsewhere(scaled("4096_golden_ticket", full=0.9)))
    code, lines = compared(capsys, old, new)
    assert code == 1
    assert rows(lines, "4096_golden_ticket")["speedup"] == "regressed"


def test_the_spread_between_processes_decides_what_is_a_change(old, new, capsys):
    loud = [(0.97, 0.97), (1.0, 1.0), (1.03, 1.03), (0.98, 0.98), (1.02, 1.02)]
    for folder, by in ((old, 1.0), (new, 1.02)):
        put(folder, of_processes(example("4096_golden_ticket"), [(full, elastic * by) for full, elastic in loud]))
    code, lines = compared(capsys, old, new)
    assert code == 1  # in every process the ratio is 2% lower: the times alone would not show it
    found = rows(lines, "4096_golden_ticket")
    assert (found["full"], found["elastic"], found["speedup"]) == ("same", "same", "regressed")
    put(new, of_processes(example("4096_golden_ticket"), [(full * 1.02, elastic * 1.02) for full, elastic in loud]))
    assert compared(capsys, old, new)[0] == 0
    put(new, of_processes(example("4096_golden_ticket"), [(full * 1.2, elastic) for full, elastic in loud]))
    assert rows(compared(capsys, old, new)[1], "4096_golden_ticket")["full"] == "regressed"


def test_a_repeated_measurement_on_another_device_or_of_other_cases_confirms_nothing(old, new, tmp_path, capsys):
    again = shutil.copytree(new, tmp_path / "again")
    record = example(CASES[0])
    record["device"]["name"] = "Another"
    put(again, record)
    assert main(["compare", str(old), str(new), "--confirm", str(again)]) == 2
    assert "use --across-devices" in capsys.readouterr().err
    other = make(tmp_path / "other", ("4096_cpu",))
    assert main(["compare", str(old), str(new), "--confirm", str(other)]) == 2
    assert "have no case in common" in capsys.readouterr().err


def test_a_change_counts_only_if_a_repeated_measurement_confirms_it(old, new, tmp_path, capsys):
    put(new, scaled("4096_golden_ticket", elastic=1.05))
    again = shutil.copytree(new, tmp_path / "again")
    assert compared(capsys, old, new, "--confirm", again)[0] == 1
    put(again, example("4096_golden_ticket"))
    code, lines = compared(capsys, old, new, "--confirm", again)
    assert code == 0
    assert rows(lines, "4096_golden_ticket")["elastic"] == "unclear"
    (again / "results_4096_golden_ticket.json").unlink()
    assert compared(capsys, old, new, "--confirm", again)[0] == 1


def test_the_tolerance_can_be_given(old, new, capsys):
    put(new, scaled("4096_golden_ticket", elastic=1.015))
    assert compared(capsys, old, new)[0] == 1
    assert compared(capsys, old, new, "--tolerance", "0.02")[0] == 0
    assert compared(capsys, old, new, "--tolerance=0.01")[0] == 1


def test_other_formats(old, new, capsys):
    put(new, scaled("4096_golden_ticket", elastic=1.05))
    code, lines = compared(capsys, old, new, "--format=json")
    assert code == 1
    content = json.loads("\n".join(lines))
    assert content["failed"] is True
    assert content["compared"]["4096_golden_ticket"]["elastic"]["factor"] == pytest.approx(1.05)
    _, lines = compared(capsys, old, new, "--format", "markdown")
    assert lines[1].startswith("|--")


def test_a_metric_that_one_side_lacks_is_not_judged(old, new, capsys):
    put(new, example("4096_golden_ticket") | {"inference_cycle": None})
    code, lines = compared(capsys, old, new)
    assert code == 0
    assert rows(lines, "4096_golden_ticket") == dict.fromkeys(("full", "elastic", "speedup"), "same")


def test_holm_rejects_from_the_smallest_on():
    assert changes.holm([0.004, 0.02, 0.0001], 0.01) == [True, False, True]
    assert changes.holm([0.006, 0.006], 0.01) == [False, False]
    assert changes.holm([], 0.01) == []


@pytest.mark.parametrize(
    ("worse", "significant", "expected"),
    [
        (0.02, True, "same"),  # at the tolerance, not beyond it
        (0.021, True, "regressed"),
        (0.021, False, "unclear"),
        (-0.021, True, "improved"),
    ],
)
def test_outcomes(worse, significant, expected):
    assert changes.outcome(worse, 0.02, significant) == expected


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
    assert lines[-1] == f"1 same, 1 {'no longer right' if code else 'not compared'}"
    assert compared(capsys, new, old)[0] == 0
    assert compared(capsys, new, new)[0] == 0  # it was not right before


def test_a_claim_beyond_the_bytes_is_no_result(old, new, capsys):
    put(new, scaled("4096_golden_ticket", elastic=0.5))
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
    record = scaled("4096_golden_ticket", elastic=2)
    record["case"] |= {"compress": 2, "measure": {**record["case"]["measure"], "reps": 7}}
    put(new, record)
    code, lines = compared(capsys, old, new)
    assert code == 0
    assert "not compared: 4096_golden_ticket: different cases with the same name: compress changed" in lines


def test_other_devices_are_refused_unless_asked_for(old, new, capsys):
    for case in CASES:
        record = scaled(case, elastic=2)
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
    assert [line.split()[0] for line in lines if line.startswith(CASES)] == list(reversed(CASES))


@pytest.mark.parametrize("setting", power.SETTINGS, ids=lambda setting: setting.name)
def test_equal_builds_seldom_raise_an_alarm_and_a_real_regression_does(setting):
    rng = np.random.default_rng(7)
    assert sum(any(power.regressed(setting, 0.0, rng)) for _ in range(100)) <= 5
    regression = setting.promised or 0.12
    assert sum(power.regressed(setting, regression, rng)[0] for _ in range(50)) >= 40


def test_the_power_table_in_the_docs_is_of_this_code():
    text = (ROOT / "docs/statistics.md").read_text(encoding="utf-8")
    table = text.partition(power.BEGIN)[2].partition(power.END)[0]
    assert table.startswith(power.settings())
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) == len(power.SETTINGS)
    for setting, row in zip(power.SETTINGS, rows, strict=True):
        name, alarms, smallest = (cell.strip() for cell in row.strip("|").split("|"))
        assert name == setting.name
        assert float(alarms.rstrip("%")) / 100 <= power.ALARMS
        assert setting.promised is None or float(smallest.rstrip("%")) / 100 <= setting.promised


def test_every_metric_has_a_value_of_each_process():
    sides = observed.sides_of(results_folder.typed(example("4096_golden_ticket")))
    assert {name: len(side.logs) for name, side in sides.items()} == dict.fromkeys(METRICS, 3)


def test_the_recorded_spread_of_a_gpu_is_that_of_the_reference():
    reference = sorted((ROOT / "results/reference/h200").glob("results_*.json"))
    found = observed.spreads([records.load(path, Measurement) for path in reference])
    assert {kind: round(spread.value, 4) for (_, _, kind), spread in found.items()} == {
        kind: changes.RECORDED["cuda", kind] for kind in ("time", "ratio")
    }
