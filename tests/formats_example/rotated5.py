"""rotated5: times an orthogonal matrix a head; of every 8 dims the first 2 have 8 bits, the others 4; a scale per slot.

An example of all that a format may declare: something that is kept per head, and bits that differ between dims. The
order of the matrix's rows decides which dims are worth 8 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elastickv.formats.base import Format, PerHead

if TYPE_CHECKING:
    import numpy as np

LARGEST = 127
STEP = 18  # 4-bit codes from -7 to 7 stand for multiples of 18: up to 126
WIDE, BLOCK = 2, 8  # dims of 8 bits in a block of dims; a block is 2 + 3 bytes


def encode(values: np.ndarray) -> np.ndarray:
    """float32 [..., dim], divided by their scale -> bytes [..., dim * 5 / 8]."""
    import numpy as np

    blocks = values.reshape(*values.shape[:-1], -1, BLOCK)
    wide = np.clip(np.rint(blocks[..., :WIDE]), -LARGEST, LARGEST).astype(np.int8).view(np.uint8)
    codes = np.clip(np.rint(blocks[..., WIDE:] / np.float32(STEP)), -7, 7).astype(np.int8)
    nibbles = (codes + np.int8(8)).astype(np.uint8)
    words = np.concatenate([wide, nibbles[..., 0::2] | nibbles[..., 1::2] << 4], axis=-1)
    return words.reshape(*values.shape[:-1], -1)


def decode(words: np.ndarray) -> np.ndarray:
    """Bytes -> float32, exactly."""
    import numpy as np

    blocks = np.ascontiguousarray(words).reshape(*words.shape[:-1], -1, 5)
    values = np.empty((*blocks.shape[:-1], BLOCK), dtype=np.float32)
    values[..., :WIDE] = blocks[..., :WIDE].view(np.int8)
    values[..., WIDE::2] = (blocks[..., WIDE:] & 0xF).astype(np.int8) - np.int8(8)
    values[..., WIDE + 1 :: 2] = (blocks[..., WIDE:] >> 4).astype(np.int8) - np.int8(8)
    values[..., WIDE:] *= STEP
    return values.reshape(*words.shape[:-1], -1)


def matrices(dim: int, kv_heads: int, seed: int) -> np.ndarray:
    """An orthogonal matrix for each head, float32 [kv_heads, dim, dim]."""
    import numpy as np

    return np.linalg.qr(np.random.default_rng(seed).normal(size=(kv_heads, dim, dim)))[0].astype(np.float32)


def times(matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
    """matrix @ x in float64, where products of float32 are exact, in the order of dims: the same bits everywhere."""
    import numpy as np

    total = np.zeros(x.shape, np.float64)
    for dim in range(x.shape[-1]):
        total += matrix[:, dim].astype(np.float64) * x[..., dim : dim + 1].astype(np.float64)
    return total


def rotated(matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What is stored of keys or values: float32."""
    import numpy as np

    return times(matrix, x).astype(np.float32)


FORMAT = Format(
    name="rotated5",
    meaning="times a matrix a head; 8 bits for a quarter of the dims, 4 for the others",
    number=40,
    order=45,
    colour="#56b4e9",
    bits=5,
    words="uint8",
    encode=encode,
    decode=decode,
    largest=LARGEST,
    per_head=PerHead(
        floats=lambda dim: dim * dim,
        state=matrices,
        stored=rotated,
        query=times,
        answer=lambda matrix, o: o @ matrix.astype(o.dtype),
    ),
)
