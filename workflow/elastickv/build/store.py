"""Binaries by fingerprint under `build/.store/`: what Snakemake deleted costs nothing to make again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from elastickv import records

STORE = Path("build/.store")


def put_in_place(source: Path, destination: Path) -> None:
    """Copies a file so that `destination` is whole at any moment."""
    with records.replacing(destination) as temporary:
        shutil.copyfile(source, temporary)


def find(fingerprint: str) -> tuple[Path, dict[str, Any]] | None:
    """The stored binary of a fingerprint and its facts, or None when it is missing or damaged."""
    folder = STORE / fingerprint
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        binary = folder / "binary"
        return (binary, facts) if records.sha256_file(binary) == facts["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(fingerprint: str, binary: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Stores a binary with its facts (its hash and size are added); returns the facts."""
    folder = STORE / fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    put_in_place(binary, folder / "binary")
    facts = {**facts, "sha256": records.sha256_file(binary), "bytes": binary.stat().st_size}
    records.write_text(folder / "facts.json", records.to_json(facts))
    return facts
