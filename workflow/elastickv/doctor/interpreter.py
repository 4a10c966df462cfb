"""Python, and whether `.venv` matches the lock files."""

from __future__ import annotations

import importlib.util
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from elastickv.doctor.finding import Finding, note, ok
from elastickv.doctor.needs import Needs

BOOTSTRAP = Path("workflow/bootstrap.py")


@dataclass(frozen=True)
class Facts:
    """This interpreter: its version and path, whether it belongs to `.venv`, and whether that matches its locks."""

    version: str
    program: str
    own: bool
    venv_current: bool


def gather(needs: Needs, gpu: object) -> Facts:
    """Inspects this process; the set-up script of this checkout knows what `.venv` should contain."""
    spec = importlib.util.spec_from_file_location("bootstrap", BOOTSTRAP)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    own = Path(sys.prefix).resolve() == Path(script.VENV).resolve()
    return Facts(platform.python_version(), sys.executable, own, not script.missing(["core"]))


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    return [ok("Python", f"{facts.version} ({facts.program})"), venv(facts)]


def venv(facts: Facts) -> Finding:
    """Whether `.venv` matches the current lock files and is the interpreter in use."""
    if not facts.venv_current:
        return note(".venv", "missing, or its lock file has changed: the next make recreates it", "make setup")
    if not facts.own:
        return note(".venv", f"up to date, but this program runs in {facts.program}", ".venv/bin/elastickv doctor")
    return ok(".venv", "matches its lock file")
