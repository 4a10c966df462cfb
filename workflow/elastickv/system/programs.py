"""Foreign programs, such as compilers: every call has a time limit, and none can wait for input from the terminal."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from elastickv.errors import MachineError
from elastickv.system import orphans

ANSWER_SECONDS = 30  # for a question such as `--version`
COMPILE_SECONDS = 3600  # for one file; minutes are usual
MOST_SHOWN = 3000  # characters of a compiler's messages


def run(command: Sequence[str], fix: str, seconds: float | None = None, given: str = "") -> subprocess.CompletedProcess:
    """Runs a program to its end; returns its exit code and output as text, whatever they are.

    given: its standard input. seconds: time limit (default: ANSWER_SECONDS), after which the program and all its child
    processes are killed. Raises MachineError with `fix` on a timeout and if the program cannot be started.
    """
    limit = ANSWER_SECONDS if seconds is None else seconds
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    try:
        process = subprocess.Popen(command, **pipes, text=True, encoding="utf-8", errors="replace")
    except (OSError, ValueError) as error:
        raise MachineError(
            f"{command[0]} cannot be started: {getattr(error, 'strerror', None) or error}", fix
        ) from error
    with process:
        try:
            out, err = process.communicate(given, timeout=limit)
        except BaseException as error:
            orphans.kill_descendants(process.pid)
            process.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise MachineError(f"`{' '.join(command)}` did not end within {limit:g} s and was stopped", fix) from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def last_line(done: subprocess.CompletedProcess) -> str:
    """The last line of a failed program's output, otherwise its exit code."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1].strip() if lines else f"it ended with exit code {done.returncode} without a message"


def errors_of(messages: str) -> str:
    """What is shown of a compiler's messages: all, or where they are long those from the first error on."""
    if len(messages) <= MOST_SHOWN:
        return messages
    first = re.search(r"^.*\berror\b", messages, re.MULTILINE)
    return messages[first.start() :][:MOST_SHOWN] if first else messages[-MOST_SHOWN:]
