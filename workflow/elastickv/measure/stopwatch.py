"""Start and end times of records, for information only: no figure is computed from them."""

from __future__ import annotations

import datetime
import time


def now() -> str:
    """Time in UTC, ISO 8601."""
    return _text(datetime.datetime.now(datetime.UTC))


def _text(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


class Stopwatch:
    """Reads the wall clock once and then uses a monotonic clock, so that no record ends before it starts."""

    def __init__(self) -> None:
        self._wall, self._monotonic = datetime.datetime.now(datetime.UTC), time.monotonic()

    @property
    def started(self) -> str:
        return _text(self._wall)

    def ended(self) -> str:
        """Now, by this stopwatch."""
        return _text(self._wall + datetime.timedelta(seconds=time.monotonic() - self._monotonic))
