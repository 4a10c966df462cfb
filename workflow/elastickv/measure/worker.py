"""The process that touches the device: reads a request, answers with one JSON file. It may crash; its supervisor copes.

Called as `python -m elastickv.measure.worker REQUEST RESPONSE` by the interpreter of the backend's environment.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from elastickv import device, records
from elastickv.device import State, launches
from elastickv.device.base import Backend
from elastickv.device.opening import open_backend
from elastickv.jobs.worker import Task, serve, show
from elastickv.records import Json
from elastickv.schemas.case import case_of
from elastickv.schemas.measurement import Forced
from elastickv.schemas.parts import BuildUsed, Device


def _measure(backend: Backend, request: Json, state: State) -> Json:
    from elastickv.measure import machine, record, steps

    begun = state.snapshot()
    built, facts = BuildUsed.model_validate(request["built"]), Device.model_validate(backend.facts())
    blank = record.unmeasured(case_of(request["case"]), backend.name, built, facts)
    made, workload = steps.measure(backend, blank, set(request["fixed"]), state, request["processes"])
    show()
    if request.get("save_tensors") and workload is not None:
        import numpy as np

        with records.replacing(request["save_tensors"]) as temporary, temporary.open("wb") as file:
            np.savez(file, **workload.tensors())  # given a name, it would add .npz
    made = machine.with_readings(made, state, begun, state.snapshot())
    if request.get("forced"):
        forced = Forced.model_validate(request["forced"])
        made = made.model_copy(update={"resolved": made.resolved.model_copy(update={"forced": forced})})
    return {"record": made.model_dump(mode="json")}


def _once(backend: Backend, request: Json, _: State) -> Json:
    """One launch of the elastic arm, for a profiler."""
    from elastickv import workloads

    case = case_of(request["case"])
    reason = backend.supports(case)
    if reason:
        return {"status": "unsupported", "reason": reason}
    workload = workloads.create(backend, case)
    backend.launch(workload.call("elastic", 0))
    backend.synchronize()
    return {"launched": 1}


def _ceilings(backend: Backend, _: Json, state: State) -> Json:
    from elastickv.measure import ceilings, machine

    return {"record": ceilings.measure(backend, machine.readings(state)).model_dump(mode="json")}


def _on_device(task: Callable[[Backend, Json, State], Json]) -> Task:
    """A task that is given the backend that its request names, opened, and the device's state."""

    def run(request: Json) -> Json:
        state = device.state_of(request["backend"])  # before the backend opens: all processes on the GPU now are others
        backend = open_backend(request["backend"], request["build"])
        state.opened()
        if request.get("forced"):
            backend.force(launches.Forced(**request["forced"]))
        return task(backend, request, state)

    return run


if __name__ == "__main__":
    sys.exit(serve({"measure": _on_device(_measure), "once": _on_device(_once), "ceilings": _on_device(_ceilings)}))
