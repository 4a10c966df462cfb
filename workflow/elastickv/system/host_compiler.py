"""The C++ compiler of this machine: the command in CXX, which may include arguments, otherwise one on PATH."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from functools import cache
from pathlib import Path

from elastickv.errors import MachineError
from elastickv.system import programs

NAMES = ("g++", "clang++", "c++")
INSTALL = "apt-get install g++ (or set CXX)"
CHANGE = "unset CXX, or set it to a C++ compiler, such as CXX=g++ or CXX='ccache g++'"

Command = tuple[str, ...]  # the program by its path, and the arguments that come first


def chosen() -> str:
    """What the variable CXX holds; empty where the choice is ours."""
    return os.environ.get("CXX", "").strip()


def find(names: tuple[str, ...] = NAMES) -> Command:
    """The command in CXX, otherwise the first of `names` on PATH. Runs nothing.

    Raises MachineError if there is none, or if CXX is set but does not name a program.
    """
    if chosen():
        return _named(chosen())
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise MachineError(f"no C++ compiler was found ($CXX, {', '.join(names)})", INSTALL)
    return (found,)


def _named(text: str) -> Command:
    """The command in a value of CXX: one program, whose path may hold blanks, or one with arguments."""
    if whole := shutil.which(text):
        return (whole,)
    try:
        program, *arguments = shlex.split(text)
    except ValueError as error:
        raise MachineError(f"CXX is {text!r}, which is not a command: {error}", CHANGE) from None
    found = shutil.which(program)
    if found is None:
        missing = f"there is no program {program}" + ("" if "/" in program else " on PATH")
        why = f"{program} is not an executable file" if Path(program).exists() else missing
        raise MachineError(f"CXX is {text!r}, but {why}", CHANGE)
    return (found, *arguments)


def name(command: Command) -> str:
    """How a command is called in manifests: `g++`, `ccache g++`."""
    return " ".join([Path(command[0]).name, *command[1:]])


@cache
def version(command: Command) -> str:
    """The first line of a compiler's version message. Raises MachineError if it is not a working C++ compiler."""
    shown, fix = shlex.join(command), CHANGE if chosen() else INSTALL
    done = programs.run([*command, "-x", "c++", "-E", "-"], fix, given="__cplusplus\n")
    if done.returncode or not re.search(r"^\d{6}L$", done.stdout, re.MULTILINE):
        why = programs.last_line(done) if done.returncode else "it does not preprocess C++"
        raise MachineError(f"{shown} is not a working C++ compiler: {why}", fix)
    stated = programs.run([*command, "--version"], fix)
    return (stated.stdout.splitlines() or [shown])[0]
