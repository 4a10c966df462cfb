"""Fault injection: `make run` killed at random moments continues by itself and loses no finished measurement.

A hundred kills, each time at other moments:
ELASTICKV_KILLS=100 make test-slow ARGS="-n 0 -s tests/test_kill.py -k group"
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Checkout, commands_in, plain_environment, wait_until

CONFIG = "config/smoke.yaml"
BY_HAND = os.environ.get("ELASTICKV_KILLS")
KILLS = int(BY_HAND or 6)


def store_starts(root: Path) -> dict[str, str]:
    """When each finished measurement began, by its key in the record store."""
    stored = root.glob("results/*/.records/*.json")
    records = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in stored}
    return {name: record["started"] for name, record in records.items()}


def make_run(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["make", "run", f"CONFIG={CONFIG}", "CORES=2"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=plain_environment(),
    )


def verified(root: Path) -> str:
    """The last line of `elastickv verify` on what a killed run left, which must be correct as far as it goes."""
    said = "nothing yet"
    for results in root.glob("results/*/.plan"):
        command = [sys.executable, "-m", "elastickv", "verify", "--unfinished", results.parent.relative_to(root)]
        environment = {**os.environ, "PYTHONPATH": str(root / "workflow")}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        said = done.stdout.strip().splitlines()[-1]
    return said


def measures(root: Path) -> bool:
    return any("--case" in command for command in commands_in(root))


def killed(run: subprocess.Popen[str], whole_group: bool) -> bool:
    """Whether the kill came before the run ended by itself, which then has to be in success."""
    if run.poll() is None:  # not waited for yet, so its number is still its own
        (os.killpg if whole_group else os.kill)(run.pid, signal.SIGKILL)
        run.wait()
    text, _ = run.communicate(timeout=60)  # waits for every process that holds its output
    assert run.returncode in (0, -signal.SIGKILL), text
    return run.returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize(("whole_group", "kills"), [(True, KILLS), (False, 2)], ids=["whole group", "make alone"])
def test_a_killed_make_run_goes_on_and_loses_nothing(clone: Checkout, tmp_path: Path, whole_group: bool, kills: int):
    root = clone.copy(tmp_path / "checkout").root
    moments = random.Random(None if BY_HAND else f"kill {whole_group}")
    seen: dict[str, str] = {}
    done = 0
    while done < kills:
        run = make_run(root)
        began = time.monotonic()
        if done % 2:  # however slow the machine is, some fall into and behind measurements
            wait_until(lambda run=run: measures(root) or run.poll() is not None, 600)
        time.sleep(moments.uniform(0.5, 6.0 if done % 2 else 15.0))
        moment = time.monotonic() - began
        was_killed = killed(run, whole_group)
        wait_until(lambda: commands_in(root) == [])
        starts = store_starts(root)
        assert seen.items() <= starts.items(), "a finished measurement was lost or repeated"
        seen = starts
        if was_killed:
            done += 1
            print(f"kill {done} after {moment:.1f} s: {len(seen)} records kept; {verified(root)}", flush=True)
        else:
            print(f"at its end before {moment:.1f} s: {len(seen)} records kept; {verified(root)}; from the start again")
            for made in ("build", "results/smoke"):
                shutil.rmtree(root / made)
            seen = {}
    last = make_run(root)
    text, _ = last.communicate(timeout=900)
    assert last.returncode == 0, text
    assert "report: " in text
    final = store_starts(root)
    assert seen.items() <= final.items()
    published = [json.loads(path.read_text(encoding="utf-8")) for path in root.glob("results/*/results_*.json")]
    assert {record["started"] for record in published if record.get("statistics")} == set(final.values())
    print(f"then to its end: {len(final)} records kept, {len(seen)} of them from before; {verified(root)}")
