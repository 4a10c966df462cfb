"""`elastickv verify DIR --against COMMIT`: what the commit that made a folder says of it.

The forgeries that plain `verify` cannot find are those of test_forgeries.py; here their config follows them too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peer_records
import pytest
import results_folder
from conftest import ROOT, Checkout
from test_forgeries import FORGERIES, GOLDEN, STANDARD, Forgery, edit, publish, reseal, rewrite

from elastickv import records
from elastickv.audit import against, of_commit, reading, verify
from elastickv.audit import fingerprint as fingerprint_of
from elastickv.audit.finding import Findings
from elastickv.build import fingerprint
from elastickv.cli import main
from elastickv.schemas.case import case_of

BASELINE, PEER, NOTEBOOK = "transformers_baseline.json", "peers_torch_math.json", "elastic_kv_benchmark.ipynb"
Json = dict[str, Any]


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def checkout(clone: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A repository of these sources with a matrix of the example records. Not to be changed."""
    made = clone.copy(tmp_path_factory.mktemp("against") / "checkout")
    cases = {}
    for name in results_folder.GPU_CASES:
        case = results_folder.example(name)["case"]
        cases[name] = {key: value for key, value in case.items() if key not in ("schema", "id", "backend")}
    del cases["4096_elementwise"]["measure"]["decode_tokens"]
    matrix = {"golden": results_folder.GOLDEN, "noise": results_folder.NOISE, "cases": cases}
    (made.root / "config/example.yaml").write_text(json.dumps(matrix), encoding="utf-8")
    git(made.root, "init", "--quiet")
    git(made.root, "add", "--all")
    git(made.root, "commit", "--quiet", "--message", "Everything")
    return made


@pytest.fixture(scope="module")
def original(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a run of that commit leaves it; plan and provenance are written by its own code."""
    results = tmp_path_factory.mktemp("made") / "results"
    planned = checkout.elastickv("plan", "--configfile", "config/example.yaml", "--config", f"results={results}")
    assert planned.code == 0, planned.text
    run = json.loads((results / ".plan/run.json").read_text(encoding="utf-8"))
    assert run["commit"] == git(checkout.root, "rev-parse", "HEAD")
    assert run["dirty"] is False
    compared = peer_records.entry(results_folder.example("4096_golden_ticket")["case"], 25.0, 23.1)
    peer = peer_records.peer_record("torch_math", {"4096_golden_ticket": compared})
    peer["build"] |= {"provenance": run, "fingerprint": built_here(peer["build"], peer["cases"][0]["case"])}
    (results / PEER).write_text(json.dumps(peer), encoding="utf-8")
    for name in results_folder.GPU_CASES:
        record = results_folder.example(name)
        record["case"] = json.loads((results / f".plan/cases/{name}.json").read_text(encoding="utf-8"))
        record["build"] |= {"provenance": run, "fingerprint": built_here(record["build"], record["case"])}
        results_folder.put(results, record)
    for name in ("ceilings.json", BASELINE):
        shutil.copy(results_folder.RECORDS / name, results / name)
    edit(results, BASELINE, lambda record: record.update(provenance=run))
    fingerprint_of_ceilings = built_here(results_folder.example("ceilings")["build"], None)
    edit(results, "ceilings.json", lambda one: one["build"].update(provenance=run, fingerprint=fingerprint_of_ceilings))
    results_folder.elastickv(["report", "notebook"], results, NOTEBOOK)
    publish(results)
    return results


def built_here(build: Json, case: Json | None) -> str:
    """The fingerprint of a build for an H200 by nvcc, as a record has it."""
    source = fingerprint.source_sha256("cuda")
    flags = [tuple(one["flags"].split()) for one in build["compiled"]]
    images = [
        fingerprint.Image(one["target"], source, own, "nvcc", one["version"])
        for one, own in zip(build["compiled"], flags, strict=True)
    ]
    made = fingerprint.fatbin_of_parts([fingerprint.by_part("cuda", image) for image in images])
    typed = case_of(case) if case else None
    return made.of(typed.workload, typed.formats, typed.rule) if typed else made.of("ceilings")


@pytest.fixture
def results(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "results", copy_function=shutil.copy2)


def faults(results: Path, commit: str | Path) -> list[str]:
    """What the commit finds, without what plain `verify` does."""
    findings = Findings()
    against.check(reading.Folder(results, findings), str(commit))
    return [str(fault) for fault in findings.faults]


def follow(results: Path) -> None:
    """The config is changed as the plan was, so that plain `verify` finds nothing."""
    cases = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((results / ".plan/cases").glob("*"))}
    edit(results, ".plan/config.json", lambda config: config.update(cases=cases))
    reseal(results)


def test_what_a_commit_made_is_clean_and_was_compared(original: Path, checkout: Checkout):
    found = verify(original, against=str(checkout.root))
    assert found.faults == []
    assert found.checked["provenances"] == 7 * 2  # of six records and the run, commit and sources each
    assert found.checked["fingerprints"] == 5
    assert not [note for note in found.notes if "not compared" in note]
    assert any("recorded command: elastickv plan --configfile config/example.yaml" in note for note in found.notes)


FAST = ("a case removed from plan and records",)  # one that is found; the others of both kinds are slow
AGREE = [
    pytest.param(one, id=one.name, marks=() if one.name in FAST else pytest.mark.slow)
    for one in FORGERIES
    if not one.fault
]


@pytest.mark.parametrize("forgery", AGREE)
def test_a_forgery_that_agrees_with_itself(original: Path, results: Path, checkout: Checkout, forgery: Forgery):
    forgery.commit(results)
    follow(results)
    assert verify(results).faults == []
    assert fingerprint_of(results) != fingerprint_of(original)  # a published one contradicts the forgery
    found = faults(results, checkout.root)
    if forgery.against:
        assert any(fault.startswith(forgery.against) for fault in found), "\n".join(found[:20])
    else:
        assert found == []


def provenance(**changes: Any) -> Callable[[Json], None]:
    """Changes the provenance of a record."""
    return lambda record: (record.get("build") or record)["provenance"].update(changes)


def test_edited_provenances(results: Path, checkout: Checkout):
    edit(results, GOLDEN, provenance(sources="0" * 64))
    edit(results, STANDARD, provenance(commit="0" * 40))
    edit(results, BASELINE, provenance(sources="1" * 64, commit="1" * 40))
    edit(results, "ceilings.json", lambda record: record["build"]["compiled"][0].update(version="13.1.0"))
    edit(results, PEER, lambda record: record["build"].update(fingerprint="0" * 64))
    publish(results)
    assert verify(results).faults == []
    found = faults(results, checkout.root)
    assert [fault.partition(": found")[0] for fault in found] == [
        f"{STANDARD}: build.provenance.commit",
        f"{GOLDEN}: build.provenance.sources",
        f"{BASELINE}: provenance.commit",
        f"{BASELINE}: provenance.sources",
        "ceilings.json: build.fingerprint",
        f"{PEER}: build.fingerprint",
    ]


@pytest.mark.slow
def test_the_next_commit_did_not_make_it(original: Path, checkout: Checkout, tmp_path: Path):
    """Another kernel, threshold and default: each record differs, and so do config and notebook."""
    other = checkout.copy(tmp_path / "other")
    other.edit("config/example.yaml", '"speedup": 1.95', '"speedup": 2.5')
    other.edit("workflow/elastickv/schemas/config.py", '"repetitions", default=5,', '"repetitions", default=6,')
    other.edit("kernels/decode/kernel.cu", "{\n", "{\n    ;\n")
    git(other.root, "commit", "--quiet", "--all", "--message", "Another")
    found = faults(original, other.root)
    for beginning in (
        f"{GOLDEN}: build.provenance.commit: ",
        f"{GOLDEN}: build.provenance.sources: ",
        f"{GOLDEN}: build.fingerprint: ",
        f"{BASELINE}: provenance.sources: ",
        "manifest.json: run.sources: ",
        "manifest.json: config.golden.speedup: found 1.95, expected 2.5",
        "manifest.json: config.baselines.gguf.reps: found 5, expected 6",
        f"{NOTEBOOK}: (file): ",
    ):
        assert any(fault.startswith(beginning) for fault in found), beginning
    assert not any(fault.startswith("results_4096_elementwise.json: build.fingerprint: ") for fault in found)


def test_a_notebook_of_other_sources_is_compared_with_theirs(results: Path, checkout: Checkout):
    rewrite(results, NOTEBOOK, "Elastic", "Lossless")
    reseal(results)
    assert f"{NOTEBOOK}: (file): found another text, expected the notebook that the commit makes" in faults(
        results, checkout.root
    )


@pytest.mark.slow
def test_what_cannot_be_compared_is_a_note(results: Path, checkout: Checkout):
    def elsewhere(run: Json) -> None:
        run.update(command=["make", "run", "CONFIG=mine.yaml"])

    edit(results, ".plan/run.json", elsewhere)
    edit(results, "ceilings.json", provenance(commit=None))
    publish(results)
    found = verify(results, against=str(checkout.root))
    assert found.faults == []
    assert "ceilings.json: states no commit; compared by its sources alone" in found.notes
    missing = "the commit has no file mine.yaml, which the recorded command names"
    assert f"manifest.json: config: not compared: {missing}" in found.notes


@pytest.mark.slow
def test_an_unfinished_run_is_compared(results: Path, checkout: Checkout):
    (results / "manifest.json").unlink()
    edit(results, ".plan/run.json", lambda run: run.update(sources="0" * 64))
    edit(results, ".plan/config.json", lambda config: config["golden"].update(cv=0.5))
    found = [str(fault) for fault in verify(results, unfinished=True, against=str(checkout.root)).faults]
    assert any(fault.startswith(".plan/run.json: run.sources: ") for fault in found)
    assert ".plan/config.json: config.golden.cv: found 0.5, expected 0.05" in found


def test_exit_codes(original: Path, checkout: Checkout, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    assert main(["verify", str(original), "--against", "no-such-commit"]) == 2
    assert "--against no-such-commit: neither a commit of " in capsys.readouterr().err
    assert main(["verify", str(original), "--against", ""]) == 2
    capsys.readouterr()
    monkeypatch.setenv("PATH", os.devnull)
    assert main(["verify", str(original), "--against", str(checkout.root)]) == 3
    assert "git cannot be started" in capsys.readouterr().err


def test_a_commit_without_the_package(original: Path, checkout: Checkout, tmp_path: Path):
    other = checkout.copy(tmp_path / "other")
    git(other.root, "rm", "-r", "--quiet", "--cached", "workflow")
    git(other.root, "commit", "--quiet", "--message", "Nothing left")
    with pytest.raises(against.UsageError, match="this commit has no workflow/elastickv"):
        verify(original, against=str(other.root))


@pytest.mark.parametrize(
    ("command", "files", "overrides"),
    [
        (["make", "run"], [], []),
        (["make", "run", "CONFIG=a.yaml 'b c.yaml'", "SET=golden.cv=1 x='d e'"], ["a.yaml", "b c.yaml"],
         ["golden.cv=1", "x=d e"]),
        (["make", "run", "ARGS=--config a=1"], [], ["a=1"]),
        (["snakemake", "--cores", "16", "--configfile", "a", "b", "--config", "c=1", "d={e: [2]}", "-n"], ["a", "b"],
         ["c=1", "d={e: [2]}"]),
        (["elastickv", "plan", "--configfile=a", "--config=c=1", "--configfile", "b"], ["a", "b"], ["c=1"]),
    ],
)  # fmt: skip
def test_the_config_of_a_command(command: list[str], files: list[str], overrides: list[str]):
    assert of_commit._words(command) == (files, overrides)


def test_a_config_file_outside_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What lies on the machine that verifies says nothing."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "mine.yaml").write_text("golden: {cv: 1}", encoding="utf-8")
    with pytest.raises(of_commit.Unknown, match="the commit has no file /"):
        of_commit._config(["elastickv", "plan", "--configfile", str(tmp_path / "mine.yaml")])
    with pytest.raises(of_commit.Unknown, match="reads no config: pytest"):
        of_commit._config(["pytest"])


def test_the_fingerprint_of_a_cpu_library(monkeypatch: pytest.MonkeyPatch):
    """One of those that the library of this machine can have, from what its record states."""
    monkeypatch.chdir(ROOT)
    made_of = fingerprint.Library(
        fingerprint.source_sha256("cpu"), fingerprint.CPU_FLAGS, {"avx2": ("-mavx2",), "portable": ()}, "g++", "12",
        "x86_64")  # fmt: skip
    compiled = [
        {"target": name, "compiler": "g++", "version": "12", "flags": " ".join([*fingerprint.CPU_FLAGS, *flags])}
        for name, flags in made_of.targets.items()
    ]
    case = results_folder.example("1024_standard")["case"]
    typed = case_of(case)
    known = fingerprint.by_part("cpu", made_of).of(typed.workload, typed.formats, typed.rule)
    assert known in of_commit._fingerprints(compiled, case)
    with pytest.raises(of_commit.Unknown):
        of_commit._fingerprints([{**compiled[0], "target": "native"}], case)


def test_the_reference_is_what_its_commit_made():
    """Of a clone with its history: the run that is published here."""
    reference = ROOT / "results/reference/h200"
    commit = records.read(reference / "manifest.json", "manifest")["run"]["commit"]
    known = subprocess.run(["git", "-C", str(ROOT), "cat-file", "-e", str(commit)], capture_output=True, check=False)
    if known.returncode:
        pytest.skip(f"this copy lacks the commit {commit} that made the reference")
    assert faults(reference, commit) == []
