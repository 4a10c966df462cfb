"""The inference cycle: decode_tokens x layers steps of append, compress and attend, both arms paying for their own.

A round brings both arms' caches back to `seq` tokens and decodes `decode_tokens` more, the arms in turn. A sample is
as many consecutive tokens of one arm as the policy's closings repeat after: single tokens would be of two kinds.
The first round is checked at its end and only warms up, unless it takes the time that all of them may take. Last come
two rounds that only close groups and append, launched separately; the second one measures the time of that.
"""

from __future__ import annotations

import time

import numpy as np

from elastickv.device.base import Backend, Mode
from elastickv.measure import statistics
from elastickv.schemas.case import DecodeCase
from elastickv.schemas.measurement import Correctness, CycleSamples, InferenceCycle, PerArm
from elastickv.workloads.base import Cycle

MOST_SAMPLES = 320  # of each arm
SECONDS_SHARE = 0.3  # of max_seconds
ARMS = ("full", "elastic")

Times = dict[str, list[float]]


class _Arm:
    """Two programs (one per parity of the token) replayed in turn; positions and slot counts live on the device."""

    def __init__(self, backend: Backend, workload: Cycle, arm: str, mode: Mode, attend: bool = True):
        self.backend = backend
        self.programs = [backend.program(workload.cycle_calls(arm, parity, attend), mode) for parity in (0, 1)]

    def seconds(self, tokens: range) -> float:
        """Device time of these tokens of a round, through all layers."""
        return self.backend.seconds(*(self.programs[token % 2] for token in tokens))


def blocks(steps: int, size: int) -> list[range]:
    """The tokens of a round in samples of `size`; the last may be shorter (all of them, if there are fewer)."""
    return [range(first, min(first + size, steps)) for first in range(0, steps, size)]


def _round(workload: Cycle, arms: dict[str, _Arm], parts: list[range]) -> Times:
    """Seconds of each whole sample. A shorter one at the end is decoded too, but it is none."""
    workload.restore()
    times: Times = {arm: [] for arm in ARMS}
    for index, tokens in enumerate(parts):
        for arm in reversed(ARMS) if index % 2 else ARMS:
            seconds = arms[arm].seconds(tokens)
            if len(tokens) == len(parts[0]):
                times[arm].append(seconds)
    return times


def measure(backend: Backend, workload: Cycle, case: DecodeCase, mode: Mode) -> InferenceCycle:
    """The `inference_cycle` of a record."""
    began = time.monotonic()
    arms = {arm: _Arm(backend, workload, arm, mode) for arm in ARMS}
    parts = blocks(workload.steps, workload.repeats)
    first = _round(workload, arms, parts)
    correctness = Correctness(**workload.check_cycle())
    times: Times = {arm: [] for arm in ARMS}
    limit = SECONDS_SHARE * case.measure.max_seconds
    while time.monotonic() - began < limit and len(times["elastic"]) < MOST_SAMPLES:
        for arm, series in _round(workload, arms, parts).items():
            times[arm] += series
    times = times if times["elastic"] else first
    appending = {arm: _Arm(backend, workload, arm, mode, attend=False) for arm in ARMS}
    _round(workload, appending, parts)
    appends = _round(workload, appending, parts)
    layer_steps = len(parts[0]) * workload.layers
    rates = {arm: float(np.median([layer_steps / seconds for seconds in series])) for arm, series in times.items()}
    alone = {arm: float(np.median(series)) * 1e6 / layer_steps for arm, series in appends.items()}
    return InferenceCycle(
        decode_tokens=workload.steps,
        layers=workload.layers,
        tokens_per_sample=len(parts[0]),
        layer_steps_per_second=PerArm(**rates),
        speedup=statistics.ratio_interval(times["full"], times["elastic"], case.measure.confidence),
        append_us=PerArm(**alone),
        samples=CycleSamples(
            full_seconds=times["full"],
            elastic_seconds=times["elastic"],
            full_append_seconds=appends["full"],
            elastic_append_seconds=appends["elastic"],
        ),
        correctness=correctness,
    )
