"""What controls allow: ok, imprecise with a widened interval, or noisy without a number; and what is shown of each."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer_records import entry, peer_record
from results_folder import LIMITS, NOISE, THRESHOLDS, elastickv, example, judged, make, put, typed

from elastickv import records
from elastickv.audit import noise as verify_noise
from elastickv.cli import main
from elastickv.judge import noise, verdict
from elastickv.measure import bench, supervisor
from elastickv.models import record as baseline_record
from elastickv.report import explanation, markdown, readme, show, sweeps
from elastickv.report.inputs import load
from elastickv.schemas.baseline import Baseline
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.parts import Control, Interval
from elastickv.schemas.verdict import Thresholds

SPEEDUP = {"value": 2.0, "low": 1.98, "high": 2.03}
FINITE = st.floats(0.5, 2.0)


def quality(*controls: tuple[float, float], interval: dict[str, Any] = SPEEDUP, backend: str = "cuda", **limits: float):
    named = {f"arm {index}": Control.model_construct(low=low, high=high) for index, (low, high) in enumerate(controls)}
    return noise.judge(Interval.model_construct(**interval), named, backend, LIMITS.noise.model_copy(update=limits))


def with_controls(name: str, *controls: tuple[float, float]) -> dict[str, Any]:
    """The example with other controls: the first of its record; of several each is that of a process."""
    record = example(name)
    like = record["statistics"]["controls"]["full"]
    intervals = [like | {"ratio": math.sqrt(low * high), "low": low, "high": high} for low, high in controls]
    steady = like | {"ratio": 1.0, "low": 1.0, "high": 1.0}
    record["statistics"]["controls"] = {"full": intervals[0], "elastic": steady}
    if controls[1:]:
        run = {"status": "ok", "reason": None, "speedup": record["statistics"]["speedup"], "cycle_speedup": None}
        run |= {"layer_steps_per_second": None, "cv": 0.0}
        run |= {
            series: record["samples"][series]
            for series in ("full_us", "elastic_us", "full_again_us", "elastic_again_us")
        }
        runs = [run | {"controls": {"full": one, "elastic": steady}} for one in intervals]
        record["processes"] = {"published": 0, "spread": {"low": 1.0, "high": 3.0}, "cv": 0.0, "runs": runs}
    return record


@pytest.mark.parametrize(
    ("controls", "status"),
    [
        ([(0.995, 1.005)], "ok"),  # the limit itself is inside
        ([(0.999, 1.001), (0.995, 1.0)], "ok"),
        ([(0.9949, 1.001)], "imprecise"),
        ([(0.999, 1.0051)], "imprecise"),
        ([(1.005, 1.008)], "imprecise"),  # one point of it is inside
        ([(0.98, 0.995)], "imprecise"),
        ([(0.999, 1.001), (0.99, 1.01)], "imprecise"),  # one is enough
        ([(1.00501, 1.008)], "noisy"),
        ([(0.98, 0.99499)], "noisy"),
        ([(0.99, 1.01), (1.01, 1.02)], "noisy"),
        ([(0.9, 1.3)], "noisy"),  # so wide that nothing is left of the number
    ],
)
def test_controls_decide_by_where_their_intervals_lie(controls, status):
    found = quality(*controls)
    assert (found.status, found.reason is None) == (status, status == "ok")
    assert (found.interval is None) == (status == "noisy")
    if status == "ok":
        assert dict(found.interval) == SPEEDUP


def test_an_imprecise_interval_is_widened_by_the_farthest_bound_of_any_control():
    found = quality((0.98, 1.01), (0.999, 1.015))
    w = abs(math.log(0.98))
    assert found.interval.low == pytest.approx(1.98 * math.exp(-w))
    assert found.interval.high == pytest.approx(2.03 * math.exp(w))
    assert found.interval.value == 2.0
    assert found.reason == (
        "the A/A control of arm 0, [0.9800, 1.0100], is not inside 1 +- 0.5%: "
        "the interval is widened by 2.04% to each side"
    )


def test_each_backend_has_its_limit_and_limits_are_the_config_s():
    assert quality((0.98, 1.02), backend="cpu").status == "ok"
    assert quality((0.98, 1.02)).status == "imprecise"
    assert quality((0.98, 1.02), cuda=0.02).status == "ok"
    assert quality((1.01, 1.02), cuda=0.001).status == "noisy"


@pytest.mark.parametrize(
    ("low", "high", "status"), [(1.5, 2.5, "imprecise"), (1.49, 2.5, "noisy"), (1.5, 2.51, "noisy")]
)
def test_an_end_of_a_widened_interval_farther_than_widest_from_the_value_is_noise(low, high, status):
    """The control is 1 +- 2^-7 exactly, so that the ends come out exact too."""
    factor = 1 + 2**-7
    interval = {"value": 2.0, "low": low * factor, "high": high / factor}
    assert quality((1.0, factor), interval=interval).status == status
    assert quality((1.0, factor), interval=interval, widest=0.3).status == "imprecise"


@pytest.mark.parametrize("bound", [math.nan, 0.0, math.inf])
@pytest.mark.parametrize("side", ["low", "high"])
def test_what_is_no_number_or_absurd_never_passes(bound, side):
    control = {"low": 0.999, "high": 1.001} | {side: bound}
    assert quality((control["low"], control["high"])).status == "noisy"
    assert quality((0.99, 1.01), interval=SPEEDUP | {"value": math.nan}).status == "noisy"
    assert quality((0.99, 1.01), interval=SPEEDUP | {side: math.nan}).status == "noisy"


@given(
    controls=st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=3),
    interval=st.tuples(FINITE, FINITE, FINITE).map(sorted),
)
def test_the_judge_and_verify_s_own_code_agree(controls, interval):
    record = with_controls("4096_golden_ticket", *controls)
    record["statistics"]["speedup"] |= dict(zip(("low", "value", "high"), interval, strict=True))
    found = noise.as_judged(typed(record), LIMITS.noise)
    expected = verify_noise.judged(record, NOISE)
    assert found.status == expected["status"]
    if found.status != "noisy":
        assert expected["statistics"]["speedup"] == pytest.approx(dict(found.statistics.speedup))


def test_every_process_s_control_counts():
    record = typed(with_controls("4096_golden_ticket", (0.999, 1.001), (1.01, 1.02)))
    found = noise.as_judged(record, LIMITS.noise)
    assert found.status == "noisy"
    assert "in process 2" in found.reason


def test_a_record_that_is_noisy_by_itself_stays_so_and_a_loaded_cpu_is_named():
    noisy = typed(example("4096_noisy"))
    assert noise.as_judged(noisy, LIMITS.noise) == noisy
    record = with_controls("4096_cpu", (0.96, 1.01))
    record["machine"]["meanwhile"] = "other processes kept 1.3 of 2 cores busy: make (9)"
    found = noise.as_judged(typed(record), LIMITS.noise)
    assert found.reason.endswith("; meanwhile " + record["machine"]["meanwhile"])


def entry_of(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    thresholds = THRESHOLDS | {"noise": NOISE | changes}
    made = records.content(verdict.judge(typed(record), Thresholds.model_validate(thresholds)))
    records.check({"schema": "verdicts/2", "thresholds": thresholds, "cases": [made]}, "verdict", "test")
    return made


def test_an_imprecise_case_is_judged_by_its_widened_interval_and_marked():
    steady = entry_of(example("4096_elementwise"))
    assert (steady["status"], steady["mark"]) == ("ok", "✅☆")
    record = with_controls("4096_elementwise", (0.985, 1.001))
    found = entry_of(record)
    assert (found["status"], found["verdict"], found["mark"]) == ("imprecise", "excellent", "⭐~")
    criterion = found["criteria"]["speedup"]
    assert criterion["outcome"] == "ambiguous"  # 1.974 to 1.976 alone passes 1.95
    assert criterion["low"] == pytest.approx(record["statistics"]["speedup"]["low"] * 0.985)
    assert found["reason"].endswith(": the interval is widened by 1.52% to each side")
    golden = entry_of(with_controls("4096_elementwise", (0.994, 1.001)))
    assert (golden["status"], golden["mark"]) == ("imprecise", "✅☆~")
    assert entry_of(record, cuda=0.02) == steady


def test_a_biased_case_is_invalid_and_has_no_number():
    found = entry_of(with_controls("4096_elementwise", (1.006, 1.01)))
    assert (found["status"], found["verdict"], found["mark"]) == ("noisy", "invalid", "✗")
    assert {one["value"] for one in found["criteria"].values()} == {None}
    assert found["reason"] == "noisy: the A/A control of the full cache, [1.0060, 1.0100], is outside 1 +- 0.5%"


def test_an_imprecise_speedup_beyond_its_bytes_stays_invalid():
    record = with_controls("4096_elementwise", (0.994, 1.001))
    record["statistics"]["speedup"] |= {"value": 2.1, "low": 2.09, "high": 2.11}
    found = entry_of(record)
    assert (found["status"], found["verdict"], found["mark"]) == ("noisy", "invalid", "✗")


CASES = {"4096_elementwise": (0.999, 1.001), "4096_golden_ticket": (0.98, 1.001), "1024_standard": (1.1, 1.2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A judged folder of three cases: one ok, one imprecise, one noisy."""
    results = make(tmp_path / "results", tuple(CASES), "ceilings")
    for name, control in CASES.items():
        put(results, with_controls(name, control))
    return judged(results)


def test_everything_shown_is_the_judged_interval(folder: Path):
    verdicts = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
    assert verdicts["thresholds"] == THRESHOLDS
    inputs = load(folder / ".plan/cases.json", folder)
    speedup = verdicts["cases"][1]["criteria"]["speedup"]
    assert speedup["low"] == pytest.approx(example("4096_golden_ticket")["statistics"]["speedup"]["low"] * 0.98)
    shown = f"{speedup['value']:.2f}x [{speedup['low']:.2f}, {speedup['high']:.2f}]"
    stated = {
        "report": markdown.report(inputs),
        "page": explanation.markdown(inputs),
        "readme": readme.section(inputs, "link"),
        "show": show.table([case.verdict for case in inputs.cases]),
        "posts": elastickv(["report", "social"], folder, "social_media_content.txt").read_text(encoding="utf-8"),
    }
    measured = example("4096_golden_ticket")["statistics"]["speedup"]
    raw = f"[{measured['low']:.3f}, {measured['high']:.3f}]"
    for place, text in stated.items():
        assert shown in text, place
        assert raw not in text, place
        assert "1.16" not in text, place  # the noisy one's
    assert all("⭐~" in stated[place] for place in ("report", "readme", "show", "posts"))
    assert "widened: imprecise" in stated["posts"]
    assert "(99% interval, over several processes); in steady work" in stated["posts"]  # the steady one's
    table = elastickv(["summarise"], folder, "summary.csv").read_text(encoding="utf-8")
    rows = {row["case"]: row for row in csv.DictReader(table.splitlines())}
    assert [row["status"] for row in rows.values()] == ["ok", "imprecise", "noisy"]
    assert float(rows["4096_golden_ticket"]["speedup_low"]) == speedup["low"]
    assert rows["1024_standard"]["speedup"] == ""
    assert rows["4096_golden_ticket"]["cycle_speedup"] == ""  # the cycle has no control
    assert "the control is imprecise" in stated["report"]


def test_a_cell_of_a_sweep_knows_that_it_is_imprecise(folder: Path):
    inputs = load(folder / ".plan/cases.json", folder)
    cells = [sweeps._cell(case) for case in inputs.cases]
    assert [cell.imprecise for cell in cells] == [False, True, False]
    assert cells[2].speedup is None and cells[2].status == "noisy"


def test_compare_takes_the_limits_of_each_folder(folder: Path, tmp_path: Path, capsys):
    assert main(["compare", str(folder), str(folder), "--format=json"]) == 0
    found = json.loads(capsys.readouterr().out)
    imprecise, steady = (found["compared"][case]["speedup"] for case in ("4096_golden_ticket", "4096_elementwise"))
    assert imprecise["low"] <= 0.98  # a control deviates by 2%, which more processes do not make less
    assert imprecise["high"] >= 1 / 0.98
    assert steady["low"] >= 0.99
    assert steady["high"] <= 1.01
    assert found["uncompared"]["1024_standard"]["reason"].startswith("noisy: ")


def test_what_measuring_prints_goes_by_the_default_limits():
    steady, loud = example("4096_cpu"), with_controls("4096_cpu", (0.96, 1.01))
    assert supervisor.by_default(typed(steady)) == typed(steady)
    line = supervisor.describe(supervisor.by_default(typed(loud)))
    low = steady["statistics"]["speedup"]["low"] * 0.96
    assert line.startswith(f"4096_cpu: imprecise, {steady['statistics']['speedup']['value']:.3f}x [{low:.3f}, ")
    off = Measurement.model_validate(with_controls("4096_cpu", (1.04, 1.05)))
    biased = supervisor.describe(supervisor.by_default(off))
    assert biased.startswith("4096_cpu: noisy (the A/A control of the full cache, [1.0400, 1.0500], is outside 1 +- 3%")
    assert "x [" not in biased


@pytest.mark.parametrize(("control", "code"), [((0.999, 1.001), 0), ((0.96, 1.01), 1), ((1.04, 1.05), 1)])
def test_strict_goes_by_what_the_judge_says(tmp_path: Path, monkeypatch, capsys, control, code):
    record = with_controls("4096_cpu", control)
    monkeypatch.setattr(supervisor, "measure_case", lambda *_, **__: Measurement.model_validate(record))
    monkeypatch.setattr(bench, "_built", lambda *_: None)
    (tmp_path / "case.json").write_text(json.dumps(record["case"]), encoding="utf-8")
    files = ["--case", str(tmp_path / "case.json"), "--out", str(tmp_path / "r.json"), "--store", str(tmp_path)]
    assert main(["measure", *files, "--strict"]) == code
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["status"] == "ok"  # the record depends on none
    assert main(["bench", "--backend=cpu", "--strict", "--json"]) == code
    assert main(["bench", "--backend=cpu"]) == 0


def peers_of(tmp_path: Path, low: float, high: float) -> str:
    """The report's section on a peer whose plain comparison has this control."""
    results = make(tmp_path / "results", ("4096_golden_ticket",))
    made = peer_record(
        "torch_cudnn", {"4096_golden_ticket": entry(example("4096_golden_ticket")["case"], 22.0, 18.0, 16.0)}
    )
    control = made["cases"][0]["full"]["ours"]["plain"]["controls"]["ours"]
    control |= {"low": low, "high": high}
    records.write(results / "peers_torch_cudnn.json", made, "peers")
    text = markdown.report(load(judged(results) / ".plan/cases.json", results))
    return text.partition("## Comparison with other libraries' kernels")[2].partition("\n## ")[0]


def test_peers_are_judged_alike(tmp_path: Path):
    assert "~ |" not in peers_of(tmp_path / "ok", 0.999, 1.001)
    imprecise = peers_of(tmp_path / "imprecise", 0.98, 1.001)
    assert "1.22x [1.20, 1.25]~ |" in imprecise and "1.375x [" in imprecise
    noisy = peers_of(tmp_path / "noisy", 1.01, 1.02)
    assert "1.22" not in noisy.partition("### The same elastic slots")[0]
    assert "the A/A control of ours (plain), " in noisy and "is outside 1 +- 0.5%" in noisy


def test_a_baseline_with_a_wide_decode_rate_is_noisy_to_its_readers_alone(tmp_path: Path):
    record = Baseline.model_validate(example("transformers_baseline"))
    assert baseline_record.as_judged(record) == record
    rate = record.decode_tokens_per_second
    wide = rate.model_copy(update={"low": rate.value * 0.8, "high": rate.value * 1.1})
    found = baseline_record.as_judged(record.model_copy(update={"decode_tokens_per_second": wide}))
    assert found.status == "noisy" and "interval is 15% of its value, more than 10%" in found.reason
    wide = rate.model_copy(update={"low": math.nan})
    assert baseline_record.as_judged(record.model_copy(update={"decode_tokens_per_second": wide})).status == "noisy"
