"""The sustained speedup: both arms in blocks of seconds, in which a GPU reaches the clocks of steady work.

A sample takes milliseconds, and clocks, power cap and temperature follow over tenths of a second: what a burst reaches
an hour of work may not. Every process takes one series of blocks full, elastic, elastic, full, in which a steady drift
affects both arms alike. The ratio is of total times, so no launch is left out.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence

from elastickv.device import State
from elastickv.measure import statistics
from elastickv.measure.steady import LEAST_BUSY, Replays
from elastickv.schemas.measurement import ArmName, Block, Sustained

ORDER: tuple[ArmName, ...] = ("full", "elastic", "elastic", "full")
DROPPED_SECONDS = 1.0  # of each block: the time in which clocks follow the load
FEWEST_PROCESSES = 3


def series(replays: Mapping[str, Callable[[], Replays]], seconds: float, state: State) -> list[Block]:
    """The blocks of one process. replays: makes those of each arm; seconds: of a block, after those dropped."""
    ready = {arm: make() for arm, make in replays.items()}
    return [block(arm, ready[arm], seconds, state) for arm in ORDER]


def block(arm: ArmName, replays: Replays, seconds: float, state: State) -> Block:
    """One block, by the device's own time; clock and power are read at its end, while the device still works."""
    with contextlib.closing(replays.work()) as work:
        warm = next(done for done in work if done.seconds >= DROPPED_SECONDS)
        kept = next(kept for done in work if (kept := done.since(warm)).seconds >= seconds)
        now = state.snapshot()
    return Block(
        arm=arm,
        launches=kept.launches,
        seconds=kept.seconds,
        busy=kept.busy,
        sm_mhz=(now.model_extra or {}).get("sm_mhz"),
        power_w=now.power_w,
    )


def ratio(blocks: Sequence[Block]) -> float:
    """full / elastic of one process: each arm's total time per launch over its blocks."""
    each = {}
    for arm in set(ORDER):
        own = [one for one in blocks if one.arm == arm]
        each[arm] = math.fsum(one.seconds for one in own) / sum(one.launches for one in own)
    return each["full"] / each["elastic"]


def over_processes(taken: Sequence[Sequence[Block]], seconds: float, confidence: float) -> Sustained:
    """The sustained speedup of several processes, or why there is none; the blocks of each process are kept."""
    least = min(one.busy for blocks in taken for one in blocks)
    reason = (
        None if least >= LEAST_BUSY else f"the device worked {least:.1%} of a block, at least {LEAST_BUSY:.0%} needed"
    )
    if len(taken) < FEWEST_PROCESSES:
        reason = too_few(len(taken))
    speedup = None if reason else statistics.over_processes([ratio(blocks) for blocks in taken], confidence)
    return Sustained(speedup=speedup, reason=reason, seconds=seconds, runs=[list(blocks) for blocks in taken])


def too_few(processes: int) -> str:
    """Why so many processes have no sustained speedup."""
    measured = "one process" if processes == 1 else f"{processes} processes"
    return f"measured by {measured}; an interval takes {FEWEST_PROCESSES}"
