"""To add a part is to add its files: every example under docs/extending/ goes through the pipeline, nothing edited.

An example is a folder with a `matrix.yaml` that uses it and, below `files/`, what it adds, at the paths in a checkout.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, Checkout

from elastickv.judge import noise

EXAMPLES = sorted(path.parent for path in (ROOT / "docs/extending").glob("*/matrix.yaml"))
MEASURED = {*noise.PUBLISHED, "noisy"}  # a record with figures, right against float64; noisy where the machine is busy
BEFORE = ("results/smoke/verdicts.json", "--configfile", "config/smoke.yaml")  # cases that were there before


def added(example: Path) -> dict[Path, Path]:
    """The files of an example by the path in a checkout."""
    files = example / "files"
    return {path.relative_to(files): path for path in sorted(files.rglob("*")) if path.is_file() and is_source(path)}


def is_source(path: Path) -> bool:
    return "__pycache__" not in path.parts


def records_of(results: Path) -> dict[str, dict]:
    """What was measured, cases and peers, by the names of the files."""
    paths = [*results.glob("results_*.json"), *results.glob("peers_*.json")]
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def run(checkout: Checkout, *arguments: str) -> None:
    done = checkout.snakemake(*arguments)
    assert done.code == 0, done.text


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_adds_files_and_replaces_none(example):
    assert [str(name) for name in added(example) if (ROOT / name).exists()] == []


def test_every_folder_of_the_page_is_an_example():
    assert [*EXAMPLES] == sorted(path for path in (ROOT / "docs/extending").iterdir() if path.is_dir())
    page = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    assert [example.name for example in EXAMPLES if f"(extending/{example.name})" not in page] == []


@pytest.fixture(scope="module")
def before(clone, cpu_build, tmp_path_factory) -> Checkout:
    """A checkout in which cases were measured before anything was added. Not to be changed: take a `copy` of it."""
    checkout = clone.copy(tmp_path_factory.mktemp("before") / "checkout")
    checkout.take_builds(cpu_build)
    run(checkout, *BEFORE)
    return checkout


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_files_of_an_example_are_all_that_it_takes_and_no_other_case_is_timed_again(before, example, tmp_path):
    checkout = before.copy(tmp_path / "checkout")
    measured = records_of(checkout.root / "results/smoke")
    for name, path in added(example).items():
        (checkout.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, checkout.root / name)

    run(checkout, "--configfile", f"docs/extending/{example.name}/matrix.yaml")
    results = checkout.root / f"results/extending_{example.name}"
    made = records_of(results)
    assert {name: record["status"] for name, record in made.items() if record["status"] not in MEASURED} == {}
    judged = json.loads((results / "verdicts.json").read_text(encoding="utf-8"))
    assert {f"results_{one['case']}" for one in judged["cases"]} == {name for name in made if "results_" in name}
    verified = checkout.elastickv("verify", str(results))
    assert verified.code == 0, verified.text

    run(checkout, *BEFORE)
    again = records_of(checkout.root / "results/smoke")
    assert measured.keys() == again.keys()
    assert {name: record["started"] for name, record in again.items()} == {
        name: record["started"] for name, record in measured.items()
    }
