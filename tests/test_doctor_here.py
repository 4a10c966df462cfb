"""The doctor on this machine, in bare folders and in folders with what it looks for: real programs, locks, requests."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, Checkout, Finished, wait_until
from test_doctor import NEEDS

from elastickv import device, records
from elastickv.cli import main
from elastickv.doctor import compilers, gpu
from elastickv.schemas import doctor as schema
from elastickv.system import locks

SMOKE = "config/smoke.yaml"
THEMES = set(schema.THEMES)


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict]:
    """Exit code and report of `elastickv doctor --json`."""
    code = main(["doctor", "--json", *arguments])
    report = json.loads(capsys.readouterr().out)
    records.check(report, "doctor", "test")
    return code, report


def test_a_real_run_finds_this_machine(checkout, capsys):
    code, report = as_json(capsys, "--configfile", SMOKE)
    found = {finding["check"]: finding for finding in report["findings"]}
    assert code == (0 if report["ready"] else 3)
    assert report["config"] == [SMOKE]
    assert {finding["theme"] for finding in report["findings"]} <= THEMES
    assert found["Python"]["found"].startswith(".".join(map(str, sys.version_info[:3])))
    assert found["C++ compiler"]["level"] == found["OpenMP"]["level"] == "ok"
    assert {"memory of this machine", "writing results", "disk space", "CPU load"} <= set(found)
    assert not [finding for finding in report["findings"] if "could not be checked" in finding["found"]]


def test_the_table_ends_with_the_verdict(checkout, capsys):
    code = main(["doctor", "--configfile", SMOKE])
    printed = capsys.readouterr().out
    assert "check" in printed.splitlines()[0] and "fix" in printed.splitlines()[0]
    assert f"{SMOKE} can" in printed.splitlines()[-1]
    assert ("can run on this machine" in printed) == (code == 0)


@pytest.mark.skipif(bool(device.visible_gpus()), reason="there is a GPU here")
def test_what_the_config_insists_on_is_a_problem(checkout, capsys):
    code, report = as_json(capsys, "--configfile", SMOKE, "--config", "backend=cuda")
    (missing,) = [finding for finding in report["findings"] if finding["check"] == "GPU"]
    assert (code, report["ready"], missing["level"]) == (3, False, "problem")
    assert "backend=cpu" in missing["fix"] or "driver" in missing["fix"] or "CUDA_VISIBLE_DEVICES" in missing["fix"]


def test_what_a_run_would_refuse_of_a_config_is_a_problem(tmp_path, checkout, capsys):
    """Head dims without kernels, and a model that is not there."""
    text = f"backend: cpu\nresults: {tmp_path / 'results'}\n"
    text += "cases: {a: {seq: 64, heads: 4, dim: 100, compress: 2}, b: {seq: 64, heads: 4, dim: 80, compress: 2}}\n"
    text += f"baselines: {{transformers: {{model: {tmp_path / 'model'}}}}}\n"
    (tmp_path / "m.yaml").write_text(text, encoding="utf-8")
    code, report = as_json(capsys, "--configfile", str(tmp_path / "m.yaml"))
    of_theme = {name: [one for one in report["findings"] if one["theme"] == name] for name in ("cases", "hub")}
    assert code == 3
    assert [one["level"] for one in of_theme["cases"]] == ["problem"]
    assert of_theme["cases"][0]["found"].startswith("a is unsupported: dim 100")
    assert [one["level"] for one in of_theme["hub"]] == ["problem"]
    assert "file or folder does not exist" in of_theme["hub"][0]["found"]


def test_a_bad_config_is_bad_usage(tmp_path, checkout, capsys):
    (tmp_path / "bad.yaml").write_text("cases: {a: {seq: 0}}\n", encoding="utf-8")
    assert main(["doctor", "--configfile", str(tmp_path / "bad.yaml")]) == 2
    assert "cases.a.seq" in capsys.readouterr().err


def test_a_fresh_clone_has_nothing_yet(clone: Checkout, tmp_path):
    """No environment, no build: notes with their commands, and the exit code for it."""
    fresh = clone.copy(tmp_path / "fresh")
    done = subprocess.run(
        [sys.executable, "-m", "elastickv", "doctor", "--json"],
        cwd=fresh.root,
        env=fresh.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert "Traceback" not in done.stderr
    assert found[".venv"]["fix"] == "make setup"
    assert found["environment cuda"]["fix"] == ".venv/bin/elastickv env cuda"
    assert found["environment llm"]["level"] == "note"
    assert found["fatbin"]["level"] == "note"
    assert not (fresh.root / ".envs").exists() and not (fresh.root / "results/local").exists(), (
        "a doctor changes nothing"
    )


def test_nothing_at_all_is_no_reason_to_die(tmp_path):
    """An empty folder, no program on PATH, no sources: every theme still reports something."""
    config = tmp_path / "m.yaml"
    baselines = "{transformers: {model: a/b}, peers: {enable: true}}"
    text = f"cases: {{a: {{seq: 64, heads: 4, dim: 64, compress: 2}}}}\nbaselines: {baselines}\n"
    config.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "elastickv", "doctor", "--json", "--configfile", str(config)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "workflow"), "PATH": "", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert done.returncode in (0, 3) and done.stderr == ""
    assert {finding["theme"] for finding in report["findings"]} == THEMES
    assert list(tmp_path.iterdir()) == [config]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda report: report["findings"][0].update(level="problem", fix=None), "fix"),
        (lambda report: report.update(ready=False), "findings"),
        (lambda report: report["findings"][0].update(theme="horoscope"), "theme"),
    ],
)
def test_the_schema_refuses_a_report_that_contradicts_itself(change, fault):
    finding = {"theme": "load", "check": "CPU load", "level": "ok", "found": "idle", "fix": None}
    report = {"schema": "doctor/1", "config": [SMOKE], "ready": True, "findings": [finding]}
    records.check(report, "doctor", "test")
    change(report)
    with pytest.raises(records.RecordError, match=fault):
        records.check(report, "doctor", "test")


def test_the_commands_it_gives_are_taken(clone: Checkout, tmp_path):
    """The overrides of two fixes reach the plan."""
    needs, fresh = replace(NEEDS, files=(SMOKE,)), clone.copy(tmp_path / "fresh")

    def run(fix: str, look: str) -> Finished:
        return fresh.make(*shlex.split(fix)[1:], f"ARGS={look}")

    jobs = run(needs.make("backend=auto", "build.architectures=[75,80]"), "--dry-run").jobs
    images = {job for job in jobs if job.endswith(".cubin")}
    assert images == {"compile build/cuda/sm_75.cubin", "compile build/cuda/sm_80.cubin"}
    run(needs.make("cases.decode_c4.seq=1000"), "--summary")
    case = json.loads((fresh.root / "results/smoke/.plan/cases/decode_c4.json").read_text(encoding="utf-8"))
    assert case["seq"] == 1000


# compilers


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def looked_at(monkeypatch: pytest.MonkeyPatch, path: str) -> compilers.Facts:
    monkeypatch.setenv("PATH", path)
    monkeypatch.delenv("CXX", raising=False)
    return compilers.gather(NEEDS, gpu.Facts())


def test_compilers_that_are_not_there(checkout, tmp_path, monkeypatch):
    facts = looked_at(monkeypatch, str(tmp_path))
    assert (facts.nvcc, facts.host, facts.probe_failure) == (None, None, None)
    assert facts.pinned_version.startswith("13.")


def test_a_compiler_without_openmp_and_an_nvcc_that_does_not_run(checkout, tmp_path, monkeypatch):
    compiles = "echo 'probe.cpp:1:10: fatal error: omp.h: No such file or directory' >&2; exit 1"
    program(tmp_path / "g++", f'case "$*" in *-E*) echo 201703L;; *--version*) echo g++ 1;; *) {compiles};; esac')
    program(tmp_path / "nvcc", "echo 'cannot execute' >&2; exit 126")
    facts = looked_at(monkeypatch, f"{tmp_path}:/bin:/usr/bin")
    assert facts.host == str(tmp_path / "g++") and "omp.h" in facts.probe_failure
    assert facts.nvcc == str(tmp_path / "nvcc") and "does not report its version" in facts.on_path.problem


def test_an_old_nvcc_is_read(checkout, tmp_path, monkeypatch):
    version = "echo 'Cuda compilation tools, release 11.5, V11.5.119'"
    program(tmp_path / "nvcc", f'if [ "$1" = --version ]; then {version}; else echo sm_75; echo sm_80; fi')
    facts = looked_at(monkeypatch, f"{tmp_path}:/bin:/usr/bin")
    assert facts.on_path == ("11.5.119", (75, 80), None)


# locks


def test_who_holds_a_lock_is_seen_without_touching_it(tmp_path):
    lock = tmp_path / "cpu.lock"
    assert locks.holder(lock) is None
    hold = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
    hold += "print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        assert locks.holder(lock) == process.pid
        assert locks.holder(tmp_path / "other.lock") is None
        process.stdin.close()
    wait_until(lambda: locks.holder(lock) is None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ours(tmp_path):
    from elastickv.doctor import storage

    (tmp_path / "locked").mkdir(mode=0o500)
    assert storage.place("results", tmp_path / "locked/results").fault is not None


# a driver

DRIVER = r"""
#include <string.h>
int cuInit(unsigned flags) { return FAULT; }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGetUuid(unsigned char *uuid, int device) { for (int i = 0; i < 16; ++i) uuid[i] = i; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Made-up GPU", length); return 0; }
int cuDeviceTotalMem_v2(unsigned long *bytes, int device) { *bytes = 24ul << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 5 : attribute == 76 ? 2 : attribute == 38 ? 4 << 20 : -1;
  return 0;
}
"""


def beside_a_driver(folder: Path, fault: int) -> dict:
    """The doctor's report on a machine whose libcuda is DRIVER: an old GPU, or one that does not start."""
    (folder / "driver.c").write_text(DRIVER, encoding="utf-8")
    library = [
        "cc",
        "-shared",
        "-fPIC",
        f"-DFAULT={fault}",
        "-o",
        str(folder / "libcuda.so.1"),
        str(folder / "driver.c"),
    ]
    subprocess.run(library, check=True)
    variables = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-m", "elastickv", "doctor", "--json", "--configfile", SMOKE, "--config", "backend=cuda"],
        cwd=ROOT,
        env=variables | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "")
    return {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}


def test_a_gpu_too_old_for_any_image(tmp_path):
    found = beside_a_driver(tmp_path, 0)
    assert "Made-up GPU (sm_52, 26 GB)" in found["GPU"]["found"]
    assert found["NVIDIA driver"]["found"].endswith("CUDA 12.4")
    old = found["image for Made-up GPU"]
    assert (old["level"], "sm_52" in old["found"]) == ("problem", True) and "backend=cpu" in old["fix"]
    assert found["memory of Made-up GPU"]["found"].startswith("25.8 GB free")


def test_a_driver_that_does_not_start(tmp_path):
    found = beside_a_driver(tmp_path, 803)
    assert found["GPU"]["level"] == "problem" and "different versions" in found["GPU"]["found"]
    assert "NVIDIA driver" not in found


@pytest.mark.gpu
@pytest.mark.skipif(not device.visible_gpus(), reason="no NVIDIA GPU is visible")
def test_a_real_gpu(checkout, capsys):
    facts = gpu.gather()
    assert [one.uuid for one in facts.gpus] == device.visible_gpus()
    assert facts.init == 0 and facts.driver and facts.cuda == device.cuda_driver_version()
    assert all(one.total > one.free > 0 and one.l2_bytes > 0 and one.capability >= (6, 0) for one in facts.gpus)
    _, report = as_json(capsys, "--configfile", SMOKE, "--config", "backend=cuda")
    found = {finding["check"]: finding["level"] for finding in report["findings"]}
    assert (found["GPU"], found["NVIDIA driver"]) == ("ok", "ok")
    assert f"memory of {facts.gpus[0].name}" in found
