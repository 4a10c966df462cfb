"""Steady work of one arm: its launches replayed without a pause, for seconds on end.

The timing of samples waits for the device after each one. Here replays are queued, so that the device never waits for
the host; each one is timed by the device, its idle time before the replay included.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from elastickv.device.base import Backend, Lap

LAP_SECONDS = 0.005  # a lap takes about as long: a shorter one would be mostly events
QUEUED_SECONDS = 0.1  # so far ahead of the device is the host: longer than it takes to read a sensor
LEAST_BUSY = 0.95  # share of the time in which the device must have worked


class Work(NamedTuple):
    """`launches` launches in `seconds`, in `busy_seconds` of which the device worked."""

    launches: int = 0
    seconds: float = 0.0
    busy_seconds: float = 0.0

    def with_lap(self, lap: Lap, launches: int) -> Work:
        """This work, and that of one more lap."""
        seconds = self.seconds + lap.seconds + lap.idle
        return Work(self.launches + launches, seconds, self.busy_seconds + lap.seconds)

    def since(self, earlier: Work) -> Work:
        """What was done after `earlier`."""
        return Work(*(now - then for now, then in zip(self, earlier, strict=True)))

    @property
    def busy(self) -> float:
        """Share of the time in which the device worked."""
        return self.busy_seconds / self.seconds


class Replays:
    """`programs` of one arm, together `launches` launches, to be replayed without a pause."""

    def __init__(self, backend: Backend, programs: list[Any], launches: int):
        self._backend = backend
        backend.seconds(*programs)  # the first run of a program takes longer
        once = backend.seconds(*programs)
        repeats = max(1, math.ceil(LAP_SECONDS / once))
        self._programs, self._launches = repeats * programs, repeats * launches
        self._ahead = max(2, math.ceil(QUEUED_SECONDS / (repeats * once)))

    def work(self) -> Iterator[Work]:
        """All that was done so far, after every lap; endless, to be closed."""
        done = Work()
        with contextlib.closing(self._backend.laps(*self._programs, ahead=self._ahead)) as laps:
            for lap in laps:
                done = done.with_lap(lap, self._launches)
                yield done
