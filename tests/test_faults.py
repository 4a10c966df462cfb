"""Faults of the machine: each ends in a recorded status or one clear message, and nothing measured is lost.

docs/faults.md lists all of them, those of other files too. No limit here is simulated: processes run under real ones.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import FOREVER, wait_until
from results_folder import RECORDS, elastickv, example, judged, limits_of, make, put

from elastickv import cli, jobs, matrix, records
from elastickv.audit import verify
from elastickv.build import binary
from elastickv.errors import MachineError
from elastickv.measure import supervisor
from elastickv.schemas.case import AnyCase, case_of
from elastickv.schemas.measurement import Measurement

ROOT = Path(__file__).resolve().parents[1]
PR_CAPBSET_DROP = 24  # linux/prctl.h
PASS_OVER_MODES = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH of linux/capability.h
QUICK = {"reps": 3, "warmup": 1, "inner_loops": 1, "max_seconds": 1, "decode_tokens": 0}
MIB = 1 << 20


def case_file(folder: Path, **changes) -> Path:
    """A plan file of a small CPU case."""
    shape = {"id": "a", "backend": "cpu", "seq": 256, "heads": 2, "dim": 64, "window": 16, "compress": 4}
    measure = QUICK | changes.pop("measure", {})
    path = folder / "a.json"
    path.write_text(
        records.canonical_json(matrix.case_from_flags(shape | changes | {"measure": measure}).model_dump(mode="json"))
    )
    return path


def read_case(path: Path) -> AnyCase:
    return case_of(json.loads(path.read_text(encoding="utf-8")))


def measure_command(case: Path, out: Path, store: Path) -> list[str]:
    build = str(ROOT / "build")
    return [sys.executable, "-m", "elastickv", "measure", "--case", str(case), "--out", str(out), "--store", str(store),
            "--build", build]  # fmt: skip


def run(command: list[str], limit: Callable[[], None] | None = None, **more) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end under the given limits; never with a traceback."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=FOREVER, preexec_fn=limit,
        **{"cwd": ROOT, "env": os.environ | {"PYTHONPATH": str(ROOT / "workflow")}} | more,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def limited(kind: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (value, value))


# Memory


def test_a_case_beyond_a_memory_limit_is_out_of_memory(cpu_build, tmp_path):
    """2 GB of keys and values where the process may address 1.5 GB."""
    case, out = case_file(tmp_path, seq=1 << 20, heads=4, dim=128), tmp_path / "out.json"
    done = run(measure_command(case, out, tmp_path / "store"), limited(resource.RLIMIT_AS, 1536 * MIB))
    assert done.returncode == 0, done.stderr
    record = records.read(out, "measurement")
    assert record["status"] == "out_of_memory"
    assert "GB" in record["reason"]
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").glob("*.json"))


@pytest.mark.slow
def test_an_allocation_that_fails_within_the_budget_has_a_status(cpu_build, tmp_path):
    """Here memory ends in the midst of the work: NumPy, the library or the interpreter itself meets the limit."""
    case, out = case_file(tmp_path, seq=65536, heads=4, dim=128), tmp_path / "out.json"
    done = run(measure_command(case, out, tmp_path / "store"), limited(resource.RLIMIT_AS, 640 * MIB))
    assert done.returncode == 0, done.stderr
    record = records.read(out, "measurement")
    assert record["status"] in ("out_of_memory", "failed")
    assert record["reason"]
    assert "statistics" not in record


# Processes


def test_a_killed_worker_is_a_failed_record_and_the_next_try_measures(cpu_build, tmp_path):
    case = case_file(tmp_path, seq=1024, measure={"reps": 1000, "max_seconds": 60, "precision": 1e-6})
    out, store = tmp_path / "out.json", tmp_path / "store"
    parent = subprocess.Popen(measure_command(case, out, store), cwd=ROOT, stderr=subprocess.PIPE, text=True)

    def workers() -> list[psutil.Process]:
        return [
            child for child in psutil.Process(parent.pid).children() if "elastickv.measure.worker" in child.cmdline()
        ]

    wait_until(lambda: workers() != [], FOREVER)
    workers()[0].send_signal(signal.SIGKILL)
    _, stderr = parent.communicate(timeout=60)
    assert parent.returncode == 0, stderr
    record = records.read(out, "measurement")
    assert (record["status"], "SIGKILL" in record["reason"]) == ("failed", True)
    assert not list(store.glob("*.json"))
    case = case_file(tmp_path)
    assert run(measure_command(case, out, store)).returncode == 0
    assert records.read(out, "measurement")["status"] in ("ok", "noisy")
    assert len(list(store.glob("*.json"))) == 1


def test_a_worker_that_cannot_be_started_is_a_failed_record(cpu_build, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.process, "interpreter", lambda _: str(tmp_path / "no-python"))
    record = supervisor.measure_case(read_case(case_file(tmp_path)), str(ROOT / "build"))
    records.check(record.model_dump(mode="json"), "measurement", "failed")
    assert record.status == "failed"
    assert "could not be started" in record.reason


# Disk


def test_no_room_for_a_record_is_found_before_anything_is_timed(cpu_build, tmp_path):
    case, out, store = case_file(tmp_path), tmp_path / "out.json", tmp_path / "store"
    done = run(measure_command(case, out, store), limited(resource.RLIMIT_FSIZE, MIB))
    assert done.returncode == 3
    assert re.search(r"store: cannot be written: File too large\nfix: check `df -h", done.stderr)
    assert not out.exists()
    assert list(store.iterdir()) == []


WRITE = """
import sys
from elastickv import records
from elastickv.errors import MachineError
try:
    records.write_text(sys.argv[1], "x" * 100_000)
except MachineError as error:
    sys.exit(f"{error}")
"""


def test_a_disk_that_fills_up_in_the_midst_of_a_record_leaves_the_old_one(tmp_path):
    path = tmp_path / "results_a.json"
    records.write_text(path, "the old one")
    done = run([sys.executable, "-c", WRITE, str(path)], limited(resource.RLIMIT_FSIZE, 50_000))
    assert done.returncode == 1
    assert "cannot be written: File too large" in done.stderr
    assert path.read_text() == "the old one"
    assert [file.name for file in tmp_path.iterdir()] == ["results_a.json"]


@pytest.mark.parametrize(
    ("command", "out"),
    [
        (["summarise"], "summary.csv"),
        (["verdict"], "verdicts.json"),
        (["report", "markdown"], "report.md"),
        (["report", "social"], "social_media_content.txt"),
    ],
    ids=str,
)
def test_a_full_disk_is_a_message_of_every_step_and_keeps_what_was_there(tmp_path, command, out):
    results = judged(make(tmp_path / "results", ("4096_cpu",), "ceilings"))
    before = elastickv(command, results, out).read_bytes()
    arguments = [
        *limits_of(command[0], results),
        "--cases",
        str(results / ".plan/cases.json"),
        "--results",
        str(results),
        "--out",
        str(results / out),
    ]
    whole = [sys.executable, "-m", "elastickv", *command, *arguments]
    done = run(
        whole,
        limited(resource.RLIMIT_FSIZE, 100),
        env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")},
    )
    assert done.returncode == 3
    assert "cannot be written: File too large" in done.stderr
    assert (results / out).read_bytes() == before
    assert not list(results.rglob("*.part"))


def test_a_store_that_refuses_a_record_costs_no_measurement(cpu_build, tmp_path, capfd, monkeypatch):
    """The record's place in the store is taken by a folder; its own file still gets it."""
    case, out = case_file(tmp_path), tmp_path / "out.json"
    store = jobs.RecordStore(tmp_path / "store")
    monkeypatch.setattr(jobs.RecordStore, "path", lambda self, key: self.folder / "taken")
    (tmp_path / "store/taken").mkdir(parents=True)
    record = supervisor.measure_case(read_case(case), str(ROOT / "build"), store=store)
    assert record.status in ("ok", "noisy"), record.reason
    assert "taken: cannot be written: Is a directory" in capfd.readouterr().err
    records.write(out, record.model_dump(mode="json"), "measurement")
    assert records.read(out, "measurement")["samples"]["full_us"]


def read_only(folder: Path) -> Callable[[], None]:
    """Takes the right to write there away, for a process with the returned limit also where it is root's."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return lambda: [ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, right, 0, 0, 0) for right in PASS_OVER_MODES]


def test_a_read_only_results_folder_is_a_message(tmp_path):
    results = judged(make(tmp_path / "results", ("4096_cpu",)))
    config = tmp_path / "c.yaml"
    config.write_text(f"results: {results}\ncases: {{a: {{seq: 64, heads: 2, dim: 64, compress: 2}}}}\n")
    limit, elastic = read_only(tmp_path), [sys.executable, "-m", "elastickv"]
    planned = run([*elastic, "plan", "--configfile", str(config)], limit)
    assert (planned.returncode, "cannot be written to: Permission denied" in planned.stderr) == (2, True)
    arguments = ["--cases", str(results / ".plan/cases.json"), "--results", str(results)]
    done = run([*elastic, "report", "markdown", *arguments, "--out", str(results / "report.md")], limit)
    assert done.returncode == 3
    assert "report.md: cannot be written: Permission denied" in done.stderr
    assert sorted(path.name for path in results.iterdir()) == [".plan", "results_4096_cpu.json", "verdicts.json"]


def test_a_read_only_store_is_found_before_anything_is_timed(cpu_build, tmp_path):
    case, store = case_file(tmp_path), tmp_path / "store"
    store.mkdir()
    done = run(measure_command(case, tmp_path / "out.json", store), read_only(tmp_path))
    assert done.returncode == 3
    assert "store: cannot be written: Permission denied" in done.stderr


# Files that are not what they should be

OLD = "measurement/0"
BROKEN = {
    "empty": b"",
    "truncated": (RECORDS / "4096_cpu.json").read_bytes()[:5000],
    "foreign": b'{"name": "somebody else\'s", "version": 1}',
    "another kind of record": (RECORDS / "ceilings.json").read_bytes(),
    "old schema": (RECORDS / "4096_cpu.json").read_bytes().replace(b"measurement/2", OLD.encode()),
    "no text": b"\x80\x81\x00\xff",
    "NaN": (RECORDS / "4096_cpu.json").read_bytes().replace(b'"value": ', b'"value": NaN, "was": ', 1),
    "deep": b"[" * 10**6,
    "a list": b"[]",
}


def places(path: Path, content: bytes | str) -> None:
    """Puts content, or what is no regular file, at a path."""
    path.unlink(missing_ok=True)
    if content == "pipe":
        os.mkfifo(path)
    elif content == "folder":
        path.mkdir()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("fault", [*BROKEN, "pipe", "folder"])
def test_a_broken_record_is_an_invalid_case_and_the_others_are_published(tmp_path, monkeypatch, fault):
    monkeypatch.chdir(tmp_path)
    results = make(tmp_path / "results", ("4096_cpu", "4096_elementwise"), "ceilings", "transformers_baseline")
    for name in ("results_4096_cpu.json", "transformers_baseline.json", "ceilings.json"):
        content = BROKEN.get(fault, fault)
        if fault == "another kind of record" and name == "ceilings.json":
            content = (RECORDS / "4096_cpu.json").read_bytes()
        places(results / name, content)
    judged(results)
    broken, whole = records.read(results / "verdicts.json", "verdict")["cases"]
    assert (broken["verdict"], whole["verdict"]) == ("invalid", "golden_ticket")
    assert broken["reason"].startswith("unreadable record: ")
    if fault == "old schema":
        assert f"the record has schema {OLD}, but this version reads only measurement/2" in broken["reason"]
    else:
        assert "are restored from the record store" in broken["reason"]
    markdown = elastickv(["report", "markdown"], results, "report.md").read_text(encoding="utf-8")
    assert "unreadable record" in markdown
    assert "1.975x" in markdown
    for command, out in ((["summarise"], "summary.csv"), (["report", "social"], "social_media_content.txt")):
        elastickv(command, results, out)
    found = {fault.file for fault in verify(results, unfinished=True).faults}
    assert {"results_4096_cpu.json", "transformers_baseline.json", "ceilings.json"} <= found


@pytest.mark.parametrize("fault", [*BROKEN, "pipe", "folder"])
def test_a_broken_record_in_the_store_is_measured_again(tmp_path, fault):
    store = jobs.RecordStore(tmp_path)
    places(store.path("k"), BROKEN.get(fault, fault))
    assert store.find("k", Measurement) is None


def test_a_record_of_an_older_schema_in_the_store_is_set_aside_with_one_message(tmp_path, capsys):
    store = jobs.RecordStore(tmp_path)
    store.path("k").write_bytes(BROKEN["old schema"])
    assert store.find("k", Measurement) is None
    stated = capsys.readouterr().err
    assert stated.count("\n") == 1 and f"the record has schema {OLD}" in stated and "measurement/2" in stated
    (aside,) = tmp_path.iterdir()
    assert str(aside) in stated and aside.read_bytes() == BROKEN["old schema"]
    assert store.find("k", Measurement) is None and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        *((name, fault) for name in (".plan/cases.json", "verdicts.json") for fault in BROKEN),
        *((f".plan/{name}.json", "foreign") for name in ("golden", "noise", "cases/4096_cpu")),
    ],
)
def test_a_broken_plan_or_verdict_is_a_message(tmp_path, capsys, name, fault):
    results = judged(make(tmp_path / "results", ("4096_cpu",)))
    (results / name).write_bytes(BROKEN[fault])
    shared = ["--cases", str(results / ".plan/cases.json"), "--results", str(results)]
    judging = ["verdict", *limits_of("verdict", results)]
    command = [*(["report", "markdown"] if name == "verdicts.json" else judging), *shared]
    assert cli.main([*command, "--out", str(tmp_path / "out")]) == 2
    stated = capsys.readouterr().err
    assert stated.startswith(f"elastickv: {results / name}: ")
    assert not (tmp_path / "out").exists()


def test_a_record_edited_by_hand_is_found(tmp_path):
    results = make(tmp_path / "results", ("4096_cpu",))
    assert verify(results, unfinished=True).faults == []
    record = example("4096_cpu")
    record["statistics"]["speedup"]["value"] *= 1.01
    put(results, record)
    (fault, *_) = verify(results, unfinished=True).faults
    assert (fault.file, fault.field) == ("results_4096_cpu.json", "statistics.speedup.value")


# Builds and drivers


def test_a_library_that_its_manifest_does_not_describe_is_refused(cpu_build, tmp_path):
    shutil.copytree(ROOT / "build/cpu", tmp_path / "build/cpu")
    library = tmp_path / "build/cpu/libelastickv.so"
    library.write_bytes(library.read_bytes() + b"\0")
    with pytest.raises(MachineError, match="not the binary") as caught:
        supervisor.measure_case(read_case(case_file(tmp_path)), str(tmp_path / "build"))
    assert caught.value.fix == "elastickv build cpu"
    library.unlink()
    with pytest.raises(MachineError, match="not the binary"):
        binary.facts(str(tmp_path / "build"), "cpu", "decode")


def test_a_missing_driver_is_a_message_with_its_fix(tmp_path):
    """Nothing that CUDA could show this process: no driver, or none of its GPUs visible."""
    case, out = case_file(tmp_path, backend="cuda"), tmp_path / "out.json"
    hidden = os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "CUDA_VISIBLE_DEVICES": ""}
    done = run(measure_command(case, out, tmp_path / "store"), env=hidden)
    assert done.returncode == 3
    assert "no NVIDIA GPU is visible" in done.stderr
    assert "fix: install the NVIDIA driver" in done.stderr
    assert not out.exists()


# Clocks

BACKWARDS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <sys/time.h>
static long requested;
static time_t past(void) { return 1700000000 - 3600 * __sync_fetch_and_add(&requested, 1); }
extern "C" time_t time(time_t* to) { time_t now = past(); if (to) *to = now; return now; }
extern "C" int gettimeofday(struct timeval* to, void*) noexcept { to->tv_sec = past(); to->tv_usec = 0; return 0; }
extern "C" int clock_gettime(clockid_t id, struct timespec* to) noexcept {
  typedef int (*Real)(clockid_t, struct timespec*);
  static Real real = (Real)dlsym(RTLD_NEXT, "clock_gettime");
  if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) { to->tv_sec = past(); to->tv_nsec = 0; return 0; }
  return real(id, to);
}
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is Linux's")
def test_a_clock_that_goes_backwards_changes_no_figure(cpu_build, tmp_path):
    """Every question for the time of day is answered an hour earlier than the one before, in all processes."""
    source, library = tmp_path / "backwards.cpp", tmp_path / "backwards.so"
    source.write_text(BACKWARDS)
    subprocess.run(["g++", "-shared", "-fPIC", "-w", str(source), "-o", str(library), "-ldl"], check=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "LD_PRELOAD": str(library)}
    requested = [sys.executable, "-c", "import time; print(time.time() > time.time())"]
    assert run(requested, env=environment).stdout == "True\n"
    case, results = case_file(tmp_path), tmp_path / "results"
    done = run(measure_command(case, results / "results_a.json", results / ".records"), env=environment)
    assert done.returncode == 0, done.stderr
    record = records.read(results / "results_a.json", "measurement")
    assert record["status"] in ("ok", "noisy"), record["reason"]
    assert record["started"] <= record["ended"]
    samples = [value for arm in ("full_us", "elastic_us", "full_again_us") for value in record["samples"][arm]]
    assert all(0 < sample < 1e6 for sample in samples)
    assert verify(results, unfinished=True).faults == []


# The table of faults


def names_in(path: Path) -> set[str]:
    """The tests of a file, as `test_x.py::test_y`."""
    return {f"{path.name}::{name}" for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M)}


def test_the_table_of_faults_names_tests_that_exist_and_all_of_these():
    named = set(re.findall(r"`(test_\w+\.py::\w+)`", (ROOT / "docs/faults.md").read_text(encoding="utf-8")))
    files = {ROOT / "tests" / name.partition("::")[0] for name in named}
    assert len(named) > 50
    assert named <= set().union(*map(names_in, files))
    here = set().union(*map(names_in, [*(ROOT / "tests").glob("test_faults*.py"), ROOT / "tests/test_kill.py"]))
    own = "test_faults.py::test_the_table_of_faults_names_tests_that_exist_and_all_of_these"
    assert here - named == {own}
