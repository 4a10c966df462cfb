"""bf16: the upper half of an fp32 word, rounded. NumPy has no bf16, so words are uint16."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elastickv.formats.base import Format

if TYPE_CHECKING:
    import numpy as np


def encode(values: np.ndarray) -> np.ndarray:
    """float32 values -> bfloat16 as uint16."""
    import numpy as np

    values = np.asarray(values, dtype=np.float32)
    bits = values.view(np.uint32)
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def decode(words: np.ndarray) -> np.ndarray:
    """bfloat16 as uint16 -> float32, exactly."""
    import numpy as np

    return (np.asarray(words, dtype=np.uint32) << 16).view(np.float32)


FORMAT = Format(
    name="bf16",
    meaning="bfloat16: the range of fp32, 8 bits of precision",
    number=2,
    order=30,
    colour="#0072b2",
    bits=16,
    words="uint16",
    encode=encode,
    decode=decode,
)
