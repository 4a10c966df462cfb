"""Python: its version, and whether `.venv` holds what the locks say."""

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
    """This interpreter: (major, minor, micro), program, whether it is `.venv`'s, and what it lacks."""

    version: tuple[int, int, int]
    oldest: tuple[int, int]
    program: str
    own: bool
    venv_current: bool
    lacking: tuple[str, ...]


def gather(needs: Needs, gpu: object) -> Facts:
    """Asks this process and the set-up script's own marks."""
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
    """The set-up script of this checkout, which knows what `.venv` should hold."""
    spec = importlib.util.spec_from_file_location("bootstrap", BOOTSTRAP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    return [version(facts), modules(facts), venv(facts)]


def version(facts: Facts) -> Finding:
    """At least the version that the set-up asks for."""
    found, oldest = ".".join(map(str, facts.version)), ".".join(map(str, facts.oldest))
    if facts.version[:2] >= facts.oldest:
        return ok("Python", f"{found} ({facts.program})")
    return problem("Python", f"{found}, at least {oldest} is needed", f"make setup PYTHON=python{oldest}")


def modules(facts: Facts) -> Finding:
    """The packages of the core lock are there."""
    if not facts.lacking:
        return ok("Python packages", "all that the core needs")
    return problem("Python packages", f"lacking: {', '.join(facts.lacking)}", "rm -r .venv && make setup")


def venv(facts: Facts) -> Finding:
    """`.venv` was made from today's locks, and it is what runs."""
    if not facts.venv_current:
        return note(".venv", "not made, or its lock has changed: the next make makes it anew", "make setup")
    if not facts.own:
        return note(".venv", f"made, but {facts.program} runs this", ".venv/bin/elastickv doctor")
    return ok(".venv", "holds what its lock says")
