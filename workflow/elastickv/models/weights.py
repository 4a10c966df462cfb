"""The files that a language model consists of: which of a folder an engine loads, whether they are there and whole.

Reads headers only. What an engine does not load (`consolidated.safetensors` beside `model.safetensors`) is no part of
the model: it is neither counted nor hashed nor fetched.
"""

from __future__ import annotations

import json
import math
import operator
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from elastickv import records
from elastickv.models import gguf_header
from elastickv.models.refusal import Refusal, one_line

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
# Endings of configuration and tokenizer files.
BESIDE = (".json", ".txt", ".model", ".tiktoken", ".jinja", ".spm", ".codes")
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")  # as llama.cpp names and finds them
NO_WEIGHTS = "no safetensors weights (pickle files are never loaded)"
LARGEST_HEADER = 100_000_000  # bytes of a safetensors header, the library's own limit


@dataclass(frozen=True)
class Weights:
    """A model's files on this machine.

    files: what an engine loads, the shards in their order; beside: configuration and tokenizer files (none of a GGUF
    file, which holds its own). parameters: elements of all tensors, None if there are none. dtype, license: what GGUF
    headers say.
    """

    folder: Path
    files: tuple[Path, ...]
    parameters: int | None
    is_gguf: bool
    beside: tuple[Path, ...] = ()
    dtype: str | None = None
    license: str | None = None

    @property
    def bytes(self) -> int:
        """Size of the weights."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def described(self) -> str:
        """The file's name, or that of the first shard with the number of them."""
        first = self.files[0].name
        return first if len(self.files) == 1 else f"{first} ({len(self.files)} files)"


# GGUF


def shard_names(file: str) -> list[str]:
    """The names of all shards of which `file` is the first, by its name; `file` alone where it is not named so.

    Raises Refusal when `file` is named as another shard than the first.
    """
    named = SHARD.fullmatch(file)
    if named is None:
        return [file]
    names = [f"{named['stem']}-{number:05}-of-{named['count']}.gguf" for number in range(1, int(named["count"]) + 1)]
    if file != names[0]:
        raise Refusal("failed", f"{file}: one of {len(names)} shards; name the first, {names[0]}")
    return names


def stem(file: str) -> str:
    """The name of the model in a GGUF file of this name."""
    named = SHARD.fullmatch(file)
    return named["stem"] if named else file.removesuffix(".gguf")


def of_gguf(path: Path) -> Weights:
    """A GGUF file with, if it is split, all its shards. Raises Refusal."""
    first = _header(path)
    headers = [first]
    files = [path]
    if _count(path, first, "split.count") > 1:
        files = _shards(path, first)
        headers += [_header(file) for file in files[1:]]
        _check_shards(files, headers)
    elements = sum((header.elements for header in headers), Counter())
    return Weights(
        path.parent,
        tuple(files),
        elements.total() or None,
        True,
        dtype=gguf_header.most_common(elements),
        license=first.license,
    )


def _header(path: Path) -> gguf_header.Header:
    try:
        header = gguf_header.read(path)
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise Refusal("failed", f"{path.name}: no such file in {path.parent}") from error
    except (OSError, ValueError) as error:
        raise Refusal("failed", str(error)) from error
    if size < header.end:
        raise Refusal("failed", f"{path}: cut off: its tensors end at byte {header.end}, the file has {size} bytes")
    return header


def _count(path: Path, header: gguf_header.Header, key: str) -> int:
    try:
        return header.count(key)
    except ValueError as error:
        raise Refusal("failed", f"{path}: {error}") from error


def _shards(path: Path, header: gguf_header.Header) -> list[Path]:
    """The shards of a model by the name of the first. Raises Refusal when `path` is not it, or is not named as it."""
    count, number = _count(path, header, "split.count"), _count(path, header, "split.no") + 1
    named = SHARD.fullmatch(path.name)
    if number != 1:
        first = f", {named['stem']}-00001-of-{count:05}.gguf" if named else ""
        raise Refusal("failed", f"{path.name}: shard {number} of {count}; name the first{first}")
    if named is None or (named["number"], named["count"]) != ("00001", f"{count:05}"):
        wanted = f"{named['stem'] if named else path.stem}-00001-of-{count:05}.gguf"
        raise Refusal("failed", f"{path.name}: the first of {count} shards, which has to be named like {wanted}")
    return [path.with_name(name) for name in shard_names(path.name)]


def _check_shards(files: list[Path], headers: list[gguf_header.Header]) -> None:
    """Raises Refusal unless each shard is the one that its place needs, and together they have all tensors."""
    for number, (file, header) in enumerate(zip(files, headers, strict=True), start=1):
        stated = (_count(file, header, "split.no") + 1, _count(file, header, "split.count"))
        if stated != (number, len(files)):
            found = f"shard {stated[0]} of {stated[1]}" if stated[1] > 1 else "no shard of a split model"
            raise Refusal("failed", f"{file.name}: its header states {found}, but its name {number} of {len(files)}")
    has = len(frozenset().union(*(header.tensors for header in headers)))
    needs = _count(files[0], headers[0], "split.tensors.count")
    if has != needs or has != sum(len(header.tensors) for header in headers):
        twice = sum(len(header.tensors) for header in headers) - has
        more = f", {twice} of them twice" if twice else ""
        raise Refusal("failed", f"{files[0].name}: its {len(files)} shards hold {has} tensors{more}; it needs {needs}")


# safetensors


def of_folder(folder: Path, name: str) -> Weights:
    """A folder as `save_pretrained` writes it: what Transformers loads of it. `name`: for messages. Raises Refusal."""
    files = [folder / file for file in weight_files(folder, name, lambda file: os.path.isfile(folder / file))]
    if not isinstance(_read_json(folder, name, CONFIG).get("model_type"), str):
        raise Refusal("failed", f"{name}: {CONFIG} has no model_type, which names the model's architecture")
    tensors: dict[str, int] = {}
    for file in files:
        tensors |= _tensors(file)
    listed = _weight_map(folder, name, INDEX) if len(files) > 1 else {}
    missing = [tensor for tensor in listed if tensor not in tensors]
    if missing:
        more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
        raise Refusal("failed", f"{name}: {INDEX} lists {missing[0]}{more}, which no shard holds")
    beside = sorted(file for file in folder.iterdir() if file.name.endswith(BESIDE) and file.is_file())
    return Weights(folder, tuple(files), sum(tensors.values()) or None, False, beside=tuple(beside))


def weight_files(folder: Path, name: str, has: Callable[[str], bool]) -> list[str]:
    """The files of weights that Transformers loads: model.safetensors, else the shards that the index lists.

    folder: where config.json and, if there is one, the index lie. has: whether the model has a file of that name (which
    may still have to be fetched). Raises Refusal. (Source: _get_resolved_checkpoint_files of transformers 5.)
    """
    if not has(CONFIG):
        raise Refusal("failed", f"{name}: there is no {CONFIG}, so this is not a Transformers model")
    named = _read_json(folder, name, CONFIG).get("transformers_weights")
    if named:
        raise Refusal("unsupported", f"{name}: {CONFIG} names other weights (transformers_weights: {named})")
    if has(SINGLE):
        return [SINGLE]
    if not has(INDEX):
        others = sorted(file.name for file in folder.glob("*.safetensors"))
        why = f"{others[0]} is not loaded without {SINGLE} or {INDEX}" if others else NO_WEIGHTS
        raise Refusal("failed", f"{name}: {why}")
    shards = sorted(set(_weight_map(folder, name, INDEX).values()))
    for shard in shards:
        if PurePosixPath(shard).is_absolute() or ".." in PurePosixPath(shard).parts:
            raise Refusal("failed", f"{name}: {INDEX} lists {shard}, which is not a file within the model")
    missing = [shard for shard in shards if not has(shard)]
    if missing:
        raise Refusal("failed", f"{name}: {', '.join(missing)} not there; {INDEX} lists {len(shards)} files of weights")
    return shards


def _read_json(folder: Path, name: str, file: str) -> records.Json:
    try:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Refusal("failed", f"{name}: {file} cannot be read as JSON: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise Refusal("failed", f"{name}: {file} is not a JSON object")
    return content


def _weight_map(folder: Path, name: str, file: str) -> dict[str, str]:
    """The file of each tensor, of an index."""
    index = _read_json(folder, name, file)
    found = index.get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(shard, str) for shard in found.values()):
        raise Refusal("failed", f"{name}: {file} has no weight_map with a file name for each tensor")
    if "metadata" not in index:
        raise Refusal("failed", f"{name}: {file} has no metadata, without which Transformers does not load it")
    return found


def _tensors(path: Path) -> dict[str, int]:
    """Elements of each tensor of a safetensors file, by its header. Raises Refusal when that is damaged or cut off."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size - 8
            if not 0 < length <= min(size, LARGEST_HEADER):
                raise ValueError(f"its header has {length} bytes, the file has {max(size, 0)} for it")
            header = json.loads(file.read(length))
        tensors = {tensor: about for tensor, about in header.items() if tensor != "__metadata__"}
        end = max((about["data_offsets"][1] for about in tensors.values()), default=0)
        if end != size - length:
            raise ValueError(f"its tensors take {end} bytes, the file has {size - length} for them")
        return {tensor: math.prod(map(operator.index, about["shape"])) for tensor, about in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else "its header is not as the format has it"
        raise Refusal("failed", f"{path}: damaged or cut off: {reason}") from error
    except OSError as error:
        raise Refusal("failed", str(error)) from error
