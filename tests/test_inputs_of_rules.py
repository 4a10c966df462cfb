"""Every rule lists the files that its command opens, and no others: traced on the smoke matrix, in both directions."""

from __future__ import annotations

import csv
import io
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import BIN, Checkout

CONFIG = "config/smoke.yaml"
RESULTS = "results/smoke"
# Runs in every Python process of a job, workers included; a job is known by its command.
TRACER = """
import os, shlex, sys

job = os.environ.get("TRACED_JOB")
if not job and sys.orig_argv[:3] == ["python", "-m", "elastickv"]:
    job = shlex.join(sys.orig_argv)
if job:
    os.environ["TRACED_JOB"] = job
    trace = os.open(os.path.join(os.environ["TRACE"], str(os.getpid())), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(trace, os.fsencode(job) + b"\\n")

    def note(event, arguments):
        reads = event == "open" and not (arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if (reads or event == "ctypes.dlopen") and isinstance(arguments[0], (str, bytes)):
            os.write(trace, os.fsencode(os.path.abspath(arguments[0])) + b"\\n")

    sys.addaudithook(note)
"""
# No rule lists these: the program and its environment, what a step keeps for its own next time, logs.
UNLISTED = (
    "workflow",
    "schemas",
    ".venv",
    ".snakemake",
    "build/.store",
    "build/.headers",
    f"{RESULTS}/.records",
    f"{RESULTS}/.logs",
)
# The program's, too: the Python files of a kernel's folder, and the parameter blocks that Python reads from a header.
OF_KERNELS = re.compile(r"kernels/(\w+/)?(\w+\.py|__pycache__/.*|params\.h)")
# A fingerprint in a rule's inputs represents the sources that its command reads: a comment in them changes nothing.
STANDS_FOR = {
    "build/.plan/cpu.json": ("kernels",),
    f"{RESULTS}/.plan/notebook.json": ("kernels", "envs", "config"),
}


@pytest.fixture(scope="module")
def traced(clone: Checkout, cpu_build: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Path]:
    """A checkout in which the smoke matrix ran, and the folder of its trace: a file a process."""
    folder = tmp_path_factory.mktemp("traced")
    checkout = clone.copy(folder / "checkout")
    checkout.take_builds(cpu_build)
    (folder / "hook").mkdir()
    (folder / "hook/sitecustomize.py").write_text(TRACER, encoding="utf-8")
    (folder / "trace").mkdir()
    python_path = f"{folder / 'hook'}:{checkout.environment['PYTHONPATH']}"
    run = checkout.start_snakemake("--configfile", CONFIG, PYTHONPATH=python_path, TRACE=str(folder / "trace"))
    text, _ = run.communicate(timeout=1800)
    assert run.returncode == 0, text
    return checkout, folder / "trace"


def is_temporary(path: str) -> bool:
    """Whether a file only takes an output's place when it is whole; it is opened again to be flushed to the disk."""
    return Path(path).name.startswith(".") and path.endswith(".part")


def opened(checkout: Checkout, trace: Path) -> dict[str, set[str]]:
    """The files of the checkout that each job read, by its command."""
    found: dict[str, set[str]] = {}
    for process in trace.iterdir():
        job, *paths = process.read_text(encoding="utf-8").splitlines()
        inside = (Path(path) for path in paths if Path(path).is_relative_to(checkout.root) and not is_temporary(path))
        found.setdefault(job, set()).update(str(path.relative_to(checkout.root)) for path in inside)
    return found


def listed(checkout: Checkout) -> dict[str, tuple[set[str], set[str], set[str]]]:
    """Inputs, outputs and rule of every job, by its command, as Snakemake reports them."""
    command = [BIN / "snakemake", "--configfile", CONFIG, "--detailed-summary"]
    done = subprocess.run(
        command, cwd=checkout.root, env=checkout.environment, capture_output=True, text=True, check=True
    )
    found: dict[str, tuple[set[str], set[str], set[str]]] = {}
    for row in csv.DictReader(io.StringIO(done.stdout), delimiter="\t"):
        words = shlex.split(row["shellcmd"].partition(" 2> ")[0])
        command = shlex.join(word for word in words if word not in ("exec", "${ELASTICKV_REMEASURE:+--remeasure}"))
        inputs, outputs, rules = found.setdefault(command, (set(), set(), set()))
        inputs.update(filter(None, row["input-file(s)"].split(",")))
        outputs.add(row["output_file"])
        rules.add(row["rule"])
    return found


def lies_in(path: str, folders: object) -> bool:
    """Whether a path is one of these, or in one that is a folder."""
    return any(Path(path).is_relative_to(folder) for folder in folders)


@pytest.mark.slow
def test_every_rule_lists_what_its_command_opens_and_opens_what_it_lists(traced: tuple[Checkout, Path]):
    checkout, trace = traced
    read, known = opened(checkout, trace), listed(checkout)
    assert set(read) == set(known)
    assert {rule for *_, rules in known.values() for rule in rules} == {
        *("build_cpu", "ceilings", "measure", "summarise", "verdict", "report_markdown", "figures", "social"),
        *("notebook", "manifest"),
    }
    unlisted, unopened = {}, {}
    for job, (inputs, outputs, _) in known.items():
        stood_for = [folder for name in inputs for folder in STANDS_FOR.get(name, ())]
        allowed = [*inputs, *outputs, *UNLISTED, *stood_for]
        unlisted[job] = {path for path in read[job] if not (lies_in(path, allowed) or OF_KERNELS.fullmatch(path))}
        unopened[job] = {
            name for name in inputs if not any(lies_in(path, STANDS_FOR.get(name, (name,))) for path in read[job])
        }
    found = [{job: paths for job, paths in each.items() if paths} for each in (unlisted, unopened)]
    assert found == [{}, {}]
