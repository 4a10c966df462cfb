"""Peers that the config enables: whether their packages are installed, and whether the user's files load."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from elastickv import environments
from elastickv.doctor import gpu as gpus
from elastickv.doctor.finding import Finding, note, ok, problem
from elastickv.doctor.needs import ELASTICKV, Needs
from elastickv.errors import MachineError
from elastickv.peers import supervisor
from elastickv.peers.supervisor import Described
from elastickv.schemas.case import DecodeCase

ENVIRONMENT = "peers"


@dataclass(frozen=True)
class Facts:
    """peers: each peer's description from a worker, by name; None if the environment does not exist yet.

    adding: the command that installs a missing distribution, by its name. python: the environment's interpreter.
    """

    peers: Mapping[str, Described] | None
    adding: Mapping[str, str] = field(default_factory=dict)
    python: str = ""


def gather(needs: Needs, gpu: gpus.Facts) -> Facts:
    """Loads every peer in a worker, as a run does before measuring; runs no kernel."""
    if needs.peers is None:
        return Facts({})
    on_gpu = needs.gpu == "required" or (needs.gpu == "optional" and bool(gpu.gpus))
    cases = [case for case in needs.cases if isinstance(case, DecodeCase)]
    try:
        peers = supervisor.described(needs.peers, "cuda" if on_gpu else "cpu", cases)
        missing = {library for peer in peers.values() for library in peer.missing}
        adding = {library: environments.adding(ENVIRONMENT, library) for library in missing}
        return Facts(peers, adding, environments.shown(environments.interpreter(ENVIRONMENT)))
    except MachineError:
        return Facts(None)


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    if facts.peers is None:
        return [note("peers", "they can be checked once their environment is installed", f"{ELASTICKV} env peers")]
    return [peer(name, one, facts, needs) for name, one in facts.peers.items()]


def peer(name: str, found: Described, facts: Facts, needs: Needs) -> Finding:
    """The finding for one peer: whether it loads, supports any of the cases, and has its packages."""
    check = f"peer {name}"
    if found.wrong:
        again = f"rm -r .envs/{ENVIRONMENT} && {ELASTICKV} env {ENVIRONMENT}"
        whole = f"PYTHONPATH=workflow {facts.python} {shlex.quote(found.path)}" if found.path else again
        return problem(check, found.wrong[1], whole)
    attention = [case.id for case in needs.cases if isinstance(case, DecodeCase)]
    taken = [case for case in attention if case not in found.refused]
    if not taken:
        return note(check, f"supports no case here: {next(iter(found.refused.values()))}")
    if found.missing:
        library = found.missing[0]
        return problem(check, f"{library} is not installed in the environment peers", facts.adding[library])
    versions = ", ".join(f"{library} {found.versions[library]}" for library in found.needs)
    some = "" if len(taken) == len(attention) else f"; supports {len(taken)} of {len(attention)} cases"
    return ok(check, f"{versions}{some}")
