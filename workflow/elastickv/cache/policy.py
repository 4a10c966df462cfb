"""Which tokens an elastic cache keeps, how they are stored and with what bias: the NumPy reference for the kernels.

A cache of S tokens keeps its first `sinks` and last `window` tokens exact; the tokens between form groups of `compress`
consecutive tokens. Each closed (complete) group becomes one middle slot; the tokens of the open group stay exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from elastickv import formats
from elastickv.schemas.case import DecodeCase


@dataclass(frozen=True)
class Policy:
    """What an elastic cache keeps (`sinks`, `window`, `compress`, `anchor`) and how it is stored."""

    sinks: int
    window: int
    compress: int
    anchor: str
    bias: str
    dtype: str
    cache_dtype: str

    @classmethod
    def of_case(cls, case: DecodeCase) -> Policy:
        """The policy of a decode case."""
        return cls(**{field: getattr(case, field) for field in cls.__dataclass_fields__})

    @property
    def anchor_bias(self) -> float:
        """Logit bias of a middle slot: ln(compress) with `log_count`, else 0."""
        return math.log(self.compress) if self.bias == "log_count" else 0.0

    def closed_groups(self, tokens: int) -> int:
        """Closed groups (middle slots) in a cache of `tokens` tokens."""
        return max(0, tokens - self.sinks - self.window) // self.compress

    def slots(self, tokens: int) -> int:
        """Entries of the compact cache."""
        return tokens - self.closed_groups(tokens) * (self.compress - 1)

    def exact_slots(self, tokens: int) -> int:
        """Slots stored in `dtype`: sinks, open group and window."""
        return tokens - self.closed_groups(tokens) * self.compress

    def ring(self, max_tokens: int) -> int:
        """Ring entries needed by a cache that grows to `max_tokens`: the window and a group that is about to close."""
        return max(0, min(self.window + self.compress, max_tokens - self.sinks))

    def place(self, token: int, ring: int) -> int:
        """Exact slot that holds `token`."""
        return token if token < self.sinks else self.sinks + (token - self.sinks) % ring

    def nothing_compressed(self, tokens: int) -> bool:
        """True when the elastic cache holds the same values in the same bytes as the full one."""
        return self.closed_groups(tokens) == 0 or (self.compress == 1 and self.cache_dtype == self.dtype)


@dataclass(frozen=True)
class CompactCache:
    """An elastic cache in token order. rows = batch * kv_heads; G = closed groups.

    kept: int [rows, slots], token of each slot (the group's first for `mean`). k, v: float32 [rows, slots, dim] as
    stored (dequantised). middle: bool [slots]. k_scale, v_scale: float16 [rows, slots], 0 for exact slots. bias:
    float32 [rows, slots]. middle_k, middle_v: what lies in memory for the middle: words [rows, G, words of a vector].
    """

    kept: np.ndarray
    k: np.ndarray
    v: np.ndarray
    middle: np.ndarray
    k_scale: np.ndarray
    v_scale: np.ndarray
    bias: np.ndarray
    middle_k: np.ndarray
    middle_v: np.ndarray


def choose_anchors(v: np.ndarray, policy: Policy) -> np.ndarray:
    """Token that each closed group keeps. v: float32 [rows, tokens, dim]; returns int [rows, G]."""
    rows, tokens, dim = v.shape
    groups, size = policy.closed_groups(tokens), policy.compress
    first = policy.sinks + np.arange(groups) * size
    if policy.anchor in ("first", "mean"):
        return np.broadcast_to(first, (rows, groups)).copy()
    if policy.anchor == "last":
        return np.broadcast_to(first + size - 1, (rows, groups)).copy()
    middle = v[:, policy.sinks : policy.sinks + groups * size].reshape(rows, groups, size, dim)
    norms = np.einsum("rgcd,rgcd->rgc", middle, middle, dtype=np.float64, casting="safe")
    return first + np.argmax(norms, axis=2)


def _middle_vectors(x: np.ndarray, anchors: np.ndarray, policy: Policy) -> np.ndarray:
    """float32 [rows, G, dim]: each closed group's vector before storage."""
    rows, _, dim = x.shape
    groups, size = anchors.shape[1], policy.compress
    if policy.anchor != "mean":
        return np.take_along_axis(x, anchors[:, :, None], axis=1)
    members = x[:, policy.sinks : policy.sinks + groups * size].reshape(rows, groups, size, dim)
    total = np.zeros((rows, groups, dim), dtype=np.float32)
    for member in range(size):
        total += members[:, :, member]
    return total / np.float32(size)


def store_middle(vectors: np.ndarray, policy: Policy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 [..., dim] -> (what lies in memory, float16 scales [...], float32 values as read back)."""
    stored = formats.of(policy.cache_dtype)
    words, scale = stored.store(vectors)
    return words, scale, stored.load(words, scale)


def compact(k: np.ndarray, v: np.ndarray, policy: Policy, anchors: np.ndarray | None = None) -> CompactCache:
    """The elastic cache of a full one.

    k, v: float32 [rows, tokens, dim], the values that the full cache stores. anchors: int [rows, G] overrides the
    choice (to follow a kernel that broke a tie of norms the other way).
    """
    rows, tokens, _ = k.shape
    groups = policy.closed_groups(tokens)
    anchors = choose_anchors(v, policy) if anchors is None else anchors
    middle_k, k_scale, k_values = store_middle(_middle_vectors(k, anchors, policy), policy)
    middle_v, v_scale, v_values = store_middle(_middle_vectors(v, anchors, policy), policy)
    tail = policy.sinks + groups * policy.compress
    head = min(policy.sinks, tokens)

    def in_order(exact: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.concatenate([exact[:, :head], values, exact[:, tail:] if groups else exact[:, head:]], axis=1)

    positions = np.broadcast_to(np.arange(tokens), (rows, tokens))
    exact_zero = np.zeros((rows, tokens), dtype=np.float32)
    middle = in_order(exact_zero, np.ones((rows, groups), dtype=np.float32))[0] > 0
    return CompactCache(
        kept=in_order(positions, anchors),
        k=in_order(k, k_values),
        v=in_order(v, v_values),
        middle=middle,
        k_scale=in_order(exact_zero.astype(np.float16), k_scale),
        v_scale=in_order(exact_zero.astype(np.float16), v_scale),
        bias=in_order(exact_zero, np.full((rows, groups), policy.anchor_bias, dtype=np.float32)),
        middle_k=middle_k,
        middle_v=middle_v,
    )
