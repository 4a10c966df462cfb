"""`elastickv baseline`: the job of one language-model engine. A worker fetches the model, another one measures it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from elastickv import device, environments, jobs, records
from elastickv.device import host
from elastickv.errors import MachineError
from elastickv.measure.stopwatch import Stopwatch
from elastickv.models import protocol, record, text
from elastickv.models.refusal import NO_GPU
from elastickv.schemas import config as keys
from elastickv.schemas.baseline import Baseline

FETCH_SECONDS = 6 * 3600  # a model of the hub may have to be downloaded
MEASURE_SECONDS = 2 * 3600
SCHEMA = "baseline/2"
OF_A_CPU = {"uuid": None, "driver": None, "driver_reason": "a CPU has none", "peak_gbps": None}


@dataclass(frozen=True)
class Engine:
    """A language-model engine: the environment it runs in, and the model of its settings."""

    name: str
    environment: str
    settings: type[keys.LanguageModel]


ENGINES = {
    "transformers": Engine("transformers", "llm", keys.Transformers),
    "gguf": Engine("gguf", "gguf", keys.Gguf),
}


@dataclass(frozen=True)
class Model(jobs.Job[str]):
    """The job of one engine with one model. fetched: the answer of the worker that fetched it. head: see `record`."""

    engine: Engine
    settings: dict[str, Any]
    fetched: jobs.Answer
    head: dict[str, Any]
    watch: Stopwatch
    backend: str
    schema = SCHEMA

    @property
    def parts(self) -> Sequence[str]:
        return (self.engine.name,)

    def known_by(self, part: str) -> dict[str, Any]:
        """Settings and model, the engine and its pins, protocol and text."""
        return {
            "engine": self.engine.name,
            "environment": environments.lock_sha256(self.engine.environment),
            "protocol": protocol.VERSION,
            "text": text.facts()["sha256"],
            "settings": self.settings,
            "model": {
                key: self.head["model"].get(key) for key in ("name", "file", "revision", "sha256", "config_sha256")
            },
        }

    def measure(self, parts: Sequence[str], uuid: str | None) -> Iterator[tuple[str, jobs.Record]]:
        request = {"task": "measure", "backend": self.backend, "settings": self.settings, "fetched": self.fetched}
        answer = ask(self.engine, request, MEASURE_SECONDS, uuid)
        head = {**self.head, **about(self.backend, uuid, answer), "text": text.facts()}
        yield parts[0], record.compose(head, answer, self.watch.ended())

    def refused(self, part: str, error: MachineError) -> jobs.Record:
        return record.compose(self.head, {"status": "failed", "reason": error.one_line}, self.watch.ended())


def run(args: argparse.Namespace) -> int:
    """Writes `args.out`."""
    engine = ENGINES[args.which]
    records.check_file(args.out)
    store = jobs.RecordStore(args.store, "baseline") if args.store else None
    result = baseline(engine, read_settings(args.settings, engine), store, args.fresh)
    judged = record.as_judged(Baseline.model_validate(result))
    return jobs.deliver(args.out, result, describe(judged), args.strict, judged.status)


def read_settings(path: str, engine: Engine) -> dict[str, Any]:
    """The settings in a file of the plan, complete. Raises UsageError."""
    settings, backend = jobs.read_settings(path, engine.settings)
    left_out = {"enable", "model"} if "repo" in settings.model_fields_set else {"enable"}
    return settings.model_dump(exclude=left_out) | {"backend": backend}


def baseline(
    engine: Engine, settings: dict[str, Any], store: jobs.RecordStore | None = None, fresh: bool = False
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
        return record.compose(head, {"status": "unsupported", "reason": error.one_line}, watch.ended())
    try:
        fetched = ask(engine, {"task": "fetch", "settings": settings}, FETCH_SECONDS)
    except MachineError as error:
        return record.compose(head, {"status": "failed", "reason": error.one_line}, watch.ended())
    if "model" not in fetched:
        return record.compose(head, fetched, watch.ended())
    job = Model(engine, settings, fetched, {**head, "model": fetched["model"]}, watch, backend)
    made = jobs.run(job, store, fresh)[engine.name]
    if made["status"] == NO_GPU and settings["backend"] == "auto":
        made = jobs.run(replace(job, backend="cpu"), store, fresh)[engine.name]
    return made if made["status"] != NO_GPU else {**made, "status": "unsupported"}


def about(backend: str, uuid: str | None, answer: jobs.Answer) -> dict[str, Any]:
    """Backend, device and software of a record, as far as a worker's answer tells of them."""
    who = {key: value for key, value in device.identity(backend, uuid).items() if key != "cuda_driver"}
    if backend == "cuda":
        found = {**answer["gpu"], **who} if answer.get("gpu") else None
    else:
        found = {**host.facts()._asdict(), **OF_A_CPU}
    return {"backend": backend, "device": found, "software": device.software() | answer.get("software", {})}


def ask(engine: Engine, request: dict[str, Any], timeout: float, uuid: str | None = None) -> jobs.Answer:
    """A worker's answer. Only fetching may use the network."""
    variables = {"HF_HUB_DISABLE_TELEMETRY": "1"}
    # Threads that wait by spinning fight over the cores of a busy machine, and decoding all but stops.
    variables["OMP_WAIT_POLICY"] = "passive"
    variables["GGML_NO_BACKTRACE"] = "1"  # the last lines of a crash are then what llama.cpp says of it
    if request["task"] == "measure":
        variables["HF_HUB_OFFLINE"] = "1"
    variables["CUDA_VISIBLE_DEVICES"] = uuid or ""  # on a CPU none: engines would use a GPU that they see
    if not sys.stderr.isatty():
        variables["TQDM_DISABLE"] = "1"
    worker = jobs.Worker("elastickv.models.worker", engine.environment)
    return worker.ask({"engine": engine.name, **request}, timeout, variables)


def describe(result: Baseline) -> str:
    """One line on a judged record, for logs and terminals."""
    line = f"{result.engine} baseline: {result.status}, {result.model.name}"
    if result.status in ("ok", "noisy"):
        decode = result.decode_tokens_per_second
        line += f", decode {decode.value:.1f} [{decode.low:.1f}, {decode.high:.1f}] tokens/s"
        line += f", perplexity {result.perplexity:.2f} on {result.device.name}"
    return line + (f" ({result.reason})" if result.reason else "")
