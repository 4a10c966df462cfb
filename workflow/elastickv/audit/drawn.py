"""Makes figures and notebook again and compares them byte by byte."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from elastickv.audit import remade
from elastickv.audit.plan import Plan
from elastickv.audit.reading import Folder

NOTEBOOK = "elastic_kv_benchmark.ipynb"


def check(folder: Folder, plan: Plan) -> None:
    """Figures and notebook of a finished folder with verdicts."""
    found = [name for kind in remade.FIGURES for name in folder.names(f"figures/*.{kind}") if folder.can_read(name)]
    if found:
        with tempfile.TemporaryDirectory() as out:
            remade.figures(plan.file, folder.path, Path(out))
            for name in found:
                _figure(folder, name, Path(out) / Path(name).name)
    text = folder.text(NOTEBOOK)
    if text is not None:
        with folder.findings.of(NOTEBOOK).recomputing("(file)"):
            _notebook(folder, text)


def _figure(folder: Folder, name: str, expected: Path) -> None:
    about = folder.findings.of(name, "figures drawn again")
    same = expected.is_file() and expected.read_bytes() == (folder.path / name).read_bytes()
    about.require(same, "(file)", "another drawing", f"what this version draws of the records{_written_by(folder)}")


def _notebook(folder: Folder, text: str) -> None:
    """The notebook that these sources give. Of other sources it can only be said that it is theirs."""
    about, here = folder.findings.of(NOTEBOOK), remade.sources()
    stated = json.loads(text)["metadata"]["elastickv"]["sources"]
    manifest = folder.record("manifest.json")
    if manifest:
        about.same("metadata.elastickv.sources", stated, manifest["run"]["sources"])
    if stated == here:
        about.require(text == remade.notebook(), "(file)", "another text", "the notebook of the sources that it names")
    else:
        about.note(f"made from other sources than this checkout's; not compared{_written_by(folder)}")


def _written_by(folder: Folder) -> str:
    """Which version has to verify, where another one wrote the folder."""
    run = (folder.record("manifest.json") or {}).get("run")
    if run is None or run["sources"] == remade.sources():
        return ""
    return f" (written by another version: verify with that of commit {run['commit']})"
