"""fp8_e5m2: the upper byte of fp16, rounded, with a scale per slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elastickv.formats.base import Format

if TYPE_CHECKING:
    import numpy as np

LARGEST = 448  # of 57344: scales of smaller vectors then stay clear of fp16's subnormals
HIGHEST = 57344
SMALLEST_NORMAL = 0x38800000  # 2^-14, as fp32 word


def encode(values: np.ndarray) -> np.ndarray:
    """float32 values, divided by their scale -> bytes; to nearest, ties to even, saturating."""
    import numpy as np

    values = np.asarray(values, dtype=np.float32)
    size = np.fmin(np.abs(values), np.float32(HIGHEST))
    bits = size.view(np.uint32)
    normal = ((bits + 0xFFFFF + ((bits >> 21) & 1)) >> 21) - 448  # keeps 2 bits of mantissa; bias 15 instead of 127
    # 2^7 + a multiple of 2^-16, which is what the addition rounds to
    subnormal = (size + np.float32(128)).view(np.uint32) - np.float32(128).view(np.uint32)
    sign = (values.view(np.uint32) >> 24) & 0x80
    return (sign | np.where(bits < SMALLEST_NORMAL, subnormal, normal)).astype(np.uint8)


def decode(words: np.ndarray) -> np.ndarray:
    """Bytes -> float32, exactly."""
    import numpy as np

    return (np.asarray(words).astype(np.uint16) << 8).view(np.float16).astype(np.float32)


FORMAT = Format(
    name="fp8_e5m2",
    meaning="floats of 8 bits with 2 of mantissa",
    number=90,
    order=37,
    colour="#d55e00",
    bits=8,
    words="uint8",
    encode=encode,
    decode=decode,
    largest=LARGEST,
)
