"""Leases of devices, by real processes on made-up UUIDs: none overlap, the dead keep nothing, holders are named."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import Checkout, wait_until
from results_folder import example

from elastickv import device, jobs
from elastickv.build import binary
from elastickv.device import lease
from elastickv.errors import MachineError, UsageError
from elastickv.jobs import job
from elastickv.measure import supervisor
from elastickv.schemas.case import case_of
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.parts import BuildUsed
from elastickv.system import locks

HOLD = """
import json, sys, time
from elastickv.device import lease
seconds, log, timeout, *names = sys.argv[1:]
with lease.one_of(names, float(timeout)) as name:
    began = time.monotonic()
    with open(log, "a") as file:
        file.write(json.dumps([name, began, None]) + "\\n")
    time.sleep(float(seconds))
    with open(log, "a") as file:
        file.write(json.dumps([name, began, time.monotonic()]) + "\\n")
"""
LONG = 60.0


@pytest.fixture
def names() -> Iterator[list[str]]:
    """Two UUIDs that no GPU has; their lock files are gone afterwards."""
    made = [f"GPU-{uuid.uuid4()}" for _ in range(2)]
    yield made
    for name in made:
        lease.lock_file(name).unlink(missing_ok=True)


def start(log: Path, names: list[str], seconds: float, timeout: float = LONG) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(seconds), str(log), str(timeout), *names]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def held(log: Path) -> list[list]:
    """[name, began, ended] of every lease that began; ended is None where only its beginning is known."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def spans(log: Path) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for name, began, ended in held(log):
        if ended is not None:
            found.setdefault(name, []).append((began, ended))
    return {name: sorted(times) for name, times in found.items()}


def test_twelve_jobs_on_two_gpus_never_overlap_and_use_both(tmp_path, names):
    log = tmp_path / "log"
    jobs = [start(log, names, 0.1) for _ in range(12)]
    assert [job.wait(LONG) for job in jobs] == [0] * 12
    taken = spans(log)
    assert sum(map(len, taken.values())) == 12
    assert set(taken) == set(names)
    for times in taken.values():
        assert all(one[1] <= next_one[0] for one, next_one in pairwise(times))


def test_whoever_waits_gets_the_gpu_that_frees_first(tmp_path, names):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    long = start(first, names[:1], LONG)
    wait_until(lambda: held(first))
    brief = start(second, names[1:], 0.5)
    wait_until(lambda: held(second))
    waits = start(third, names, 0.0)
    assert waits.wait(LONG) == 0
    assert [entry[0] for entry in held(third)] == [names[1]] * 2
    assert brief.wait(LONG) == 0
    long.kill()
    long.wait()


def test_a_killed_holder_frees_its_gpu_and_its_name_stands_no_more(tmp_path, names):
    log, after = tmp_path / "log", tmp_path / "after"
    dying = start(log, names[:1], LONG)
    wait_until(lambda: held(log))
    assert locks.holder(lease.lock_file(names[0])) == dying.pid
    dying.send_signal(signal.SIGKILL)
    dying.wait()
    assert locks.holder(lease.lock_file(names[0])) is None
    assert start(after, names[:1], 0.0, timeout=5.0).wait(LONG) == 0
    assert len(spans(after)[names[0]]) == 1


def test_a_time_out_names_every_holder(tmp_path, names):
    log = tmp_path / "log"
    holders = [start(log, [name], LONG) for name in names]
    wait_until(lambda: len(held(log)) == 2)
    with pytest.raises(MachineError) as refused, lease.one_of(names, timeout=0.3):
        pass
    user = pwd.getpwuid(os.getuid()).pw_name
    for name, process in zip(names, holders, strict=True):
        process.kill()
        process.wait()
        assert f"{name}, held by process {process.pid} of {user} (" in str(refused.value)
    assert sys.executable in str(refused.value)


AS_ANOTHER = """
import os, sys, time
from elastickv.device import lease
from elastickv.system import locks
name, timeout = sys.argv[1:]
with lease.one_of([name + "-first"]):  # imports all that it takes: what follows may not be able to read it
    locks.holder_named(lease.lock_file(name + "-first"))
lease.lock_file(name + "-first").unlink()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with lease.one_of([name], float(timeout)):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_another_users_measurement_is_waited_for(tmp_path, names):
    def other(timeout: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", AS_ANOTHER, names[0], str(timeout)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    theirs = other(LONG)
    assert theirs.stdout.readline() == "held\n", theirs.communicate()
    with pytest.raises(MachineError, match=f"held by process {theirs.pid} of nobody"), lease.one_of(names[:1], 0.2):
        pass
    theirs.kill()
    theirs.wait()
    with lease.one_of(names[:1], timeout=5.0):  # in the file that the other user made
        waiting = other(0.2)
        _, said = waiting.communicate(timeout=LONG)
        assert waiting.returncode == 1
        assert f"held by process {os.getpid()} of " in said


def test_the_longest_wait_can_be_set_to_a_number_of_seconds(monkeypatch):
    for given, seconds in (("", lease.TIMEOUT_SECONDS), ("0", 0.0), ("2.5", 2.5)):
        monkeypatch.setenv(lease.TIMEOUT_VARIABLE, given)
        assert lease.timeout_seconds() == seconds
    for given in ("soon", "-1", "nan"):
        monkeypatch.setenv(lease.TIMEOUT_VARIABLE, given)
        with pytest.raises(UsageError, match=lease.TIMEOUT_VARIABLE):
            lease.timeout_seconds()


DAG = """

from elastickv.measure import demand


rule probe:
    output:
        "probe/{backend}-{n}",
    threads: lambda wildcards: RUN.threads(demand.of_ceilings(wildcards.backend), workflow.cores)
    resources:
        gpu=lambda wildcards: demand.of_ceilings(wildcards.backend).gpu,
    params:
        names=lambda wildcards: "%s" if wildcards.backend == "cuda" else "%s",
        seconds=lambda wildcards: 1.5 if wildcards.backend == "cuda" else 0.4,
    shell:
        "exec python hold.py {params.seconds} log 60 {params.names} > {output}"
"""


def test_two_gpus_are_timed_on_at_a_time_and_a_cpu_alone(clone: Checkout, tmp_path, names):
    checkout = clone.copy(tmp_path / "checkout")
    cpu = f"CPU-{uuid.uuid4()}"
    with (checkout.root / "Snakefile").open("a", encoding="utf-8") as file:
        file.write(DAG % (" ".join(names), cpu))
    (checkout.root / "hold.py").write_text(HOLD, encoding="utf-8")
    targets = [f"probe/cuda-{n}" for n in range(4)] + ["probe/cpu-0", "probe/cpu-1"]
    run = checkout.start_snakemake(
        *("--configfile", "config/smoke.yaml", "--", *targets), CUDA_VISIBLE_DEVICES=",".join(names)
    )
    text, _ = run.communicate(timeout=120)
    lease.lock_file(cpu).unlink(missing_ok=True)
    assert run.returncode == 0, text
    taken = spans(checkout.root / "log")
    assert set(taken) == {*names, cpu}
    assert (sum(len(taken[name]) for name in names), len(taken[cpu])) == (4, 2)
    assert all(one[1] <= next_one[0] for times in taken.values() for one, next_one in pairwise(times))
    everything = sorted((began, ended, name) for name, times in taken.items() for began, ended in times)
    beside = [(one, two) for one in everything for two in everything if one < two and two[0] < one[1]]
    assert beside
    assert all({one[2], two[2]} == set(names) for one, two in beside)


def test_the_number_of_gpus_is_guessed_without_a_driver(tmp_path, monkeypatch):
    from elastickv.device.driver import expected_gpus

    folder = tmp_path / "gpus"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert expected_gpus(folder) == 1
    for board in range(4):
        (folder / f"0000:{board}").mkdir(parents=True)
    assert expected_gpus(folder) == 4
    for listed, count in {"": 4, "2,3": 2, "GPU-1,GPU-2, GPU-3": 3, "MIG-1,MIG-2": 1, "0,1,2,3,4,5": 4}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
        assert expected_gpus(folder) == count, listed
    assert expected_gpus(tmp_path / "none") == 6


@pytest.mark.parametrize("measured_on", [0, 1])
def test_a_finished_record_is_found_whichever_gpu_measured_it(tmp_path, monkeypatch, names, measured_on):
    record, store = example("4096_golden_ticket"), jobs.RecordStore(tmp_path)
    monkeypatch.setattr(device, "visible_gpus", lambda: names)
    monkeypatch.setattr(device, "resolve_backend", lambda wanted: "cuda")
    built = BuildUsed(**record["build"])
    monkeypatch.setattr(binary, "facts", lambda *about: built)
    case = case_of(record["case"])
    measured = supervisor.Case(case, "cuda", "build", built)
    store.keep(job.key(measured, case.id, names[measured_on]), Measurement(**record))
    with lease.one_of(names[:1]), lease.one_of(names[1:]):  # without waiting for one of them
        monkeypatch.setenv(lease.TIMEOUT_VARIABLE, "0")
        assert supervisor.measure_case(case, "build", store=store).model_dump(mode="json") == record
