"""The only reader and writer of JSON records: schema check and atomic write."""

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

if TYPE_CHECKING:  # pydantic, which the environments of language models do not have
    from pydantic import BaseModel

Json = dict[str, Any]  # a JSON object where it is read or written: within the package records are models
Model = TypeVar("Model", bound="BaseModel")
SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
MOST_BYTES = 64 << 20  # of a record; the largest, of thousands of samples, are a few MB
MOST_DIGITS = 20  # of an integer: no field needs more than 64 bits, and the largest ones are beyond every float


class RecordError(ElastickvError):
    """A record that cannot be read, is not strict JSON or breaks its schema. The message names the file.

    Where a command was given that file it is bad usage (exit 2); `verify` and `compare` take it for something found.
    """

    exit_code = 2


class UnreadableError(RecordError):
    """A record that is there and that the system refuses to read (exit 3). What it holds is not known to be wrong."""

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
    """A pattern as JSON Schema means it: `$` is the very end, where Python lets a newline pass; digits are ASCII."""
    from jsonschema import ValidationError

    if isinstance(value, str) and not re.search(re.sub(r"(?<!\\)\$", r"\\Z", pattern), value, re.ASCII):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


class OtherVersion(RecordError):
    """A record whose field `schema` names another version than the present one: it is neither read nor converted."""


def version(schema_name: str) -> str | None:
    """What a record's field `schema` says in the present version; None where such records have no such field."""
    return schema(schema_name).get("properties", {}).get("schema", {}).get("const")


def _refuse_other_version(record: Any, schema_name: str, where: str) -> None:
    said, present = record.get("schema") if isinstance(record, dict) else None, version(schema_name)
    if isinstance(said, str) and present and said != present and said.rpartition("/")[0] == present.rpartition("/")[0]:
        raise OtherVersion(
            f"{where}: a record of schema {said[:40]}; this version reads {present} alone and converts none: "
            "move it away and run again to measure anew, or read it with the version that wrote it"
        )


def check(record: Any, schema_name: str, where: str) -> None:
    """Raises RecordError, naming `where` and the first few faults, unless `record` fits its schema.

    Of another version of the schema (`OtherVersion`) that is the one fault.
    """
    _refuse_other_version(record, schema_name, where)
    try:
        found = _validator(schema_name).iter_errors(record)
        faults = sorted(found, key=lambda fault: list(map(str, fault.absolute_path)))
        lines = [f"{'.'.join(map(str, f.absolute_path)) or '(top)'}: {f.message[:200]}" for f in faults[:3]]
    except RecursionError:  # in the wording of a fault
        faults, lines = [None], ["nested too deeply"]
    if faults:
        raise RecordError(f"{where}: not a valid {schema_name} record: " + "; ".join(lines))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal content gives equal text. NaN and infinities raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def to_json(record: Any) -> str:
    """Strict JSON (NaN and infinities raise ValueError), readable, one trailing newline."""
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary file to write, beside `path`, which takes its place in one step when the block ends well.

    So at any moment `path` holds either the old content or all of the new one. MachineError when the system refuses,
    UsageError when something stands there that is no file. A link is replaced, a character device written in place.
    """
    path = Path(path)
    try:
        with _copying(path) if _is_device(path) else _renaming(path) as temporary:
            yield temporary
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise _no_file(path, error) from error
    except OSError as error:
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def _renaming(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of `path`, which is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _copying(device: Path) -> Iterator[Path]:
    """A temporary file to write, which is then copied into the device."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "content"
        yield temporary
        with temporary.open("rb") as source, device.open("wb") as target:
            shutil.copyfileobj(source, target)


def _is_device(path: Path) -> bool:
    """Whether a character device stands at `path`. OSError unless it is that, a regular file, or nothing yet."""
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
    """UsageError where something stands at `path` whose place no file can take: asked before work is done for it."""
    try:
        _is_device(Path(path))
    except OSError as error:
        raise _no_file(path, error) from error


def _no_file(path: Path | str, error: OSError) -> UsageError:
    reason = error.strerror or error
    return UsageError(f"{path}: cannot be written: {reason}; name a file (a new one, or to replace) or a device")


def destination(path: Path | str) -> Path:
    """The file that writing `path` means, links followed, so that they stay. UsageError where none can be written.

    For what a user names and what takes long to make: asked before, not after.
    """
    real = Path(os.path.realpath(path))
    try:
        if _is_device(Path(path)):
            with real.open("ab"):
                pass
        elif not real.parent.is_dir():
            raise UsageError(f"{path}: its folder does not exist")
        else:
            with tempfile.TemporaryFile(dir=real.parent):  # permission bits do not tell
                pass
    except OSError as error:
        raise _no_file(path, error) from error
    return real


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_write(path: Path | str, error: OSError) -> MachineError:
    """What to say when the system refuses to write `path`: a full disk, a limit, a read-only folder."""
    fix = f"look at `df -h {Path(path).parent}` and at who may write there, then run again: what is finished is kept"
    return MachineError(f"{path}: cannot be written: {error.strerror or error}", fix)


def write_text(path: Path | str, text: str) -> None:
    """Writes a file so that at any moment it holds either the old content or all of the new one."""
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
        raise ValueError(f"{text[:40]} is beyond every float")
    return value


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"{text[:40]}… has more than {MOST_DIGITS} digits")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in found if names.count(name) > 1)!r} stands twice")
    return found


def parse(text: str) -> Any:
    """Strict JSON: no NaN, infinities, huge integers, repeated keys or halves of surrogate pairs. ValueError if not."""
    try:
        record = json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer, object_pairs_hook=_unique
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if re.search(r"\\u[dD][89a-fA-F]", text):
        json.dumps(record, ensure_ascii=False).encode()  # UnicodeEncodeError, a ValueError, at one half alone
    return record


def _content(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise ValueError("not a file")  # a pipe would keep a reader waiting for ever
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES >> 20} MiB, the most that a record may hold")
    return content.decode()


def read(path: Path | str, schema_name: str) -> Any:
    """Reads and checks a record. Raises RecordError when it is missing, not strict JSON or not valid.

    UnreadableError, which is one, where the system refuses to read it.
    """
    try:
        record = parse(_content(Path(path)))
    except (OSError, ValueError) as error:
        told = f"{path}: cannot be read as a {schema_name} record: {readable.reason(error)}"
        if readable.refused(error):
            raise UnreadableError(f"{told}; {readable.remedy(error)}") from error
        raise RecordError(told) from error
    check(record, schema_name, str(path))
    return record


def schema_of(model: type[BaseModel]) -> str:
    """The name of a model's schema: that of the module which has the model."""
    return model.__module__.rpartition(".")[2]


def load(path: Path | str, model: type[Model]) -> Model:
    """Reads and checks a record, see `read`, as its model, such as `schemas.measurement.Measurement`."""
    from pydantic import ValidationError

    name = schema_of(model)
    found = read(path, name)
    try:
        return model.model_validate(found)
    except ValidationError as error:  # an integer written as a float that is beyond all integers, 1e300
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise RecordError(f"{path}: not a valid {name} record: {where}: {fault['msg']}") from error


def save(path: Path | str, record: BaseModel) -> None:
    """Checks a record against the schema of its model and writes it atomically."""
    write(path, content(record), schema_of(type(record)))


def content(record: BaseModel) -> Json:
    """A record as JSON has it. Settings that are whole numbers stay so: pydantic's mode for JSON makes 20.0 of 20."""
    return record.model_dump()


def sha256_file(path: Path | str) -> str:
    """Hex sha256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
