"""Where compilers are found on this machine, and what they say of themselves. Knows nothing of our environments."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

HOST_COMPILERS = ("g++", "clang++", "c++")
SECONDS = 60


def output(command: Sequence[str | Path]) -> tuple[int, str]:
    """Exit code and all output of a program that may not run at all."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout + done.stderr


def host(names: Sequence[str] = HOST_COMPILERS) -> Path | None:
    """The system's C++ compiler: $CXX, else the first of `names` on PATH."""
    found = (shutil.which(name) for name in (os.environ.get("CXX"), *names) if name)
    return next((Path(program) for program in found if program), None)


@cache
def first_line(program: Path) -> str:
    """The first line of what a compiler says of its version."""
    return (output([program, "--version"])[1].splitlines() or [""])[0]


def nvcc() -> Path | None:
    """nvcc on PATH."""
    found = shutil.which("nvcc")
    return Path(found) if found else None


@cache
def nvcc_version(program: Path) -> str | None:
    """Its version ("13.0.88"), or None where it does not run."""
    found = re.search(r"V(\d+\.\d+\.\d+)", output([program, "--version"])[1])
    return found[1] if found else None


@cache
def nvcc_targets(program: Path) -> tuple[int, ...]:
    """The architectures (80, 90, …) that it makes code for."""
    return tuple(map(int, re.findall(r"^sm_(\d+)$", output([program, "--list-gpu-code"])[1], re.MULTILINE)))


def toolkit() -> Path | None:
    """The folder of the toolkit of the nvcc on PATH, by its own word: it may be a link or a wrapper."""
    found = nvcc()
    if found is None:
        return None
    said = output([found, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull])[1]
    here = re.search(r"^#\$ _HERE_=(.+)$", said, re.MULTILINE)
    return (Path(here[1]) if here else found.resolve().parent).parent
