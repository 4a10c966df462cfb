"""`elastickv baseline`: starts workers for one engine, survives whatever happens to them, always writes a record."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastickv import device, environments, matrix, records, workers
from elastickv.backends import host
from elastickv.baselines import protocol, record, text
from elastickv.baselines.refusal import NO_GPU
from elastickv.errors import MachineError, UsageError
from elastickv.matrix import defaults, structure
from elastickv.measure.supervisor import exclusive, exit_code, identity, keep
from elastickv.stopwatch import Stopwatch

FETCH_SECONDS = 6 * 3600  # a model of the hub may have to be downloaded
MEASURE_SECONDS = 2 * 3600
SCHEMA = "baseline/1"
OF_A_CPU = {"uuid": None, "driver": None, "driver_reason": "a CPU has none", "peak_gbps": None}


@dataclass(frozen=True)
class Engine:
    """A language-model engine: the environment it runs in, and what its settings are when they are not given."""

    name: str
    environment: str
    defaults: dict[str, Any]


ENGINES = {
    "transformers": Engine("transformers", "llm", defaults.TRANSFORMERS),
    "gguf": Engine("gguf", "gguf", defaults.GGUF),
}


def run(args: argparse.Namespace) -> int:
    """Writes `args.out`."""
    engine = ENGINES[args.which]
    records.check_file(args.out)
    store = records.RecordStore(args.store, "baseline") if args.store else None
    result = baseline(engine, read_settings(args.settings, engine), store, args.fresh)
    records.write(args.out, result, "baseline")
    print(describe(result))
    return exit_code(result, args.strict)


def read_settings(path: str, engine: Engine) -> dict[str, Any]:
    """The settings in a file of the plan, complete. Raises UsageError."""
    try:
        said = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as settings: {error}") from error
    if not isinstance(said, dict):
        raise UsageError(f"{path}: a JSON object is needed")
    backend = said.pop("backend", defaults.BACKEND)
    faults = [f"{path}: {'.'.join(map(str, key))}: {fault}" for key, fault in structure.faults(said, engine.name)]
    if backend not in ("auto", "cuda", "cpu"):
        faults.append(f"{path}: backend: one of auto, cuda, cpu is needed, this is {backend!r}")
    if faults:
        raise UsageError(faults)
    settings = {key: value for key, value in (engine.defaults | said).items() if key != "enable"}
    if "repo" in said:
        settings.pop("model", None)
    return settings | {"backend": backend}


def baseline(
    engine: Engine, settings: dict[str, Any], store: records.RecordStore | None = None, fresh: bool = False
) -> dict[str, Any]:
    """The record of one engine: out of the store where it has it, else measured (whatever happens, a valid record)."""
    watch = Stopwatch()
    head = {
        "schema": SCHEMA,
        "engine": engine.name,
        "backend": None,
        "settings": settings,
        "model": {"name": settings.get("model") or f"{settings['repo']}/{settings['file']}"},
        "device": None,
        "software": device.software(),
        "started": watch.started,
    }
    try:
        on_cpu = settings.get("n_gpu_layers") == 0
        backend = "cpu" if on_cpu else device.resolve_backend(settings["backend"])
    except MachineError as error:
        return record.compose(head, {"status": "unsupported", "reason": _one_line(error)}, watch.ended())
    try:
        python = str(environments.interpreter(engine.environment))
        fetched = ask(python, {"task": "fetch", "engine": engine.name, "settings": settings}, FETCH_SECONDS)
        if "model" not in fetched:
            return record.compose(head, fetched, watch.ended())
        head["model"] = fetched["model"]
        request = {"engine": engine.name, "settings": settings, "fetched": fetched}
        result = _measured(python, engine, request, backend, head, watch, store, fresh)
        if result["status"] == NO_GPU and settings["backend"] == "auto":
            result = _measured(python, engine, request, "cpu", head, watch, store, fresh)
        return result if result["status"] != NO_GPU else {**result, "status": "unsupported"}
    except MachineError as error:
        return record.compose(head, {"status": "failed", "reason": _one_line(error)}, watch.ended())


def _measured(
    python: str,
    engine: Engine,
    request: dict[str, Any],
    backend: str,
    head: dict[str, Any],
    watch: Stopwatch,
    store: records.RecordStore | None,
    fresh: bool,
) -> dict[str, Any]:
    """Measures on one device while holding its lock, unless the store has it."""
    with exclusive(backend) as uuid:
        who = identity(backend, uuid)
        key = store_key(engine, request["settings"], head["model"], who)
        found = store.find(key) if store and not fresh else None
        if found:
            return found
        with store.room() if store else contextlib.nullcontext():
            response = ask(python, {"task": "measure", "backend": backend, **request}, MEASURE_SECONDS, uuid)
    about = {"name": None, **(response.get("gpu") or {}), **who} if backend == "cuda" else {**host.facts(), **OF_A_CPU}
    head = {
        **head,
        "backend": backend,
        "device": {key: value for key, value in about.items() if key != "cuda_driver"} if about["name"] else None,
        "software": head["software"] | response.get("software", {}),
        "text": text.facts(),
    }
    result = record.compose(head, response, watch.ended())
    if store:
        keep(store, key, result)
    return result


def ask(python: str, request: dict[str, Any], timeout: float, uuid: str | None = None) -> dict[str, Any]:
    """A worker's answer. Only fetching may use the network."""
    variables = workers.environment(HF_HUB_DISABLE_TELEMETRY="1")
    # Threads that wait by spinning fight over the cores of a busy machine, and decoding all but stops.
    variables["OMP_WAIT_POLICY"] = "passive"
    variables["GGML_NO_BACKTRACE"] = "1"  # the last lines of a crash are then what llama.cpp says of it
    if request["task"] == "measure":
        variables["HF_HUB_OFFLINE"] = "1"
    variables["CUDA_VISIBLE_DEVICES"] = uuid or ""  # on a CPU none: engines would use a GPU that they see
    if not sys.stderr.isatty():
        variables["TQDM_DISABLE"] = "1"
    return workers.ask([python, "-m", "elastickv.baselines.worker"], request, timeout, variables)


def store_key(engine: Engine, settings: dict[str, Any], model: dict[str, Any], who: dict[str, Any]) -> str:
    """Key of a finished measurement: settings and model, engine and its pins, protocol and text, device and driver."""
    content = {
        "schema": SCHEMA,
        "engine": engine.name,
        "environment": environments.lock_sha256(engine.environment),
        "protocol": protocol.VERSION,
        "text": text.facts()["sha256"],
        "settings": settings,
        "model": {key: model.get(key) for key in ("name", "file", "revision", "sha256", "config_sha256")},
        "device": who,
    }
    return hashlib.sha256(matrix.canonical_json(content).encode()).hexdigest()


def _one_line(error: MachineError) -> str:
    return f"{error.problem} (fix: {error.fix})"


def describe(result: dict[str, Any]) -> str:
    """One line on a record, for logs and terminals."""
    line = f"{result['engine']} baseline: {result['status']}, {result['model']['name']}"
    if result["status"] in ("ok", "noisy"):
        decode = result["decode_tokens_per_second"]
        line += f", decode {decode['value']:.1f} [{decode['low']:.1f}, {decode['high']:.1f}] tokens/s"
        line += f", perplexity {result['perplexity']:.2f} on {result['device']['name']}"
    return line + (f" ({result['reason']})" if result["reason"] else "")
