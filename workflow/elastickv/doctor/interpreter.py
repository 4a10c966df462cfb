"""Python: its version, and whether `.venv` matches the lock files."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from elastickv.doctor.finding import Finding, note, ok, problem
from elastickv.doctor.needs import Needs

BOOTSTRAP = Path("workflow/bootstrap.py")
CORE_MODULES = ("snakemake", "numpy", "scipy", "pandas", "matplotlib", "jsonschema", "tabulate", "yaml", "psutil", "uv")


@dataclass(frozen=True)
class Facts:
    """This interpreter: (major, minor, micro), its path, whether it belongs to `.venv`, and missing packages."""

    version: tuple[int, int, int]
    oldest: tuple[int, int]
    program: str
    own: bool
    venv_current: bool
    lacking: tuple[str, ...]


def gather(needs: Needs, gpu: object) -> Facts:
    """Inspects this process and the marker files of the set-up script."""
    script = _bootstrap()
    return Facts(
        version=sys.version_info[:3],
        oldest=script.OLDEST,
        program=sys.executable,
        own=Path(sys.prefix).resolve() == Path(script.VENV).resolve(),
        venv_current=not script.missing(["core"]),
        lacking=tuple(name for name in CORE_MODULES if importlib.util.find_spec(name) is None),
    )


def _bootstrap() -> ModuleType:
    """The set-up script of this checkout, which knows the packages that `.venv` should hold."""
    spec = importlib.util.spec_from_file_location("bootstrap", BOOTSTRAP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    return [version(facts), modules(facts), venv(facts)]


def version(facts: Facts) -> Finding:
    """Whether Python is at least the version that the set-up requires."""
    found, oldest = ".".join(map(str, facts.version)), ".".join(map(str, facts.oldest))
    if facts.version[:2] >= facts.oldest:
        return ok("Python", f"{found} ({facts.program})")
    return problem("Python", f"{found}; {oldest} or newer is needed", f"make setup PYTHON=python{oldest}")


def modules(facts: Facts) -> Finding:
    """Whether the packages of the core lock file are installed."""
    if not facts.lacking:
        return ok("Python packages", "all core packages are installed")
    return problem("Python packages", f"missing: {', '.join(facts.lacking)}", "rm -r .venv && make setup")


def venv(facts: Facts) -> Finding:
    """Whether `.venv` matches the current lock files and is the interpreter in use."""
    if not facts.venv_current:
        return note(".venv", "missing, or its lock file has changed: the next make recreates it", "make setup")
    if not facts.own:
        return note(".venv", f"up to date, but this program runs in {facts.program}", ".venv/bin/elastickv doctor")
    return ok(".venv", "matches its lock file")
