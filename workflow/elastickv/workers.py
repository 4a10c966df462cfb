"""Work in a process of its own: it may crash, hang or be killed, and whoever asked still gets an answer.

A worker is called with two more arguments, REQUEST and RESPONSE: it reads the one and writes the other, both JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from elastickv import orphans
from elastickv.device import lease

STDERR_LINES = 3
FOREIGN_PROCESSOR = "(most likely by code for another kind of processor: rm -r build/cpu, then build on this kind)"


def environment(**more: str) -> dict[str, str]:
    """Variables of a worker: it imports this package, whatever its interpreter, and dies with this process."""
    variables = dict(os.environ)
    orphans.adopt_children(variables)
    package = str(Path(__file__).resolve().parents[1])
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [package, variables.get("PYTHONPATH", "")]))
    return variables | more


def ask(command: list[str], request: dict[str, Any], timeout: float, variables: dict[str, str]) -> dict[str, Any]:
    """The response of the worker that `command` starts, or {"crashed": reason} when none came in `timeout` seconds."""
    try:
        return _ask(command, request, timeout, variables)
    except OSError as error:  # no room for the request, or nothing to execute
        return {"crashed": f"the worker could not be started: {error}"}


def _ask(command: list[str], request: dict[str, Any], timeout: float, variables: dict[str, str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="elastickv-") as folder:
        request_file, response_file = Path(folder, "request.json"), Path(folder, "response.json")
        request_file.write_text(json.dumps(request), encoding="utf-8")
        terminal = sys.stderr.isatty()
        with Path(folder, "stderr").open("w+", encoding="utf-8", errors="replace") as log:
            process = subprocess.Popen(
                [*command, str(request_file), str(response_file)],
                stdout=sys.stderr,
                stderr=None if terminal else log,
                env=variables,
                pass_fds=lease.descriptors(),  # what is timed on stays leased as long as the worker is there
            )
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return {"crashed": f"the worker gave no answer in {timeout:.0f} s and was stopped"}
            except BaseException:
                process.kill()
                process.wait()
                raise
            log.seek(0)
            stderr = log.read()
        sys.stderr.write(stderr)
        try:
            return json.loads(response_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"crashed": _ended(code, stderr)}


def _ended(code: int, stderr: str) -> str:
    """One sentence on a worker that gave no answer."""
    last = " | ".join(line.strip() for line in stderr.strip().splitlines()[-STDERR_LINES:])[-500:]  # the end says why
    if code < 0:
        with contextlib.suppress(ValueError):
            last = FOREIGN_PROCESSOR if -code == signal.SIGILL else last
            return f"the worker was killed by {signal.Signals(-code).name} {last}".strip()
    return f"the worker ended with exit code {code}: {last}"
