"""What llama.cpp itself says of a failure: it returns NULL or a number, and logs the reason."""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from functools import cache
from typing import Any

ERROR, CONTINUED = 4, 5  # of ggml_log_level in ggml.h: an error; more of what was logged last
LINES_KEPT = 4


class ErrorLog:
    """The last lines that were logged as errors. They go to stderr too; lines of other levels are dropped."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._error = False
        self.callback: Any = None  # what llama.cpp calls: it keeps the address alone

    def add(self, level: int, text: str) -> None:
        """A piece of the log. Pieces of level CONTINUED belong to the piece before them."""
        if level != CONTINUED:
            self._error = level == ERROR
        if not self._error:
            return
        print(text, end="", file=sys.__stderr__, flush=True)
        if level == CONTINUED and self._lines:
            self._lines[-1] += text
        else:
            self._lines.append(text)

    def clear(self) -> None:
        """Forgets what was logged so far."""
        self._lines.clear()

    def said(self) -> str:
        """The lines in one, or an empty string."""
        lines = (" ".join(text.split()) for text in self._lines)
        return "; ".join(dict.fromkeys(line for line in lines if line))


@cache
def listen() -> ErrorLog:
    """The log of this process's llama.cpp, from the first call on."""
    import llama_cpp

    log = ErrorLog()

    @llama_cpp.llama_log_callback
    def add(level: int, text: bytes, _: ctypes.c_void_p) -> None:
        log.add(level, text.decode("utf-8", errors="replace"))

    log.callback = add
    llama_cpp.llama_log_set(add, ctypes.c_void_p(0))
    return log
