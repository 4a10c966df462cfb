"""`elastickv baseline`: measures one language-model engine. One worker fetches the model, another one measures it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from elastickv import device, environments, jobs, records
from elastickv.build import provenance
from elastickv.device import host
from elastickv.errors import MachineError
from elastickv.measure.stopwatch import Stopwatch
from elastickv.models import protocol, record, text
from elastickv.models.fetching import Fetched
from elastickv.models.refusal import NO_GPU
from elastickv.schemas import config as keys
from elastickv.schemas.base import given
from elastickv.schemas.baseline import Baseline, LanguageModel, Passage
from elastickv.schemas.parts import Device, Software

FETCH_SECONDS = 6 * 3600  # a model of the hub may have to be downloaded
MEASURE_SECONDS = 2 * 3600
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


class NoGpu(Exception):
    """The engine cannot use the existing GPU; holds the record with the reason."""

    def __init__(self, made: Baseline):
        super().__init__(made.reason)
        self.made = made


@dataclass(frozen=True)
class Settings:
    """The keys of an engine's section of the config, and the requested backend."""

    section: keys.LanguageModel
    backend: str = "auto"

    @property
    def wanted(self) -> str:
        """The name of the model that is wanted."""
        repo = self._repo
        return f"{repo}/{self.section.file}" if repo else self.section.model

    @property
    def on_cpu(self) -> bool:
        """Whether no layer is to run on a GPU."""
        return isinstance(self.section, keys.Gguf) and self.section.n_gpu_layers == 0

    @property
    def _repo(self) -> str | None:
        return given(self.section.repo) if isinstance(self.section, keys.Gguf) else None

    def to_json(self) -> records.Json:
        """As the record states them and the workers read them."""
        left_out = {"enable", "model"} if self._repo else {"enable"}
        return self.section.model_dump(exclude=left_out) | {"backend": self.backend}


@dataclass(frozen=True)
class Model(jobs.Job[str, Baseline]):
    """The job of one engine with one model."""

    engine: Engine
    settings: Settings
    fetched: Fetched
    head: record.Head
    watch: Stopwatch
    backend: str
    model = Baseline

    @property
    def parts(self) -> Sequence[str]:
        return (self.engine.name,)

    def known_by(self, part: str) -> records.Json:
        """Settings, model, engine with its pinned versions, protocol and text."""
        model = asdict(self.fetched.model)
        return {
            "engine": self.engine.name,
            "environment": environments.lock_sha256(self.engine.environment),
            "protocol": protocol.VERSION,
            "text": text.sha256(),
            "settings": self.settings.to_json(),
            "model": {key: model[key] for key in ("name", "file", "revision", "sha256", "config_sha256")},
        }

    def measure(self, parts: Sequence[str], uuid: str | None) -> Iterator[tuple[str, Baseline]]:
        request = {"task": "measure", "backend": self.backend, "settings": self.settings.to_json(),
                   "fetched": self.fetched.to_json()}  # fmt: skip
        answer = ask(self.engine, request, MEASURE_SECONDS, uuid)
        head = replace(
            self.head,
            backend=self.backend,
            device=device_of(self.backend, uuid, answer),
            software=Software(**device.software(), **answer.get("software", {})),
            text=Passage(source=text.SOURCE, sha256=text.sha256()),
        )
        if "measured" in answer:
            yield parts[0], record.compose(head, record.read(answer["measured"]), self.watch.ended())
            return
        status, reason = jobs.ended(answer)
        if status == NO_GPU:
            raise NoGpu(record.without(head, "unsupported", reason, self.watch.ended()))
        yield parts[0], record.without(head, status, reason, self.watch.ended())

    def refused(self, part: str, error: MachineError) -> Baseline:
        return record.without(self.head, "failed", error.one_line, self.watch.ended())


def run(args: argparse.Namespace) -> int:
    """Writes `args.out`."""
    engine = ENGINES[args.which]
    records.check_file(args.out)
    store = jobs.RecordStore(args.store) if args.store else None
    made = baseline(engine, read_settings(args.settings, engine), store, args.remeasure)
    judged = record.as_judged(made)
    return jobs.deliver(args.out, made, record.describe(judged), args.strict, judged.status)


def read_settings(path: str, engine: Engine) -> Settings:
    """The settings in a file of the plan, complete. Raises UsageError."""
    return Settings(*jobs.read_settings(path, engine.settings))


def baseline(
    engine: Engine, settings: Settings, store: jobs.RecordStore | None = None, remeasure: bool = False
) -> Baseline:
    """The record of one engine, from the store or measured; always a valid record."""
    watch = Stopwatch()
    head = record.Head(
        engine=engine.name,
        backend=None,
        settings=settings.to_json(),
        model=LanguageModel(name=settings.wanted),
        device=None,
        software=Software(**device.software()),
        provenance=provenance.here(),
        started=watch.started,
    )
    try:
        backend = "cpu" if settings.on_cpu else device.resolve_backend(settings.backend)
    except MachineError as error:
        return record.without(head, "unsupported", error.one_line, watch.ended())
    try:
        answer = ask(engine, {"task": "fetch", "settings": settings.to_json()}, FETCH_SECONDS)
    except MachineError as error:
        return record.without(head, "failed", error.one_line, watch.ended())
    if "model" not in answer:
        return record.without(head, *jobs.ended(answer), watch.ended())
    fetched = Fetched.of(answer)
    head = replace(head, model=LanguageModel(**asdict(fetched.model)))
    return _measured(Model(engine, settings, fetched, head, watch, backend), store, remeasure)


def _measured(job: Model, store: jobs.RecordStore | None, remeasure: bool) -> Baseline:
    """The record of the job; where its engine cannot use the GPU, that of the CPU if the backend is `auto`."""
    try:
        return jobs.run(job, store, remeasure)[job.engine.name]
    except NoGpu as error:
        if job.settings.backend == "auto":
            return jobs.run(replace(job, backend="cpu"), store, remeasure)[job.engine.name]
        return error.made


def device_of(backend: str, uuid: str | None, answer: jobs.Answer) -> Device | None:
    """The device of a record, as far as it is known from a worker's answer."""
    who = {key: value for key, value in device.identity(backend, uuid).items() if key != "cuda_driver"}
    if backend == "cuda":
        return Device(**answer["gpu"] | who) if answer.get("gpu") else None
    return Device(**host.facts()._asdict(), **OF_A_CPU)


def ask(engine: Engine, request: records.Json, timeout: float, uuid: str | None = None) -> jobs.Answer:
    """A worker's answer. Only fetching may use the network."""
    variables = {"HF_HUB_DISABLE_TELEMETRY": "1"}
    # Threads that wait by spinning fight over the cores of a busy machine, and decoding all but stops.
    variables["OMP_WAIT_POLICY"] = "passive"
    variables["GGML_NO_BACKTRACE"] = "1"  # so that the last lines of a crash are llama.cpp's message
    if request["task"] == "measure":
        variables["HF_HUB_OFFLINE"] = "1"
    variables["CUDA_VISIBLE_DEVICES"] = uuid or ""  # on a CPU none: engines would use a GPU that they see
    if not sys.stderr.isatty():
        variables["TQDM_DISABLE"] = "1"
    request = {"engine": engine.name, **request}
    return jobs.in_worker("elastickv.models.worker", engine.environment, request, timeout, variables)
