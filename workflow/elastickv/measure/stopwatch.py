"""When a record began and ended, for readers; never how long anything took: no figure is made of these."""

from __future__ import annotations

import datetime
import time


def now() -> str:
    """Time in UTC, ISO 8601."""
    return _text(datetime.datetime.now(datetime.UTC))


def _text(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


class Stopwatch:
    """Reads the wall clock once, then counts on by a clock that nobody sets: no record ends before it began."""

    def __init__(self) -> None:
        self._wall, self._monotonic = datetime.datetime.now(datetime.UTC), time.monotonic()

    @property
    def started(self) -> str:
        return _text(self._wall)

    def ended(self) -> str:
        """Now, by this stopwatch."""
        return _text(self._wall + datetime.timedelta(seconds=time.monotonic() - self._monotonic))
