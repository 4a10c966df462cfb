"""The record store: finished records by key, kept separate from the files that Snakemake deletes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from elastickv import records
from elastickv.errors import MachineError, UsageError

if TYPE_CHECKING:  # pydantic, which the environments of language models do not have
    from elastickv.schemas.base import Model

    Record = TypeVar("Record", bound=Model)

ROOM_BYTES = 4 << 20  # kept free for the record while it is measured


def key_of(known_by: Mapping[str, Any]) -> str:
    """The key of a record: the hash of the canonical JSON of its identity."""
    return hashlib.sha256(records.canonical_json(known_by).encode()).hexdigest()


class RecordStore:
    """Finished records in a folder, a file for each key."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """The path of the record of `key`, whether it exists or not."""
        return self.folder / f"{key}.json"

    def find(self, key: str, model: type[Record]) -> Record | None:
        """The stored record of `key`, or None if there is no valid one.

        A record of another schema version is renamed, with a message, so that it is kept and not overwritten.
        """
        if not self.path(key).exists():
            return None
        try:
            return records.load(self.path(key), model)
        except records.OtherVersion as error:
            aside = self.path(key).with_suffix(".json.other_version")
            self.path(key).replace(aside)
            print(f"elastickv: {error}; it is now {aside}", file=sys.stderr)
        except records.RecordError:
            pass
        return None

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """Reserves disk space for a record, so that nothing is measured that cannot be stored.

        Raises MachineError if there is no space. The file is unnamed, so it disappears with the process.
        """
        with contextlib.ExitStack() as held:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                file = held.enter_context(tempfile.TemporaryFile(dir=self.folder))
                os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
            except OSError as error:
                raise records.cannot_write(self.folder, error) from error
            yield

    def keep(self, key: str, record: Model) -> None:
        """Stores a record. A failure is only reported on stderr, because the record is also written elsewhere."""
        try:
            records.save(self.path(key), record)
        except (MachineError, UsageError) as error:
            print(f"elastickv: {error}", file=sys.stderr)
