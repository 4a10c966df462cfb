"""The process that holds our kernel and the peers': reads a request, answers with one JSON file. It may crash.

Called as `python -m elastickv.baselines.peers.worker REQUEST RESPONSE` by the interpreter of the environment `peers`.
What is done so far, and which peer is under way, stands in the file `progress` of the request, for whoever survives it.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from elastickv import orphans, records
from elastickv.errors import MachineError

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


class Progress:
    """A file that always says what is done and what is under way."""

    def __init__(self, path: str, known: dict[str, Any]):
        self._path, self._content = Path(path), {**known, "current": None, "done": {}}

    def begin(self, name: str) -> None:
        """A peer is under way from now on."""
        self._write(current=name)

    def end(self, name: str, entry: dict[str, Any]) -> None:
        """It is done."""
        self._write(current=None, done={**self._content["done"], name: entry})

    def _write(self, **changes: Any) -> None:
        self._content |= changes
        records.write_text(self._path, records.to_json(self._content))


def _compare(request: dict[str, Any]) -> dict[str, Any]:
    from elastickv import device
    from elastickv.backends import open_backend
    from elastickv.baselines import peers
    from elastickv.baselines.peers import compare, record, runners

    state = device.state_of(request["backend"])  # before the backend opens: who is on a GPU now is somebody else
    backend = open_backend(request["backend"], request["build"])
    state.opened()
    facts, software = backend.facts(), {**device.software(), **versions()}
    progress = Progress(request["progress"], {"device": facts, "software": software})
    case = record.for_peers(request["case"], request["settings"])
    refused = backend.supports(case)
    if refused:
        return {"device": facts, "software": software, "status": "unsupported", "reason": f"our kernel: {refused}"}
    bench = compare.Bench(backend, runners.open_runner(backend), case, state.throttled)
    for name in request["names"]:
        progress.begin(name)
        if sys.stderr.isatty():
            print(f"\r\033[K  {request['case']['id']}: {name}", end="", file=sys.stderr, flush=True)
        progress.end(name, compare.beside(bench, peers.load(name)))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return {"finished": True}


def _versions(_: dict[str, Any]) -> dict[str, Any]:
    return {"versions": versions()}


def _crosscheck(request: dict[str, Any]) -> dict[str, Any]:
    from elastickv.backends import open_backend
    from elastickv.baselines.peers import crosscheck
    from elastickv.baselines.refusal import one_line

    backend = open_backend("cuda", request["build"])
    try:
        return crosscheck.measure(backend, request["timer"])
    except (ImportError, LookupError, RuntimeError) as error:
        return {"reason": one_line(error)}


TASKS = {"compare": _compare, "versions": _versions, "crosscheck": _crosscheck}


def main(request_file: str, response_file: str) -> int:
    """Runs one task; what the machine lacks is answered, defects crash with their traceback."""
    orphans.die_with_parent()
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    # Behind the environment's own packages: of the other environment only what this one lacks (CuPy, NVML) is found.
    sys.path += request.get("packages", [])
    try:
        response = TASKS[request["task"]](request)
    except MachineError as error:
        response = {"status": "failed", "reason": f"{error.problem} (fix: {error.fix})"}
    except MemoryError as error:
        traceback.print_exc()
        response = {"status": "out_of_memory", "reason": str(error) or "allocation failed"}
    records.write_text(response_file, records.to_json(response))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
