"""Reads what a GGUF file says of itself without reading its tensors.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian).
"""

from __future__ import annotations

import math
import mmap
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TENSOR_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 28: "F64", 29: "IQ1_M", 30: "BF16",
    34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """`metadata`: scalars and strings by key (arrays left out). `parameters`: elements of all tensors.

    `dtype`: the type that most of them are stored in, such as `Q4_1`.
    """

    metadata: dict[str, Any]
    parameters: int
    dtype: str

    @property
    def license(self) -> str | None:
        """What the file says of its licence."""
        found = self.metadata.get("general.license")
        return str(found) if found else None


def read(path: Path | str) -> Header:
    """The header of a GGUF file. Raises OSError, or ValueError with one line when it is not one or is cut off."""
    with Path(path).open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path} is not a GGUF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return _Reader(content).header(path)
            except (struct.error, KeyError, UnicodeDecodeError) as error:
                raise ValueError(f"{path}: the GGUF header is damaged or cut off") from error


class _Reader:
    """A position in a file, moved by what is read."""

    def __init__(self, content: mmap.mmap):
        self._content = content
        self._at = len(MAGIC)

    def header(self, path: Path | str) -> Header:
        (version,) = self._take("I")
        if version not in VERSIONS:
            raise ValueError(f"{path}: GGUF version {version}; versions 2 and 3 can be read")
        tensors, pairs = self._take("QQ")
        metadata = {}
        for _ in range(pairs):
            key = self._string()
            value = self._value(*self._take("I"))
            if value is not None:
                metadata[key] = value
        kinds: Counter[str] = Counter()
        for _ in range(tensors):
            self._string()
            (dimensions,) = self._take("I")
            elements = math.prod(self._take(f"{dimensions}Q"))
            kind, _ = self._take("IQ")
            kinds[TENSOR_TYPES.get(kind, f"type {kind}")] += elements
        return Header(metadata, kinds.total(), kinds.most_common(1)[0][0] if kinds else "none")

    def _take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self._content, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return values

    def _string(self) -> str:
        (length,) = self._take("Q")
        self._at += length
        return self._content[self._at - length : self._at].decode("utf-8")

    def _value(self, kind: int) -> Any:
        """A scalar or string; None for an array, which is skipped."""
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._take(SCALARS[kind])[0]
        item, count = self._take("IQ")
        if item in SCALARS:
            self._at += struct.calcsize(f"<{SCALARS[item]}") * count
        else:
            for _ in range(count):
                self._skip(item)
        return None

    def _skip(self, kind: int) -> None:
        if kind == STRING:
            (length,) = self._take("Q")
            self._at += length
        else:
            self._value(kind)
