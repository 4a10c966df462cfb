"""`elastickv measure`: the job of one case, which one or more worker processes measure."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastickv import device, jobs, matrix, records
from elastickv.build import binary
from elastickv.errors import MachineError
from elastickv.judge import noise
from elastickv.measure import demand, processes
from elastickv.measure.stopwatch import Stopwatch
from elastickv.schemas import config as keys
from elastickv.schemas.base import given
from elastickv.schemas.case import case_of
from elastickv.schemas.measurement import Measurement

SCHEMA = "measurement/2"
SAMPLING = 5  # a finished measurement is not repeated unless how samples are taken has changed
NOT_MEASURED = {"value": None, "reason": "not measured"}


def in_worker(backend: str, request: dict[str, Any], timeout: float, uuid: str | None) -> jobs.Answer:
    """The answer of a worker to one task, on a device that is held. MachineError when its environment is missing."""
    worker = jobs.Worker("elastickv.measure.worker", "cuda" if backend == "cuda" else None)
    return worker.ask({"backend": backend, **request}, timeout, {"CUDA_VISIBLE_DEVICES": uuid} if uuid else {})


@dataclass(frozen=True)
class Case(jobs.Job[str]):
    """The job of one canonical case on the binary of `build`.

    fixed: names among reps, warmup, inner_loops of which as many are taken as given. forced: choices of the launch that
    a study makes itself (`device.cuda_decode.Forced`); not with a store.
    """

    case: dict[str, Any]
    backend: str
    build: str
    built: dict[str, Any]
    fixed: tuple[str, ...] = ()
    save_tensors: Path | None = None
    forced: dict[str, Any] | None = None
    schema = SCHEMA

    @property
    def parts(self) -> Sequence[str]:
        return (self.case["id"],)

    def known_by(self, part: str) -> dict[str, Any]:
        """The canonical case without its id, its kernels' fingerprint and the way of sampling."""
        return {
            "case": matrix.content_key(case_of(self.case)),
            "build": self.built["fingerprint"],
            "sampling": SAMPLING,
        }

    def restored(self, part: str, record: jobs.Record) -> dict[str, Any]:
        return {**record, "case": self.case}

    def measure(self, parts: Sequence[str], uuid: str | None) -> Iterator[tuple[str, jobs.Record]]:
        watch = Stopwatch()
        answer = self._in_processes(uuid)
        yield parts[0], compose(self.case, self.backend, self.built, answer, watch)

    def _in_processes(self, uuid: str | None) -> jobs.Answer:
        """The answer of as many workers as the case asks for, one after another."""
        request = {"task": "measure", "case": self.case, "build": self.build, "fixed": list(self.fixed),
                   "save_tensors": self.save_tensors and str(self.save_tensors), "forced": self.forced}  # fmt: skip
        answers, wanted = [], processes.count(self.case)
        for index in range(wanted):
            answer = in_worker(self.backend, request, demand.worker_seconds(case_of(self.case), self.fixed), uuid)
            if wanted == 1:
                return answer
            stopped = processes.stopped_by(answer, index, wanted)
            if stopped:
                return stopped
            answers.append(answer)
            request = {**request, "save_tensors": None}
        return processes.combine(answers)

    def is_finished(self, record: jobs.Record) -> bool:
        return bool(record.get("statistics"))

    def refused(self, part: str, error: MachineError) -> jobs.Record:
        raise error


def measure_case(
    case: dict[str, Any],
    build: str,
    *,
    fixed: tuple[str, ...] = (),
    store: jobs.RecordStore | None = None,
    fresh: bool = False,
    save_tensors: Path | None = None,
    forced: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The record of one case: out of the store where it has it, else measured (whatever happens, a valid record)."""
    backend = device.resolve_backend(case["backend"])
    built = records.content(binary.facts(build, backend, case["workload"]))
    job = Case(case, backend, build, built, fixed, save_tensors, forced)
    return jobs.run(job, store, fresh)[case["id"]]


def compose(
    case: dict[str, Any], backend: str, build: dict[str, Any], answer: jobs.Answer, watch: Stopwatch
) -> dict[str, Any]:
    """The full record from a worker's answer (or from what is known of its end)."""
    fields = dict(answer.get("fields") or dict(zip(("status", "reason"), jobs.ended(answer), strict=True)))
    resolved = {"backend": backend, **fields.pop("resolved", {})}
    unmeasured = {"clocks", "throttling", "power", "energy"}
    return {
        "schema": SCHEMA,
        "case": case,
        "resolved": resolved,
        "status": fields.pop("status"),
        "reason": fields.pop("reason"),
        "device": answer.get("device"),
        "software": answer.get("software") or device.software(),
        "build": build,
        "started": watch.started,
        "ended": watch.ended(),
        "correctness": None,
        "inference_cycle": None,
        "original_score": None,
        **dict.fromkeys(unmeasured, NOT_MEASURED),
        **fields,
    }


def run(args: argparse.Namespace) -> int:
    """`elastickv measure`. What it prints, and `--strict`, go by the default noise limits: the record has none."""
    case = records.read(args.case, "case")
    records.check_file(args.out)
    record = measure_case(case, args.build, store=jobs.RecordStore(args.store), fresh=args.fresh)
    judged = by_default(record)
    return jobs.deliver(args.out, record, describe(judged), args.strict, judged.status)


def by_default(record: jobs.Record) -> Measurement:
    """A record as the judge has it, by the default noise limits."""
    return noise.as_judged(Measurement.model_validate(record), keys.Noise())


def describe(record: Measurement) -> str:
    """One line on a judged record, for logs and terminals. A number only where it holds."""
    head = f"{record.case.root.id}: {record.status}"
    if record.status in noise.PUBLISHED:
        measured, several = record.statistics, given(record.processes)
        speedup = measured.speedup
        head += f", {speedup.value:.3f}x [{speedup.low:.3f}, {speedup.high:.3f}]"
        head += f" ({measured.full.median_us:.2f} us -> {measured.elastic.median_us:.2f} us) on {record.device.name}"
        if several:
            spread = several.spread
            head += f"; {len(several.runs)} processes: {spread.low:.3f}x to {spread.high:.3f}x"
    return head + (f" ({record.reason})" if record.reason else "")
