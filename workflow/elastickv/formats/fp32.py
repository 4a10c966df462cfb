"""fp32: IEEE single precision, as computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elastickv.formats.base import Format

if TYPE_CHECKING:
    import numpy as np


def encode(values: np.ndarray) -> np.ndarray:
    """float32 values, unchanged."""
    import numpy as np

    return np.asarray(values, dtype=np.float32)


FORMAT = Format(
    name="fp32",
    meaning="IEEE single precision",
    number=0,
    order=10,
    colour="#000000",
    bits=32,
    words="float32",
    encode=encode,
    decode=encode,
)
