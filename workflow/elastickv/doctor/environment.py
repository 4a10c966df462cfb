"""The environments under `.envs/` that the config's rules need: whether they exist and are current."""

from __future__ import annotations

from elastickv import environments
from elastickv.doctor.finding import Finding, note, ok
from elastickv.doctor.needs import ELASTICKV, Needs

Facts = dict[str, tuple[environments.Mark | None, bool]]


def gather(needs: Needs, gpu: object) -> Facts:
    """The mark of each environment, and whether it is current."""
    return {name: (environments.mark(name), environments.is_current(name)) for name in needs.environments}


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    return [environment(name, *found) for name, found in facts.items()]


def environment(name: str, mark: environments.Mark | None, current: bool) -> Finding:
    """Whether one environment is ready to be used."""
    check = f"environment {name}"
    if current:
        return ok(check, "adopted with --adopt" if mark.adopted else "installed from its lock file")
    text = "its lock file has changed: the next run reinstalls it" if mark else "the next run installs it"
    return note(check, text, f"{ELASTICKV} env {name}")
