"""Checks the records of a results folder against the commit that made them, by that commit's own code.

The commit is unpacked into a temporary folder, where `of_commit.py` computes the hash of its sources, the fingerprints
of its kernels and the cases and thresholds of the recorded command. None of that depends on what was measured: measured
values can only be measured again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from elastickv.audit import peers
from elastickv.audit.drawn import NOTEBOOK
from elastickv.audit.finding import About
from elastickv.audit.reading import Folder
from elastickv.errors import MachineError, UsageError
from elastickv.system import programs

CHECKOUT, PACKAGE = Path(__file__).resolve().parents[3], Path("workflow/elastickv")
OF_COMMIT = Path(__file__).with_name("of_commit.py")
RECORDS = ("results_*.json", "ceilings.json", "*_baseline.json", "peers_*.json")
GIT_FIX = "install git, e.g. apt-get install git"
SECONDS = 600
Json = dict[str, Any]


def check(folder: Folder, name: str) -> None:
    """Compares everything that the folder says of its sources with a commit.

    name: a revision of the repository of this package, or the path of a checkout, whose HEAD is meant. Raises
    UsageError if it is neither, MachineError if git is missing.
    """
    manifest = folder.record("manifest.json") or {}
    run = manifest.get("run") or folder.record(".plan/run.json")
    config = manifest.get("config") or folder.record(".plan/config.json")
    made = [(file, record) for pattern in RECORDS for file in folder.names(pattern) if (record := folder.record(file))]
    built = [(file, record["build"], _case(record)) for file, record in made if record.get("build")]
    with tempfile.TemporaryDirectory(prefix="elastickv-") as scratch:
        commit = unpack(name, Path(scratch))
        builds = [{"compiled": build["compiled"], "case": case} for _, build, case in built]
        says = ask(name, Path(scratch), {"command": run["command"] if run else ["elastickv"], "builds": builds})
    stated = [(file, "build.provenance", build["provenance"]) for file, build, _ in built]
    stated += [(file, "provenance", record["provenance"]) for file, record in made if "provenance" in record]
    stated += [("manifest.json" if manifest else ".plan/run.json", "run", run)] if run else []
    for file, where, provenance in stated:
        _provenance(folder.findings.of(file, "provenances"), where, provenance, commit, says["sources"])
    _fingerprints(folder, built, says["fingerprints"])
    if run and config:
        _config(folder.findings.of("manifest.json" if manifest else ".plan/config.json"), config, run, says["config"])
    _notebook(folder, says["notebook"])


def _case(record: Json) -> Json | None:
    """The case whose kernels a record's fingerprint is of: of a peer's record, the first that was measured."""
    entries = record.get("cases")
    if entries:
        return next((entry for entry in entries if entry["status"] in peers.MEASURED), entries[0])["case"]
    return record.get("case")


def _provenance(about: About, where: str, found: Json, commit: str, sources: str) -> None:
    if found["commit"] is None:
        about.note("states no commit; compared by its sources alone")
    else:
        about.same(f"{where}.commit", found["commit"], commit)
    of = f"{sources}, of the commit's sources (with the default matrix)"
    about.require(found["sources"] == sources, f"{where}.sources", found["sources"], of)
    if found["dirty"] and found["sources"] == sources:
        about.note("made with uncommitted changes, though not of what the hash of the sources covers")


def _fingerprints(folder: Folder, built: list[tuple[str, Json, Json | None]], said: list[Json]) -> None:
    """Each record's kernels are those of the commit, by the compilers and flags that it states."""
    for why in sorted({one["unknown"] for one in said if "unknown" in one}):
        folder.findings.of("(records)").note(f"fingerprints of kernels not compared: {why}")
    for (file, build, _), one in zip(built, said, strict=True):
        about, found = folder.findings.of(file, "fingerprints"), build["fingerprint"]
        if "unknown" not in one and (allowed := _value(about, "build.fingerprint", found, one)):
            about.require(found in allowed, "build.fingerprint", found, f"{allowed[0]}, of the commit's kernels")


def _value(about: About, where: str, found: Any, said: Json) -> Any:
    """What the commit says; None, with a note, if it cannot say, or, with a fault, if it refuses what is stated."""
    if "unknown" in said:
        about.note(f"{where}: not compared: {said['unknown']}")
    elif "refused" in said:
        about.fault(where, found, f"what the commit accepts ({said['refused']})")
    return said.get("value")


def _config(about: About, config: Json, run: Json, said: Json) -> None:
    """Cases and thresholds are those of the recorded command. Where the results lie is no part of either."""
    command = " ".join(run["command"])
    expected = _value(about, "config", command, said)
    if expected is not None:
        about.note(f"cases and thresholds compared with those of the recorded command: {command}")
        compared = ({key: part for key, part in each.items() if key != "results"} for each in (config, expected))
        about.same("config", *compared)


def _notebook(folder: Folder, said: Json) -> None:
    """The notebook is the one that the commit makes."""
    text = folder.text(NOTEBOOK)
    if text is not None:
        about, found = folder.findings.of(NOTEBOOK), hashlib.sha256(text.encode()).hexdigest()
        expected = _value(about, "(file)", "a notebook", said)
        about.require(expected in (None, found), "(file)", "another text", "the notebook that the commit makes")


def unpack(name: str, out: Path) -> str:
    """Puts the files of a commit into the folder `out`; returns its full hash."""
    repository, revision = (name, "HEAD") if name and (Path(name) / PACKAGE).is_dir() else (str(CHECKOUT), name)
    git = ["git", "-C", repository]
    found = programs.run([*git, "rev-parse", "--verify", f"{revision}^{{commit}}"], GIT_FIX)
    if found.returncode:
        why = f"neither a commit of {CHECKOUT} ({programs.last_line(found)}) nor a checkout with {PACKAGE}"
        raise UsageError(f"--against {name}: {why}; `git fetch` brings new commits")
    commit, archive = found.stdout.strip(), out / "commit.zip"
    made = programs.run([*git, "archive", "--format=zip", f"--output={archive}", commit], GIT_FIX, SECONDS)
    if made.returncode:
        raise MachineError(f"git archive {commit} failed: {programs.last_line(made)}", "git fsck, or clone it again")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(out)
    if not (out / PACKAGE).is_dir():
        raise UsageError(f"--against {name}: this commit has no {PACKAGE}")
    return commit


def ask(name: str, checkout: Path, request: Json) -> Json:
    """The answer of a commit's code. Raises UsageError where that code is too old to give any."""
    package = f"PYTHONPATH={checkout / PACKAGE.parent}"  # before this package, which every start of Python imports
    command = ["env", package, sys.executable, "-P", str(OF_COMMIT), str(checkout)]
    done = programs.run(command, "verify without --against", SECONDS, json.dumps(request))
    if done.returncode:
        why = programs.last_line(done)
        raise UsageError(f"--against {name}: the code of this commit cannot hash its own sources: {why}")
    return json.loads(done.stdout.splitlines()[-1])
