"""Reads the header of a GGUF file: metadata and the list of tensors, not the tensors themselves.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian). The limits are as
llama.cpp's own or wider, so that a damaged file ends in one message and not in a long loop or a large allocation.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# Tensor types: name, elements of a block, bytes of a block (the blocks of a row are stored one after another).
TENSOR_BLOCKS = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
TENSOR_TYPES = {number: name for number, (name, _, _) in TENSOR_BLOCKS.items()}
ALIGNMENT = 32  # of the tensors, unless general.alignment says otherwise
MOST_DIMENSIONS = 4
LONGEST_NAME = 65535  # bytes of a key or of a tensor's name
LONGEST_KEPT = 65535  # bytes of a string value; longer ones (chat templates) are skipped as arrays are
LONGEST_SHOWN = 60  # characters of a name in a message
MOST_STRINGS = 1 << 24  # in an array: sixty times the largest vocabulary
SMALLEST_PAIR, SMALLEST_TENSOR = 8 + 4 + 1, 8 + 4 + 4 + 8  # bytes of a header


Scalar = int | float | bool | str


@dataclass(frozen=True)
class Header:
    """`metadata`: scalars and strings by key (arrays and very long strings left out). `elements`: by type of tensor.

    `tensors`: their names; `end`: the size in bytes that the file has to have to hold them.
    """

    metadata: dict[str, Scalar]
    elements: Counter[str]
    tensors: frozenset[str]
    end: int

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return self.elements.total()

    @property
    def dtype(self) -> str:
        """The type that most elements are stored in, such as `Q4_1`."""
        return most_common(self.elements)

    @property
    def license(self) -> str | None:
        """The licence stated in the file."""
        found = self.metadata.get("general.license")
        return str(found) if found else None

    def count(self, key: str, default: int = 0) -> int:
        """A number of the metadata. Raises ValueError when it is not one that counts something."""
        value = self.metadata.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{key} is {value!r}; it must be an integer >= 0")
        return value


def most_common(elements: Counter[str]) -> str:
    """The type of most elements."""
    return elements.most_common(1)[0][0] if elements else "none"


def read(path: Path | str) -> Header:
    """The header of a GGUF file.

    Raises OSError, or ValueError with one line: the file, the field, what is wrong with it.
    """
    with Path(path).open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path} is not a GGUF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            reader = _Reader(content)
            try:
                return reader.header()
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}: the GGUF header is damaged: {reader.field} is not UTF-8 text") from error
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error


def _shown(name: str) -> str:
    """A name out of a file that may be damaged, for a message of one line."""
    return (name if name.isprintable() else ascii(name))[:LONGEST_SHOWN]


class _Reader:
    """A position in a file, moved by what is read. `field` says in messages what is being read."""

    def __init__(self, content: mmap.mmap):
        self._content = content
        self._at = len(MAGIC)
        self.field = "the version"

    def header(self) -> Header:
        self._check_version(*self._take("I"))
        self.field = "the header"
        tensors, pairs = self._take("QQ")
        self._check_count("tensors", tensors, SMALLEST_TENSOR)
        self._check_count("metadata entries", pairs, SMALLEST_PAIR)
        metadata = self._metadata(pairs)
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"general.alignment is {alignment!r}; it must be a power of two")
        names, elements, size = self._tensors(tensors)
        start = -(-self._at // alignment) * alignment
        return Header(metadata, elements, frozenset(names), start + size if names else self._at)

    def _check_version(self, version: int) -> None:
        if version in VERSIONS:
            return
        if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
            raise ValueError("big-endian GGUF; only little-endian files are supported")
        raise ValueError(f"GGUF version {version}; versions 2 and 3 are supported")

    def _metadata(self, pairs: int) -> dict[str, Scalar]:
        found: dict[str, Scalar] = {}
        for number in range(pairs):
            self.field = f"the key of metadata entry {number + 1}"
            key = self._new_name(found)
            self.field = _shown(key)
            found[key] = self._value(*self._take("I"))
        return {key: value for key, value in found.items() if value is not None}

    def _tensors(self, count: int) -> tuple[set[str], Counter[str], int]:
        """Names, elements by type, and the bytes from the first tensor to the end of the last."""
        elements: Counter[str] = Counter()
        names: set[str] = set()
        size = 0
        for number in range(count):
            self.field = f"the name of tensor {number + 1}"
            name = self._new_name(names)
            names.add(name)
            self.field = f"tensor {_shown(name)}"
            (dimensions,) = self._take("I")
            if dimensions > MOST_DIMENSIONS:
                raise self._damage(f"has {dimensions} dimensions; at most {MOST_DIMENSIONS} are possible")
            shape = self._take(f"{dimensions}Q")
            kind, offset = self._take("IQ")
            if max(math.prod(shape), offset) >= 2**63:
                raise self._damage(f"has the shape {list(shape)} and the offset {offset}, which no file can hold")
            label, block, block_bytes = TENSOR_BLOCKS.get(kind, (f"type {kind}", 1, 0))
            row, rows = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
            elements[label] += row * rows
            size = max(size, offset + -(-row // block) * block_bytes * rows)
        return names, elements, size

    def _new_name(self, known: Iterable[str]) -> str:
        name = self._string(LONGEST_NAME)
        if not name:
            raise self._damage("is empty" if name == "" else f"is longer than {LONGEST_NAME} bytes")
        if name in known:
            raise self._damage(f"is {_shown(name)}, which occurs twice")
        return name

    def _value(self, kind: int) -> Scalar | None:
        """A scalar or string; None for an array or a very long string, which are skipped."""
        if kind == STRING:
            return self._string(LONGEST_KEPT)
        if kind == ARRAY:
            return self._skip_array()
        return self._take(self._scalar(kind))[0]

    def _scalar(self, kind: int) -> str:
        if kind not in SCALARS:
            raise self._damage(f"has a value of the unknown type {kind}")
        return SCALARS[kind]

    def _skip_array(self) -> None:
        kind, count = self._take("IQ")
        if kind != STRING:
            return self._skip(struct.calcsize(f"<{self._scalar(kind)}") * count)
        self._check_count("entries", count, 8)
        if count > MOST_STRINGS:
            raise self._damage(f"is an array of {count} strings; at most {MOST_STRINGS} are possible")
        for _ in range(count):
            self._skip(*self._take("Q"))
        return None

    def _string(self, longest: int) -> str | None:
        """Text of at most `longest` bytes; a longer one is skipped and None."""
        (length,) = self._take("Q")
        begin = self._at
        self._skip(length)
        return self._content[begin : self._at].decode("utf-8") if length <= longest else None

    def _take(self, layout: str) -> tuple[Any, ...]:
        begin = self._at
        self._skip(struct.calcsize(f"<{layout}"))
        return struct.unpack_from(f"<{layout}", self._content, begin)

    def _skip(self, length: int) -> None:
        if length > len(self._content) - self._at:
            raise self._damage("does not end within the file")
        self._at += length

    def _check_count(self, what: str, count: int, smallest: int) -> None:
        if count * smallest > len(self._content) - self._at:
            raise self._damage(f"states {count} {what}, more than the file can hold")

    def _damage(self, what: str) -> ValueError:
        return ValueError(f"the GGUF header is damaged or cut off: {self.field} {what}")
