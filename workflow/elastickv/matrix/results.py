"""The results folder that a config names: which paths are not allowed, and whether it is writable."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath

from elastickv.errors import UsageError
from elastickv.matrix.wording import shown
from elastickv.schemas.config import Root

# Entries at the top of the project: its sources, and generated folders that `make clean` deletes.
SOURCES = (
    *(".ci", ".git", ".github", ".gitignore", "CITATION.cff", "LICENSE", "Makefile", "README.md", "Snakefile"),
    *("config", "docs", "envs", "kernels", "profiles", "pyproject.toml", "schemas", "tests", "tools", "workflow"),
)
MADE = ("build", ".venv", ".envs", ".snakemake", ".pytest_cache", ".ruff_cache", ".hypothesis")
TRIAL = ".trial-"
RUNS, REFERENCE = "results", "reference"
BETTER = "name a folder such as results/mine, or an absolute path outside the project"


def tidy(results: str) -> str:
    """The normalised path: `./results//mine/` becomes `results/mine`."""
    path = os.path.normpath(results)
    return path[1:] if path.startswith("//") else path  # POSIX keeps two leading slashes


def faults(results: str) -> list[str]:
    """Faults of a results path: it must not leave the project by `..`, nor be one of the project's folders."""
    if ".." in PurePath(results).parts:
        return [f"{shown(results)}: '..' is not allowed; name a folder inside the project, or an absolute path"]
    if tidy(results) in (".", "/"):
        return [f"{shown(results)}: must be a folder below results/, such as {Root().results}"]
    if results.startswith("-"):
        return [f"{shown(results)}: commands would read it as an option; choose a name that does not start with '-'"]
    if results != results.strip():
        return [f"{shown(results)}: begins or ends with a space; choose a name that does not"]
    if results.startswith("~"):
        return [f"{shown(results)}: '~' is not expanded; write the absolute path"]
    own = next((text for parts in _inside(results) if (text := _own(parts))), None)
    return [f"{shown(results)}: {own}; {BETTER}"] if own else []


def _inside(results: str) -> Iterator[tuple[str, ...]]:
    """The paths inside the project (the current folder) that a path refers to: as written, and with links resolved."""
    for path in (os.path.abspath(results), os.path.realpath(results)):
        place = Path(tidy(path))
        if place.is_relative_to(Path.cwd()):
            yield place.relative_to(Path.cwd()).parts


def _own(parts: tuple[str, ...]) -> str | None:
    """Why a path inside the project must not be a results folder; None if it may be one."""
    if not parts:
        return "is the project folder itself"
    if parts[0] in SOURCES:
        return f"{parts[0]} holds sources of the project"
    if parts[0] in MADE:
        return f"{parts[0]} is deleted by `make clean`"
    if parts == (RUNS,):
        return "is the parent folder of all runs"
    if parts[:2] == (RUNS, REFERENCE):
        return f"{RUNS}/{REFERENCE} holds committed runs"
    return None


def check_writable(results: str, where: str) -> None:
    """Raises UsageError unless the folder can be created and is writable. where: where the config names it.

    Neither creates nor removes the folder, since another run may be creating it at the same time: the missing part of
    the path is tested under a hidden folder with a name of its own in the nearest existing parent. Permission bits are
    not reliable: root, read-only and virtual file systems.
    """
    folder = Path(results)
    last = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryDirectory(dir=last, prefix=TRIAL) as trial:
            below = Path(trial) / folder.relative_to(last)
            below.mkdir(parents=True, exist_ok=True)
            (below / "file").touch()
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"{where}: results: {shown(results)}: cannot be written to: {reason}"
        raise UsageError(f"{message}; name a writable folder") from error
