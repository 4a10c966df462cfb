"""The exception for measurements without figures: the record's status and a readable reason."""

from __future__ import annotations

LONGEST_REASON = 400
EXHAUSTED = ("out of memory", "can't allocate memory", "failed to allocate")
NO_GPU = "no_gpu"  # not a record's status: the supervisor may go on without one


class Refusal(Exception):
    """No figures. `status`: unsupported, out_of_memory, failed (or NO_GPU); the message is the reason, one line."""

    def __init__(self, status: str, reason: str):
        super().__init__(reason)
        self.status = status


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, and the last one where the first only announces it; with its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    if text.endswith(":") and len(lines) > 1:
        text += f" {lines[-1]}"
    return f"{type(error).__name__}: {text}"[:LONGEST_REASON] if text else type(error).__name__


def failure(reason: str) -> Refusal:
    """A refusal with the status that an engine's words call for."""
    return Refusal(status_of(RuntimeError(reason)), " ".join(reason.split())[:LONGEST_REASON])


def status_of(error: BaseException) -> str:
    """out_of_memory or failed. Engines say the former in several ways."""
    text = str(error).lower()
    exhausted = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return "out_of_memory" if exhausted or any(words in text for words in EXHAUSTED) else "failed"
