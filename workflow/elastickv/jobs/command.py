"""Start and end of a command: reads the settings; writes the record, prints a line and returns the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from elastickv import records
from elastickv.errors import UsageError
from elastickv.jobs.job import Measured

if TYPE_CHECKING:  # pydantic, which the environments of workers do not have
    from elastickv.schemas.base import Model

    Settings = TypeVar("Settings", bound=Model)

BACKENDS = ("auto", "cuda", "cpu")


def read_settings(path: str, model: type[Settings]) -> tuple[Settings, str]:
    """The settings in a JSON file, as a model of the config, and their additional key `backend`.

    Raises UsageError, naming every fault.
    """
    from elastickv.matrix import structure
    from elastickv.schemas.config import Root

    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as settings: {error}") from error
    if not isinstance(given, dict):
        raise UsageError(f"{path}: must be a JSON object")
    backend = given.pop("backend", Root().backend)
    faults = [f"{path}: {'.'.join(map(str, key))}: {fault}" for key, fault in structure.faults(given, model)]
    if backend not in BACKENDS:
        faults.append(f"{path}: backend: must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if faults:
        raise UsageError(faults)
    return model(**given), backend


def exit_code(status: str, strict: bool) -> int:
    """0, or 1 with `--strict` and a status other than `ok`."""
    return 1 if strict and status != "ok" else 0


def deliver(path: Path | str, record: Measured, line: str, strict: bool = False, status: str | None = None) -> int:
    """Writes a record, prints a line about it and returns the exit code.

    status: what the judge makes of the record's own.
    """
    records.save(path, record)
    print(line)
    return exit_code(status or record.status, strict)
