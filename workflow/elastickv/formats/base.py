"""What a storage format is: how one cached key or value vector lies in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LARGEST_FP16 = 65504.0


@dataclass(frozen=True)
class PerHead:
    """What a format keeps for each KV head (a matrix, a mean), and how vectors pass through it.

    floats: dim -> number of fp32 values a head. state: (dim, kv_heads, seed) -> float32 [kv_heads, ...], the same in
    every layer of a case. The other functions take the state of one head and vectors [..., dim]:
    stored: float32 -> float32, what is encoded instead of a vector (the kernels agree bit for bit).
    query: the query whose dot product with what is stored is that of the query with the vector; None: the query itself.
    shift: [...], what is added to those dot products; None: nothing.
    answer: the weighted mean of vectors, given that of what is stored for them (weights add up to 1); None: it itself.
    `query` and `shift` are of keys, `answer` of values; the check calls them with float64 vectors.
    """

    floats: Callable[[int], int]
    state: Callable[[int, int, int], np.ndarray]
    stored: Callable[[np.ndarray, np.ndarray], np.ndarray]
    query: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    shift: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    answer: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class Format:
    """A storage format, as its file in this folder declares it.

    name: the file's, and the one in config files; its first number is `bits`. number: how kernels know the format.
    order: its place in lists, tables and figures, the widest first. bits: of one value, on average over every 8 dims.
    words: the name of the NumPy type of what lies in memory. encode: float32 [..., dim] -> words [..., words_of(dim)];
    decode: the way back, exact. largest: None, or with a scale per slot the stored value that a vector's largest |x|
    becomes. per_head: None, or what the format keeps for each KV head. refuses: None, or a function: dim -> why vectors
    of it cannot be stored, or None.

    The kernels must agree with `encode` bit for bit (rounding is IEEE to nearest, ties to even, in float32).
    """

    name: str
    meaning: str
    number: int
    order: int
    colour: str
    bits: int
    words: str
    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]
    largest: float | None = None
    per_head: PerHead | None = None
    refuses: Callable[[int], str | None] | None = None

    @property
    def scaled(self) -> bool:
        """Whether every slot has an fp16 scale. Formats without one may store exact slots, queries and outputs."""
        return self.largest is not None

    @property
    def plain(self) -> bool:
        """Whether all values have equal bits, a power of two, and nothing is kept per head: what fast kernels read."""
        return self.per_head is None and self.bits.bit_count() == 1

    def state_bytes(self, dim: int) -> int:
        """Bytes of what is kept for one KV head."""
        return 4 * self.per_head.floats(dim) if self.per_head else 0

    def state(self, dim: int, kv_heads: int, seed: int) -> np.ndarray | None:
        """What is kept for each KV head: float32 [kv_heads, ...], or None."""
        return self.per_head.state(dim, kv_heads, seed) if self.per_head else None

    def vector_bytes(self, dim: int) -> int:
        """Bytes of one stored key or value vector, its scale not included."""
        return dim * self.bits // 8

    @property
    def scale_bytes(self) -> int:
        """Bytes of a stored vector's scale."""
        return 2 if self.scaled else 0

    def words_of(self, dim: int) -> int:
        """Words of one stored vector."""
        import numpy as np

        return self.vector_bytes(dim) // np.dtype(self.words).itemsize

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """float32 values as the format holds them without a scale, as float32."""
        return self.decode(self.encode(values))

    def store(self, vectors: np.ndarray, state: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """float32 [..., dim] -> what lies in memory and float16 scales [...], 0 where the format has none.

        scale = fp16(max|x| / largest), not above 65504; what is encoded is x / scale, or 0 where the scale is 0.
        state: of a format that keeps any, [rows, ...], that of each row's head; vectors are [rows, ..., dim] then.
        """
        import numpy as np

        vectors = np.asarray(vectors, dtype=np.float32)
        if self.per_head is not None:
            assert state is not None
            stored = [self.per_head.stored(*each) for each in zip(state, vectors, strict=True)]
            vectors = np.stack(stored) if stored else vectors
        if self.largest is None:
            return self.encode(vectors), np.zeros(vectors.shape[:-1], dtype=np.float16)
        peak = np.max(np.abs(vectors), axis=-1)
        scale = np.minimum(peak / np.float32(self.largest), np.float32(LARGEST_FP16)).astype(np.float16)
        divisor = scale.astype(np.float32)[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(divisor == 0, np.float32(0), vectors / divisor)
            return self.encode(values), scale

    def load(self, words: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """What `store` gave -> float32 [..., dim], still as passed through what is kept per head."""
        import numpy as np

        values = self.decode(words)
        return values * scale.astype(np.float32)[..., None] if self.scaled else values
