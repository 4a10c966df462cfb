"""To add a part is to add its files: every example under docs/extending/ runs with no other file edited.

An example is a folder with a `matrix.yaml` that uses it and, below `files/`, what it adds, at its paths in a checkout.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Checkout

from elastickv.build import compilers
from elastickv.judge import noise

EXAMPLES = sorted(path.parent for path in (ROOT / "docs/extending").glob("*/matrix.yaml"))
MEASURED = {*noise.PUBLISHED, "noisy"}  # a record with figures, right against float64; noisy where the machine is busy
CASES_BEFORE = ("results/smoke/results_decode_int4.json", "results/smoke/results_elementwise.json")
BEFORE = (*CASES_BEFORE, "--configfile", "config/smoke.yaml")


def added(example: Path) -> dict[Path, Path]:
    """The files of an example by the path in a checkout."""
    files = example / "files"
    return {path.relative_to(files): path for path in sorted(files.rglob("*")) if path.is_file() and is_source(path)}


def add(checkout: Checkout, example: Path) -> None:
    for name, path in added(example).items():
        (checkout.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, checkout.root / name)


def is_source(path: Path) -> bool:
    return "__pycache__" not in path.parts


def records_of(results: Path) -> dict[str, dict]:
    """The records of cases and peers, by the names of their files."""
    paths = [*results.glob("results_*.json"), *results.glob("peers_*.json")]
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def run(checkout: Checkout, *arguments: str) -> None:
    done = checkout.snakemake(*arguments)
    assert done.code == 0, done.text


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_adds_files_and_replaces_none(example):
    assert [str(name) for name in added(example) if (ROOT / name).exists()] == []


def test_the_page_points_to_examples_and_every_folder_is_one():
    assert [*EXAMPLES] == sorted(path for path in (ROOT / "docs/extending").iterdir() if path.is_dir())
    named = re.findall(r"\(extending/(\w+)\)", (ROOT / "docs/extending.md").read_text(encoding="utf-8"))
    assert {"format", "kernel", "peer", "policy"} == {*named} <= {example.name for example in EXAMPLES}


KNOWN_BY = """
import json, pathlib
from elastickv import kinds, matrix
from elastickv.build import fingerprint
library, image = fingerprint.Library("", (), {}, "g++", "12", "x"), fingerprint.Image("sm_90", "", (), "nvcc", "13")
made = [fingerprint.by_part(backend, of) for backend, of in (("cpu", library), ("cuda", image))]
found = {}
for file in sorted(pathlib.Path("config").glob("*.yaml")):
    for case in matrix.load([file]).cases.values():
        kernels = [parts.of(case.workload, case.formats, case.rule) for parts in made]
        found[f"{file.name}: {case.id}"] = [matrix.content_key(case), *kernels]
print(json.dumps({"workloads": [*kinds.every()], "cases": found}))
"""


def known_by(checkout: Checkout) -> tuple[list[str], dict[str, list[str]]]:
    """The workloads, and what identifies each case in the record store: its content and its kernels' sources."""
    line, output = [sys.executable, "-P", "-c", KNOWN_BY], {"capture_output": True, "text": True}
    done = subprocess.run(line, cwd=checkout.root, env=checkout.environment, check=False, **output)
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout).values())


def test_no_case_is_identified_otherwise_when_every_example_is_added(clone, tmp_path):
    checkout = clone.copy(tmp_path / "checkout")
    workloads, cases = known_by(checkout)
    for example in EXAMPLES:
        add(checkout, example)
    more, again = known_by(checkout)
    assert {*workloads} < {*more}
    assert len(cases) > 50
    assert again == cases


@pytest.fixture(scope="module")
def before(clone, best_target, tmp_path_factory) -> Checkout:
    """A checkout in which cases were measured before anything was added. Not to be changed: take a `copy` of it."""
    checkout = clone.copy(tmp_path_factory.mktemp("before") / "checkout")
    checkout.compile_for(best_target)
    run(checkout, *BEFORE)
    return checkout


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_files_of_an_example_are_all_that_it_takes(before, example, tmp_path):
    checkout = before.copy(tmp_path / "checkout")
    add(checkout, example)
    run(checkout, "--configfile", f"docs/extending/{example.name}/matrix.yaml")
    results = checkout.root / f"results/extending_{example.name}"
    made = records_of(results)
    assert {name: record["status"] for name, record in made.items() if record["status"] not in MEASURED} == {}
    judged = json.loads((results / "verdicts.json").read_text(encoding="utf-8"))
    assert {f"results_{one['case']}" for one in judged["cases"]} == {name for name in made if "results_" in name}
    verified = checkout.elastickv("verify", str(results))
    assert verified.code == 0, verified.text


@pytest.mark.slow
def test_no_other_case_is_timed_again_when_every_example_is_added(before, tmp_path):
    checkout = before.copy(tmp_path / "checkout")
    measured = records_of(checkout.root / "results/smoke")
    for example in EXAMPLES:
        add(checkout, example)
    run(checkout, *BEFORE)
    again = records_of(checkout.root / "results/smoke")
    assert {name: record["started"] for name, record in again.items()} == {
        name: record["started"] for name, record in measured.items()
    }


@pytest.mark.slow
def test_all_examples_together_compile_for_a_gpu(clone, tmp_path):
    if compilers.nvcc().path is None:
        pytest.skip("needs nvcc: on PATH, or `elastickv env cuda`")
    checkout = clone.copy(tmp_path / "checkout")
    for example in EXAMPLES:
        add(checkout, example)
    image = checkout.root / "build/cuda/sm_90.cubin"
    made = checkout.elastickv("build", "image", "--architecture", "90", "--out", str(image))
    assert made.code == 0, made.text
    names = [name for example in EXAMPLES for name in added(example)]
    expected = {name.parent.name for name in names if name.name == "kernel.cu"}
    expected |= {f"decode_fp16_{name.stem}_d128_g1" for name in names if name.parent == Path("kernels/formats")}
    assert expected and expected <= json.loads(Path(f"{image}.json").read_text(encoding="utf-8"))["kernels"].keys()
