"""A copy of stderr in a file, for commands that Snakemake runs: messages stay on the terminal and are kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

VARIABLE = "ELASTICKV_LOG"


class Tee:
    """Writes to `stream` as it comes and whole lines to `log`, which gets the last state of a redrawn progress line."""

    def __init__(self, stream: TextIO, log: TextIO):
        self._stream = stream
        self._log = log
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._log.write(line.rsplit("\r", 1)[-1] + "\n")
        return self._stream.write(text)

    def flush(self) -> None:
        self._log.flush()
        self._stream.flush()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def keep_stderr() -> None:
    """Copies this process's stderr to the file named by `ELASTICKV_LOG`, if any (not its children's)."""
    path = os.environ.pop(VARIABLE, "")
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        log = Path(path).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115 (open as long as the process)
        sys.stderr = Tee(sys.stderr, log)  # type: ignore[assignment]
