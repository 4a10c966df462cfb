"""The environments under `.envs/` that the config's rules need: whether they exist, are current and complete."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from elastickv import environments
from elastickv.doctor.finding import Finding, note, ok, problem
from elastickv.doctor.needs import ELASTICKV, Needs


@dataclass(frozen=True)
class Environment:
    """One environment. `lacking`: modules that its interpreter should find but does not."""

    name: str
    made: bool
    current: bool
    adopted: bool
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """The environments that the config needs. `installer`: whether uv, which creates them, is available."""

    environments: tuple[Environment, ...]
    installer: bool


def gather(needs: Needs, gpu: object) -> Facts:
    """Reads the marker files of finished environments and checks the modules that their interpreters find."""
    return Facts(tuple(map(_environment, needs.environments)), _installer())


def _installer() -> bool:
    return Path(sys.executable).with_name("uv").exists() or shutil.which("uv") is not None


def _environment(name: str) -> Environment:
    mark = environments.mark(name)
    if mark is None:
        return Environment(name, made=False, current=False, adopted=False)
    wanted = environments.NEEDED.get(name, ())
    lacking = tuple(module for module in wanted if not environments.finds(str(mark.python), (module,)))
    return Environment(name, True, environments.is_current(name), mark.adopted, lacking)


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    return [*(environment(one, facts.installer) for one in facts.environments), *installer(facts)]


def environment(found: Environment, can_install: bool) -> Finding:
    """Whether one environment is ready to be used."""
    check, make = f"environment {found.name}", f"{ELASTICKV} env {found.name}"
    if found.lacking:
        again = f"rm -r .envs/{found.name} && {make}"
        return problem(check, f"incomplete: lacks {', '.join(found.lacking)}", again)
    if found.current:
        return ok(check, "adopted with --adopt" if found.adopted else "installed from its lock file")
    text = "its lock file has changed: the next run reinstalls it" if found.made else "the next run installs it"
    return note(check, text, make if can_install else f"make setup && {make}")


def installer(facts: Facts) -> list[Finding]:
    """Whether uv is available, if an environment still has to be installed."""
    if facts.installer or all(one.current and not one.lacking for one in facts.environments):
        return []
    return [problem("installer", "uv, which installs the environments, is missing", "make setup")]
