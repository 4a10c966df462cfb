"""Stores binaries by fingerprint under `build/.store/`, so that binaries deleted by Snakemake need no rebuild."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TypeVar

from elastickv import records
from elastickv.schemas.base import Model, Sha256
from elastickv.schemas.build import Binary, Image, Size

STORE = Path("build/.store")


class StoredImage(Image):
    """The facts stored with a CUDA image."""

    fingerprint: Sha256


class StoredLibrary(Model):
    """The facts stored with a CPU library."""

    kernels: list[str]
    sha256: Sha256
    bytes: Size


Facts = TypeVar("Facts", StoredImage, StoredLibrary)


def described(binary: Path) -> Binary:
    """A file as a manifest states it: path, hash and size."""
    return Binary(path=str(binary), sha256=records.sha256_file(binary), bytes=binary.stat().st_size)


def put_in_place(source: Path, destination: Path) -> None:
    """Copies a file so that `destination` is whole at any moment."""
    with records.replacing(destination) as temporary:
        shutil.copyfile(source, temporary)


def find(fingerprint: str, facts: type[Facts]) -> tuple[Path, Facts] | None:
    """The stored binary of a fingerprint and its facts, or None when it is missing or damaged."""
    folder = STORE / fingerprint
    try:
        found = facts.model_validate(records.parse((folder / "facts.json").read_text(encoding="utf-8")))
        binary = folder / "binary"
        return (binary, found) if records.sha256_file(binary) == found.sha256 else None
    except (OSError, ValueError):
        return None


def keep(fingerprint: str, binary: Path, facts: StoredImage | StoredLibrary) -> None:
    """Stores a binary with its facts."""
    folder = STORE / fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    put_in_place(binary, folder / "binary")
    records.write_text(folder / "facts.json", records.to_json(records.content(facts)))
