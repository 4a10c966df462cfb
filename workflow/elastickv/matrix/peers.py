"""Validates `baselines.peers.names`: names of the project's peers and paths of the user's Python files.

Files are parsed but never imported: their imports exist only in another environment, and every command reads a config.
"""

from __future__ import annotations

import ast
import os
import re
import symtable
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from pydantic import MISSING

from elastickv.errors import UsageError
from elastickv.matrix import structure
from elastickv.schemas import config as keys
from elastickv.system import readable

LIBRARIES = Path(__file__).resolve().parents[1] / "peers" / "libraries"
TEMPLATE = "docs/extending/peer/my_kernel.py"
NAME = re.compile(r"[a-z][a-z0-9_]*")
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # exceptions of parsing Python source


@cache
def offered() -> dict[str, str]:
    """Maps the name of every peer under peers/libraries to its module, in the order of definition.

    Raises UsageError if a file defines no peers, or one that another file also defines.
    """
    found: dict[str, str] = {}
    for path in sorted(LIBRARIES.glob("[!._]*.py")):
        for name in _keys_of_peers(path):
            if name in found:
                raise UsageError(f"{path}: PEERS: {name} is also defined in {found[name]}.py; rename one of them")
            found[name] = path.stem
    return found


def _keys_of_peers(path: Path) -> list[str]:
    """The keys of `PEERS = {...}` in the file of a library."""
    try:
        statements = ast.parse(path.read_bytes()).body
    except UNREADABLE as error:
        raise UsageError(f"{path}: {error}") from error
    tables = [one.value for one in statements if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "PEERS"]
    keys = tables[-1].keys if tables and isinstance(tables[-1], ast.Dict) else []
    names = [key.value for key in keys if isinstance(key, ast.Constant) and NAME.fullmatch(str(key.value))]
    if not names or len(names) < len(keys):
        allowed = "its keys quoted names of lower-case letters, digits and '_'"
        raise UsageError(f"{path}: must define PEERS = {{name: peer, ...}}, {allowed}")
    return names


def is_path(entry: str) -> bool:
    """Whether an entry of the config is a file path."""
    return "/" in entry or entry.endswith(".py")


def name_of(entry: str) -> str:
    """The peer's name in records; for a file, its name without folder and suffix."""
    return Path(entry).stem if is_path(entry) else entry


def completed(settings: keys.Peers) -> keys.Peers:
    """The settings with normalised paths, and with all of the project's peers if they name none."""
    entry = [*offered()] if settings.names is MISSING else settings.names
    return settings.model_copy(update={"names": [os.path.normpath(one) if is_path(one) else one for one in entry]})


def faults(names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(index, message) of each invalid entry. Paths are relative to the current folder, the checkout."""
    known, before = offered(), {}
    for index, entry in enumerate(names):
        fault = _fault_of_path(entry) if is_path(entry) else _fault_of_name(entry, [*known])
        name = name_of(entry)
        if fault is None and is_path(entry) and name in known:
            fault = f"{entry}: its record would have the name of the project's peer {name}; rename the file"
        if fault is None and name in before:
            fault = f"{entry}: the record of names[{before[name]}] has the same name {name}; rename one of the files"
        if fault:
            yield index, fault
        before.setdefault(name, index)


def _fault_of_name(entry: str, known: list[str]) -> str | None:
    if entry in known:
        return None
    near = structure.nearest(entry, known)
    hint = f"did you mean {near}? " if near else ""
    return f"{entry}: unknown peer; {hint}known: {', '.join(known)}; or give a file's path, such as ./mine/{entry}.py"


def _fault_of_path(entry: str) -> str | None:
    path = Path(entry)
    if entry.startswith("~"):
        return f"{entry}: '~' is not expanded; write the absolute path"
    if path.suffix != ".py" or not NAME.fullmatch(path.stem):
        return f"{entry}: the name of a file must be lower-case letters, digits and '_', and it ends in .py"
    if obstacle := readable.obstacle(path):
        return f"{entry}: no such file" if obstacle == "nothing" else f"{entry}: cannot be read: {obstacle}"
    try:
        bound = symtable.symtable(path.read_bytes(), entry, "exec").get_identifiers()
    except (OSError, *UNREADABLE) as error:
        return f"{entry}: cannot be read as Python: {error}"
    return None if "PEER" in bound else f"{entry}: does not define PEER; start from {TEMPLATE}"
