"""The smoke matrix on a real SLURM of two nodes with GPUs that are none: jobs ask for them and measure CPU kernels."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import slurm_cluster
from conftest import Checkout, commands_in, wait_until
from slurm_cluster import NODES, Cluster

from elastickv.measure import demand
from elastickv.schemas.case import case_of

# `auto`: the head, which has no GPU, plans for nodes that have one. One image, and samples that take no time.
QUICK = """
backend: auto
build: {architectures: [80], ptx: null}
measure: {reps: 4, warmup: 1, inner_loops: 1, decode_tokens: 2, max_seconds: 0.2}
"""
RESULTS = "results/smoke"
CASES = ("decode_c4", "decode_int4", "decode_mean", "elementwise")
CANCELLED = "elementwise"
COLUMNS = {"job": "JobID", "node": "NodeList", "state": "State", "gpus": "tres-per-job", "memory": "MinMemory",
           "time": "TimeLimit", "rule": "Comment"}  # fmt: skip
WIDTH = 48
BUILDS = {"rule_build_cpu", "rule_build_image_wildcards_sm_80_cubin", "rule_build_fatbin"}
MEASURE = "rule_measure_wildcards_"


@dataclass
class Squeue:
    """What squeue printed while a run went on: each job's row whenever it had changed, in order."""

    cluster: Cluster
    rows: list[dict[str, str]]

    def look(self) -> None:
        """Asks squeue once more; jobs that ended are listed for five minutes."""
        columns = ",".join(f"{name}:{WIDTH}" for name in COLUMNS.values())
        text = self.cluster.command("squeue", "--states=all", "--noheader", f"--Format={columns}")
        for line in text.splitlines():
            fields = (line[i : i + WIDTH].strip() for i in range(0, WIDTH * len(COLUMNS), WIDTH))
            row = dict(zip(COLUMNS, fields, strict=True))
            if row not in self.rows:
                self.rows.append(row)

    def jobs(self, rule: str, state: str = "") -> list[dict[str, str]]:
        """The rows of a rule's jobs (the beginning of its comment), in a state where one is named."""
        return [row for row in self.rows if row["rule"].startswith(rule) and state in ("", row["state"])]

    def table(self) -> str:
        """All of it, for people."""
        widths = {name: max(len(row[name]) for row in self.rows) for name in COLUMNS}
        return "\n".join("  ".join(row[name].ljust(widths[name]) for name in COLUMNS) for row in self.rows)


@pytest.fixture(scope="module")
def checkout(clone: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("Snakemake's SLURM plugin is missing (make test-slow installs envs/slurm.txt)")
    if problem := slurm_cluster.install():
        pytest.skip(problem)
    copy = clone.copy(tmp_path_factory.mktemp("slurm") / "checkout")
    (copy.root / "config/quick.yaml").write_text(QUICK, encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def cluster(checkout: Checkout) -> Iterator[Cluster]:
    with slurm_cluster.running(checkout.environment) as started:
        yield started
    assert commands_in(checkout.root) == []


def run(checkout: Checkout, cluster: Cluster, squeue: Squeue, meanwhile: Callable[[], None]) -> tuple[int, str]:
    """The one command, to its end: exit code and what it printed."""
    process = checkout.start_snakemake(
        *("--profile", "profiles/slurm", "--configfile", "config/smoke.yaml", "config/quick.yaml"),
        *("--slurm-init-seconds-before-status-checks", "1"),
        **cluster.environment,
    )
    while True:
        try:
            text, _ = process.communicate(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            squeue.look()
            meanwhile()
    squeue.look()
    return process.returncode, text


def records(checkout: Checkout) -> dict[str, dict[str, Any]]:
    """The measurement records that there are, by case."""
    paths = (checkout.root / RESULTS).glob("results_*.json")
    return {path.stem.removeprefix("results_"): json.loads(path.read_text(encoding="utf-8")) for path in paths}


def measuring(checkout: Checkout, case: str) -> bool:
    """Whether `elastickv measure` of a case runs in the checkout."""
    plan = f"{RESULTS}/.plan/cases/{case}.json"
    return any("--case" in command and plan in command for command in commands_in(checkout.root))


def megabytes(text: str) -> float:
    """Memory as squeue prints it."""
    number, unit = re.fullmatch(r"([\d.]+)([MG])", text).groups()
    return float(number) * {"M": 1, "G": 1024}[unit]


@pytest.mark.slow
def test_the_matrix_runs_on_both_nodes_and_a_cancelled_job_runs_again(
    checkout: Checkout, cluster: Cluster, capsys: pytest.CaptureFixture[str]
):
    squeue = Squeue(cluster, [])
    cancelled: list[str] = []

    def cancel_one() -> None:
        if not cancelled and measuring(checkout, CANCELLED):
            cancelled.append(squeue.jobs(MEASURE + CANCELLED, "RUNNING")[0]["job"])
            cluster.command("scancel", *cancelled)

    code, text = run(checkout, cluster, squeue, cancel_one)
    with capsys.disabled():
        print(f"\nsqueue during the run:\n{squeue.table()}")
    assert code != 0, text
    assert "Traceback" not in text
    assert "Error in rule measure" in text
    before = records(checkout)
    assert set(before) == set(CASES) - {CANCELLED}, text
    check_what_was_asked(squeue, checkout)
    wait_until(lambda: not measuring(checkout, CANCELLED))

    again = Squeue(cluster, [])
    known = {row["job"] for row in squeue.rows}
    code, text = run(checkout, cluster, again, lambda: None)
    again.rows = [row for row in again.rows if row["job"] not in known]
    with capsys.disabled():
        print(f"squeue during the second run:\n{again.table()}")
    assert code == 0, text
    assert {row["rule"] for row in again.rows} == {MEASURE + CANCELLED}
    after = records(checkout)
    assert set(after) == set(CASES)
    assert {case: after[case] for case in before} == before
    check_measurements(list(after.values()))
    assert (checkout.root / RESULTS / "report.md").exists()


def check_what_was_asked(squeue: Squeue, checkout: Checkout) -> None:
    """Jobs on both nodes; GPUs for measuring alone, memory and time by the case; builds once; the rest on the head."""
    assert {row["node"] for row in squeue.jobs("rule_measure", "RUNNING")} == set(NODES)
    assert {row["rule"] for row in squeue.rows} == {*BUILDS, "rule_ceilings", *(MEASURE + case for case in CASES)}
    assert {row["gpus"] for row in squeue.jobs("rule_build")} == {"N/A"}
    assert {row["gpus"] for row in squeue.jobs("rule_measure") + squeue.jobs("rule_ceilings")} == {"gres:gpu:1"}
    for rule in BUILDS:
        assert len({row["job"] for row in squeue.jobs(rule)}) == 1
    for case in CASES:
        plan = checkout.root / RESULTS / ".plan/cases" / f"{case}.json"
        requested = demand.of_case(case_of(json.loads(plan.read_text(encoding="utf-8"))))
        for row in squeue.jobs(MEASURE + case):
            assert megabytes(row["memory"]) == requested.mem_mb
            assert row["time"] == f"{requested.runtime}:00"


def check_measurements(found: list[dict[str, Any]]) -> None:
    """All on the nodes' CPU kernels, and never two at a time, since both nodes are one machine."""
    assert {record["resolved"]["backend"] for record in found} == {"cpu"}
    assert {record["status"] for record in found} <= {"ok", "noisy"}
    spans = sorted((record["started"], record["ended"]) for record in found)
    assert all(ended <= started for (_, ended), (started, _) in pairwise(spans))
