"""Storage formats of a KV cache in NumPy: fp16/bf16/fp32 words, int8/int4 codes with a scale, and the seeded generator.

The kernels must agree with this file bit for bit (rounding is IEEE to nearest, ties to even, in float32).
"""

from __future__ import annotations

import numpy as np

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
STORAGE = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16}
LARGEST_CODE = {"int8": 127, "int4": 7}
LARGEST_FP16 = np.float32(65504.0)


def is_quantised(cache_dtype: str) -> bool:
    """Whether middle slots are codes with a scale rather than floats."""
    return cache_dtype in LARGEST_CODE


def vector_bytes(dim: int, cache_dtype: str) -> int:
    """Bytes of one stored key or value vector, its scale not included."""
    if cache_dtype == "int8":
        return dim
    if cache_dtype == "int4":
        return dim // 2
    return dim * BYTES[cache_dtype]


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values -> the words stored in memory (float32, float16, or bfloat16 as uint16)."""
    values = np.asarray(values, dtype=np.float32)
    if dtype != "bf16":
        with np.errstate(over="ignore"):
            return values.astype(STORAGE[dtype])
    bits = values.view(np.uint32)
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def decode(words: np.ndarray, dtype: str) -> np.ndarray:
    """The words stored in memory -> float32 values, exactly."""
    if dtype == "bf16":
        return (np.asarray(words, dtype=np.uint32) << 16).view(np.float32)
    return np.asarray(words).astype(np.float32)


def round_to(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values rounded to what `dtype` can hold, as float32."""
    return decode(encode(values, dtype), dtype)


def quantise(vectors: np.ndarray, cache_dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric quantisation of each vector with one fp16 scale (design: max|x| / 127 or / 7).

    vectors: float32 [..., dim]. Returns int8 codes [..., dim] and float16 scales [...]; an all-zero vector has scale 0.
    """
    largest = LARGEST_CODE[cache_dtype]
    vectors = np.asarray(vectors, dtype=np.float32)
    peak = np.max(np.abs(vectors), axis=-1)
    scale = np.minimum(peak / np.float32(largest), LARGEST_FP16).astype(np.float16)
    divisor = scale.astype(np.float32)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.rint(vectors / divisor)
    codes = np.where(divisor == 0, 0, codes)
    return np.clip(codes, -largest, largest).astype(np.int8), scale


def dequantise(codes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """int8 codes [..., dim] and float16 scales [...] -> float32 [..., dim]."""
    return codes.astype(np.float32) * scale.astype(np.float32)[..., None]


def pack_int4(codes: np.ndarray) -> np.ndarray:
    """int8 codes in [-7, 7], [..., dim] -> bytes [..., dim / 2]: byte j: dims 2j (low nibble), 2j + 1; code + 8."""
    nibbles = (codes.astype(np.int16) + 8).astype(np.uint8)
    return nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)


def unpack_int4(packed: np.ndarray) -> np.ndarray:
    """The inverse of `pack_int4`."""
    codes = np.empty((*packed.shape[:-1], packed.shape[-1] * 2), dtype=np.int8)
    codes[..., 0::2] = (packed & 0xF).astype(np.int8) - 8
    codes[..., 1::2] = (packed >> 4).astype(np.int8) - 8
    return codes


def _philox4x32(counter: np.ndarray, key0: int, key1: int, rounds: int = 10) -> np.ndarray:
    """Philox4x32-10 (Salmon et al., SC 2011). counter: uint32 [n, 4]; returns uint32 [n, 4]."""
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    mask = np.uint64(0xFFFFFFFF)
    k0, k1 = key0 & 0xFFFFFFFF, key1 & 0xFFFFFFFF
    for _ in range(rounds):
        product0, product1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            product1 & mask,
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            product0 & mask,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def seeded_values(count: int, seed: int, stream: int) -> np.ndarray:
    """What the `fill` kernel writes, as float32 [count] before conversion to dtype (mean 0, standard deviation 1)."""
    blocks = (count + 3) // 4
    counter = np.zeros((blocks, 4), dtype=np.uint32)
    index = np.arange(blocks, dtype=np.uint64)
    counter[:, 0] = index & np.uint64(0xFFFFFFFF)
    counter[:, 1] = index >> np.uint64(32)
    counter[:, 2] = stream
    words = _philox4x32(counter, seed, 0).reshape(-1)[:count]
    total = sum(((words >> shift) & 0xFF).astype(np.int32) for shift in (0, 8, 16, 24))
    return (total - 510).astype(np.float32) / np.float32(147.8)
