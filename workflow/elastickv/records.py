"""Reads and writes JSON records, with schema validation and atomic writes. All record I/O goes through this module."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from elastickv.errors import ElastickvError, MachineError, UsageError
from elastickv.system import readable

if TYPE_CHECKING:  # pydantic is not installed in the language models' environments
    from pydantic import BaseModel

Json = dict[str, Any]  # a JSON object at the I/O boundary; inside the package, records are typed models
Model = TypeVar("Model", bound="BaseModel")
SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
MOST_BYTES = 64 << 20  # largest record accepted; real ones, with thousands of samples, have a few MB
WIDTH = 120  # characters of a line of JSON
MOST_DIGITS = 20  # most digits of an integer: every field fits in 64 bits


class RecordError(ElastickvError):
    """A record that cannot be read, is not strict JSON or violates its schema. The message names the file.

    Commands report it as bad usage (exit 2); `verify` and `compare` report it as a finding (exit 1).
    """

    exit_code = 2


class UnreadableError(RecordError):
    """A record that exists but that the operating system refuses to read (exit 3). Its contents may be valid."""

    exit_code = 3


@cache
def schema(name: str) -> Json:
    """The JSON schema `schemas/<name>.schema.json`."""
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))


@cache
def _validator(name: str) -> Any:
    import jsonschema
    from referencing import Registry, Resource

    def other(uri: str) -> Resource:
        return Resource.from_contents(schema(uri.removesuffix(".schema.json")))

    strict = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern})
    return strict(schema(name), registry=Registry(retrieve=other))


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[Any]:
    """`pattern` with JSON Schema semantics: `$` matches only at the end (Python's allows a newline); ASCII digits."""
    from jsonschema import ValidationError

    if isinstance(value, str) and not re.search(re.sub(r"(?<!\\)\$", r"\\Z", pattern), value, re.ASCII):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


class OtherVersion(RecordError):
    """A record whose `schema` field names another version than this package's; it is neither read nor converted."""


def version(schema_name: str) -> str | None:
    """The value of a record's `schema` field in this version; None if these records have no such field."""
    return schema(schema_name).get("properties", {}).get("schema", {}).get("const")


def _refuse_other_version(record: Any, schema_name: str, where: str) -> None:
    found, present = record.get("schema") if isinstance(record, dict) else None, version(schema_name)
    if not isinstance(found, str) or not present:
        return
    if found != present and found.rpartition("/")[0] == present.rpartition("/")[0]:
        raise OtherVersion(
            f"{where}: the record has schema {found[:40]}, but this version reads only {present}: "
            "move the file away and run again to repeat the measurement, or read it with the version that wrote it"
        )


def check(record: Any, schema_name: str, where: str) -> None:
    """Raises RecordError, with `where` and the first few errors, if `record` does not match its schema.

    A record of another schema version raises `OtherVersion` instead.
    """
    _refuse_other_version(record, schema_name, where)
    try:
        found = _validator(schema_name).iter_errors(record)
        faults = sorted(found, key=lambda fault: list(map(str, fault.absolute_path)))
        lines = [f"{'.'.join(map(str, f.absolute_path)) or '(top)'}: {f.message[:200]}" for f in faults[:3]]
    except RecursionError:  # raised while formatting an error message
        faults, lines = [None], ["nested too deeply"]
    if faults:
        raise RecordError(f"{where}: not a valid {schema_name} record: " + "; ".join(lines))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, so equal content gives equal text. NaN and infinities raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def to_json(record: Any) -> str:
    """Indented strict JSON with one trailing newline. NaN and infinities raise ValueError.

    Whatever fits into a line, and every array of numbers and nulls, is on one line.
    """
    return _indented(record, 0) + "\n"


def _indented(part: Any, indent: int) -> str:
    line = json.dumps(part, ensure_ascii=False, allow_nan=False)
    fits = indent + len(line) < WIDTH or not isinstance(part, dict | list)
    if fits or (isinstance(part, list) and all(isinstance(item, int | float | None) for item in part)):
        return line
    pad, pairs = "\n" + " " * (indent + 1), part.items() if isinstance(part, dict) else [(None, item) for item in part]
    items = [
        ("" if key is None else f"{json.dumps(key, ensure_ascii=False)}: ") + _indented(value, indent + 1)
        for key, value in pairs
    ]
    opening, closing = "{}" if isinstance(part, dict) else "[]"
    return opening + pad + f",{pad}".join(items) + "\n" + " " * indent + closing


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary file in the folder of `path`, which atomically replaces `path` when the block succeeds.

    Readers see either the old or the complete new content. A link is replaced; a character device is written in place.
    Raises MachineError if the system refuses to write, UsageError if `path` exists and is not a file.
    """
    path = Path(path)
    try:
        device = _is_device(path)
        folder = Path(tempfile.gettempdir()) if device else path.parent
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name[:100]}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                if device:
                    with path.open("wb") as target:
                        shutil.copyfileobj(written, target)
                else:
                    os.fsync(written.fileno())
                    temporary.chmod(0o644)
                    temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise _no_file(path, error) from error
    except OSError as error:
        raise cannot_write(path, error) from error


def _is_device(path: Path) -> bool:
    """Whether `path` is a character device. Raises OSError if it exists and is neither that nor a regular file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISREG(mode) or stat.S_ISCHR(mode):
        return stat.S_ISCHR(mode)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    raise FileExistsError(errno.EEXIST, "Is a pipe" if stat.S_ISFIFO(mode) else "Is no regular file")


def check_file(path: Path | str) -> None:
    """Raises UsageError if `path` exists and cannot be replaced by a file. To be called before the work is done."""
    try:
        _is_device(Path(path))
    except OSError as error:
        raise _no_file(path, error) from error


def _no_file(path: Path | str, error: OSError) -> UsageError:
    reason = error.strerror or error
    return UsageError(f"{path}: cannot be written: {reason}; name a new file, a file to replace, or a device")


def destination(path: Path | str) -> Path:
    """The file that `path` refers to, with links resolved. Raises UsageError if it cannot be written.

    For output files that users name: called before a long computation, not after it.
    """
    real = Path(os.path.realpath(path))
    try:
        if _is_device(Path(path)):
            with real.open("ab"):
                pass
        elif not real.parent.is_dir():
            raise UsageError(f"{path}: the folder does not exist")
        else:
            with tempfile.TemporaryFile(dir=real.parent):  # permission bits are not reliable
                pass
    except OSError as error:
        raise _no_file(path, error) from error
    return real


def cannot_write(path: Path | str, error: OSError) -> MachineError:
    """The error for a `path` that the system refuses to write: a full disk, a quota, a read-only folder."""
    fix = f"check `df -h {Path(path).parent}` and the folder's permissions, then run again; finished results are kept"
    return MachineError(f"{path}: cannot be written: {error.strerror or error}", fix)


def write_text(path: Path | str, text: str) -> None:
    """Writes a file atomically: readers see either the old or the complete new content."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write(path: Path | str, record: Any, schema_name: str) -> None:
    """Checks `record` against its schema and writes it atomically."""
    check(record, schema_name, str(path))
    write_text(path, to_json(record))


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a float")
    return value


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"{text[:40]}… has more than {MOST_DIGITS} digits")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in found if names.count(name) > 1)!r} occurs twice")
    return found


def parse(text: str) -> Any:
    """Parses strict JSON: no NaN, infinities, huge integers, duplicate keys or lone surrogates. Raises ValueError."""
    try:
        record = json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer, object_pairs_hook=_unique
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if re.search(r"\\u[dD][89a-fA-F]", text):
        json.dumps(record, ensure_ascii=False).encode()  # lone surrogates raise UnicodeEncodeError, a ValueError
    return record


def _content(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise ValueError("not a file")  # reading a pipe would block
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES >> 20} MiB, the size limit of a record")
    return content.decode()


def read(path: Path | str, schema_name: str | None) -> Any:
    """Reads and validates a record (None: any JSON). Raises RecordError if it is missing, not strict JSON or not valid.

    Raises the subclass UnreadableError if the system refuses to read the file.
    """
    try:
        record = parse(_content(Path(path)))
    except (OSError, ValueError) as error:
        message = f"{path}: cannot be read as a {schema_name or 'JSON'} record: {readable.reason(error)}"
        if readable.refused(error):
            raise UnreadableError(f"{message}; {readable.remedy(error)}") from error
        raise RecordError(message) from error
    if schema_name:
        check(record, schema_name, str(path))
    return record


def schema_of(model: type[BaseModel]) -> str:
    """The name of a model's schema, which is the name of its module."""
    return model.__module__.rpartition(".")[2]


def load(path: Path | str, model: type[Model]) -> Model:
    """Reads and validates a record (see `read`) as a model such as `schemas.measurement.Measurement`."""
    from pydantic import ValidationError

    name = schema_of(model)
    found = read(path, name)
    try:
        return model.model_validate(found)
    except ValidationError as error:  # for example 1e300 in an integer field, which the schema accepts
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise RecordError(f"{path}: not a valid {name} record: {where}: {fault['msg']}") from error


def save(path: Path | str, record: BaseModel) -> None:
    """Validates a record against its model's schema and writes it atomically."""
    write(path, content(record), schema_of(type(record)))


def content(record: BaseModel) -> Json:
    """A model as a JSON object. Integers in number fields stay integers (pydantic's JSON mode turns 20 into 20.0)."""
    return record.model_dump()


def sha256_file(path: Path | str) -> str:
    """Hex sha256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
