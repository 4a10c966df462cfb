"""The record of a case as long as nothing is known of it, and what becomes of it when something is."""

from __future__ import annotations

from elastickv import device
from elastickv.measure.stopwatch import Stopwatch
from elastickv.schemas.case import AnyCase
from elastickv.schemas.measurement import Clocks, Energy, Measurement, Resolved, Throttling
from elastickv.schemas.parts import BuildUsed, Device, MeasuredStatus, OnBackend, Reading

NOT_MEASURED = {"value": None, "reason": "not measured"}


def unmeasured(case: AnyCase, backend: OnBackend, build: BuildUsed, facts: Device | None = None) -> Measurement:
    """The record of a case that nothing was found of. facts: of the device; None: it was never opened."""
    watch = Stopwatch()
    return Measurement(
        case=case,
        resolved=Resolved(backend=backend),
        status="failed",
        reason=NOT_MEASURED["reason"],
        device=facts,
        software=device.software(),
        build=build,
        started=watch.started,
        ended=watch.ended(),
        correctness=None,
        inference_cycle=None,
        original_score=None,
        clocks=Clocks(**NOT_MEASURED),
        throttling=Throttling(**NOT_MEASURED),
        power=Reading(**NOT_MEASURED),
        energy=Energy(**NOT_MEASURED),
    )


def ended(record: Measurement, status: MeasuredStatus, reason: str | None) -> Measurement:
    """The record with the status that it ends with."""
    return record.model_copy(update={"status": status, "reason": reason})


def timed(record: Measurement, watch: Stopwatch) -> Measurement:
    """The record with the begin and the end of the whole measurement."""
    return record.model_copy(update={"started": watch.started, "ended": watch.ended()})
