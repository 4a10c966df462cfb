"""What `baselines.peers.names` may hold: names of the peers in their folder, and paths of Python files of one's own.

Files are parsed and never imported: what they import lies in another environment, and every command reads a config.
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
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # what parsing a text may raise


@cache
def offered() -> dict[str, str]:
    """The module under peers/libraries of every peer there, by the peer's name, in the order in which they stand.

    Raises UsageError where a file cannot be parsed or offers what another one does.
    """
    found: dict[str, str] = {}
    for path in sorted(LIBRARIES.glob("[!._]*.py")):
        for name in _keys_of_peers(path):
            if name in found:
                raise UsageError(f"{path}: PEERS: {name} is offered by {found[name]}.py too; rename one of them")
            found[name] = path.stem
    return found


def _keys_of_peers(path: Path) -> list[str]:
    """The keys of `PEERS = {...}` in a library's file."""
    try:
        statements = ast.parse(path.read_bytes()).body
    except (OSError, *UNREADABLE) as error:
        raise UsageError(f"{path}: {error}") from error
    values = [
        statement.value
        for statement in statements
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == ["PEERS"]
    ]
    if not values or not isinstance(values[-1], ast.Dict):
        raise UsageError(f"{path}: PEERS = {{name: peer, ...}} is needed, as in every file of this folder")
    names = [key.value if isinstance(key, ast.Constant) else None for key in values[-1].keys]
    for name in names:
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            raise UsageError(f"{path}: PEERS: each key is a name in quotes: lower-case letters, digits and '_'")
    return names


def is_path(said: str) -> bool:
    """Whether a name of the config is the path of a file."""
    return "/" in said or said.endswith(".py")


def name_of(said: str) -> str:
    """The peer's name in records: of a file its own, without folder and ending."""
    return Path(said).stem if is_path(said) else said


def completed(settings: keys.Peers) -> keys.Peers:
    """The settings with every peer's name where they name none, and with paths in their shortest form."""
    said = [*offered()] if settings.names is MISSING else settings.names
    return settings.model_copy(update={"names": [os.path.normpath(one) if is_path(one) else one for one in said]})


def faults(names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(index, message) of each name that is no peer's. Paths are relative to the current folder, the checkout."""
    known, before = offered(), {}
    for index, said in enumerate(names):
        fault = _fault_of_path(said) if is_path(said) else _fault_of_name(said, [*known])
        name = name_of(said)
        if fault is None and is_path(said) and name in known:
            fault = f"{said}: its record would be that of the project's own peer {name}; rename the file"
        if fault is None and name in before:
            fault = f"{said}: names[{before[name]}] makes a record of the same name, {name}; rename one of the files"
        if fault:
            yield index, fault
        before.setdefault(name, index)


def _fault_of_name(said: str, known: list[str]) -> str | None:
    if said in known:
        return None
    near = structure.nearest(said, known)
    hint = f"did you mean {near}? " if near else ""
    return f"{said}: no such peer; {hint}known: {', '.join(known)}; or the path of a file, such as ./mine/{said}.py"


def _fault_of_path(said: str) -> str | None:
    path = Path(said)
    if said.startswith("~"):
        return f"{said}: '~' is not expanded; write the absolute path"
    if path.suffix != ".py" or not NAME.fullmatch(path.stem):
        return f"{said}: a file's name is needed of lower-case letters, digits and '_' that ends in .py"
    if obstacle := readable.obstacle(path):
        return f"{said}: no such file" if obstacle == "nothing" else f"{said}: cannot be read: {obstacle}"
    try:
        bound = symtable.symtable(path.read_bytes(), said, "exec").get_identifiers()
    except (OSError, *UNREADABLE) as error:
        return f"{said}: cannot be read as Python: {error}"
    return None if "PEER" in bound else f"{said}: has no PEER, the peer that a file offers; start from {TEMPLATE}"
