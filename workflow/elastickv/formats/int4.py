"""int4: integers from -7 to 7, two per byte, with a scale per slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elastickv.formats.base import Format

if TYPE_CHECKING:
    import numpy as np

LARGEST = 7
OFFSET = 8  # a nibble holds code + 8


def encode(values: np.ndarray) -> np.ndarray:
    """float32 [..., dim], divided by their scale -> bytes [..., dim / 2]; byte j: dims 2j (low nibble), 2j + 1."""
    import numpy as np

    codes = np.clip(np.rint(values), -LARGEST, LARGEST).astype(np.int8)
    nibbles = (codes + np.int8(OFFSET)).astype(np.uint8)
    return nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)


def decode(words: np.ndarray) -> np.ndarray:
    """Bytes [..., dim / 2] -> float32 [..., dim], exactly."""
    import numpy as np

    values = np.empty((*words.shape[:-1], words.shape[-1] * 2), dtype=np.float32)
    values[..., 0::2] = words & 0xF
    values[..., 1::2] = words >> 4
    return values - np.float32(OFFSET)


FORMAT = Format(
    name="int4",
    meaning="integers from -7 to 7",
    number=4,
    order=50,
    colour="#009e73",
    bits=4,
    words="uint8",
    encode=encode,
    decode=decode,
    largest=LARGEST,
)
