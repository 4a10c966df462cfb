"""`elastickv measure`: starts a worker for one case, survives whatever happens to it, and always writes a record."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from elastickv import device, matrix, orphans, records
from elastickv.errors import MachineError, UsageError

GRACE_SECONDS = 600
STDERR_LINES = 3
NOT_MEASURED = {"value": None, "reason": "not measured"}


def now() -> str:
    """Time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _ended(code: int, stderr: str) -> str:
    """One sentence on a worker that gave no answer."""
    last = " | ".join(line.strip() for line in stderr.strip().splitlines()[-STDERR_LINES:])[:500]
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"the worker was killed by {signal.Signals(-code).name} {last}".strip()
    return f"the worker ended with exit code {code}: {last}"


def _environment(backend: str, uuid: str | None) -> dict[str, str]:
    variables = dict(os.environ)
    orphans.adopt_children(variables)
    package = str(Path(__file__).resolve().parents[2])
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [package, variables.get("PYTHONPATH", "")]))
    if backend == "cuda" and uuid:
        variables["CUDA_VISIBLE_DEVICES"] = uuid
    return variables


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
    with tempfile.TemporaryDirectory(prefix="elastickv-") as folder:
        request_file, response_file = Path(folder, "request.json"), Path(folder, "response.json")
        request_file.write_text(json.dumps(request), encoding="utf-8")
        command = [_interpreter(backend), "-m", "elastickv.measure.worker", str(request_file), str(response_file)]
        terminal = sys.stderr.isatty()
        with Path(folder, "stderr").open("w+", encoding="utf-8", errors="replace") as log:
            process = subprocess.Popen(
                command, stdout=sys.stderr, stderr=None if terminal else log, env=_environment(backend, uuid)
            )
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return {"crashed": f"the worker gave no answer in {timeout:.0f} s and was stopped"}
            except BaseException:
                process.kill()
                process.wait()
                raise
            log.seek(0)
            stderr = log.read()
        sys.stderr.write(stderr)
        try:
            return json.loads(response_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"crashed": _ended(code, stderr)}


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


def build_facts(build: str, backend: str) -> dict[str, Any]:
    """Fingerprint and hash of the binary that will run. Raises MachineError when it was not built."""
    manifest = Path(build) / backend / "manifest.json"
    if not manifest.exists():
        raise MachineError(f"{manifest} is missing: the {backend} kernels are not built", f"elastickv build {backend}")
    content = records.read(manifest, "build")
    return {"fingerprint": content["fingerprint"], "sha256": content["binary"]["sha256"]}


def store_key(case: dict[str, Any], build: dict[str, Any], who: dict[str, Any]) -> str:
    """Key of a finished measurement: canonical case without its id, build fingerprint, device and driver."""
    content = {
        "case": matrix.content_key(case),
        "build": build["fingerprint"],
        "device": who,
        "schema": "measurement/1",
    }
    return hashlib.sha256(matrix.canonical_json(content).encode()).hexdigest()


def measure_case(
    case: dict[str, Any],
    build: str,
    *,
    exact: tuple[str, ...] = (),
    store: records.RecordStore | None = None,
    fresh: bool = False,
    save_tensors: str | None = None,
) -> dict[str, Any]:
    """The record of one case: out of the store where it has it, else measured (whatever happens, a valid record)."""
    backend = device.resolve_backend(case["backend"])
    facts = build_facts(build, backend)
    with exclusive(backend) as uuid:
        key = store_key(case, facts, identity(backend, uuid))
        if store and not fresh:
            found = store.find(key)
            if found:
                return {**found, "case": case}
        started = now()
        request = {"task": "measure", "backend": backend, "case": case, "build": build, "exact": list(exact),
                   "save_tensors": save_tensors and os.path.abspath(save_tensors)}  # fmt: skip
        timeout = GRACE_SECONDS + 10 * case["measure"]["max_seconds"]
        response = in_worker(backend, request, timeout, uuid, locked=True)
    record = compose(case, backend, facts, response, started)
    if store:
        store.keep(key, record)
    return record


def compose(
    case: dict[str, Any], backend: str, build: dict[str, Any], response: dict[str, Any], started: str
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
        "schema": "measurement/1",
        "case": case,
        "resolved": resolved,
        "status": fields.pop("status"),
        "reason": fields.pop("reason"),
        "device": response.get("device"),
        "software": response.get("software") or device.software(),
        "build": build,
        "started": started,
        "ended": now(),
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
    try:
        case = records.read(args.case, "case")
    except records.RecordError as error:
        raise UsageError(str(error)) from error
    store = records.RecordStore(args.store)
    record = measure_case(case, args.build, store=store, fresh=args.fresh)
    records.write(args.out, record, "measurement")
    print(describe(record))
    return exit_code(record, args.strict)


def describe(record: dict[str, Any]) -> str:
    """One line on a record, for logs and terminals."""
    head = f"{record['case']['id']}: {record['status']}"
    if record.get("statistics"):
        speedup = record["statistics"]["speedup"]
        baseline, elastic = (record["statistics"][arm]["median_us"] for arm in ("baseline", "elastic"))
        head += f", {speedup['value']:.3f}x [{speedup['low']:.3f}, {speedup['high']:.3f}]"
        head += f" ({baseline:.2f} us -> {elastic:.2f} us) on {record['device']['name']}"
    return head + (f" ({record['reason']})" if record["reason"] else "")
