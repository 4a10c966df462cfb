"""The results folder that a config names: which places it may not be, and whether it can be written to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath

from elastickv.errors import UsageError
from elastickv.matrix.wording import shown
from elastickv.schemas.config import Root

# What lies at the top of the project: its sources, and what it makes there and `make clean` deletes.
SOURCES = (
    *(".ci", ".git", ".github", ".gitignore", "CITATION.cff", "LICENSE", "Makefile", "README.md", "Snakefile"),
    *("config", "docs", "envs", "kernels", "profiles", "pyproject.toml", "schemas", "tests", "tools", "workflow"),
)
MADE = ("build", ".venv", ".envs", ".snakemake", ".pytest_cache", ".ruff_cache", ".hypothesis")
TRIAL = ".trial-"
RUNS, REFERENCE = "results", "reference"
BETTER = "name a folder such as results/mine, or an absolute path outside the project"


def tidy(results: str) -> str:
    """The path without what says nothing: `./results//mine/` is `results/mine`."""
    path = os.path.normpath(results)
    return path[1:] if path.startswith("//") else path  # two slashes that begin a path are no more than one


def faults(results: str) -> list[str]:
    """What is wrong with a results path: it may not climb out of the project, nor be a place of the project's own."""
    if ".." in PurePath(results).parts:
        return [f"{shown(results)}: '..' is not allowed; name a folder inside the project, or an absolute path"]
    if tidy(results) in (".", "/"):
        return [f"{shown(results)}: a folder of its own is needed, such as {Root().results}"]
    if results.startswith("-"):
        return [f"{shown(results)}: commands would take it for an option; choose a name that does not start with '-'"]
    if results != results.strip():
        return [f"{shown(results)}: begins or ends with a blank; choose a name that does not"]
    if results.startswith("~"):
        return [f"{shown(results)}: '~' is not expanded; write the absolute path"]
    own = next((text for parts in _inside(results) if (text := _own(parts))), None)
    return [f"{shown(results)}: {own}; {BETTER}"] if own else []


def _inside(results: str) -> Iterator[tuple[str, ...]]:
    """Where the path leads to inside the project (the current folder): as it is written, and by its links."""
    for path in (os.path.abspath(results), os.path.realpath(results)):
        place = Path(tidy(path))
        if place.is_relative_to(Path.cwd()):
            yield place.relative_to(Path.cwd()).parts


def _own(parts: tuple[str, ...]) -> str | None:
    """Whose place inside the project it is, in words; None where it is free for results."""
    if not parts:
        return "is the project itself"
    if parts[0] in SOURCES:
        return f"{parts[0]} is a source of the project"
    if parts[0] in MADE:
        return f"{parts[0]} is what `make clean` deletes"
    if parts == (RUNS,):
        return "holds the folders of all runs"
    if parts[:2] == (RUNS, REFERENCE):
        return f"{RUNS}/{REFERENCE} holds runs that are committed"
    return None


def check_writable(results: str, where: str) -> None:
    """Raises UsageError, which says `where` the config names the folder, unless it can be made and takes files.

    Neither makes the folder nor removes one: another run may be making it at this moment. The missing part of the path
    is tried out below a folder with a name of its own, in the last folder that is there. Where results are, which a run
    may be listing, a file without a name will do, or with a hidden one if the file system has none of the former.
    """
    folder = Path(results)
    last = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        # Permission bits do not tell: root, read-only and virtual file systems.
        if last == folder:
            with tempfile.TemporaryFile(dir=folder, prefix=TRIAL):
                return
        with tempfile.TemporaryDirectory(dir=last, prefix=TRIAL) as trial:
            below = Path(trial) / folder.relative_to(last)
            below.mkdir(parents=True)
            (below / "file").touch()
    except OSError as error:
        reason = error.strerror or str(error)
        told = f"{where}: results: {shown(results)}: cannot be written to: {reason}"
        raise UsageError(f"{told}; name a folder that can") from error
