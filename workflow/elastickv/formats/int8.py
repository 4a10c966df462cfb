"""int8: integers from -127 to 127, with a scale per slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elastickv.formats.base import Format

if TYPE_CHECKING:
    import numpy as np

LARGEST = 127


def encode(values: np.ndarray) -> np.ndarray:
    """float32 values, divided by their scale -> int8 codes; half to even."""
    import numpy as np

    return np.clip(np.rint(values), -LARGEST, LARGEST).astype(np.int8)


def decode(words: np.ndarray) -> np.ndarray:
    """int8 codes -> float32, exactly."""
    import numpy as np

    return np.asarray(words).astype(np.float32)


FORMAT = Format(
    name="int8",
    meaning="integers from -127 to 127",
    number=3,
    order=40,
    colour="#e69f00",
    bits=8,
    words="int8",
    encode=encode,
    decode=decode,
    largest=LARGEST,
)
