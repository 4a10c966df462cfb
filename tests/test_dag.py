"""The rerun rules, each by real Snakemake runs on a tiny CPU matrix in a copy of the checkout."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import FOREVER, Checkout, commands_in, wait_until

from elastickv import environments
from elastickv.records import sha256_file

MATRIX = """
results: results/tiny
backend: cpu
measure: {reps: 8, warmup: 2, inner_loops: 2, decode_tokens: 2, max_seconds: 1, precision: 0.5}
defaults: {workload: decode, window: 16}
cases:
  first: {seq: 128, heads: 2, dim: 64, compress: 2}
  second: {seq: 256, heads: 2, dim: 64, compress: 4}
baselines:
  transformers: {enable: false}
"""
RESULTS = "results/tiny"
CONFIG = "config/tiny.yaml"
JUDGED = {f"write {RESULTS}/{name}" for name in ("verdicts.json", "report.md", "figures", "manifest.json")} | {
    f"write {RESULTS}/social_media_content.txt"
}
AGGREGATES = JUDGED | {f"write {RESULTS}/summary.csv"}
NOTEBOOK = f"write {RESULTS}/elastic_kv_benchmark.ipynb"
CEILINGS = "read and copy ceilings"
PLAN = "write the plan"


@pytest.fixture(scope="module")
def finished(clone: Checkout, cpu_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the tiny matrix has run to its end. Not to be changed."""
    checkout = clone.copy(tmp_path_factory.mktemp("finished") / "checkout")
    checkout.take_builds(cpu_build)
    (checkout.root / CONFIG).write_text(MATRIX, encoding="utf-8")
    # Ceilings of small buffers: those of a gigabyte take longer than all else here.
    checkout.edit("workflow/elastickv/measure/ceilings.py", '"cpu": 1 << 30}', '"cpu": 64 << 20}')
    run = checkout.snakemake("--configfile", CONFIG)
    assert run.code == 0, run.text
    assert {"compile the CPU library", "measure first", "measure second", CEILINGS, NOTEBOOK} | AGGREGATES == run.jobs
    return checkout


@pytest.fixture
def checkout(finished: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the finished checkout to change and to run again."""
    return finished.copy(tmp_path / "checkout")


def run_again(checkout: Checkout) -> set[str]:
    """The jobs of the next run, which has to succeed."""
    run = checkout.snakemake("--configfile", CONFIG)
    assert run.code == 0, run.text
    return run.jobs


def started(checkout: Checkout, case: str) -> str:
    """When the measurement behind a case's record began."""
    return json.loads((checkout.root / RESULTS / f"results_{case}.json").read_text(encoding="utf-8"))["started"]


def table_cases(checkout: Checkout) -> dict[str, set[str]]:
    """The cases that each published table names."""
    results = checkout.root / RESULTS
    verdicts = json.loads((results / "verdicts.json").read_text(encoding="utf-8"))
    with (results / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    report = (results / "report.md").read_text(encoding="utf-8")
    return {
        "verdicts": {entry["case"] for entry in verdicts["cases"]},
        "summary": {row["case"] for row in rows},
        "report": {case for case in ("first", "second", "third") if f"`{case}`" in report},
    }


def verified(checkout: Checkout, *flags: str) -> tuple[int, str]:
    """Exit code and output of `elastickv verify` on the checkout's results."""
    command = [sys.executable, "-m", "elastickv", "verify", RESULTS, *flags]
    environment = checkout.environment
    done = subprocess.run(command, cwd=checkout.root, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_finished_run_verifies_clean_and_an_edited_one_does_not(checkout: Checkout):
    code, text = verified(checkout)
    assert code == 0, text
    assert f"{RESULTS}: clean; checked: " in text
    assert "note: " not in text
    shutil.rmtree(checkout.root / "build")
    assert verified(checkout)[0] == 0  # a results folder needs nothing outside itself
    checkout.edit(f"{RESULTS}/results_first.json", '"backend": "cpu"', '"backend":  "cpu"')
    code, text = verified(checkout)
    assert code == 1
    assert "results_first.json: " in text


def contents(checkout: Checkout) -> dict[Path, bytes]:
    """Every file of the results and of the plans."""
    folders = (checkout.root / name for name in (RESULTS, "build", ".envs"))
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def edited(checkout: Checkout, expected: set[str]) -> None:
    """After an edit of the matrix a dry run tells the expected jobs and changes nothing, and a run then has them."""
    before = contents(checkout)
    dry = checkout.snakemake("--configfile", CONFIG, "--dry-run")
    assert dry.code == 0, dry.text
    assert dry.jobs == expected | {PLAN}
    assert contents(checkout) == before
    code, text = verified(checkout)
    assert code == 0, text
    assert "note: " not in text
    assert run_again(checkout) == expected


def test_what_changes_no_content_reruns_nothing(checkout: Checkout):
    """Key order and comments, in the matrix and in kernels."""
    first = "  first: {seq: 128, heads: 2, dim: 64, compress: 2}\n"
    checkout.edit(CONFIG, first, "  first: {compress: 2, dim: 64, seq: 128, heads: 2}  # the same\n")
    checkout.edit(CONFIG, "backend: cpu\n", "# on this machine's processor\nbackend: cpu\n")
    for kernel in ("kernels/decode/kernel.cpp", "kernels/params.h"):
        path = checkout.root / kernel
        path.write_text("// a remark\n" + path.read_text(encoding="utf-8") + "/* and\n * more */\n", encoding="utf-8")
    dry = checkout.snakemake("--configfile", CONFIG, "--dry-run")
    assert (dry.code, dry.jobs - {PLAN}) == (0, set()), dry.text
    assert run_again(checkout) == set()


def test_a_changed_value_measures_that_case_alone(checkout: Checkout):
    before = started(checkout, "first")
    checkout.edit(CONFIG, "seq: 256", "seq: 192")
    edited(checkout, {"measure second"} | AGGREGATES)
    assert started(checkout, "first") == before


def test_added_cases_are_measured_alone_removed_ones_leave_every_table_and_lost_records_come_back(checkout: Checkout):
    """A deleted record comes back out of the store, untimed."""
    before = started(checkout, "first")
    third = "  third: {seq: 128, heads: 2, dim: 64, compress: 4}\n"
    checkout.edit(CONFIG, "baselines:\n", third + "baselines:\n")
    assert run_again(checkout) == {"measure third"} | AGGREGATES
    assert all(cases == {"first", "second", "third"} for cases in table_cases(checkout).values())
    checkout.edit(CONFIG, third, "")
    (checkout.root / RESULTS / "results_first.json").unlink()
    assert run_again(checkout) == {"measure first"} | AGGREGATES
    assert started(checkout, "first") == before
    assert all(cases == {"first", "second"} for cases in table_cases(checkout).values())
    assert not (checkout.root / RESULTS / "results_third.json").exists()


def test_a_threshold_judges_again_and_times_nothing_and_a_new_plan_unfinishes_the_run(checkout: Checkout):
    checkout.edit(CONFIG, "cases:\n", "golden: {speedup: 1.5}\ncases:\n")
    edited(checkout, JUDGED)
    checkout.edit(CONFIG, "speedup: 1.5", "speedup: 1.4")
    assert checkout.snakemake("build_cpu", "--configfile", CONFIG).code == 0
    assert not (checkout.root / RESULTS / "manifest.json").exists()


def test_a_dry_run_of_a_fresh_checkout_shows_every_job_and_writes_no_plan(clone: Checkout, tmp_path: Path):
    checkout = clone.copy(tmp_path / "checkout")
    (checkout.root / CONFIG).write_text(MATRIX, encoding="utf-8")
    dry = checkout.snakemake("--configfile", CONFIG, "--dry-run")
    assert dry.code == 0, dry.text
    assert (
        dry.jobs
        == {PLAN, "compile the CPU library", "measure first", "measure second", CEILINGS, NOTEBOOK} | AGGREGATES
    )
    assert not any((checkout.root / name).exists() for name in (f"{RESULTS}/.plan", "build/.plan", ".envs"))


def test_a_case_removed_without_snakemake_metadata_leaves_every_table(checkout: Checkout):
    subprocess.run(["rm", "-rf", checkout.root / ".snakemake"], check=True)
    checkout.edit(CONFIG, "  second: {seq: 256, heads: 2, dim: 64, compress: 4}\n", "")
    run_again(checkout)
    assert all(cases == {"first"} for cases in table_cases(checkout).values())


def test_a_noise_limit_judges_again_and_times_nothing(checkout: Checkout):
    """No measurement, ceilings or baseline depends on a limit; summary, verdicts and what is made of them do."""
    begun = {case: started(checkout, case) for case in ("first", "second")}
    checkout.edit(CONFIG, "cases:\n", "noise: {cpu: 0.9, widest: 0.9}\ncases:\n")
    assert run_again(checkout) == AGGREGATES
    assert {case: started(checkout, case) for case in begun} == begun
    judged = json.loads((checkout.root / RESULTS / "verdicts.json").read_text(encoding="utf-8"))
    assert judged["thresholds"]["noise"] == {"cuda": 0.005, "cpu": 0.9, "widest": 0.9}
    code, text = verified(checkout)
    assert code == 0, text
    assert run_again(checkout) == set()


def test_what_the_notebook_carries_writes_it_again_and_times_nothing(checkout: Checkout):
    written = {NOTEBOOK, f"write {RESULTS}/manifest.json"}
    # The default matrix is not this run's. What else changes the notebook: test_notebook.
    checkout.edit("config/config.yaml", "heads: 16, dim: 64,  compress: 2", "heads: 16, dim: 64,  compress: 3")
    assert run_again(checkout) == written
    listed = json.loads((checkout.root / RESULTS / "manifest.json").read_text(encoding="utf-8"))["outputs"]
    hashes = {entry["path"]: entry["sha256"] for entry in listed}
    assert hashes["elastic_kv_benchmark.ipynb"] == sha256_file(checkout.root / RESULTS / "elastic_kv_benchmark.ipynb")
    checkout.edit("config/config.yaml", "# The default matrix", "# What is measured by default")
    assert run_again(checkout) == set()


@pytest.mark.slow  # it compiles
def test_kernel_code_measures_the_cases_whose_kernels_hold_it_and_a_new_kernel_none(checkout: Checkout):
    """Every record is made again with the binary, those of other kernels out of the store, untimed."""
    third = "  third: {workload: elementwise, seq: 128, heads: 2, dim: 64, compress: 4}\n"
    checkout.edit(CONFIG, "baselines:\n", third + "baselines:\n")
    run_again(checkout)
    begun = {case: started(checkout, case) for case in ("first", "second", "third")}
    (checkout.root / "kernels/added").mkdir()
    source = "namespace elastickv {\nstruct AddedParams {\n  int n;\n};\nstatic void added(const AddedParams&) {}\n}\n"
    (checkout.root / "kernels/added/kernel.cpp").write_text(source, encoding="utf-8")
    made = {"compile the CPU library", CEILINGS, NOTEBOOK, *(f"measure {case}" for case in begun)} | AGGREGATES
    assert run_again(checkout) == made
    assert {case: started(checkout, case) for case in begun} == begun
    path = checkout.root / "kernels/decode/kernel.cpp"
    path.write_text(path.read_text(encoding="utf-8") + "\nstatic_assert(sizeof(char) == 1);\n", encoding="utf-8")
    assert run_again(checkout) == made
    assert {case for case in begun if started(checkout, case) != begun[case]} == {"first", "second"}


@pytest.mark.slow
def test_fresh_measures_again_and_is_forgotten_afterwards(checkout: Checkout):
    before = started(checkout, "first")
    run = checkout.start_snakemake("--configfile", CONFIG, "--forcerun", "measure", ELASTICKV_REMEASURE="1")
    text, _ = run.communicate(timeout=FOREVER)
    assert run.returncode == 0, text
    assert started(checkout, "first") != before
    assert run_again(checkout) == set()


def test_a_second_run_in_the_checkout_is_refused_and_a_dry_run_is_not(checkout: Checkout):
    holder = checkout.start_snakemake("--configfile", CONFIG, "--forcerun", "notebook")
    try:
        for line in holder.stdout:
            if NOTEBOOK in line:
                break
        holder.send_signal(signal.SIGSTOP)
        second = checkout.snakemake("--configfile", CONFIG, "--forcerun", "summarise")
        checkout.edit(CONFIG, "seq: 256", "seq: 192")
        dry = checkout.snakemake("--configfile", CONFIG, "--dry-run")
    finally:
        holder.send_signal(signal.SIGCONT)
        rest, _ = holder.communicate(timeout=FOREVER)
    assert second.code != 0
    assert f"a run is in progress in this checkout (process {holder.pid})" in second.text
    assert "Traceback" not in second.text
    assert dry.code == 0, dry.text
    assert "measure second" in dry.jobs
    assert holder.returncode == 0, rest


@pytest.mark.slow
def test_a_killed_snakemake_takes_its_jobs_along_and_the_next_run_goes_on(checkout: Checkout):
    """SIGKILL of Snakemake alone, while a measurement runs: no orphan, no unlocking by hand, nothing lost."""
    before = started(checkout, "first")
    snakemake = checkout.start_snakemake("--configfile", CONFIG, "--forcerun", "measure", ELASTICKV_REMEASURE="1")
    wait_until(lambda: any("--case" in command for command in commands_in(checkout.root)), 600)
    os.kill(snakemake.pid, signal.SIGKILL)
    snakemake.communicate(timeout=60)
    wait_until(lambda: commands_in(checkout.root) == [])
    code, text = verified(checkout, "--unfinished")
    assert code == 0, text
    assert "no manifest.json: an unfinished run" in text
    assert run_again(checkout) >= AGGREGATES
    assert started(checkout, "first") >= before


@pytest.mark.parametrize("name", ["report.html", pytest.param("report.zip", marks=pytest.mark.slow)])
def test_snakemake_s_own_report_needs_no_network_and_nothing_but_the_core_lock(finished, tmp_path, name):
    pinned = environments.requirement_lines(finished.root / "envs/core.txt")  # this environment holds that of dev too
    assert any(line.startswith("pygments==") for line in pinned)
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    process = finished.start_snakemake("--configfile", CONFIG, "--report", str(tmp_path / name), **nowhere)
    text, _ = process.communicate(timeout=FOREVER)
    assert process.returncode == 0, text
    content = (tmp_path / name).read_bytes()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read("report/report.html")
    assert b"<html" in content[:1000] and b"measure" in content
