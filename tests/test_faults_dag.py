"""Faults of the whole DAG: it continues, reports what is wrong where, and times nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from conftest import FOREVER, Checkout, commands_in, plain_environment, wait_until

from elastickv import records
from elastickv.audit import verify

RESULTS, CONFIG = "results/tiny", "config/tiny.yaml"
MATRIX = {
    "results": RESULTS,
    "backend": "cpu",
    "measure": {"reps": 15, "warmup": 1, "inner_loops": 1, "decode_tokens": 0, "max_seconds": 20},
    "defaults": {"window": 16},
    "cases": {
        "first": {"seq": 128, "heads": 2, "dim": 64, "compress": 2},
        "second": {"seq": 256, "heads": 2, "dim": 64, "compress": 4},
    },
    "baselines": {"transformers": {"enable": False}, "peers": {"enable": False}},
}
# All but what waits for the ceilings, which take a minute.
NAMES = ("results_first.json", "results_second.json", "verdicts.json", "social_media_content.txt")
TARGETS = ("--", *(f"{RESULTS}/{name}" for name in NAMES))


@pytest.fixture(scope="module")
def finished(clone: Checkout, cpu_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which both cases are measured and judged. Not to be changed."""
    checkout = clone.copy(tmp_path_factory.mktemp("finished") / "checkout")
    checkout.take_builds(cpu_build)
    (checkout.root / CONFIG).write_text(json.dumps(MATRIX), encoding="utf-8")
    run = checkout.snakemake("--configfile", CONFIG, *TARGETS)
    assert run.code == 0, run.text
    return checkout


@pytest.fixture
def checkout(finished: Checkout, tmp_path: Path) -> Checkout:
    return finished.copy(tmp_path / "checkout")


def started(checkout: Checkout) -> dict[str, str]:
    """When the measurement behind each case's record began."""
    folder = checkout.root / RESULTS
    return {
        case: records.read(folder / f"results_{case}.json", "measurement")["started"] for case in ("first", "second")
    }


def verdicts(checkout: Checkout) -> dict[str, dict]:
    judged = records.read(checkout.root / RESULTS / "verdicts.json", "verdict")
    return {entry["case"]: entry for entry in judged["cases"]}


def again(checkout: Checkout, *options: str) -> set[str]:
    run = checkout.snakemake("--configfile", CONFIG, *options, *TARGETS)
    assert run.code == 0, run.text
    return run.jobs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "fix"),
    [("", "delete it and run again"), ('{"schema": "measurement/0"}', "move the file away and run again")],
    ids=["empty", "old schema"],
)
def test_a_broken_record_is_told_of_and_comes_back_untimed_once_deleted(checkout: Checkout, content: str, fix: str):
    before, record = started(checkout), checkout.root / RESULTS / "results_first.json"
    record.write_text(content)
    assert not any(job.startswith("measure") for job in again(checkout))
    assert verdicts(checkout)["first"]["verdict"] == "invalid"
    assert fix in verdicts(checkout)["first"]["reason"]
    assert verdicts(checkout)["second"]["status"] in ("ok", "imprecise", "noisy")
    assert {fault.file for fault in verify(checkout.root / RESULTS, unfinished=True).faults} == {"results_first.json"}
    record.unlink()
    assert "measure first" in again(checkout)
    assert started(checkout) == before
    assert verify(checkout.root / RESULTS, unfinished=True).faults == []


@pytest.mark.slow
def test_a_record_edited_by_hand_is_found_and_can_be_had_back(checkout: Checkout):
    path = checkout.root / RESULTS / "results_second.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["statistics"]["speedup"]["high"] *= 2
    path.write_text(json.dumps(record), encoding="utf-8")
    faults = {(fault.file, fault.field) for fault in verify(checkout.root / RESULTS, unfinished=True).faults}
    assert ("results_second.json", "statistics.speedup.high") in faults
    path.unlink()
    again(checkout)
    assert verify(checkout.root / RESULTS, unfinished=True).faults == []


@pytest.mark.slow
def test_a_clock_set_back_measures_nothing_again(checkout: Checkout):
    """All that builds and plans wrote is an hour younger than now.

    Contents count, so nothing runs. By time alone Snakemake takes the records for stale, and says what it thinks of the
    clock; with the clock set right they come back from the store.
    """
    before = started(checkout)
    inputs = [*(checkout.root / "build").rglob("*"), *(checkout.root / RESULTS / ".plan").rglob("*")]
    set_times(inputs, time.time() + 3600)
    assert again(checkout) == set()
    refused = checkout.snakemake("--configfile", CONFIG, "--max-checksum-file-size", "0", *TARGETS)
    assert refused.code != 0
    assert "clock skew" in refused.text
    assert "Traceback" not in refused.text
    set_times(inputs, time.time() - 60)
    again(checkout)
    assert started(checkout) == before
    assert verify(checkout.root / RESULTS, unfinished=True).faults == []


def set_times(paths: list[Path], moment: float) -> None:
    for path in paths:
        os.utime(path, (moment, moment))


def make_run(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["make", "run", f"CONFIG={CONFIG}", "CORES=2", "ARGS=--until verdict social"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=plain_environment(),
    )


@pytest.mark.slow
def test_of_two_runs_at_once_one_measures_and_the_other_is_told(finished: Checkout, tmp_path: Path):
    """`make run` twice in the same moment, on a checkout that has neither an environment nor results."""
    checkout = finished.copy(tmp_path / "checkout")
    (checkout.root / CONFIG).write_text(json.dumps(MATRIX | {"results": "results/twice"}), encoding="utf-8")
    pair = [make_run(checkout.root) for _ in range(2)]
    texts = [run.communicate(timeout=FOREVER)[0] for run in pair]
    codes = [run.returncode for run in pair]
    assert 0 in codes, texts
    stated = [text for text, code in zip(texts, codes, strict=True) if code]
    assert all("a run is in progress in this checkout (process" in text for text in stated), stated
    assert not any("Traceback" in text for text in texts)
    folder = checkout.root / "results/twice"
    assert verify(folder, unfinished=True).faults == []
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(".records/*.json")]
    assert sorted(record["case"]["id"] for record in kept) == ["first", "second"]
    wait_until(lambda: commands_in(checkout.root) == [])
