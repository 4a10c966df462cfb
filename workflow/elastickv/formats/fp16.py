"""fp16: IEEE half precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elastickv.formats.base import Format

if TYPE_CHECKING:
    import numpy as np


def encode(values: np.ndarray) -> np.ndarray:
    """float32 values -> float16; values that are too large become infinite."""
    import numpy as np

    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32).astype(np.float16)


def decode(words: np.ndarray) -> np.ndarray:
    """float16 -> float32, exactly."""
    import numpy as np

    return np.asarray(words).astype(np.float32)


FORMAT = Format(
    name="fp16",
    meaning="IEEE half precision",
    number=1,
    order=20,
    colour="#0072b2",
    bits=16,
    words="float16",
    encode=encode,
    decode=decode,
)
