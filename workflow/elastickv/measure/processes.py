"""One case measured by several processes: their records, made into one. Pure.

What changes from process to process and not within one, no interval of one process holds: where buffers lie, which
clocks a process met. So the published interval is widened to the spread of all of them where that is wider.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from elastickv.jobs.job import MEASURED
from elastickv.schemas.base import given
from elastickv.schemas.measurement import Measurement, Processes, Run, Spread
from elastickv.schemas.parts import Interval


def stopped_by(record: Measurement, index: int, of: int) -> Measurement | None:
    """The record of the whole measurement if process `index` (from 0) did not measure; otherwise None."""
    if record.status in MEASURED:
        return None
    return record.model_copy(update={"reason": f"process {index + 1} of {of}: {record.reason}"})


def combine(records: Sequence[Measurement]) -> Measurement:
    """The record of the process with the median speedup, its intervals widened to the spread of all processes.

    Of those that are ok where they are more than half, else of all, and then it is noisy: process by process the
    machine was. `processes` keeps what every one found. With an even number the lower median is taken.
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
    made = _widened(records[published], runs).model_copy(
        update={"processes": Processes(published=published, spread=spread, runs=runs)}
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
        full_us=record.samples.full_us,
        elastic_us=record.samples.elastic_us,
        full_again_us=record.samples.full_again_us,
        elastic_again_us=record.samples.elastic_again_us,
    )


def _noise(runs: Sequence[Run]) -> str:
    noisy = [run.reason for run in runs if run.status == "noisy"]
    return f"{len(noisy)} of {len(runs)} processes were noisy; the first: {noisy[0]}"


def _widened(record: Measurement, runs: Sequence[Run]) -> Measurement:
    """The published process's record, the speedups of attention and cycle widened."""
    speedup = widen(record.statistics.speedup, [run.speedup for run in runs])
    made = {"statistics": record.statistics.model_copy(update={"speedup": speedup})}
    cycle = given(record.inference_cycle)
    if cycle:
        widened = widen(cycle.speedup, [run.cycle_speedup for run in runs])
        made["inference_cycle"] = cycle.model_copy(update={"speedup": widened})
    return record.model_copy(update=made)


def widen(interval: Interval, found: Sequence[Interval | None]) -> Interval:
    """An interval widened to include the value of every process (None: no value); its method states the widening."""
    values = [one.value for one in found if one]
    low, high = min([interval.low, *values]), max([interval.high, *values])
    if (low, high) == (interval.low, interval.high):
        return interval
    method = f"{interval.method}; widened to the spread of {len(found)} processes"
    return interval.model_copy(update={"low": low, "high": high, "method": method})
