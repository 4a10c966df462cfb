"""Energy of one launch of each arm, from the device's energy counter.

The counter moves every 20 to 100 ms, a sample of the timing takes about one: the arms interleaved as they are timed
cannot be told apart by it. So after the timing each arm runs alone, from one movement of the counter to another at
least a second later, and its launches between the two are counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from elastickv.device import State
from elastickv.device.nvml import untold

SECONDS = 1.0  # from first to last movement of the counter
LONGEST_SECONDS = 4.0
FEWEST_MOVEMENTS = 5
SETTLING_SECONDS = 0.3  # NVIDIA's power readings are averages over up to this long

Clock = Callable[[], float]


def of_arm(replay: Callable[[], int], counter: Callable[[], float | None], clock: Clock = time.monotonic) -> dict:
    """Joules and watts of an arm; a reading with its reason where the counter is too slow.

    replay: runs the arm once and returns the number of launches. counter: joules since some moment.
    """
    began, launches = clock(), 0
    first = last = None  # (joules, seconds, launches) at a movement of the counter
    movements, before = 0, counter()
    while clock() - began < LONGEST_SECONDS:
        launches += replay()
        now = counter()
        if now is None or before is None:
            return untold("the energy counter cannot be read").to_json()
        if now == before or clock() - began < SETTLING_SECONDS:
            before = now
            continue
        before, last = now, (now, clock(), launches)
        first = first or last
        movements += 1
        if last[1] - first[1] >= SECONDS:
            break
    if movements < FEWEST_MOVEMENTS or first is None or last is None:
        return untold(
            f"the energy counter moved {movements} times in {clock() - began:.1f} s, too seldom to tell"
        ).to_json()
    joules, seconds, count = (end - start for start, end in zip(first, last, strict=True))
    return {"joules_per_launch": joules / count, "watts": joules / seconds, "seconds": seconds, "launches": count}


def of_arms(arms: dict[str, Callable[[], int]], state: State, tokens: int | None) -> dict[str, Any]:
    """The arms' part of a record's `energy`.

    tokens: how many a launch attends, for decode: one per sequence of the batch, in one attention layer.
    """
    if state.energy() is None:
        return untold(state.energy_reason).to_json()
    taken = {arm: of_arm(replay, state.energy) for arm, replay in arms.items()}
    lacking = next((reading for reading in taken.values() if "joules_per_launch" not in reading), None)
    per_launch = lacking or {arm: reading["joules_per_launch"] for arm, reading in taken.items()}
    per_token = untold("an elementwise pass attends no token").to_json()
    if tokens:
        per_token = lacking or {arm: joules / tokens for arm, joules in per_launch.items()}
    return {"arms": taken, "joules_per_launch": per_launch, "joules_per_token": per_token}
