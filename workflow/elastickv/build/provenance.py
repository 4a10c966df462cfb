"""The provenance of a result: commit, hash of the sources and command, for records and manifests.

It is informative only: no key of the record store and no input of a measurement contains it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from elastickv.build import sources
from elastickv.schemas.provenance import Provenance

ROOT = Path(__file__).resolve().parents[3]
VARIABLE = "ELASTICKV_PROVENANCE"  # what a run hands to its jobs, also to those on other machines
MAKE_TARGET = "ELASTICKV_MAKE"  # set by the Makefile
MADE_OF = (
    "kernels",
    "workflow",
    "schemas",
    "envs",
    "Snakefile",
)  # everything that a result can depend on except its matrix


def announce() -> None:
    """States the provenance of this command for every process that it starts."""
    os.environ[VARIABLE] = _of_this_command().model_dump_json()


def here() -> Provenance:
    """Commit, sources and command: the run's, else our own."""
    inherited = os.environ.get(VARIABLE)
    return Provenance.model_validate_json(inherited) if inherited else _of_this_command()


@cache
def _of_this_command() -> Provenance:
    commit, dirty = _commit()
    return Provenance(commit=commit, dirty=dirty, sources=sources.sha256(ROOT), command=command(sys.argv, os.environ))


def command(argv: list[str], environment: Mapping[str, str]) -> list[str]:
    """The words of the command that a user gave: of `make` with its variables where make started this process."""
    target = environment.get(MAKE_TARGET)
    if target:
        _, _, variables = f" {environment.get('MAKEFLAGS', '')}".partition(" -- ")
        given = re.findall(
            r"(?:\\.|[^\\ ])+", variables.replace("$$", "$")
        )  # blanks and backslashes are escaped, quotes not
        words = ["make", target, *(re.sub(r"\\(.)", r"\1", word) for word in given)]
    else:
        program = Path(argv[0])  # of `python -m snakemake`: the package's __main__.py
        words = [program.parent.name if program.name == "__main__.py" else program.name, *argv[1:]]
    return [word.encode(errors="surrogateescape").decode(errors="replace") for word in words]


def _commit() -> tuple[str | None, bool | None]:
    """The commit of this checkout, and whether files that results depend on differ from it."""
    top = _git("rev-parse", "--show-toplevel")
    commit = _git("rev-parse", "HEAD")
    if top is None or commit is None or Path(top.strip()).resolve() != ROOT:
        return None, None
    changed = _git("status", "--porcelain", "--", *MADE_OF)
    return commit.strip(), None if changed is None else bool(changed.strip())


def _git(*arguments: str) -> str | None:
    """Git's output about this checkout, or None if git is missing or fails."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
