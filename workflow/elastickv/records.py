"""The only reader and writer of JSON records: schema check, atomic write, and the store that loses no measurement."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from elastickv.errors import ElastickvError

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"


class RecordError(ElastickvError):
    """A record that cannot be read, is not strict JSON or breaks its schema. The message names the file."""


@cache
def schema(name: str) -> dict[str, Any]:
    """The JSON schema `schemas/<name>.schema.json`."""
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))


@cache
def _validator(name: str) -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(schema(name))


def check(record: Any, schema_name: str, where: str) -> None:
    """Raises RecordError, naming `where` and the first few faults, unless `record` fits its schema."""
    faults = sorted(_validator(schema_name).iter_errors(record), key=lambda fault: list(map(str, fault.absolute_path)))
    if faults:
        lines = [f"{'.'.join(map(str, f.absolute_path)) or '(top)'}: {f.message[:200]}" for f in faults[:3]]
        raise RecordError(f"{where}: not a valid {schema_name} record: " + "; ".join(lines))


def to_json(record: Any) -> str:
    """Strict JSON (NaN and infinities raise ValueError), readable, one trailing newline."""
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: Path | str, text: str) -> None:
    """Writes a file so that at any moment it holds either the old content or all of the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write(path: Path | str, record: Any, schema_name: str) -> None:
    """Checks `record` against its schema and writes it atomically."""
    check(record, schema_name, str(path))
    write_text(path, to_json(record))


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def read(path: Path | str, schema_name: str) -> Any:
    """Reads and checks a record. Raises RecordError when it is missing, unreadable, not JSON or not valid."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        record = json.loads(text, parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: cannot be read as a {schema_name} record: {error}") from error
    check(record, schema_name, str(path))
    return record


def sha256_file(path: Path | str) -> str:
    """Hex sha256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RecordStore:
    """Finished measurements by what they are of, beside (not among) the files that Snakemake deletes.

    key = hash of canonical case without its id, build fingerprint, device and driver. Only records that carry samples
    (`ok`, `noisy`) are kept: anything else may come out differently on a machine in a better state.
    """

    KEPT = ("ok", "noisy")

    def __init__(self, folder: Path | str, schema_name: str = "measurement"):
        self.folder = Path(folder)
        self.schema_name = schema_name

    def path(self, key: str) -> Path:
        """Where the record of `key` lies or would lie."""
        return self.folder / f"{key}.json"

    def find(self, key: str) -> dict[str, Any] | None:
        """The stored record of `key`, or None when there is none that is whole and valid."""
        if not self.path(key).exists():
            return None
        try:
            return read(self.path(key), self.schema_name)
        except RecordError:
            return None

    def keep(self, key: str, record: dict[str, Any]) -> None:
        """Stores a record if its status says that it was measured."""
        if record["status"] in self.KEPT:
            write(self.path(key), record, self.schema_name)
