"""The seeded generator in NumPy, bit for bit what the `fill` kernels write."""

from __future__ import annotations

import numpy as np


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
