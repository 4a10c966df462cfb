"""Stores binaries by fingerprint under `build/.store/`, so that outputs which Snakemake deleted need no rebuild."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from elastickv import records
from elastickv.schemas.build import Binary, Image

STORE = Path("build/.store")
Facts = TypeVar("Facts", Binary, Image)


def described(binary: Path) -> Binary:
    """A file as a manifest states it: path, hash and size."""
    return Binary(path=str(binary), sha256=records.sha256_file(binary), bytes=binary.stat().st_size)


def obtain(fingerprint: str, facts: type[Facts], make: Callable[[Path], Facts]) -> tuple[Path, Facts]:
    """The stored binary of a fingerprint and its facts. `make(path)` makes one where it is missing or damaged."""
    binary, described = (STORE / fingerprint / name for name in ("binary", "facts.json"))
    try:
        found = facts.model_validate(records.parse(described.read_text(encoding="utf-8")))
        if records.sha256_file(binary) == found.sha256:
            return binary, found
    except (OSError, ValueError):
        pass
    with records.replacing(binary) as temporary:
        made = make(temporary)
    records.write_text(described, records.to_json(records.content(made)))
    return binary, made


def put_in_place(binary: Path, destination: Path) -> None:
    """Makes `destination` another name of a stored binary; a copy where the file system has no hard links.

    Its time is now, because Snakemake runs a rule again whose output is older than its inputs.
    """
    with records.replacing(destination) as temporary:
        temporary.unlink()
        try:
            os.link(binary, temporary)
        except OSError:
            shutil.copyfile(binary, temporary)
        os.utime(temporary)
