"""Energy of one launch of each arm, from the device's energy counter.

The counter moves every 20 to 100 ms, a sample of the timing takes about one: the arms interleaved as they are timed
cannot be told apart by it. So after the timing each arm runs alone, from one movement of the counter to another at
least a second later, and its launches between the two are counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from elastickv.device import State
from elastickv.schemas.measurement import Energy, ReadingPerArm, ReadingsOfArms
from elastickv.schemas.parts import Reading, Unavailable

SECONDS = 1.0  # from first to last movement of the counter
LONGEST_SECONDS = 4.0
FEWEST_MOVEMENTS = 5
SETTLING_SECONDS = 0.3  # NVIDIA's power readings are averages over up to this long

Clock = Callable[[], float]


class Drawn(NamedTuple):
    """Energy that an arm used while it ran alone, for `launches` launches in `seconds`."""

    joules_per_launch: float
    watts: float
    seconds: float
    launches: int


def of_arm(
    replay: Callable[[], int], counter: Callable[[], float | None], clock: Clock = time.monotonic
) -> Drawn | Unavailable:
    """Joules and watts of an arm; why there are none where the counter is too slow.

    replay: runs the arm once and returns the number of launches. counter: joules since some moment.
    """
    began, launches = clock(), 0
    first = last = None  # (joules, seconds, launches) at a movement of the counter
    movements, before = 0, counter()
    while clock() - began < LONGEST_SECONDS:
        launches += replay()
        now = counter()
        if now is None or before is None:
            return Unavailable(value=None, reason="the energy counter cannot be read")
        if now == before or clock() - began < SETTLING_SECONDS:
            before = now
            continue
        before, last = now, (now, clock(), launches)
        first = first or last
        movements += 1
        if last[1] - first[1] >= SECONDS:
            break
    if movements < FEWEST_MOVEMENTS or first is None or last is None:
        moved = f"the energy counter moved {movements} times in {clock() - began:.1f} s"
        return Unavailable(value=None, reason=f"{moved}, too few updates to measure energy")
    joules, seconds, count = (end - start for start, end in zip(first, last, strict=True))
    return Drawn(joules / count, joules / seconds, seconds, count)


def of_arms(arms: Mapping[str, Callable[[], int]], state: State, tokens: int | None) -> Energy:
    """The arms' part of a record's `energy`.

    tokens: how many a launch attends, for decode: one per sequence of the batch, in one attention layer.
    """
    if state.energy() is None:
        return Energy(value=None, reason=state.energy_reason)
    taken = {arm: of_arm(replay, state.energy) for arm, replay in arms.items()}
    per_token = ReadingPerArm(value=None, reason="an elementwise pass attends no token")
    return Energy(
        arms=ReadingsOfArms(**{arm: _reading(found) for arm, found in taken.items()}),
        joules_per_launch=_per_arm(taken, 1),
        joules_per_token=_per_arm(taken, tokens) if tokens else per_token,
    )


def _reading(found: Drawn | Unavailable) -> Reading:
    return Reading(**(found.model_dump() if isinstance(found, Unavailable) else found._asdict()))


def _per_arm(taken: Mapping[str, Drawn | Unavailable], parts: int) -> ReadingPerArm:
    """Joules of a launch over `parts`, or why those of the first arm that has none are not known."""
    lacking = next((found for found in taken.values() if isinstance(found, Unavailable)), None)
    if lacking:
        return ReadingPerArm(**lacking.model_dump())
    return ReadingPerArm(**{arm: drawn.joules_per_launch / parts for arm, drawn in taken.items()})
