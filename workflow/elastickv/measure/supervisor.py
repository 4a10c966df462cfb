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
from elastickv.measure import demand, processes
from elastickv.measure.stopwatch import Stopwatch
from elastickv.schemas import case as schemas_case
from elastickv.schemas.base import given
from elastickv.schemas.case import case_of
from elastickv.schemas.measurement import Measurement

SCHEMA = "measurement/2"
SAMPLING = 4  # a finished measurement is not repeated unless how samples are taken or judged has changed
NOT_MEASURED = {"value": None, "reason": "not measured"}


def in_worker(backend: str, request: dict[str, Any], timeout: float, uuid: str | None) -> jobs.Answer:
    """The answer of a worker to one task, on a device that is held. MachineError when its environment is missing."""
    worker = jobs.Worker("elastickv.measure.worker", "cuda" if backend == "cuda" else None)
    return worker.ask({"backend": backend, **request}, timeout, {"CUDA_VISIBLE_DEVICES": uuid} if uuid else {})


@dataclass(frozen=True)
class Case(jobs.Job[str, Measurement]):
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
    model = Measurement

    @property
    def parts(self) -> Sequence[str]:
        return (self.case["id"],)

    def known_by(self, part: str) -> dict[str, Any]:
        """The canonical case without its id, its kernels' fingerprint and the way of sampling."""
        return {"case": matrix.content_key(self.case), "build": self.built["fingerprint"], "sampling": SAMPLING}

    def restored(self, part: str, record: Measurement) -> Measurement:
        return record.model_copy(update={"case": schemas_case.Case(case_of(self.case))})

    def measure(self, parts: Sequence[str], uuid: str | None) -> Iterator[tuple[str, Measurement]]:
        watch = Stopwatch()
        answer = self._in_processes(uuid)
        yield parts[0], Measurement.model_validate(compose(self.case, self.backend, self.built, answer, watch))

    def _in_processes(self, uuid: str | None) -> jobs.Answer:
        """The answer of as many workers as the case asks for, one after another."""
        request = {"task": "measure", "case": self.case, "build": self.build, "fixed": list(self.fixed),
                   "save_tensors": self.save_tensors and str(self.save_tensors), "forced": self.forced}  # fmt: skip
        answers, wanted = [], processes.count(self.case)
        for index in range(wanted):
            answer = in_worker(self.backend, request, demand.worker_seconds(self.case, self.fixed), uuid)
            if wanted == 1:
                return answer
            stopped = processes.stopped_by(answer, index, wanted)
            if stopped:
                return stopped
            answers.append(answer)
            request = {**request, "save_tensors": None}
        return processes.combine(answers)

    def is_finished(self, record: Measurement) -> bool:
        return bool(given(record.statistics))

    def refused(self, part: str, error: MachineError) -> Measurement:
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
    return records.content(jobs.run(job, store, fresh)[case["id"]])


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
    """`elastickv measure`."""
    case = records.read(args.case, "case")
    records.check_file(args.out)
    record = measure_case(case, args.build, store=jobs.RecordStore(args.store), fresh=args.fresh)
    return jobs.deliver(args.out, Measurement.model_validate(record), describe(record), args.strict)


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
