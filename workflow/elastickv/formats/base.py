"""The interface of storage formats: how one cached key or value vector is stored in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LARGEST_FP16 = 65504.0


@dataclass(frozen=True)
class PerHead:
    """Per-head state of a format (such as a matrix or a mean), and the transforms that use it.

    floats: dim -> number of fp32 values per head. state: (dim, kv_heads, seed) -> float32 [kv_heads, ...], the same in
    every layer of a case. The other functions take the state of one head and vectors [..., dim]:
    stored: float32 -> float32, the transformed vector that is encoded (the kernels agree bit for bit).
    query: the query to use with stored keys, so that dot products equal those with the original keys; None: unchanged.
    shift: [...], a term to add to those dot products; None: none.
    answer: maps the weighted mean of stored values (weights sum to 1) to that of the original ones; None: unchanged.
    `query` and `shift` apply to keys, `answer` to values; the oracle calls them with float64 vectors.
    """

    floats: Callable[[int], int]
    state: Callable[[int, int, int], np.ndarray]
    stored: Callable[[np.ndarray, np.ndarray], np.ndarray]
    query: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    shift: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    answer: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class Format:
    """A storage format.

    name: that of the file, used in config files; its first number is `bits`. number: its id in the kernels.
    order: its place in lists, tables and figures, widest first. bits: bits per value, averaged over every 8 dims.
    words: the NumPy type of the stored words. encode: float32 [..., dim] -> words [..., words_of(dim)]; decode: the
    exact inverse mapping of words to float32. largest: for formats with a scale per slot, the stored value that a
    vector's largest |x| is mapped to; otherwise None. per_head: the per-head state, or None. refuses: None, or a
    function dim -> why vectors of this dim cannot be stored, or None.

    The kernels must agree with `encode` bit for bit (IEEE round to nearest, ties to even, in float32).
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
        """Whether every slot has an fp16 scale. Only formats without one can store exact slots, queries and outputs."""
        return self.largest is not None

    @property
    def plain(self) -> bool:
        """Whether the fast kernels support it: all values have the same power-of-two bits, and no per-head state."""
        return self.per_head is None and self.bits.bit_count() == 1

    def state_bytes(self, dim: int) -> int:
        """Bytes of the state of one KV head."""
        return 4 * self.per_head.floats(dim) if self.per_head else 0

    def state(self, dim: int, kv_heads: int, seed: int) -> np.ndarray | None:
        """The per-head state: float32 [kv_heads, ...], or None."""
        return self.per_head.state(dim, kv_heads, seed) if self.per_head else None

    def vector_bytes(self, dim: int) -> int:
        """Bytes of one stored key or value vector, its scale not included."""
        return dim * self.bits // 8

    @property
    def scale_bytes(self) -> int:
        """Bytes of a stored vector's scale."""
        return 2 if self.scaled else 0

    def words_of(self, dim: int) -> int:
        """Number of words of one stored vector."""
        import numpy as np

        return self.vector_bytes(dim) // np.dtype(self.words).itemsize

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """float32 values rounded to the format, without a scale, as float32."""
        return self.decode(self.encode(values))

    def store(self, vectors: np.ndarray, state: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """float32 [..., dim] -> stored words and float16 scales [...], 0 if the format has none.

        scale = fp16(max|x| / largest), at most 65504; x / scale is encoded, or 0 if the scale is 0.
        state: per-head state of each row, [rows, ...], if the format has any; vectors are then [rows, ..., dim].
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
        """The result of `store` -> float32 [..., dim], still transformed by the per-head state."""
        import numpy as np

        values = self.decode(words)
        return values * scale.astype(np.float32)[..., None] if self.scaled else values
