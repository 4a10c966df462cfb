"""`elastickv measure`: starts a worker for one case, survives whatever happens to it, and always writes a record."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

from elastickv import demand, device, matrix, records, workers
from elastickv.build import binary
from elastickv.errors import MachineError, UsageError
from elastickv.measure import processes
from elastickv.stopwatch import Stopwatch

SAMPLING = 4  # a finished measurement is not repeated unless how samples are taken or judged has changed
NOT_MEASURED = {"value": None, "reason": "not measured"}


def _interpreter(backend: str) -> str:
    if backend == "cpu":
        return sys.executable
    from elastickv import environments

    return str(environments.interpreter("cuda"))


def in_worker(
    backend: str, request: dict[str, Any], timeout: float, uuid: str | None = None, locked: bool = False
) -> dict[str, Any]:
    """Runs one task in a worker process under the device's lock.

    Returns the worker's response, or {"crashed": reason}. Raises MachineError when the environment is missing.
    """
    if not locked:
        with exclusive(backend) as free:
            return in_worker(backend, request, timeout, free, locked=True)
    command = [_interpreter(backend), "-m", "elastickv.measure.worker"]
    visible = {"CUDA_VISIBLE_DEVICES": uuid} if backend == "cuda" and uuid else {}
    return workers.ask(command, request, timeout, workers.environment(**visible))


@contextlib.contextmanager
def exclusive(backend: str) -> Any:
    """The lock of the device that `backend` measures on; yields the GPU's UUID, or None on the CPU."""
    if backend == "cuda":
        with device.exclusive_gpu() as uuid:
            yield uuid
    else:
        with device.exclusive_cpu():
            yield None


def identity(backend: str, uuid: str | None) -> dict[str, Any]:
    """What the record store knows a device by: model and driver."""
    if backend == "cuda":
        return {"uuid": uuid, "cuda_driver": device.cuda_driver_version(), "driver": device.nvidia_driver()}
    return {"cpu": device.cpu_model(), "cores": os.cpu_count(), "affinity": len(os.sched_getaffinity(0)),
            "machine": platform.machine()}  # fmt: skip


def store_key(case: dict[str, Any], build: dict[str, Any], who: dict[str, Any]) -> str:
    """Key of a finished measurement: canonical case without its id, its kernels' fingerprint, device and driver."""
    content = {
        "case": matrix.content_key(case),
        "build": build["fingerprint"],
        "device": who,
        "schema": "measurement/2",
        "sampling": SAMPLING,
    }
    return hashlib.sha256(matrix.canonical_json(content).encode()).hexdigest()


def measure_case(
    case: dict[str, Any],
    build: str,
    *,
    fixed: tuple[str, ...] = (),
    store: records.RecordStore | None = None,
    fresh: bool = False,
    save_tensors: Path | None = None,
    forced: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The record of one case: out of the store where it has it, else measured (whatever happens, a valid record).

    forced: choices of the launch that a study makes itself (`backends.cuda_decode.Forced`); not with a store.
    """
    backend = device.resolve_backend(case["backend"])
    facts = binary.facts(build, backend, case["workload"])
    found = _finished(case, facts, backend, store if not fresh else None)
    if found:  # without waiting for a device
        return found
    with exclusive(backend) as uuid:
        found = _finished(case, facts, backend, store if not fresh else None)
        if found:  # by another run, while this one waited
            return found
        request = {"task": "measure", "backend": backend, "case": case, "build": build, "fixed": list(fixed),
                   "save_tensors": save_tensors and str(save_tensors), "forced": forced}  # fmt: skip
        watch = Stopwatch()
        with store.room() if store else contextlib.nullcontext():
            response = _in_processes(backend, request, uuid)
    record = compose(case, backend, facts, response, watch)
    if store and record.get("statistics"):  # without, it may come out differently on a machine in a better state
        keep(store, store_key(case, facts, identity(backend, uuid)), record)
    return record


def _in_processes(backend: str, request: dict[str, Any], uuid: str | None) -> dict[str, Any]:
    """The response of as many workers as the case asks for, one after another on the device that is held."""
    case, responses = request["case"], []
    wanted = processes.count(case)
    for index in range(wanted):
        response = in_worker(backend, request, demand.worker_seconds(case, request["fixed"]), uuid, locked=True)
        if wanted == 1:
            return response
        stopped = processes.stopped_by(response, index, wanted)
        if stopped:
            return stopped
        responses.append(response)
        request = {**request, "save_tensors": None}
    return processes.combine(responses)


def _finished(
    case: dict[str, Any], build: dict[str, Any], backend: str, store: records.RecordStore | None
) -> dict[str, Any] | None:
    """The stored record of a case on any of the devices that it may be measured on, or None."""
    if store is None:
        return None
    for uuid in device.visible_gpus() if backend == "cuda" else [None]:
        found = store.find(store_key(case, build, identity(backend, uuid)))
        if found:
            return {**found, "case": case}
    return None


def keep(store: records.RecordStore, key: str, record: dict[str, Any]) -> None:
    """Stores a record. If the system refuses, this only says so: the record has a file of its own to go to."""
    try:
        store.keep(key, record)
    except (MachineError, UsageError) as error:
        print(f"elastickv: {error}", file=sys.stderr)


def compose(
    case: dict[str, Any], backend: str, build: dict[str, Any], response: dict[str, Any], watch: Stopwatch
) -> dict[str, Any]:
    """The full record from a worker's response (or from what is known of its end)."""
    fields = dict(response.get("fields", {}))
    if "crashed" in response:
        fields = {"status": "failed", "reason": response["crashed"]}
    elif "error" in response:
        fields = {"status": "failed", "reason": f"{response['error']} (fix: {response.get('fix', '')})"}
    elif "out_of_memory" in response:
        fields = {"status": "out_of_memory", "reason": response["out_of_memory"]}
    resolved = {"backend": backend, **fields.pop("resolved", {})}
    unmeasured = {"clocks", "throttling", "power", "energy"}
    return {
        "schema": "measurement/2",
        "case": case,
        "resolved": resolved,
        "status": fields.pop("status"),
        "reason": fields.pop("reason"),
        "device": response.get("device"),
        "software": response.get("software") or device.software(),
        "build": build,
        "started": watch.started,
        "ended": watch.ended(),
        "correctness": None,
        "inference_cycle": None,
        "original_score": None,
        **dict.fromkeys(unmeasured, NOT_MEASURED),
        **fields,
    }


def exit_code(record: dict[str, Any], strict: bool) -> int:
    """0, or 1 with `--strict` and a status other than `ok`."""
    return 1 if strict and record["status"] != "ok" else 0


def run(args: argparse.Namespace) -> int:
    """`elastickv measure`."""
    case = records.read(args.case, "case")
    records.check_file(args.out)
    store = records.RecordStore(args.store)
    record = measure_case(case, args.build, store=store, fresh=args.fresh)
    records.write(args.out, record, "measurement")
    print(describe(record))
    return exit_code(record, args.strict)


def describe(record: dict[str, Any]) -> str:
    """One line on a record, for logs and terminals. A number only where it holds."""
    head = f"{record['case']['id']}: {record['status']}"
    if record["status"] == "ok":
        speedup = record["statistics"]["speedup"]
        full, elastic = (record["statistics"][arm]["median_us"] for arm in ("full", "elastic"))
        head += f", {speedup['value']:.3f}x [{speedup['low']:.3f}, {speedup['high']:.3f}]"
        head += f" ({full:.2f} us -> {elastic:.2f} us) on {record['device']['name']}"
        if record.get("processes"):
            spread = record["processes"]["spread"]
            head += f"; {len(record['processes']['runs'])} processes: {spread['low']:.3f}x to {spread['high']:.3f}x"
    return head + (f" ({record['reason']})" if record["reason"] else "")
