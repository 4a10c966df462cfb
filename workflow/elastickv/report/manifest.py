"""`elastickv report manifest`: the resolved config and the hash of every input and output of a results folder."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import MISSING

from elastickv import __version__, records
from elastickv.errors import UsageError
from elastickv.judge import folder
from elastickv.schemas.manifest import File, Manifest
from elastickv.schemas.provenance import Provenance

PLANNED = ("run.json", "config.json", "golden.json", "noise.json")


def run(args: argparse.Namespace) -> int:
    """Writes `args.out` for the folder `args.results`. Raises RecordError if a plan file is missing or broken."""
    made = manifest(Path(args.cases), Path(args.results), Path(args.out))
    records.write(args.out, made.model_dump(), "manifest")
    return 0


def manifest(cases_file: Path, results: Path, out: Path) -> Manifest:
    """The manifest record. Inputs are the plan's files, outputs all other files in the folder except `out`.

    From an earlier manifest as `cases_file`, only the outputs are renewed: the folder was published without its plan.
    """
    if not cases_file.is_relative_to(results):
        raise UsageError(f"{cases_file}: not in the results folder {results}; use {results}/.plan/cases.json")
    made = _files(results, (path for path in outputs(results) if path != out))
    if cases_file.name == folder.MANIFEST:
        return records.load(cases_file, Manifest).model_copy(update={"inputs": [], "outputs": made})
    plan, planned = cases_file.parent, folder.cases_of(cases_file)
    cases = [plan / "cases" / f"{case}.json" for case in planned.cases]
    inputs = [cases_file, *(path for name in PLANNED if (path := plan / name).exists()), *cases]
    config = _plan_file(plan / "config.json") if (plan / "config.json").exists() else None
    return Manifest(
        schema_="manifest/2",
        elastickv=__version__,
        run=records.load(plan / "run.json", Provenance),
        config=config,
        config_sha256=MISSING if config is None else _sha256_of(config),
        cases=[_plan_file(path) for path in cases],
        sweeps=planned.sweeps or MISSING,
        inputs=_files(results, inputs),
        outputs=made,
    )


def outputs(results: Path) -> list[Path]:
    """All files of a results folder except hidden ones (plan, logs, record store), sorted."""
    return sorted(
        path
        for path in results.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(results).parts)
    )


def _sha256_of(config: dict[str, Any]) -> str:
    return hashlib.sha256(records.canonical_json(config).encode()).hexdigest()


def _plan_file(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise records.RecordError(f"{path}: cannot be read as a plan file: {error}") from error


def _files(results: Path, paths: Iterable[Path]) -> list[File]:
    return [
        File(
            path=path.relative_to(results).as_posix(),
            sha256=records.sha256_file(path),
            bytes=path.stat().st_size,
        )
        for path in paths
    ]
