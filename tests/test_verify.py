"""`elastickv verify`: what a run leaves is clean, finished or not; every edit is found, with file and field."""

from __future__ import annotations

import ast
import copy
import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peer_records
import pytest
import results_folder
from conftest import ROOT
from results_folder import example, put

from elastickv import formats, policies, records
from elastickv.audit import intervals, judgement, tables, traffic, verify
from elastickv.audit.finding import Findings
from elastickv.audit.measurement import check as check_measurement
from elastickv.audit.peers import check as check_peers
from elastickv.cache import bytes_moved
from elastickv.cli import main
from elastickv.judge import noise, verdict
from elastickv.measure import processes, statistics
from elastickv.report import markdown, summary
from elastickv.schemas.case import case_of
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.verdict import Thresholds

REFERENCE = ROOT / "results" / "reference" / "h200"
GOLDEN = "results_4096_golden_ticket.json"


def made(tmp_path: Path) -> Path:
    """The example records with everything that is made of them, and a manifest."""
    results = results_folder.gpu_folder(tmp_path)
    results_folder.published(results)
    return results


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished results folder. Not to be changed."""
    return made(tmp_path_factory.mktemp("original"))


@pytest.fixture
def results(original: Path, tmp_path: Path) -> Path:
    """A copy of the finished results folder, to tamper with; time stamps as they were."""
    return shutil.copytree(original, tmp_path / "results", copy_function=shutil.copy2)


def edit(results: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Changes a JSON file in place (or by what `change` returns)."""
    path = results / name
    content = json.loads(path.read_text(encoding="utf-8"))
    changed = change(content)
    path.write_text(json.dumps(content if changed is None else changed), encoding="utf-8")


def assign(content: Any, pointer: str, value: Any) -> None:
    """Puts a value at a dotted path, or what it makes of the old one."""
    *path, last = (int(part) if part.isdigit() else part for part in pointer.split("."))
    for part in path:
        content = content[part]
    content[last] = value(content[last]) if callable(value) else value


def put_at(name: str, pointer: str, value: Any) -> Callable[[Path], None]:
    """A tampering: the value at a dotted path of a JSON file becomes `value`, or what it makes of the old one."""

    def tamper(results: Path) -> None:
        edit(results, name, lambda content: assign(content, pointer, value))

    return tamper


def replace_in(name: str, old: str, new: str) -> Callable[[Path], None]:
    """A tampering: the first `old` of a text file becomes `new`."""

    def tamper(results: Path) -> None:
        text = (results / name).read_text(encoding="utf-8")
        assert old in text
        (results / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return tamper


def reseal(results: Path) -> None:
    """Writes size and hash of every file into the manifest again, as a careful forger would."""

    def change(manifest: Any) -> None:
        for entry in manifest["inputs"] + manifest["outputs"]:
            path = results / entry["path"]
            if path.exists():
                entry |= {"sha256": records.sha256_file(path), "bytes": path.stat().st_size}

    edit(results, "manifest.json", change)


def faults(results: Path, unfinished: bool = False) -> list[str]:
    return [str(fault) for fault in verify(results, unfinished).faults]


def assert_found(results: Path, *expected: str, unfinished: bool = False) -> None:
    """Each expected text is the beginning of a fault."""
    found = faults(results, unfinished)
    for text in expected:
        assert any(fault.startswith(text) for fault in found), f"{text!r} is not among\n" + "\n".join(found[:20])


# What a run leaves


def test_a_finished_folder_is_clean(results: Path):
    findings = verify(results)
    assert findings.faults == []
    assert findings.notes == []
    assert findings.checked["records"] > 15
    assert findings.checked["figures"] > 500
    assert findings.checked["published numbers traced"] > 20


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(path.parent.name, marks=[] if path.parent == REFERENCE else pytest.mark.slow)
        for path in sorted(REFERENCE.parent.glob("*/manifest.json"))
    ]
    or [pytest.param("", marks=pytest.mark.skip(reason="no run of the present record schema is committed"))],
)
def test_a_committed_run_is_clean_whatever_this_checkout_has_built(run):
    findings = verify(REFERENCE.parent / run)
    assert [str(fault) for fault in findings.faults] == []
    assert findings.checked["figures"] > 500


def test_the_command_says_what_it_checked_and_exits_with_0(results: Path, capsys: pytest.CaptureFixture):
    assert main(["verify", str(results)]) == 0
    line = capsys.readouterr().out
    assert re.fullmatch(rf"{results}: clean; checked: \d+ records, \d+ files hashed, \d+ figures, .*\n", line)


def test_faults_are_listed_and_exit_with_1(results: Path, capsys: pytest.CaptureFixture):
    put_at(GOLDEN, "statistics.speedup.value", 3.0)(results)
    assert main(["verify", str(results)]) == 1
    printed = capsys.readouterr().out
    assert re.search(rf"^{GOLDEN}: statistics\.speedup\.value: found 3\.0, expected 2\.\d+$", printed, re.MULTILINE)
    assert re.search(rf"^{results}: \d+ faults; checked: ", printed, re.MULTILINE)
    assert main(["verify", str(results), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert not answer["clean"]
    assert {"file": GOLDEN, "field": "statistics.speedup.value"}.items() <= answer["faults"][-1].items() or any(
        fault["field"] == "statistics.speedup.value" for fault in answer["faults"]
    )


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "foreign"])
def test_what_is_no_results_folder_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture, kind: str):
    path = tmp_path / "folder"
    if kind == "file":
        path.write_text("{}", encoding="utf-8")
    elif kind != "missing":
        path.mkdir()
    if kind == "foreign":
        (path / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(["verify", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_a_folder_published_without_its_plan_is_checked_by_its_manifest(results: Path):
    shutil.rmtree(results / ".plan")
    manifest = ["--cases", str(results / "manifest.json"), "--results", str(results)]
    assert main(["report", "manifest", *manifest, "--out", str(results / "manifest.json")]) == 0
    findings = verify(results)
    assert findings.faults == [] and findings.checked["published numbers traced"] > 20
    put_at("verdicts.json", "thresholds.speedup", 1.2)(results)
    put_at("results_1024_standard.json", "case.seq", 2048)(results)
    assert main(["report", "manifest", *manifest, "--out", str(results / "manifest.json")]) == 0
    assert_found(
        results,
        "verdicts.json: thresholds.speedup: found 1.2, expected 1.95",
        "results_1024_standard.json: case.seq: found 2048, expected 1024",
    )


# Unfinished runs


def test_a_run_killed_midway_is_clean_at_every_step(results: Path):
    """Files vanish in the order in which a run would not yet have written them."""
    (results / ".report.md.abc123.part").write_text("half a rep", encoding="utf-8")
    gone = ["manifest.json", "social_media_content.txt", "social_media_content.json", "report.md", "verdicts.json"]
    gone += ["summary.csv", GOLDEN, "ceilings.json", ".plan/golden.json", ".plan/noise.json", ".plan/cases.json"]
    for name in gone:
        (results / name).unlink()
        findings = verify(results, unfinished=True)
        assert findings.faults == [], name
        assert any("an unfinished run" in note for note in findings.notes)
        assert any(".report.md.abc123.part: left by a process that was killed" in note for note in findings.notes)


def test_what_an_unfinished_run_will_write_again_is_not_checked_and_what_is_newer_is(results: Path):
    (results / "manifest.json").unlink()
    put_at(".plan/golden.json", "speedup", 1.5)(results)
    put_at(".plan/config.json", "golden.speedup", 1.5)(results)
    findings = verify(results, unfinished=True)
    assert findings.faults == []
    assert "verdicts.json: older than .plan/golden.json: the next run rewrites it; not checked" in findings.notes
    (results / "verdicts.json").touch()
    assert_found(results, "verdicts.json: thresholds.speedup: found 1.95, expected 1.5")


def test_what_was_made_of_nothing_that_is_known_is_not_called_clean(results: Path):
    """Without manifest and plan it is unknown which cases verdicts, report and posts belong to."""
    (results / "manifest.json").unlink()
    shutil.rmtree(results / ".plan")
    for name in ("summary.csv", "verdicts.json", "report.md", "social_media_content.txt"):
        assert_found(results, f"{name}: (file): found neither manifest.json nor .plan in the folder")


def test_an_edited_figure_of_an_unfinished_run_is_found(results: Path):
    (results / "manifest.json").unlink()
    put_at(GOLDEN, "efficiency.elastic.roofline", 0.99)(results)
    assert_found(results, f"{GOLDEN}: efficiency.elastic.roofline: found 0.99, expected 0.6")


def test_a_deleted_manifest_is_found_unless_the_run_may_be_unfinished(results: Path, capsys):
    (results / "manifest.json").unlink()
    assert main(["verify", str(results)]) == 1
    assert "manifest.json: (file): found nothing, expected the list of all files with their" in capsys.readouterr().out
    assert main(["verify", str(results), "--unfinished"]) == 0


# Figures: the hashes agree, since the forger wrote them again


def leaves(content: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a record with its dotted path."""
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in parts:
        yield from leaves(value, f"{path}.{key}" if path else str(key))
    if isinstance(content, int | float) and not isinstance(content, bool):
        yield path, content


@pytest.mark.parametrize("case", ["4096_golden_ticket", "4096_elementwise", "1024_standard", "4096_cpu"])
def test_every_derived_figure_is_recomputed(case: str):
    """Each number in the derived parts of a record, changed by one percent, is a fault naming it or its interval."""
    record = example(case)
    assert record_faults(record) == []
    parts = ("statistics", "bytes", "efficiency", "inference_cycle", "original_score")
    derived = [(path, value) for path, value in leaves({part: record[part] for part in parts})]
    # Not derived: errors, raw samples and blocks, a limit.
    given = (".correctness.", ".samples.", ".sustained.runs.", ".sustained.seconds", ".tolerance")
    derived = [
        (path, value)
        for path, value in derived
        if (value or path.endswith(".seed")) and not any(part in path for part in given)
    ]
    assert len(derived) >= 50
    for path, value in derived:
        changed = copy.deepcopy(record)
        assign(changed, path, value + 1 if isinstance(value, int) else value * 0.99)
        found = record_faults(changed)
        parent = path.rpartition(".")[0]
        assert any(fault.startswith((f"{path}:", f"{parent}.")) for fault in found), (path, found)


@pytest.mark.parametrize("series", ["full", "elastic", "full_again", "elastic_again"])
def test_an_edited_sample_is_found(series: str):
    record = example("4096_golden_ticket")
    assign(record, f"samples.{series}_us.7", lambda value: value * 1.2)
    fields = {fault.partition(":")[0].rpartition(".")[0] for fault in record_faults(record)}
    arm = series.removesuffix("_again")
    assert fields >= {f"statistics.{arm}", f"statistics.controls.{arm}", "statistics.speedup"}


# What is edited in the record of a case, a dotted path and its new value -> the beginning of the fault.
# Every derived number is edited above; these are the others.
RUN_1, BLOCKS_0 = "processes.runs.1", "statistics.sustained.runs.0"
BLOCK_9 = "circular block bootstrap, block 9, widened"
ANOTHER = [{"pid": 5, "name": "x", "memory_bytes": 1, "sm_percent": 40}]
RECORD_TAMPERINGS = [
    ("statistics.speedup.method", "magic", "statistics.speedup.method: found 'magic', expected 'mean of"),
    ("statistics.speedup.method", BLOCK_9, f"statistics.speedup.method: found '{BLOCK_9}', expected 'mean of"),
    (f"{RUN_1}.speedup.method", "magic", f"{RUN_1}.speedup.method: found 'magic', expected 'circular"),
    (f"{RUN_1}.speedup.method", BLOCK_9, f"{RUN_1}.speedup.method: found '{BLOCK_9}', expected 'circular"),
    (f"{RUN_1}.cv", 0.0001, f"{RUN_1}.cv: found 0.0001"),
    ("processes.cv", 0.0001, "processes.cv: found 0.0001"),
    ("resolved.reuse_bytes.elastic", 1, "resolved.reuse_bytes.elastic: found 1"),
    ("throttling.power_capped_rounds", 0, "throttling.power_capped_rounds: found 0, expected 3"),
    (f"{BLOCKS_0}.1.launches", lambda launches: launches + 9000, "statistics.sustained.speedup.value: found "),
    (f"{BLOCKS_0}.1.busy", 0.5, "statistics.sustained.speedup: found a speedup"),
    (f"{BLOCKS_0}.0.seconds", 0.5, f"{BLOCKS_0}.0.seconds: found 0.5, expected at least 2"),
    ("energy.arms.full.busy", 0.5, "energy.arms.full.busy: found 0.5, expected at least 0.95"),
    ("samples.read_ceiling.2.bytes", 1, "samples.read_ceiling.2.bytes: found 1, expected 67125248"),
    ("device.peak_gbps", None, "efficiency.full.peak_gbps: found 4814.0, expected null"),
    ("correctness.elastic.relative_error", 0.5, "status: found ok although correctness.elastic is wrong"),
    ("correctness.elastic.tolerance", 0.1, "correctness.elastic.tolerance: found 0.1, expected 0.001"),
    (
        "inference_cycle.correctness.elastic.relative_error",
        0.5,
        "status: found ok although inference_cycle.correctness",
    ),
    ("correctness.full.layers_checked", [0], "correctness.full.layers_checked: found [0], expected [0, 13]"),
    ("resolved.layers", 2, "resolved.cold: found true, expected false"),
    ("samples.elastic_us", lambda values: values[:-1], "samples: found "),
    ("inference_cycle.samples.elastic_seconds.3", 1.0, "inference_cycle.speedup."),
    ("case.seq", 8192, "bytes.full: found 67125248, expected 134234112"),
    ("ended", "2025-11-23T09:00:00Z", "ended: found 2025-11-23T09:00:00Z, expected not before"),
    ("energy.arms.elastic.joules_per_launch", 1e-9, "energy.arms.elastic.joules_per_launch: found 1e-09"),
    ("machine.others_on_gpu.value", ANOTHER, "machine.others_on_gpu: found processes [5] at work on an ok record"),
    (
        "resolved.stopped",
        "max_seconds",
        "resolved.stopped: found max_seconds after 0.6 s, expected a time from 6.66667",
    ),
    ("case.measure.max_seconds", 1.5, "resolved.stopped: found precision after 0.6 s, expected max_seconds, 0.5 s"),
    ("case.measure.precision", 1e-4, "resolved.stopped: found precision with an interval of +-0.001"),
    ("statistics.controls.full.high", 1.006, "resolved.stopped: found precision with a control of the full arm from"),
]


def record_faults(record: dict[str, Any]) -> list[str]:
    findings = Findings()
    check_measurement(findings.of("record"), record)
    return [f"{fault.field}: found {fault.found}, expected {fault.expected}" for fault in findings.faults]


@pytest.mark.parametrize(("pointer", "value", "expected"), RECORD_TAMPERINGS)
def test_tampering_with_a_record_is_found(pointer: str, value: Any, expected: str):
    record = example("4096_golden_ticket")
    assign(record, pointer, value)
    found = record_faults(record)
    assert any(fault.startswith(expected) for fault in found), found


def test_a_status_that_the_figures_do_not_allow_is_found():
    incorrect = example("4096_incorrect")
    incorrect["correctness"]["elastic"]["relative_error"] = 1e-5
    stated = "status: found incorrect although every answer is within its tolerance, expected ok or noisy"
    assert record_faults(incorrect) == [stated]
    noisy = example("4096_noisy") | {"status": "ok", "reason": None}
    assert any(fault.startswith("status: found ok although a roofline is 1.132") for fault in record_faults(noisy))


def in_processes() -> dict[str, Any]:
    """The example of a CPU case as the middle one of three processes, one of them faster, one slower."""
    responses = []
    for factor in (1.1, 1.0, 0.9):
        fields = example("4096_cpu")
        samples, measured = fields["samples"], fields["statistics"]
        for name in ("full_us", "elastic_us", "full_again_us", "elastic_again_us"):
            faster = factor if name.startswith("elastic") else 1
            drift = [
                1 + (factor - 1) * index * 1e-7 for index in range(len(samples[name]))
            ]  # no process copies another
            samples[name] = [value * by / faster for value, by in zip(samples[name], drift, strict=True)]
        both = [(samples[f"{arm}_us"], samples[f"{arm}_again_us"]) for arm in ("full", "elastic")]
        measured["speedup"] = statistics.median_interval(statistics.round_ratios(*both), 0.99).model_dump()
        fields["inference_cycle"]["speedup"]["value"] *= factor if factor != 1 else 1
        responses.append(Measurement.model_validate(fields))
    record = processes.combine(responses).model_dump(mode="json")
    record["case"]["measure"]["processes"] = record["resolved"]["processes"] = 3
    records.check(record, "measurement", "three processes")
    return record


def test_a_record_of_several_processes_is_checked_process_by_process():
    record = in_processes()
    assert record["statistics"]["speedup"]["method"] == "mean of the logarithms of 3 processes, t"
    assert record_faults(record) == []
    for pointer, value, expected in (
        ("processes.runs.2.elastic_us.3", 1.0, "processes.runs.2.speedup."),
        ("processes.runs.2.elastic_again_us.3", 1.0, "processes.runs.2.controls.elastic."),
        ("processes.runs.0.speedup.value", 9.0, "processes.runs.0.speedup.value: found 9.0"),
        ("processes.published", 0, "processes.published: found "),
        ("processes.spread.high", 3.4, "processes.spread.high: found 3.4"),
        ("processes.runs", lambda runs: runs[:2], "processes.runs: found 2 processes, expected 3, as in the case"),
        ("statistics.speedup.low", lambda low: low * 1.05, "statistics.speedup.low: found "),
        ("statistics.speedup.method", "circular block bootstrap, block 1, widened", "statistics.speedup.method: found"),
        ("inference_cycle.speedup.high", lambda high: high * 1.01, "inference_cycle.speedup.high: found "),
    ):
        changed = copy.deepcopy(record)
        assign(changed, pointer, value)
        found = record_faults(changed)
        assert any(fault.startswith(expected) for fault in found), (pointer, found)


def test_a_peers_record_is_recomputed_from_its_rounds():
    case = example("4096_golden_ticket")["case"]
    record = peer_records.peer_record("torch_cudnn", {case["id"]: peer_records.entry(case, 21.0, 16.6, 15.1)})
    records.check(record, "peers", "torch_cudnn")

    def peers_faults(changed: dict[str, Any]) -> list[str]:
        findings = Findings()
        check_peers(findings.of("peers"), changed)
        return [f"{fault.field}: found {fault.found}, expected {fault.expected}" for fault in findings.faults]

    assert peers_faults(record) == []
    place, control = f"cases.0 ({case['id']})", "cases.0.full.ours.dependent.controls.ours.high"
    for pointer, value, expected in (
        ("cases.0.full.ours.plain.ratio.value", 9.0, f"{place}.full.ours.plain.ratio.value: found 9.0"),
        ("cases.0.full.ours.plain.samples.peer_us.3", 99.0, f"{place}.full.ours.plain.peer.mean_us: found "),
        (control, 1.5, f"{place}.{control.removeprefix('cases.0.')}: found 1.5"),
        ("cases.0.full.bytes", 1, f"{place}.full.bytes: found 1, expected 67125248"),
        ("cases.0.full.correctness.relative_error", 0.5, f"{place}.full.status: found ok although the answer is wrong"),
        ("cases.0.full.status", "noisy", f"{place}.status: found "),
        ("status", "noisy", "status: found "),
    ):
        changed = copy.deepcopy(record)
        assign(changed, pointer, value)
        found = peers_faults(changed)
        assert any(fault.startswith(expected) for fault in found), (pointer, found)


@pytest.fixture
def imprecise(tmp_path: Path) -> Path:
    """A finished folder of a plan with so strict a noise limit for GPUs that its two attention cases are imprecise."""
    results = results_folder.make(tmp_path / "results", results_folder.GPU_CASES, "ceilings")
    for name, pointer in ((".plan/noise.json", "cuda"), (".plan/config.json", "noise.cuda")):
        put_at(name, pointer, 0.001)(results)
    results_folder.published(results)
    return results


def test_a_widened_interval_is_recomputed_from_the_controls_and_the_recorded_limits(imprecise: Path):
    assert faults(imprecise) == []
    verdicts = json.loads((imprecise / "verdicts.json").read_text(encoding="utf-8"))
    assert [entry["status"] for entry in verdicts["cases"]] == ["ok", "imprecise", "imprecise"]
    where = "verdicts.json: cases.1 (4096_golden_ticket)"
    raw = json.loads((imprecise / GOLDEN).read_text(encoding="utf-8"))["statistics"]["speedup"]
    changes = {"status": "ok", "criteria.speedup.low": raw["low"], "mark": "⭐"}
    for field, value in changes.items():
        put_at("verdicts.json", f"cases.1.{field}", value)(imprecise)
    reseal(imprecise)
    assert_found(imprecise, *(f"{where}.{field}: found " for field in changes))
    put_at("verdicts.json", "thresholds.noise.cuda", 0.005)(imprecise)
    reseal(imprecise)
    assert_found(imprecise, "verdicts.json: thresholds.noise.cuda: found 0.005, expected 0.001")


def test_verify_shares_no_judgement_of_controls_with_the_judge(imprecise: Path, monkeypatch: pytest.MonkeyPatch):
    """A judge that lets everything pass is found, though verdicts, tables and posts agree with it."""
    monkeypatch.setattr(noise, "judge", lambda interval, *_: noise.Quality("ok", None, interval))
    results_folder.published(imprecise)
    place = "verdicts.json: cases.1 (4096_golden_ticket)"
    assert_found(imprecise, f"{place}.status: found ", f"{place}.criteria.speedup.low: found ", f"{place}.mark: found ")


BASELINE, POSTS, TRACE = "transformers_baseline.json", "social_media_content.txt", "social_media_content.json"
FASTER = ("1.975x [", "9.975x [")
JUDGED = "cases.1 (4096_golden_ticket)"
# File, dotted path and new value (or a text and the new one), and the beginning of the fault, of the file unless it
# names another. Those of one group do not hide each other.
FOLDER_TAMPERINGS = {
    "records": [
        (GOLDEN, "statistics.speedup.value", 2.9, "statistics.speedup.value: found 2.9, expected 2.3"),
        (GOLDEN, "case.seq", 8192, "case.seq: found 8192, expected 4096"),
        ("results_1024_standard.json", "case.id", "4096_incorrect", "case.id: found 4096_incorrect, expected 1024_st"),
        ("ceilings.json", "points.1.read_gbps.samples.0", 9000.0, "points.1.read_gbps."),
        ("ceilings.json", "copy_gbps", 4600.0, "copy_gbps: found 4600.0, expected 4270.0"),
        (BASELINE, "decode_tokens_per_second.value", 99.0, "decode_tokens_per_second.value: found 99.0, expected 61.5"),
        (BASELINE, "prefill_tokens_per_second.samples.1", 1.0, "prefill_tokens_per_second.value"),
        (BASELINE, "self_check.largest_difference", 0.5, "self_check.largest_difference: found 0.5, expected at most"),
        (BASELINE, "self_check.tolerance", 1.0, "self_check.tolerance: found 1.0, expected 0.35"),
    ],
    "verdicts": [
        ("verdicts.json", "cases.2.verdict", "excellent", "cases.2 (1024_standard).verdict: found"),
        ("verdicts.json", "cases.1.criteria.speedup.value", 2.9, f"{JUDGED}.criteria.speedup.value: found 2.9"),
        ("verdicts.json", "cases.1.criteria.cv.reason", "0.0 is low", f'{JUDGED}.criteria.cv.reason: found "0.0 is'),
        ("verdicts.json", "thresholds.speedup", 1.2, "thresholds.speedup: found 1.2, expected 1.95"),
        ("summary.csv", ",19988480,", ",19988481,", "4096_golden_ticket.elastic_bytes: found 19988481, expected 1998"),
    ],
    "lists of cases": [
        ("verdicts.json", "cases", lambda cases: cases[:-1], "cases: found verdicts of ["),
        ("summary.csv", "4096_noisy,", "4096_quiet,", "case: found rows of"),
    ],
    "the report": [
        ("report.md", "1.975x [1.97", "2.975x [1.97", "Results: `4096_elementwise`: speedup: found 2.975x"),
        ("report.md", "67.1 MB", "68.1 MB", "Times, bytes and checks: `4096_golden_ticket`: full,"),
        ("report.md", "61.5 [", "91.5 [", "Language-model baselines: transformers: decode"),
        ("report.md", "**NVIDIA H200**", "**NVIDIA B200**", 'line 3: found "Device: **NVIDIA B200**'),
        ("report.md", "## Cases without a result", "## Cases", "line "),
        ("summary.csv", "speedup_low", "speedup_best", '(header).25: found "speedup_best", expected "speedup_low"'),
    ],
    "a sentence more in the report": [
        ("report.md", "Each step appends", "Up to 9.99x faster.\n\nEach step appends", "(lines): found ")
    ],
    "a cell of a case without a result": [
        (
            "report.md",
            "| –                     | –                 | 3.36x",
            "| 3.30x                 | –                 | 3.36x",
            "Results: `4096_noisy`",
        )
    ],
    "a post": [(POSTS, *FASTER, "(text): found ")],
    "a post and its trace": [(POSTS, *FASTER, f"{TRACE}: posts.x"), (TRACE, *FASTER, "posts.x.numbers")],
    "a post, its trace and the number in it": [
        (POSTS, *FASTER, f"{TRACE}: posts.x"),
        (TRACE, *FASTER, "posts.x"),
        (TRACE, "posts.x.numbers.0.text", "9.975x", "posts.x.numbers.0.text: found 9.975x, expected 1.97"),
    ],
    "a trace": [
        (TRACE, "posts.x.numbers.0.value", 9.0, "posts.x.numbers.0.value: found 9.0, expected 1.97"),
        (TRACE, "posts.x.numbers.1.fields.0", "/bytes/nothing", "posts.x.numbers.1: found what cannot be recomputed"),
        (TRACE, "golden", ["1024_standard"], "golden.0: found "),
    ],
}


@pytest.mark.parametrize("group", FOLDER_TAMPERINGS)
def test_tampering_is_found_though_the_hashes_were_written_again(results: Path, group: str):
    expected = []
    for name, place, value, fault in FOLDER_TAMPERINGS[group]:
        change = put_at if name.endswith(".json") and place != FASTER[0] else replace_in
        change(name, place, value)(results)
        expected.append(fault if fault.startswith(TRACE) else f"{name}: {fault}")
    reseal(results)
    assert_found(results, *expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"schema": "measurement/2", "case": {"id"', "(file): found cannot be read as a measurement record"),
        ("[1, 2, 3]", "(top): found "),
        ('{"hello": "world"}', "(top): found "),
        ('{"speedup": NaN}', "(file): found cannot be read as a measurement record: NaN is not JSON"),
        ("", "(file): found cannot be read"),
    ],
    ids=["truncated", "a list", "foreign", "not a number", "empty"],
)
def test_what_is_no_record_is_found_and_the_rest_is_still_checked(results: Path, content: str, expected: str):
    (results / GOLDEN).write_text(content, encoding="utf-8")
    put_at("results_4096_elementwise.json", "bytes.full", 1)(results)
    reseal(results)
    assert_found(results, f"{GOLDEN}: {expected}", "results_4096_elementwise.json: bytes.full: found 1, expected")


@pytest.mark.parametrize("name", [GOLDEN, "verdicts.json", "transformers_baseline.json"])
def test_an_old_schema_is_found(results: Path, name: str):
    put_at(name, "schema", lambda schema: schema.rpartition("/")[0] + "/0")(results)
    reseal(results)
    assert_found(results, f"{name}: schema: found ")


# Hashes and the manifest


def test_a_changed_file_no_longer_has_its_hash(results: Path):
    (results / "figure.txt").write_text("first", encoding="utf-8")
    results_folder.elastickv(["report", "manifest"], results, "manifest.json")
    assert faults(results) == []
    (results / "figure.txt").write_text("other", encoding="utf-8")
    assert_found(results, "figure.txt: sha256: found ")
    (results / "figure.txt").write_text("longer than it was", encoding="utf-8")
    assert_found(results, "figure.txt: bytes: found 18, expected 5 (manifest.json: outputs.")
    (results / "figure.txt").unlink()
    assert_found(results, "figure.txt: (file): found nothing, expected the file that manifest.json lists")


def test_a_manifest_cannot_point_outside(results: Path):
    path = "../outside.json"
    put_at("manifest.json", "outputs.0.path", path)(results)
    assert_found(results, f"manifest.json: outputs.0.path: found '{path}', expected a path inside the folder")


def test_a_record_that_the_manifest_does_not_list_is_found_and_other_files_are_noted(results: Path):
    record = example("4096_golden_ticket")
    record["case"]["id"] = "4096_extra"
    put(results, record)
    (results / "notes.txt").write_text("mine", encoding="utf-8")
    findings = verify(results)
    stated = [str(fault) for fault in findings.faults]
    assert any(
        fault.startswith("results_4096_extra.json: (file): found a record, expected nothing") for fault in stated
    )
    assert any(fault.startswith("results_4096_extra.json: case.id: found 4096_extra") for fault in stated)
    assert "notes.txt: not listed in manifest.json, not checked" in findings.notes


def test_the_manifests_plan_is_the_plan(results: Path):
    put_at("manifest.json", "config.golden.speedup", 1.0)(results)
    put_at("manifest.json", "cases.0.seq", 1)(results)
    found = (
        "manifest.json: config.golden.speedup: found 1.0, expected 1.95",
        "manifest.json: cases.0.seq: found 1, expected 4096",
    )
    assert_found(results, *found)


def test_the_manifests_run_is_the_plans(results: Path):
    put_at("manifest.json", "run.command.1", "clean")(results)
    assert_found(results, 'manifest.json: run.command.1: found "clean", expected "run"')


# Nothing in common with what wrote the records

# Messages, the plan, files, JSON and its schemas, and how networks count the characters of a post.
NEUTRAL = ("errors", "records", "system.readable", "judge.folder", "audit", "schemas.lengths", "system.programs")
# What nothing else says: what formats keep per head, slots of other policies, bytes of other workloads.
BY_THEIR_FILES = ("formats", "policies", "kinds")
MAKERS_OF_TEXT = (
    "report",
    "judge.verdict",
    "schemas",
    "build.sources",
)  # for `remade.py` alone: they take typed records
MAKERS = {"remade.py": MAKERS_OF_TEXT, "of_commit.py": ("build", "matrix", "pipeline", "report", "schemas")}
AUDIT = sorted((ROOT / "workflow" / "elastickv" / "audit").rglob("*.py"))


def modules_of_ours(source: str) -> set[str]:
    """The modules of this package that a module imports anywhere in it, by their first name below `elastickv`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path of a module"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    assert not any(name.startswith("importlib") for name in found)
    return {name.removeprefix("elastickv.") for name in found if name.startswith("elastickv.")}


@pytest.mark.parametrize("path", AUDIT, ids=lambda path: path.stem)
def test_no_module_that_recomputes_imports_what_computed(path: Path):
    allowed = NEUTRAL + BY_THEIR_FILES + MAKERS.get(path.name, ())
    found = modules_of_ours(path.read_text(encoding="utf-8"))
    assert {name for name in found if not f"{name}.".startswith(tuple(f"{room}." for room in allowed))} == set()


@pytest.mark.parametrize(
    ("module", "name", "wrong", "expected"),
    [
        (
            verdict,
            "at_least",
            lambda right: lambda *args: right(*args).model_copy(update={"outcome": "pass"}),
            'verdicts.json: cases.1 (4096_golden_ticket).criteria.memory_efficiency.outcome: found "pass"',
        ),
        (
            verdict,
            "ladder",
            lambda right: lambda *_: ("excellent", "whatever was measured"),
            'verdicts.json: cases.2 (1024_standard).verdict: found "excellent", expected "good"',
        ),
        (
            summary,
            "COLUMNS",
            lambda right: right | {"full_us": right["elastic_us"]},
            "summary.csv: 4096_golden_ticket.full_us: found 6.9",
        ),
        (
            markdown,
            "times",
            lambda right: lambda value: right(value and value + 1),
            "report.md: Results: `4096_golden_ticket`: byte ceiling: found 4.36x, expected 3.35",
        ),
    ],
    ids=["an outcome", "a verdict", "a column", "a number's form"],
)
def test_what_the_code_that_writes_gets_wrong_is_found(tmp_path, monkeypatch, module, name, wrong, expected):
    monkeypatch.setattr(module, name, wrong(getattr(module, name)))
    assert_found(made(tmp_path), expected)


def test_every_number_of_a_table_has_its_place(results: Path):
    with (results / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    known = {*tables.FACTS, *tables.RESULTS, *tables.WITHHELD, *tables.BESIDE}
    texts = {"case", "problem", "fingerprint", "ended", "driver", "device"}
    numbers = {column for row in rows for column, cell in row.items() if re.fullmatch(r"-?\d[\d.e+-]*", cell)}
    elsewhere = policies.every_key().keys() - policies.of(policies.DEFAULT).KEYS  # no case here has those policies
    assert numbers - texts <= known - elsewhere <= set(rows[0])
    for heading, row in tables._rows((results / "report.md").read_text(encoding="utf-8")):
        columns = {**tables.OF_CASES, "Language-model baselines": tables.OF_ENGINES}.get(heading)
        if columns is not None:
            words = {"case", "engine", "model", "device", "dtype", "verdict", "why", "launch", "status"}
            assert {column for column, cell in row.items() if re.search(r"\d", cell)} - words <= set(columns)
            assert set(columns) <= set(row)


def test_every_number_beside_a_peer_is_looked_up(tmp_path: Path):
    results = results_folder.gpu_folder(tmp_path)
    case = example("4096_golden_ticket")["case"]
    record = peer_records.peer_record("torch_cudnn", {case["id"]: peer_records.entry(case, 21.0, 16.6, 15.1)})
    records.write(results / "peers_torch_cudnn.json", record, "peers")
    for command, name in ((["summarise"], "summary.csv"), (["report", "markdown"], "report.md")):
        results_folder.elastickv(command, results, name)
    (results / "manifest.json").unlink(missing_ok=True)
    assert faults(results, unfinished=True) == []
    replace_in("summary.csv", ",torch_cudnn,21", ",torch_cudnn,22")(results)
    replace_in("report.md", "| `torch_cudnn` | 21", "| `torch_cudnn` | 22")(results)
    assert_found(
        results,
        "summary.csv: 4096_golden_ticket.peer_us: found 22.0, expected 21.0",
        "report.md: Every peer: `4096_golden_ticket`: torch_cudnn: peer, us: found 22",
    )


def judged_alike(record: dict[str, Any], thresholds: dict[str, float]) -> None:
    expected = records.content(verdict.judge(Measurement.model_validate(record), Thresholds.model_validate(thresholds)))
    for entry in (expected, *expected["criteria"].values()):
        del entry["reason"]
    assert judgement.judge(record, thresholds) == expected


@pytest.mark.parametrize("name", results_folder.EVERYTHING)
def test_two_independent_judgements_agree_on_every_kind_of_record(name: str):
    judged_alike(example(name), results_folder.THRESHOLDS)


def test_two_independent_judgements_agree_on_figures_of_all_sizes():
    rng = np.random.default_rng(1)
    verdicts = set()
    for _ in range(200):
        record = example("4096_golden_ticket")
        centre, width = rng.choice([0.9, 1, 1.5, 1.8, 2, 3.4]), rng.choice([0, 0.01, 0.3])
        record["statistics"]["speedup"] |= {"value": centre, "low": centre - width, "high": centre + width}
        record["statistics"]["controls"]["full"] |= {"low": 1 - rng.choice([0, 0.003]), "high": 1.002}
        record["statistics"]["elastic"]["cv"] = rng.choice([0.01, 0.05, 0.06])
        record["bytes"] |= {"reachable_ceiling": rng.choice([1.9, 1.95, 3.0]), "elastic": rng.choice([1, 1 << 40])}
        shares = record["efficiency"]["elastic"]
        for share in ("memory", "roofline"):
            value = rng.choice([0.69, 0.7, 0.8, 0.9])
            shares |= {
                share: value,
                f"{share}_low": value - rng.choice([0, 0.02]),
                f"pure_{share}": rng.choice([0.6, 0.9]),
            }
            shares[f"{share}_high"] = value + 0.02
        record["resolved"]["cold"] = bool(rng.random() < 0.9)
        record["correctness"]["full"]["relative_error"] = rng.choice([1e-5, 1e-5, 1e-5, 1.0])
        judged_alike(record, results_folder.THRESHOLDS)
        verdicts.add(judgement.judge(record, results_folder.THRESHOLDS)["verdict"])
    assert verdicts == {"golden_ticket", "excellent", "good", "same", "slower", "invalid"}


@pytest.mark.parametrize(
    ("text", "value", "right"),
    [
        *[("1.96x", 1.9649, True), ("1.96x", 1.9651, False), ("59.8%", 0.5977, True), ("59.8%", 0.5989, False)],
        *[("67.1 MB", 67125248, True), ("67.2 MB", 67125248, False), ("2.3e-04", 2.34e-4, True)],
        *[
            ("2.3e-04", 2.4e-4, False),
            ("8,123", 8123.4, True),
            ("8,123", 8124, False),
            ("60", 60, True),
            ("0.0%", 0, True),
        ],
    ],
)
def test_a_number_shows_a_value_to_its_own_digits(text: str, value: float, right: bool):
    assert tables.shows(text, value) == right


# The independent formulas


def series(kind: str, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(count) if kind != "heavy tails" else rng.standard_t(2, count)
    if kind == "autocorrelated":
        for index in range(1, count):
            noise[index] += 0.6 * noise[index - 1]
    if kind == "ties":
        noise = np.round(noise)
    return np.exp(0.01 * noise)


@pytest.mark.parametrize("kind", ["plain", "heavy tails", "autocorrelated", "ties"])
@pytest.mark.parametrize("count", [1, 2, 5, 11, 12, 61, 200])
def test_intervals_are_those_that_records_hold(kind: str, count: int):
    values = series(kind, count, seed=count)
    written = statistics.median_interval(values, 0.99).model_dump()
    findings = Findings()
    intervals.check(findings.of("record"), "speedup", values.tolist(), written, 0.99)
    assert findings.faults == []
    intervals.plain(findings.of("record"), "speedup", values.tolist(), written, written["confidence"])
    assert [str(fault) for fault in findings.faults] == []
    narrower = {**written, "low": written["low"] * 1.0001}
    intervals.check(findings.of("record"), "speedup", values.tolist(), narrower, 0.99)
    assert [fault.field for fault in findings.faults] == ["speedup.low"]


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("cache_dtype", [None, *formats.scaled()])
@pytest.mark.parametrize(("seq", "compress"), [(100, 4), (4096, 1), (1023, 3)])
def test_bytes_by_two_independent_formulas_agree(dtype: str, cache_dtype: str | None, seq: int, compress: int):
    case = {**example("4096_golden_ticket")["case"], "seq": seq, "compress": compress, "dtype": dtype}
    for heads, kv_heads, batch, bias, dim in ((32, 32, 1, "none", 128), (8, 2, 3, "log_count", 80)):
        shape = {"heads": heads, "kv_heads": kv_heads, "batch": batch, "bias": bias, "dim": dim}
        case |= {**shape, "cache_dtype": cache_dtype or dtype}
        expected, found = bytes_moved.traffic(case_of(case)), traffic.moved(case)
        totals = tuple(expected[arm].total for arm in ("full", "elastic", "slots_only"))
        assert totals == found[:3]
        assert found.written == {arm: expected[arm].write for arm in ("full", "elastic")}


@pytest.mark.parametrize(("seq", "compress"), [(4096, 4), (1021, 3), (7, 1), (5, 8)])
def test_elementwise_bytes_by_two_independent_formulas_agree(seq: int, compress: int):
    case = {**example("4096_elementwise")["case"], "seq": seq, "compress": compress}
    expected, found = bytes_moved.traffic(case_of(case)), traffic.moved(case)
    assert (expected["full"].total, expected["elastic"].total) == found[:2]


def test_bytes_of_the_golden_shape_by_hand():
    case = example("4096_golden_ticket")["case"]
    groups = (4096 - 4 - 256) // 4
    slots = 4 + groups + (4096 - 4 - groups * 4)
    output = 32 * 128 * 2
    assert traffic.moved(case)[:2] == (32 * 4096 * 2 * 128 * 2 + 2 * output, 32 * slots * 2 * 128 * 2 + 2 * output)


# Samples that no clock gives


@pytest.mark.parametrize("arm", ["full", "elastic"])
@pytest.mark.parametrize(
    ("forged", "found"),
    [
        (lambda times: [times[0]] * 60, "60 equal samples"),
        (lambda times: times, "a copy of {}_us"),
        (lambda times: times[::-1], "a copy of {}_us"),
        (lambda times: [value * 0.999 for value in times], "a copy of {}_us"),
    ],
    ids=["no variance", "a copy", "in another order", "in another scale"],
)
def test_a_control_without_samples_of_its_own_is_refused(forged, found: str, arm: str):
    record = example("4096_golden_ticket")
    record["samples"][f"{arm}_again_us"] = forged(record["samples"][f"{arm}_us"])
    expected = f"samples.{arm}_again_us: found {found.format(arm)}"
    assert any(fault.startswith(expected) for fault in record_faults(record))


def test_samples_beside_a_peer_are_no_copies(tmp_path: Path):
    results = results_folder.gpu_folder(tmp_path)
    case = example("4096_golden_ticket")["case"]
    record = peer_records.peer_record("torch_cudnn", {case["id"]: peer_records.entry(case, 21.0, 16.6, 15.1)})
    plain, dependent = (record["cases"][0]["full"]["ours"][mode]["samples"] for mode in ("plain", "dependent"))
    plain["ours_again_us"] = plain["ours_us"]
    dependent["peer_us"] = [value * 0.7 for value in plain["peer_us"]]
    records.write(results / "peers_torch_cudnn.json", record, "peers")
    where = f"cases.0 ({case['id']}).full.ours.plain.samples.ours_again_us"
    assert_found(
        results,
        f"peers_torch_cudnn.json: {where}: found a copy of ours_us",
        f"(records): samples.peers_torch_cudnn.json {case['id']} full dependent peer_us: found a copy of",
        unfinished=True,
    )


def test_two_cases_with_the_same_samples_are_found(results: Path):
    taken = json.loads((results / GOLDEN).read_text(encoding="utf-8"))["processes"]
    put_at("results_1024_standard.json", "processes", taken)(results)
    reseal(results)
    where = f"(records): samples.{GOLDEN} 4096_golden_ticket process 1 full_us"
    assert_found(results, f"{where}: found a copy of results_1024_standard.json 1024_standard process 1 full_us")


def test_equal_cases_of_two_ids_have_the_same_samples(results: Path):
    record = json.loads((results / GOLDEN).read_text(encoding="utf-8"))
    record["case"]["id"] = "once_more"
    (results / "results_once_more.json").write_text(json.dumps(record), encoding="utf-8")
    assert not any(fault.startswith("(records): samples.") for fault in faults(results))


@pytest.mark.parametrize("name", ["machine", "clocks", "throttling", "power", "energy"])
def test_a_measured_record_without_the_state_of_its_device_is_found(name: str):
    record = example("4096_golden_ticket")
    del record[name]
    assert any(fault.startswith(f"{name}: found nothing") for fault in record_faults(record))


def test_the_manifests_cases_are_those_of_its_config(results: Path):
    def change(manifest: Any) -> None:
        manifest["config"]["cases"] = {case["id"]: case for case in manifest["cases"]}
        manifest["cases"].pop(1)

    edit(results, "manifest.json", change)
    assert_found(
        results, "manifest.json: cases.4096_golden_ticket: found nothing", "manifest.json: config_sha256: found"
    )


def test_the_fingerprint_is_one_hash_of_a_clean_folder_with_or_without_its_plan(results: Path, capsys):
    assert main(["verify", str(results), "--fingerprint"]) == 0
    first = capsys.readouterr().out.strip()
    assert re.fullmatch("[0-9a-f]{64}", first)
    shutil.rmtree(results / ".plan")
    manifest = ["--cases", str(results / "manifest.json"), "--results", str(results)]
    assert main(["report", "manifest", *manifest, "--out", str(results / "manifest.json")]) == 0
    capsys.readouterr()
    assert main(["verify", str(results), "--fingerprint"]) == 0
    assert capsys.readouterr().out.strip() == first
    (results / "report.md").write_text("edited", encoding="utf-8")
    assert main(["verify", str(results), "--fingerprint"]) == 1
    assert first not in capsys.readouterr().out
