"""Cautions about published intervals, derived from the records."""

from __future__ import annotations

from elastickv.measure import statistics
from elastickv.report.text import times
from elastickv.schemas.base import at, given
from elastickv.schemas.measurement import Measurement, Resolved, Statistics

BOUNDS = {"warmup": "its maximum number of samples", "max_seconds": "its share of the time"}


def of_record(record: Measurement) -> list[str]:
    """The cautions of one judged record with statistics."""
    found = [
        *(_autocorrelated(record.statistics), _warming(record.resolved), _pure_pass(record)),
        *(_processes(record), _cycle(record)),
    ]
    return [caution for caution in found if caution]


def beats_pure_pass(record: Measurement) -> bool:
    """Whether the speedup is above that of the pure passes over the same bytes, which are then no bound."""
    pure = at(record, ("bytes", "reachable_ceiling"))
    return pure is not None and record.statistics.speedup.value > pure


def cycle_holds(record: Measurement) -> bool:
    """Whether the speedup of the inference cycle may be published.

    It must have the requested confidence, which a range of few samples lacks. If the record is imprecise, it is not
    published, because the cycle has no control from which its interval could be widened.
    """
    cycle = given(record.inference_cycle)
    whole = cycle is not None and cycle.speedup.confidence >= record.case.root.measure.confidence
    return whole and record.status != "imprecise"


def _cycle(record: Measurement) -> str | None:
    cycle, requested = given(record.inference_cycle), record.case.root.measure.confidence
    if cycle is None or cycle_holds(record):
        return None
    if record.status == "imprecise":
        return "the control is imprecise and the inference cycle has no control: its speedup is not shown"
    samples = given(cycle.samples)
    count = len(samples.elastic_seconds) if samples else None
    held = "too few samples" if count is None else f"{count} sample{'s' if count > 1 else ''}, too few"
    return f"the inference cycle has {held} for an interval of {requested * 100:g}%: its speedup is not shown"


def _autocorrelated(measured: Statistics) -> str | None:
    found = measured.autocorrelation
    if found <= statistics.AUTOCORRELATED:
        return None
    return (
        f"successive ratios are correlated (autocorrelation {found:.2f}): the interval may cover the true value less "
        f"often than its {measured.speedup.confidence:.0%} confidence states"
    )


def _warming(resolved: Resolved) -> str | None:
    warm_up = given(resolved.warm_up)
    if warm_up is None or warm_up.stationary:
        return None
    if warm_up.stationary is None:
        ended = f" of {count} samples per arm" if (count := given(resolved.warmup)) is not None else ""
        return f"the warm-up test did not run: the warm-up{ended} was too short; times may still have had a trend"
    bound = BOUNDS.get(warm_up.ended, "its bound")
    return f"times still had a trend when the warm-up reached {bound}; full and elastic cache were timed in turn"


def _pure_pass(record: Measurement) -> str | None:
    if not beats_pure_pass(record):
        return None
    pure = times(record.bytes.reachable_ceiling)
    return f"faster than the pure passes over the same bytes ({pure}): the pure pass is no bound here"


def _processes(record: Measurement) -> str | None:
    several = given(record.processes)
    noisy = sum(run.status == "noisy" for run in several.runs) if several else 0
    return f"{noisy} of {len(several.runs)} processes were noisy" if noisy else None
