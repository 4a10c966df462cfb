"""The inference cycle: decode_tokens x layers steps of append, compress and attend, both arms paying for their own."""

from __future__ import annotations

import time
from typing import Any

from elastickv import statistics
from elastickv.backends.base import Backend, Mode

MOST_PAIRS = 20
FEWEST_PAIRS = 5
SECONDS_SHARE = 0.3


class _Arm:
    """Two programs (one per parity of the token) replayed in turn; positions and slot counts live on the device."""

    def __init__(self, backend: Backend, workload: Any, arm: str, mode: Mode):
        self.backend, self.steps = backend, workload.steps
        self.programs = [backend.program(workload.cycle_calls(arm, parity), mode) for parity in (0, 1)]

    def seconds(self) -> float:
        """Device time of one whole cycle of `steps` tokens."""
        return sum(self.backend.seconds(self.programs[token % 2]) for token in range(self.steps))


def measure(backend: Backend, workload: Any, settings: dict[str, Any], mode: Mode) -> dict[str, Any]:
    """The `inference_cycle` of a record: checked once from a clean state, then timed in alternating pairs."""
    arms = {arm: _Arm(backend, workload, arm, mode) for arm in ("baseline", "elastic")}
    workload.restore()
    for arm in arms.values():
        arm.seconds()
    correctness = workload.check_cycle()
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    began = time.monotonic()
    for pair in range(MOST_PAIRS):
        for arm in sorted(arms, reverse=bool(pair % 2)):
            workload.restore()
            times[arm].append(arms[arm].seconds())
        if pair + 1 >= FEWEST_PAIRS and time.monotonic() - began > SECONDS_SHARE * settings["max_seconds"]:
            break
    layer_steps = workload.steps * workload.layers
    confidence = settings["confidence"]
    return {
        "decode_tokens": workload.steps,
        "layers": workload.layers,
        "layer_steps_per_second": {
            arm: statistics.median_interval([layer_steps / seconds for seconds in series], confidence)["value"]
            for arm, series in times.items()
        },
        "speedup": statistics.ratio_interval(times["baseline"], times["elastic"], confidence),
        "samples": {f"{arm}_seconds": series for arm, series in times.items()},
        "correctness": correctness,
    }
