"""One case measured by several processes: their records, made into one. Pure.

What changes from process to process and not within one, no interval of one process holds: where buffers lie, which
clocks a process met. So the published interval is that of the processes' values.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from elastickv.cache.bytes_moved import gbps, original_score
from elastickv.jobs.job import MEASURED
from elastickv.measure import sustained
from elastickv.measure.statistics import by_round, over_processes, variation
from elastickv.schemas.base import given
from elastickv.schemas.measurement import Measurement, Processes, Run, Spread, Sustained
from elastickv.schemas.parts import Interval, Unavailable


def stopped_by(record: Measurement, index: int, of: int) -> Measurement | None:
    """The record of the whole measurement if process `index` (from 0) did not measure; otherwise None."""
    if record.status in MEASURED:
        return None
    return record.model_copy(update={"reason": f"process {index + 1} of {of}: {record.reason}"})


def combine(records: Sequence[Measurement]) -> Measurement:
    """The record of the process with the median speedup, with the speedups of all processes.

    Of those that are ok where they are more than half, else of all, and then it is noisy: process by process the
    machine was. `processes` keeps what every one found. With an even number the lower median is taken. No process is
    left out of an interval, however far it is from the others.
    """
    runs = [_run(one) for one in records]
    speedups = {index: run.speedup.value for index, run in enumerate(runs) if run.speedup}
    if not speedups:
        return records[0].model_copy(update={"reason": f"in every process: {records[0].reason}"})
    ok = {index: speedups[index] for index, run in enumerate(runs) if run.status == "ok"}
    quiet = 2 * len(ok) > len(runs)
    candidates = ok if quiet else speedups
    middle = statistics.median_low(candidates.values())
    published = next(index for index, value in candidates.items() if value == middle)
    spread = Spread(low=min(speedups.values()), high=max(speedups.values()))
    largest = max(run.cv for run in runs if run.speedup)
    made = _pooled(records[published], records, runs).model_copy(
        update={"processes": Processes(published=published, spread=spread, cv=largest, runs=runs)}
    )
    return made if quiet else made.model_copy(update={"status": "noisy", "reason": _noise(runs)})


def _run(record: Measurement) -> Run:
    """What is kept of one process: enough to make its intervals again."""
    measured, cycle = given(record.statistics), given(record.inference_cycle)
    return Run(
        status=record.status,
        reason=record.reason,
        speedup=measured and measured.speedup,
        controls=measured and measured.controls,
        cycle_speedup=cycle and cycle.speedup,
        layer_steps_per_second=cycle and cycle.layer_steps_per_second,
        cv=_variation(record) if measured else 0.0,
        full_us=record.samples.full_us,
        elastic_us=record.samples.elastic_us,
        full_again_us=record.samples.full_again_us,
        elastic_again_us=record.samples.elastic_again_us,
    )


def _variation(record: Measurement) -> float:
    """Coefficient of variation of all samples of the elastic arm."""
    return variation(by_round(record.samples.elastic_us, record.samples.elastic_again_us))


def _noise(runs: Sequence[Run]) -> str:
    noisy = [run.reason for run in runs if run.status == "noisy"]
    return f"{len(noisy)} of {len(runs)} processes were noisy; the first: {noisy[0]}"


def _pooled(record: Measurement, records: Sequence[Measurement], runs: Sequence[Run]) -> Measurement:
    """The published process's record with the speedups of all: of attention, of steady work and of the cycle."""
    confidence, found = record.case.root.measure.confidence, record.statistics
    pooled = {"speedup": pool(found.speedup, [run.speedup for run in runs], confidence)}
    steady = [one.statistics.sustained for one in records if given(one.statistics)]
    if any(isinstance(one, Sustained) for one in steady):
        pooled["sustained"] = _sustained(steady, len(records), confidence)
    made = {"statistics": found.model_copy(update=pooled), "original_score": _score(record, pooled["speedup"].value)}
    cycle = given(record.inference_cycle)
    if cycle:
        speedup = pool(cycle.speedup, [run.cycle_speedup for run in runs], confidence)
        made["inference_cycle"] = cycle.model_copy(update={"speedup": speedup})
    return record.model_copy(update=made)


def _score(record: Measurement, speedup: float) -> float | None:
    """The original's score with the speedup of all processes; None where the published process has none."""
    peak = given(record.device.peak_gbps)
    copies = [gbps(one.bytes, one.us) for one in record.samples.read_ceiling if one.kind == "copy"]
    return original_score(statistics.median(copies), peak, speedup) if peak else None


def pool(own: Interval, found: Sequence[Interval | None], confidence: float) -> Interval:
    """The interval of all processes that have a value; that of the published process alone where no other has one."""
    known = [one for one in found if one]
    return over_processes([one.value for one in known], confidence, known) if len(known) > 1 else own


def _sustained(found: Sequence[Sustained | Unavailable], processes: int, confidence: float) -> Sustained | Unavailable:
    """The sustained speedup over all processes, none of which may lack its blocks."""
    taken = [blocks for one in found if isinstance(one, Sustained) for blocks in one.runs]
    if len(taken) < processes:
        return Unavailable(value=None, reason=f"{processes - len(taken)} of {processes} processes have no steady work")
    seconds = next(one.seconds for one in found if isinstance(one, Sustained))
    return sustained.over_processes(taken, seconds, confidence)
