"""The other side of `process`: the program that does one task, answers with one JSON file, and may crash.

Called as `python -m MODULE REQUEST RESPONSE` by the interpreter of an environment, where MODULE calls `serve`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.errors import MachineError, UsageError
from elastickv.system import orphans

Task = Callable[[records.Json], records.Json]


def serve(tasks: Mapping[str, Task]) -> int:
    """Runs the requested task. Missing prerequisites become an answer; bugs crash with their traceback."""
    request_file, response_file = sys.argv[1:]
    orphans.die_with_parent()
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    # Behind the environment's own packages: of another environment only what this one lacks (CuPy, NVML) is found.
    sys.path += request.get("packages", [])
    try:
        answer = tasks[request["task"]](request)
    except MachineError as error:
        answer = {"status": "failed", "reason": error.problem, "fix": error.fix}
    except UsageError as error:  # a folder has replaced the file since the request
        answer = {"status": "failed", "reason": str(error), "fix": "name another file"}
    except MemoryError as error:
        answer = {"status": "out_of_memory", "reason": str(error) or "allocation failed"}
    records.write_text(response_file, records.to_json(answer))
    return 0


def show(text: str = "") -> None:
    """Shows the current step in place of the previous one on a terminal; prints nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


class Progress:
    """A file that states what is done and what is in progress, for the parent if this process dies."""

    def __init__(self, request: records.Json, known: records.Json):
        """known: facts about all results, such as the device; they become part of the answer."""
        self._path, self._content = Path(request["progress"]), {**known, "current": None, "done": {}}

    def begin(self, name: str) -> None:
        """Records that `name` is in progress."""
        self._write(current=name)

    def end(self, name: str, result: records.Json) -> None:
        """Records that the current step is done."""
        self._write(current=None, done={**self._content["done"], name: result})

    def _write(self, **changes: Any) -> None:
        self._content |= changes
        records.write_text(self._path, records.to_json(self._content))
