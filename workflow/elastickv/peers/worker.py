"""The process that runs our kernel and the peers: reads a request and answers with one JSON file. It may crash.

Called as `python -m elastickv.peers.worker REQUEST RESPONSE` by the interpreter of the environment `peers`.
The request's file `progress` states what is done and which peer is being measured, for the parent if it crashes.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from elastickv.jobs.worker import Progress, serve, show
from elastickv.schemas.case import case_of

if TYPE_CHECKING:
    from elastickv.peers.base import Peer
    from elastickv.peers.comparison import Bench

# Distributions that our side of a comparison uses, in addition to those of the peer.
SOFTWARE = ("torch", "cupy-cuda12x", "cupy-cuda13x")


def versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those of these distributions that are there, without importing them."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _loaded(request: dict[str, Any], name: str) -> tuple[Peer, str | None]:
    """A peer, and the sha256 of the file where it is a user's own. Raises Refusal."""
    from elastickv import peers
    from elastickv.peers import own

    file = request["files"].get(name)
    return own.load(file["path"], file["sha256"]) if file else (peers.load(name), None)


def _described(request: dict[str, Any], name: str) -> dict[str, Any]:
    """A peer's description, the versions of its distributions, and the cases that it does not support."""
    peer, sha256 = _loaded(request, name)
    cases = [case_of(case) for case in request["cases"]]
    refused = {case.id: reason for case in cases if (reason := peer.supports(case, request["backend"]))}
    return {
        "times": peer.times,
        "needs": peer.needs,
        "versions": versions({*peer.needs, *peer.beside, *SOFTWARE}),
        "sha256": sha256,
        "refused": refused,
    }


def _describe(request: dict[str, Any]) -> dict[str, Any]:
    from elastickv.models.refusal import Refusal, one_line

    found = {}
    for name in request["names"]:
        try:
            found[name] = _described(request, name)
        except Refusal as refusal:
            found[name] = {"status": refusal.status, "reason": str(refusal)}
        except Exception as error:  # out of `supports`
            found[name] = {"status": "failed", "reason": one_line(error)}
    return {"described": found}


def _compare(request: dict[str, Any]) -> dict[str, Any]:
    from elastickv import device
    from elastickv.device.opening import open_backend
    from elastickv.peers import comparison, runners

    state = device.state_of(request["backend"])  # before the backend opens: all processes on a GPU now are others
    backend = open_backend(request["backend"], request["build"])
    state.opened()
    facts, software = backend.facts(), {**device.software(), **request["versions"]}
    progress = Progress(request, {"device": facts, "software": software})
    case = case_of(request["case"])
    refused = backend.supports(case)
    if refused:
        return {"device": facts, "software": software, "status": "unsupported", "reason": f"our kernel: {refused}"}
    bench = comparison.Bench(backend, runners.open_runner(backend), case, state.throttled)
    for name in request["names"]:
        progress.begin(name)
        show(f"  {case.id}: {name}")
        progress.end(name, _beside(bench, request, name))
    show()
    return {"finished": True}


def _beside(bench: Bench, request: dict[str, Any], name: str) -> dict[str, Any]:
    from elastickv.models.refusal import Refusal
    from elastickv.peers import comparison

    try:
        peer, _ = _loaded(request, name)
    except Refusal as refusal:
        return {"status": refusal.status, "reason": str(refusal)}
    return comparison.beside(bench, peer).model_dump(mode="json")


if __name__ == "__main__":
    sys.exit(serve({"compare": _compare, "describe": _describe}))
