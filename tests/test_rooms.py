"""The packages: imports point one way, and no module is outside them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "workflow/elastickv"
# From the top down: a room imports from those behind it alone.
ROOMS = (
    "__main__",
    "cli",
    "audit",
    "report",
    "doctor",
    "pipeline",
    "peers",
    "models",
    "measure",
    "judge",
    "workloads",
    "cache",
    "build",
    "jobs",
    "environments",
    "matrix",
    "device",
    "schemas",
    "kinds",
    "policies",
    "anchors",
    "formats",
    "records",
    "system",
    "errors",
)
LOOSE = {"__init__", "__main__", "cli", "errors", "records"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """The rooms that a module imports from, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "elastickv":
            found |= {alias.name for alias in node.names if not alias.name.startswith("__")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("elastickv."):
            found.add(node.module.split(".")[1])
    return found


KERNELS = Path(__file__).parents[1] / "kernels"
ALLOWED = {
    "launch.py": {
        "elastickv.device.launches",
        "elastickv.device.params",
        "elastickv.formats",
        "elastickv.schemas.case",
    },
    "workload.py": {"elastickv.kinds", "elastickv.formats", "numpy"},
}


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_python_of_a_kernel_imports_little(path):
    """It computes facts of cases, parameters and devices: no backend, no library that a planning machine may lack."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = node.module == "elastickv"
            found |= {f"elastickv.{alias.name}" for alias in node.names} if package else {node.module}
    assert {name for name in found if name.split(".")[0] not in sys.stdlib_module_names} <= ALLOWED[path.name]


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_from_rooms_below_it(name):
    paths = [PACKAGE / f"{name}.py"] if name in LOOSE else sorted((PACKAGE / name).rglob("*.py"))
    assert paths
    below = {*ROOMS[ROOMS.index(name) :]}
    assert {path.name: sorted(imported(path) - below) for path in paths if imported(path) - below} == {}


def test_every_room_is_known_and_no_module_is_loose():
    assert {path.stem for path in PACKAGE.glob("*.py")} == LOOSE
    assert {room(path) for path in PACKAGE.rglob("*.py")} - {"__init__"} == {*ROOMS}
