"""Start and end times of records, for information only: no figure is computed from them."""

from __future__ import annotations

import datetime
import time


class Stopwatch:
    """Times in UTC: the wall clock once and then a monotonic clock, so that no record ends before it starts."""

    def __init__(self) -> None:
        self._wall, self._monotonic = datetime.datetime.now(datetime.UTC), time.monotonic()

    @property
    def started(self) -> str:
        return self._wall.isoformat(timespec="milliseconds")

    def ended(self) -> str:
        """Now, by this stopwatch."""
        moment = self._wall + datetime.timedelta(seconds=time.monotonic() - self._monotonic)
        return moment.isoformat(timespec="milliseconds")
