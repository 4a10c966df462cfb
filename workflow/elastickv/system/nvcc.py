"""nvcc on PATH: its location, version, targets and toolkit."""

from __future__ import annotations

import os
import re
import shutil
from functools import cache
from pathlib import Path
from typing import NamedTuple

from elastickv.errors import MachineError
from elastickv.system import programs

NVRTC_INSTEAD = "set build.compiler to nvrtc"


def find() -> Path | None:
    """nvcc on PATH. Runs nothing."""
    found = shutil.which("nvcc")
    return Path(found) if found else None


class Nvcc(NamedTuple):
    """The version and targets (75 for sm_75) that an nvcc reports, or the problem that prevented it."""

    version: str | None
    targets: tuple[int, ...] = ()
    problem: str | None = None


@cache
def ask(program: Path) -> Nvcc:
    """Asks the nvcc at a path once for its version and targets. Raises nothing."""
    try:
        stated = programs.run([str(program), "--version"], NVRTC_INSTEAD)
        version = re.search(r"V(\d+\.\d+\.\d+)", stated.stdout)
        if stated.returncode or version is None:
            why = f": {programs.last_line(stated)}" if stated.returncode else ""
            return Nvcc(None, problem=f"{program} is on PATH but does not report its version{why}")
        listed = programs.run([str(program), "--list-gpu-code"], NVRTC_INSTEAD)
        return Nvcc(version[1], tuple(map(int, re.findall(r"^sm_(\d+)$", listed.stdout, re.MULTILINE))))
    except MachineError as error:
        return Nvcc(None, problem=error.problem)


def toolkit() -> Path | None:
    """The folder of the toolkit of the nvcc on PATH, by its own word: it may be a link or a wrapper.

    None where there is no nvcc on PATH. Raises MachineError where it does not run.
    """
    found = find()
    if found is None:
        return None
    command = [str(found), "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull]
    text = programs.run(command, "repair it, or remove it from PATH so that the pinned nvcc is used")
    here = re.search(r"^#\$ _HERE_=(.+)$", text.stderr + text.stdout, re.MULTILINE)
    return (Path(here[1]) if here else found.resolve().parent).parent
