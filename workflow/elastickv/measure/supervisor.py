"""`elastickv measure`: measures one case with one or more worker processes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elastickv import device, jobs, matrix, records
from elastickv.build import binary
from elastickv.errors import MachineError
from elastickv.judge import noise
from elastickv.measure import demand, processes, record
from elastickv.measure.stopwatch import Stopwatch
from elastickv.schemas import case as schemas_case
from elastickv.schemas import config as keys
from elastickv.schemas.base import given
from elastickv.schemas.case import AnyCase, case_of
from elastickv.schemas.measurement import Forced, Measurement, Sustained
from elastickv.schemas.parts import BuildUsed, OnBackend

SAMPLING = 6  # a finished measurement is not repeated unless how samples are taken has changed


def in_worker(backend: str, request: records.Json, timeout: float, uuid: str | None) -> jobs.Answer:
    """The answer of a worker to one task, on a device that is held. MachineError when its environment is missing."""
    name, variables = ("cuda", {"CUDA_VISIBLE_DEVICES": uuid or ""}) if backend == "cuda" else (None, {})
    return jobs.in_worker("elastickv.measure.worker", name, {"backend": backend, **request}, timeout, variables)


@dataclass(frozen=True)
class Case(jobs.Job[str, Measurement]):
    """The job of one canonical case on the binary of `build`.

    fixed: names among reps, warmup, inner_loops of which as many are taken as given. forced: choices of the launch that
    a study makes itself (`device.launches.Forced`); not with a store.
    """

    case: AnyCase
    backend: OnBackend
    build: str
    built: BuildUsed
    fixed: tuple[str, ...] = ()
    save_tensors: Path | None = None
    forced: Forced | None = None
    model = Measurement

    @property
    def parts(self) -> Sequence[str]:
        return (self.case.id,)

    def known_by(self, part: str) -> dict[str, str | int]:
        """The canonical case without its id, its kernels' fingerprint and the way of sampling."""
        return {"case": matrix.content_key(self.case), "build": self.built.fingerprint, "sampling": SAMPLING}

    def restored(self, part: str, record: Measurement) -> Measurement:
        return record.model_copy(update={"case": schemas_case.Case(self.case)})

    def measure(self, parts: Sequence[str], uuid: str | None) -> Iterator[tuple[str, Measurement]]:
        watch = Stopwatch()
        made = self._in_processes(uuid)
        yield parts[0], record.timed(made, watch)

    def _in_processes(self, uuid: str | None) -> Measurement:
        """The record combined from as many workers as the case requires, one after another."""
        found, wanted = [], self.case.measure.processes_on(self.backend)
        for index in range(wanted):
            one = self._in_one(uuid, None if found else self.save_tensors, wanted)
            if wanted == 1:
                return one
            stopped = processes.stopped_by(one, index, wanted)
            if stopped:
                return stopped
            found.append(one)
        return processes.combine(found)

    def _in_one(self, uuid: str | None, save_tensors: Path | None, of: int) -> Measurement:
        """The result of one of `of` workers, or the reason why it has none."""
        request = {
            "task": "measure",
            "case": self.case.model_dump(mode="json"),
            "build": self.build,
            "built": self.built.model_dump(mode="json"),
            "fixed": list(self.fixed),
            "processes": of,
            "save_tensors": save_tensors and str(save_tensors),
            "forced": self.forced and self.forced.model_dump(mode="json"),
        }
        limit = demand.worker_seconds(self.case, self.fixed, of)
        answer = in_worker(self.backend, request, limit, uuid)
        if "record" in answer:
            return Measurement.model_validate(answer["record"])
        return record.ended(record.unmeasured(self.case, self.backend, self.built), *jobs.ended(answer))

    def is_finished(self, record: Measurement) -> bool:
        return bool(given(record.statistics))

    def refused(self, part: str, error: MachineError) -> Measurement:
        raise error


def measure_case(
    case: AnyCase,
    build: str,
    *,
    fixed: tuple[str, ...] = (),
    store: jobs.RecordStore | None = None,
    remeasure: bool = False,
    save_tensors: Path | None = None,
    forced: Forced | None = None,
) -> Measurement:
    """The record of one case, from the store or measured; always a valid record."""
    backend = device.resolve_backend(case.backend)
    built = binary.facts(build, backend, case.workload, case.formats, case.rule)
    job = Case(case, backend, build, built, fixed, save_tensors, forced)
    return jobs.run(job, store, remeasure)[case.id]


def run(args: argparse.Namespace) -> int:
    """`elastickv measure`. Its output and `--strict` use the default noise limits, since the record has none."""
    case = case_of(records.read(args.case, "case"))
    records.check_file(args.out)
    made = measure_case(case, args.build, store=jobs.RecordStore(args.store), remeasure=args.remeasure)
    judged = by_default(made)
    return jobs.deliver(args.out, made, describe(judged), args.strict, judged.status)


def by_default(made: Measurement) -> Measurement:
    """A record as the judge has it, by the default noise limits."""
    return noise.as_judged(made, keys.Noise())


def describe(judged: Measurement) -> str:
    """One line on a judged record, for logs and terminals. A number only where it holds."""
    head = f"{judged.case.root.id}: {judged.status}"
    if judged.status in noise.PUBLISHED:
        measured, several = judged.statistics, given(judged.processes)
        speedup = measured.speedup
        head += f", {speedup.value:.3f}x [{speedup.low:.3f}, {speedup.high:.3f}]"
        head += f" ({measured.full.median_us:.2f} us -> {measured.elastic.median_us:.2f} us) on {judged.device.name}"
        if several:
            spread = several.spread
            head += f"; {len(several.runs)} processes: {spread.low:.3f}x to {spread.high:.3f}x"
        steady = given(measured.sustained)
        if isinstance(steady, Sustained) and steady.speedup:
            head += f"; sustained {steady.speedup.value:.3f}x [{steady.speedup.low:.3f}, {steady.speedup.high:.3f}]"
    return head + (f" ({judged.reason})" if judged.reason else "")
