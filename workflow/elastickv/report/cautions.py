"""What a reader should know of a published interval before leaning on it: drawn from what the record itself reports."""

from __future__ import annotations

from elastickv.measure import statistics
from elastickv.report.inputs import Inputs
from elastickv.report.text import escape, times_interval
from elastickv.schemas.base import given
from elastickv.schemas.measurement import Measurement, Resolved, Statistics

BOUNDS = {"warmup": "its most samples", "max_seconds": "its share of the time"}


def cautions(inputs: Inputs) -> str:
    """One line per caution of every publishable case; empty when there is none."""
    lines = [f"- `{case.id}`: {escape(said)}" for case in inputs.publishable for said in of_record(case.record)]
    return "\n".join(["## Cautions", "", *lines]) if lines else ""


def of_record(record: Measurement) -> list[str]:
    """The cautions of one judged record with statistics."""
    said = [_autocorrelated(record.statistics), _warming(record.resolved), _processes(record), _cycle(record)]
    return [caution for caution in said if caution]


def cycle_holds(record: Measurement) -> bool:
    """Whether there is a speedup of the inference cycle with the interval that the case asked for.

    The range of few samples has less confidence, and a cycle has no control of its own by which its interval could be
    widened where the record is imprecise. Such a speedup is not published.
    """
    cycle = given(record.inference_cycle)
    whole = cycle is not None and cycle.speedup.confidence >= record.case.root.measure.confidence
    return whole and record.status != "imprecise"


def _cycle(record: Measurement) -> str | None:
    cycle, asked = given(record.inference_cycle), record.case.root.measure.confidence
    if cycle is None or cycle_holds(record):
        return None
    if record.status == "imprecise":
        return "the control is imprecise and the inference cycle has none of its own: its speedup is not shown"
    samples = given(cycle.samples)
    count = len(samples.elastic_seconds) if samples else None
    held = "too few samples" if count is None else f"{count} sample{'s' if count > 1 else ''}, too few"
    return f"the inference cycle has {held} for an interval of {asked * 100:g}%: its speedup is not shown"


def _autocorrelated(measured: Statistics) -> str | None:
    found = measured.autocorrelation
    if found <= statistics.AUTOCORRELATED:
        return None
    return (
        f"successive ratios resemble each other (autocorrelation {found:.2f}): the interval may hold the truth less "
        f"often than its {measured.speedup.confidence:.0%}"
    )


def _warming(resolved: Resolved) -> str | None:
    warm_up = given(resolved.warm_up)
    if warm_up is None or warm_up.stationary is not False:
        return None
    bound = BOUNDS.get(warm_up.ended, "its bound")
    return f"the times still showed a trend when the warm-up came to {bound}; full and elastic cache were timed in turn"


def _processes(record: Measurement) -> str | None:
    several, speedup = given(record.processes), record.statistics.speedup
    if several is None:
        return None
    runs, within = several.runs, several.runs[several.published].speedup
    noisy = sum(run.status == "noisy" for run in runs)
    said = [f"{noisy} of {len(runs)} processes were noisy"] if noisy else []
    if (within.low, within.high) != (speedup.low, speedup.high):
        said.append(
            f"the interval is widened to the spread of {len(runs)} processes; the published one alone: "
            f"{times_interval(within)}"
        )
    return "; ".join(said) or None
