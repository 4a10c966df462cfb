"""fp8_e4m3: floats of 8 bits (sign, 4 of exponent, 3 of mantissa; Micikevicius et al., 2022), with a scale per slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elastickv.formats.base import Format

if TYPE_CHECKING:
    import numpy as np

LARGEST = 448
SMALLEST_NORMAL = 0x3C800000  # 2^-6, as fp32 word


def encode(values: np.ndarray) -> np.ndarray:
    """float32 values, divided by their scale -> bytes; to nearest, ties to even, saturating.

    NaN becomes 448; the scale of its vector is already NaN.
    """
    import numpy as np

    values = np.asarray(values, dtype=np.float32)
    size = np.fmin(np.abs(values), np.float32(LARGEST))
    bits = size.view(np.uint32)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - 960  # keeps 3 bits of mantissa; bias 7 instead of 127
    # subnormals: adding 2^14 rounds to a multiple of 2^-9
    subnormal = (size + np.float32(16384)).view(np.uint32) - np.float32(16384).view(np.uint32)
    sign = (values.view(np.uint32) >> 24) & 0x80
    return (sign | np.where(bits < SMALLEST_NORMAL, subnormal, normal)).astype(np.uint8)


def decode(words: np.ndarray) -> np.ndarray:
    """Bytes -> float32, exactly: fp16 has fields as wide or wider and a bias of 15, not 7, hence the factor 2^8."""
    import numpy as np

    words = np.asarray(words).astype(np.uint16)
    halves = (words & 0x7F) << 7 | (words & 0x80) << 8
    return halves.view(np.float16).astype(np.float32) * np.float32(256)


FORMAT = Format(
    name="fp8_e4m3",
    meaning="floats of 8 bits with 3 of mantissa, up to 448",
    number=5,
    order=35,
    colour="#cc79a7",
    bits=8,
    words="uint8",
    encode=encode,
    decode=decode,
    largest=LARGEST,
)
