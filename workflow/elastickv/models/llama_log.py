"""Captures llama.cpp's log messages about failures, including its last message if it ends the process."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
from collections import deque
from collections.abc import Iterator

WARNING, ERROR, CONTINUATION = 3, 4, 5  # of ggml_log_level in ggml.h; the comments of llama_cpp state older numbers
KEPT = 3  # messages that a reason quotes


class Messages:
    """The last warnings and errors, put together from the pieces that llama.cpp logs."""

    def __init__(self) -> None:
        self._last: deque[str] = deque(maxlen=KEPT)
        self._kept = False  # whether the current message is a warning or an error

    def add(self, level: int, text: str) -> bool:
        """Takes a new message, or with the level CONTINUATION more of the message before it. True if kept."""
        if level != CONTINUATION:
            self._kept = level in (WARNING, ERROR)
            if self._kept:
                self._last.append(text)
        elif self._kept and self._last:
            self._last[-1] += text
        return self._kept

    def clear(self) -> None:
        self._last.clear()

    def last(self) -> str:
        """The last messages in one line; empty if there are none."""
        return " | ".join(" ".join(text.split()) for text in self._last if text.strip())


MESSAGES = Messages()


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Around llama_cpp.Llama(..., verbose=True): hides what its Python part prints.

    With verbose=False it would close stderr to C as well, and the reason of an abort would be lost.
    """
    _install()
    MESSAGES.clear()
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def reason(failure: str) -> str:
    """A failure with what llama.cpp logged of it since MESSAGES was cleared."""
    logged = MESSAGES.last()
    return f"{failure}: {logged}" if logged else f"{failure}; llama.cpp logged no reason"


@functools.cache
def _install() -> tuple[object, object]:
    """Makes llama.cpp call back. Returns the callbacks: the cache keeps alive what C points to."""
    import llama_cpp
    from llama_cpp import _ggml

    log = llama_cpp.llama_log_callback(_receive)
    # ggml_abort calls this in place of printing the message and, after it, a backtrace that would hide it.
    aborting = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_write_last_words)
    llama_cpp.llama_log_set(log, ctypes.c_void_p(0))
    _ggml.libggml.ggml_set_abort_callback(aborting)
    return log, aborting


def _receive(level: int, text: bytes, _: object) -> None:
    """Keeps warnings and errors, and writes them to stderr: the process may end before they are read."""
    if MESSAGES.add(level, text.decode(errors="replace")):
        os.write(2, text)


def _write_last_words(message: bytes) -> None:
    """Writes the failed assertion to stderr, without the folder it was compiled in; the process ends right after."""
    os.write(2, message.rpartition(b"/vendor/")[2] + b"\n")
