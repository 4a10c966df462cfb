"""The files that a language model consists of: those that an engine loads, with their sizes and types.

The headers are read with the libraries of their formats (gguf, safetensors), which live in the engines' environments.
Files that an engine does not load (`consolidated.safetensors` next to `model.safetensors`) are not part of the model.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from elastickv.models.refusal import Refusal, one_line

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
# Endings of configuration and tokenizer files.
BESIDE = (".json", ".txt", ".model", ".tiktoken", ".jinja", ".spm", ".codes")
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")  # as llama.cpp names and finds them
NO_WEIGHTS = "no safetensors weights (pickle files are never loaded)"


@dataclass(frozen=True)
class Weights:
    """A model's files on this machine.

    files: what an engine loads, shards in order; beside: configuration and tokenizer files (none for GGUF, which
    contains its own). parameters: number of elements of all tensors. dtype, license: from GGUF headers.
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
        """The file's name, or that of the first shard with the number of shards."""
        first = self.files[0].name
        return first if len(self.files) == 1 else f"{first} ({len(self.files)} files)"


def shard_names(file: str) -> list[str]:
    """The names of all shards of a split GGUF file, given the first; `file` alone if it is not named like a shard.

    Raises Refusal if `file` is a later shard.
    """
    named = SHARD.fullmatch(file)
    if named is None:
        return [file]
    names = [f"{named['stem']}-{number:05}-of-{named['count']}.gguf" for number in range(1, int(named["count"]) + 1)]
    if file != names[0]:
        raise Refusal("failed", f"{file}: one of {len(names)} shards; name the first, {names[0]}")
    return names


def stem(file: str) -> str:
    """The model's name, from the name of its GGUF file."""
    named = SHARD.fullmatch(file)
    return named["stem"] if named else file.removesuffix(".gguf")


def of_gguf(path: Path) -> Weights:
    """A GGUF file with, if it is split, all its shards. Raises Refusal."""
    from gguf import GGUFReader

    files = [path.with_name(name) for name in shard_names(path.name)]
    elements: Counter[str] = Counter()
    license = None
    for file in files:
        try:
            reader = GGUFReader(file)
            for tensor in reader.tensors:
                elements[tensor.tensor_type.name] += int(tensor.n_elements)
            stated = reader.get_field("general.license")
            license = license or (stated and str(stated.contents()))
        except Exception as error:  # the reader does not check what it reads
            raise Refusal("failed", f"{file}: not a GGUF file, damaged or cut off: {one_line(error)}") from error
    dtype = elements.most_common(1)[0][0] if elements else None
    return Weights(path.parent, tuple(files), elements.total() or None, True, dtype=dtype, license=license)


def of_folder(folder: Path, name: str) -> Weights:
    """A folder as `save_pretrained` writes it: the files that Transformers loads. `name`: for messages.

    Raises Refusal.
    """
    from safetensors import safe_open

    if not (folder / CONFIG).is_file():
        raise Refusal("failed", f"{name}: there is no {CONFIG}, so this is not a Transformers model")
    files = [folder / file for file in weight_files(folder, name)]
    parameters = 0
    for file in files:
        try:
            with safe_open(file, framework="np") as content:
                names = content.keys()
                parameters += sum(math.prod(content.get_slice(name).get_shape()) for name in names)
        except Exception as error:
            raise Refusal("failed", f"{file}: missing, damaged or cut off: {one_line(error)}") from error
    beside = sorted(file for file in folder.iterdir() if file.name.endswith(BESIDE) and file.is_file())
    return Weights(folder, tuple(files), parameters or None, False, beside=tuple(beside))


def weight_files(folder: Path, name: str) -> list[str]:
    """The weight files that Transformers loads: model.safetensors, otherwise the shards that the index lists.

    Raises Refusal. (Source: _get_resolved_checkpoint_files of transformers 5.)
    """
    if (folder / SINGLE).is_file():
        return [SINGLE]
    if not (folder / INDEX).is_file():
        raise Refusal("failed", f"{name}: there is no {SINGLE} and no {INDEX}: {NO_WEIGHTS}")
    try:
        return sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal("failed", f"{name}: {INDEX} lists no weights: {one_line(error)}") from error
