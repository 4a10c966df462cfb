"""The process that touches the device: reads a request, answers with one JSON file. It may crash; its supervisor copes.

Called as `python -m elastickv.measure.worker REQUEST RESPONSE` by the interpreter of the backend's environment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from elastickv import device, orphans, records
from elastickv.backends import open_backend
from elastickv.backends.base import Backend
from elastickv.device import State
from elastickv.errors import MachineError, UsageError


def _progress(done: int, total: int) -> None:
    """A progress line on a terminal, nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r  round {done} of at most {total} ", end="", file=sys.stderr, flush=True)


def _measure(backend: Backend, request: dict[str, Any], state: State) -> dict[str, Any]:
    from elastickv.measure import machine, run

    begun = state.snapshot()
    fields, workload = run.measure(backend, request["case"], set(request["fixed"]), state, _progress)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if request.get("save_tensors") and workload is not None:
        import numpy as np

        with records.replacing(request["save_tensors"]) as temporary, temporary.open("wb") as file:
            np.savez(file, **workload.tensors())  # given a name, it would add .npz
    fields = machine.with_readings(fields, state, begun, state.snapshot())
    if request.get("forced"):
        fields["resolved"] = {**fields.get("resolved", {}), "forced": request["forced"]}
    return {"fields": fields, "device": backend.facts(), "software": device.software()}


def _once(backend: Backend, request: dict[str, Any], _: State) -> dict[str, Any]:
    """One launch of the elastic arm, for a profiler."""
    from elastickv import workloads

    reason = backend.supports(request["case"])
    if reason:
        return {"error": reason}
    workload = workloads.create(backend, request["case"])
    backend.launch(workload.call("elastic", 0))
    backend.synchronize()
    return {"launched": 1}


def _ceilings(backend: Backend, _: dict[str, Any], state: State) -> dict[str, Any]:
    from elastickv.measure import ceilings, machine

    return {"record": {**ceilings.measure(backend), "machine": machine.readings(state)}}


TASKS = {"measure": _measure, "once": _once, "ceilings": _ceilings}


def main(request_file: str, response_file: str) -> int:
    """Runs one task; errors of the machine are answered, defects crash with their traceback."""
    orphans.die_with_parent()
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    try:
        state = device.state_of(request["backend"])  # before the backend opens: who is on the GPU now is somebody else
        backend = open_backend(request["backend"], request["build"])
        state.opened()
        if request.get("forced"):
            backend.force(request["forced"])
        response = TASKS[request["task"]](backend, request, state)
    except MachineError as error:
        response = {"error": error.problem, "fix": error.fix}
    except UsageError as error:  # a file that a folder has taken the place of since it was asked for
        response = {"error": str(error), "fix": "name another file"}
    except MemoryError as error:
        response = {"out_of_memory": str(error) or "allocation failed"}
    records.write_text(response_file, records.to_json(response))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
