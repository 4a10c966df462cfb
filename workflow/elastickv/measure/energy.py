"""Energy of one launch of each arm, from the device's energy counter.

The counter moves every 20 to 100 ms, a sample of the timing takes about one: the arms interleaved as they are timed
cannot be told apart by it. So after the timing each arm runs alone, its replays queued so that the device is never
idle, from one movement of the counter to another at least two seconds later.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pydantic import MISSING

from elastickv.device import State
from elastickv.measure.steady import LEAST_BUSY, Replays, Work
from elastickv.schemas.measurement import Drawn, Energy, ReadingPerArm, ReadingsOfArms

SECONDS = 2.0  # from first to last movement of the counter
LONGEST_SECONDS = 6.0
FEWEST_MOVEMENTS = 5
SETTLING_SECONDS = 0.3  # NVIDIA's power readings are averages over up to this long

Clock = Callable[[], float]
UNREADABLE = Drawn(value=None, reason="the energy counter cannot be read")


class Movement(NamedTuple):
    """The counter at the moment when it moved, the host's time, and what the device had done."""

    joules: float
    at: float
    done: Work


def of_arm(replays: Replays, counter: Callable[[], float | None], clock: Clock = time.monotonic) -> Drawn:
    """Joules and watts of an arm; why there are none where the counter is too slow or the device was idle.

    counter: joules since some moment. The watts are by the host's clock; the host may be some laps behind the device,
    so the time of a launch is that of the device's laps and not that between two readings.
    """
    began, movements = clock(), []
    before = counter()
    with contextlib.closing(replays.work()) as work:
        for done in work:
            if clock() - began > LONGEST_SECONDS:
                break
            now = counter()
            if now is None or before is None:
                return UNREADABLE
            if now != before and clock() - began >= SETTLING_SECONDS:
                movements.append(Movement(now, clock(), done))
                if movements[-1].at - movements[0].at >= SECONDS:
                    break
            before = now
    if len(movements) < FEWEST_MOVEMENTS:
        moved = f"the energy counter moved {len(movements)} times in {clock() - began:.1f} s"
        return Drawn(value=None, reason=f"{moved}, too few updates to measure energy")
    return _between(movements[0], movements[-1])


def _between(first: Movement, last: Movement) -> Drawn:
    """What was drawn between two movements of the counter, if the device worked all the time."""
    work, watts = last.done.since(first.done), (last.joules - first.joules) / (last.at - first.at)
    if work.busy < LEAST_BUSY:
        idle = f"the device worked {work.busy:.1%} of the time, at least {LEAST_BUSY:.0%} needed"
        return Drawn(value=None, reason=idle, busy=work.busy)
    return Drawn(
        joules_per_launch=watts * work.seconds / work.launches,
        watts=watts,
        seconds=work.seconds,
        launches=work.launches,
        busy=work.busy,
    )


def of_arms(arms: Mapping[str, Callable[[], Replays]], state: State, tokens: int | None) -> Energy:
    """The arms' part of a record's `energy`.

    arms: makes what is replayed of each. tokens: how many a launch attends, for decode: one per sequence of the batch,
    in one attention layer.
    """
    if state.energy() is None:
        return Energy(value=None, reason=state.energy_reason)
    taken = {arm: of_arm(make(), state.energy) for arm, make in arms.items()}
    per_token = ReadingPerArm(value=None, reason="an elementwise pass attends no token")
    return Energy(
        arms=ReadingsOfArms(**taken),
        joules_per_launch=_per_arm(taken, 1),
        joules_per_token=_per_arm(taken, tokens) if tokens else per_token,
    )


def _per_arm(taken: Mapping[str, Drawn], parts: int) -> ReadingPerArm:
    """Joules of a launch over `parts`, or why those of the first arm that has none are not known."""
    for drawn in taken.values():
        if drawn.reason is not MISSING:
            return ReadingPerArm(value=None, reason=drawn.reason)
    return ReadingPerArm(**{arm: drawn.joules_per_launch / parts for arm, drawn in taken.items()})
