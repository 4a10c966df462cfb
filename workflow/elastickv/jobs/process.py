"""Runs work in a separate process: it may crash, hang or be killed, and the caller still gets an answer.

A worker (`jobs.worker`) receives two additional arguments, the JSON files REQUEST, which it reads, and RESPONSE, which
it writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.system import orphans

Answer = records.Json

STDERR_LINES = 3
FOREIGN_PROCESSOR = "(most likely by code for another kind of processor: rm -r build/cpu, then build on this kind)"


def in_worker(
    module: str, name: str | None, request: Mapping[str, Any], timeout: float, variables: Mapping[str, str]
) -> Answer:
    """The answer of a module run as a worker by the interpreter of the environment `name` (None: by this one).

    variables: additional environment variables. Raises MachineError when the environment is missing.
    """
    return ask([interpreter(name), "-m", module], request, timeout, environment(**variables))


def interpreter(name: str | None) -> str:
    """The Python of an environment, or this one. Raises MachineError when it is missing."""
    if name is None:
        return sys.executable
    from elastickv import environments

    return str(environments.interpreter(name))


def ended(answer: Answer) -> tuple[str, str]:
    """Status and reason of a worker that gave no result."""
    fix = f" (fix: {answer['fix']})" if answer.get("fix") else ""
    return answer.get("status", "failed"), answer.get("reason", "the worker gave no reason") + fix


def environment(**more: str) -> dict[str, str]:
    """Environment of a worker: any interpreter imports this package, and the worker dies with this process."""
    variables = dict(os.environ)
    orphans.adopt_children(variables)
    package = str(Path(__file__).resolve().parents[2])
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [package, variables.get("PYTHONPATH", "")]))
    return variables | more


def ask(command: list[str], request: Mapping[str, Any], timeout: float, variables: Mapping[str, str]) -> Answer:
    """The answer of the worker that `command` starts, or the status `failed` and a reason when there is none.

    timeout: seconds. Facts that the worker reported by `jobs.worker.Progress` are always part of the answer.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="elastickv-") as folder:
            progress = Path(folder, "progress.json")
            answer = _ask(command, {**request, "progress": str(progress)}, timeout, variables, Path(folder))
            return json.loads(progress.read_text(encoding="utf-8")) | answer if progress.exists() else answer
    except OSError as error:  # no room for the request, or nothing to execute
        return _failed(f"the worker could not be started: {error}")


def _failed(reason: str) -> Answer:
    return {"status": "failed", "reason": reason}


def _ask(
    command: list[str], request: Mapping[str, Any], timeout: float, variables: Mapping[str, str], folder: Path
) -> Answer:
    request_file, response_file = folder / "request.json", folder / "response.json"
    request_file.write_text(json.dumps(request), encoding="utf-8")
    terminal = sys.stderr.isatty()
    with (folder / "stderr").open("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            [*command, str(request_file), str(response_file)],
            stdout=sys.stderr,
            stderr=None if terminal else log,
            env=variables,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            return _failed(f"the worker gave no answer in {timeout:.0f} s and was stopped")
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        stderr = log.read()
    sys.stderr.write(stderr)
    try:
        return json.loads(response_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return _failed(_ended(code, stderr))


def _ended(code: int, stderr: str) -> str:
    """One sentence about a worker that gave no answer."""
    last = " | ".join(line.strip() for line in stderr.strip().splitlines()[-STDERR_LINES:])[-500:]  # the end says why
    if code < 0:
        with contextlib.suppress(ValueError):
            last = FOREIGN_PROCESSOR if -code == signal.SIGILL else last
            return f"the worker was killed by {signal.Signals(-code).name} {last}".strip()
    return f"the worker ended with exit code {code}: {last}"
