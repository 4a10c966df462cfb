"""The process that holds our kernel and the peers': reads a request, answers with one JSON file. It may crash.

Called as `python -m elastickv.peers.worker REQUEST RESPONSE` by the interpreter of the environment `peers`.
What is done so far, and which peer is under way, stands in the file `progress` of the request, for whoever survives it.
"""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

from elastickv.jobs.worker import Progress, serve, show
from elastickv.schemas import config as keys
from elastickv.schemas.case import case_of

# Distributions whose versions a record names, beside the one that the peer is of.
SOFTWARE = ("torch", "flashinfer-python", "cupy-cuda12x", "cupy-cuda13x", "nvidia-cudnn-cu13")


def versions() -> dict[str, str]:
    """Versions of the libraries that are there, without importing them."""
    found = {}
    for name in SOFTWARE:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _compare(request: dict[str, Any]) -> dict[str, Any]:
    from elastickv import device, peers
    from elastickv.device.opening import open_backend
    from elastickv.peers import comparison, record, runners

    state = device.state_of(request["backend"])  # before the backend opens: who is on a GPU now is somebody else
    backend = open_backend(request["backend"], request["build"])
    state.opened()
    facts, software = backend.facts(), {**device.software(), **versions()}
    progress = Progress(request, {"device": facts, "software": software})
    case = record.for_peers(case_of(request["case"]), keys.Peers(**request["settings"]))
    refused = backend.supports(case)
    if refused:
        return {"device": facts, "software": software, "status": "unsupported", "reason": f"our kernel: {refused}"}
    bench = comparison.Bench(backend, runners.open_runner(backend), case, state.throttled)
    for name in request["names"]:
        progress.begin(name)
        show(f"  {case.id}: {name}")
        progress.end(name, comparison.beside(bench, peers.load(name)).model_dump(mode="json"))
    show()
    return {"finished": True}


def _versions(_: dict[str, Any]) -> dict[str, Any]:
    return {"versions": versions()}


def _crosscheck(request: dict[str, Any]) -> dict[str, Any]:
    from elastickv.device.opening import open_backend
    from elastickv.models.refusal import one_line
    from elastickv.peers import crosscheck

    backend = open_backend("cuda", request["build"])
    try:
        return crosscheck.measure(backend, request["timer"])._asdict()
    except (ImportError, LookupError, RuntimeError) as error:
        return {"reason": one_line(error)}


if __name__ == "__main__":
    sys.exit(serve({"compare": _compare, "versions": _versions, "crosscheck": _crosscheck}))
