"""A copy of stderr in a file, for commands that Snakemake runs: messages stay on the terminal and are kept."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TextIO

VARIABLE = "ELASTICKV_LOG"


class Tee:
    """Writes to `stream` as it comes and whole lines to `log`, which gets the last state of a redrawn progress line.

    A log that cannot be written (a full disk) ends quietly: the stream has it all, and the command goes on.
    """

    def __init__(self, stream: TextIO, log: TextIO):
        self._stream = stream
        self._log = log
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        with contextlib.suppress(OSError):
            self._log.write("".join(line.rsplit("\r", 1)[-1] + "\n" for line in lines))
        return self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._log.flush()
        self._stream.flush()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def keep_stderr() -> None:
    """Copies this process's stderr to the file named by `ELASTICKV_LOG`, if any (not its children's)."""
    path = os.environ.pop(VARIABLE, "")
    if path:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            log = Path(path).open("w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115 (stays open)
        except OSError as error:
            print(f"elastickv: no log, {path}: {error.strerror}", file=sys.stderr)
            return
        sys.stderr = Tee(sys.stderr, log)  # type: ignore[assignment]
