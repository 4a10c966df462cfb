"""The memory of one layer's caches: a full one and its elastic counterpart, laid out as kernels/params.h says."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from elastickv.cache import numerics
from elastickv.cache.policy import Policy
from elastickv.device.base import Backend
from elastickv.device.params import DTYPES, Cache
from elastickv.schemas.case import DecodeCase
from elastickv.workloads.arena import Arena, padded


class SlotOrder(NamedTuple):
    """Where an elastic cache's slots lie, in token order: exact `head`, the first `groups` middle, exact `tail`."""

    head: list[int]
    groups: int
    tail: list[int]


class CacheShape:
    """Sizes of a case's caches. rows = batch * kv_heads; capacity = tokens that the caches may grow to."""

    def __init__(self, case: DecodeCase, capacity: int):
        self.policy = Policy.of_case(case)
        self.rows = case.batch * case.kv_heads
        self.dim = case.dim
        self.capacity = capacity
        self.ring = self.policy.ring(capacity)
        self.exact = self.policy.sinks + self.ring
        self.middle = self.policy.closed_groups(capacity)
        self.vector = numerics.vector_bytes(self.dim, self.policy.dtype)
        self.middle_vector = numerics.vector_bytes(self.dim, self.policy.cache_dtype)
        self.biased = self.policy.bias != "none"
        self.quantised = numerics.is_quantised(self.policy.cache_dtype)

    def full_sizes(self) -> list[int]:
        """Bytes of the full cache's key and value arrays."""
        return [self.rows * self.capacity * self.vector] * 2

    def elastic_sizes(self) -> list[int]:
        """Bytes of the elastic cache's arrays: exact k, v; middle k, v; scales k, v; biases exact, middle."""
        scales = self.rows * self.middle * 2 if self.quantised else 0
        biases = [self.rows * self.exact * 4, self.rows * self.middle * 4] if self.biased else [0, 0]
        exact, middle = self.rows * self.exact * self.vector, self.rows * self.middle * self.middle_vector
        return [exact, exact, middle, middle, scales, scales, *biases]

    def slot_order(self, tokens: int) -> SlotOrder:
        """The order of the slots of a cache that holds `tokens` tokens."""
        policy, groups = self.policy, self.policy.closed_groups(tokens)
        head = list(range(min(policy.sinks, tokens)))
        tail = [policy.place(t, self.ring) for t in range(policy.sinks + groups * policy.compress, tokens)]
        return SlotOrder(head, groups, tail)

    def footprint(self) -> int:
        """Bytes that one layer allocates, both arms."""
        return sum(map(padded, self.full_sizes() + self.elastic_sizes())) + padded(self.rows * self.middle * 4)


class LayerCaches:
    """One layer: a full and an elastic cache on the device, sharing the device-side token counters."""

    def __init__(self, backend: Backend, shape: CacheShape, tokens: dict[str, int]):
        self.backend, self.shape = backend, shape
        policy, rows = shape.policy, shape.rows
        self.full_arena = Arena(backend, shape.full_sizes())
        self.full = Cache(
            *(self.full_arena.take(size) for size in shape.full_sizes()),
            tokens=tokens["full"],
            dtype=DTYPES[policy.dtype],
            cache_dtype=DTYPES[policy.dtype],
            rows=rows,
            dim=shape.dim,
            sinks=shape.capacity,
            compress=1,
        )
        self.elastic_arena = Arena(backend, shape.elastic_sizes())
        addresses = [self.elastic_arena.take(size) for size in shape.elastic_sizes()]
        present = [True, True, True, True, shape.quantised, shape.quantised, shape.biased, shape.biased]
        self.elastic = Cache(
            *(address if used else None for address, used in zip(addresses, present, strict=True)),
            middle_token=backend.allocate(max(rows * shape.middle * 4, 4)),
            tokens=tokens["elastic"],
            dtype=DTYPES[policy.dtype],
            cache_dtype=DTYPES[policy.cache_dtype],
            rows=rows,
            dim=shape.dim,
            sinks=policy.sinks,
            window=policy.window,
            compress=policy.compress,
            ring=shape.ring,
            middle_capacity=shape.middle,
        )

    def _words(self, address: int, row: int, rows: int, slots: int, dtype: str) -> np.ndarray:
        """Float vectors [rows, slots, dim] from row `row` on, as float32."""
        offset = row * slots * self.shape.vector
        words = self.backend.read(address + offset, (rows, slots, self.shape.dim), numerics.STORAGE[dtype])
        return numerics.decode(words, dtype)

    def read_full(self, row: int, rows: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of the full cache, float32 [rows, tokens, dim]."""
        k, v = (
            self._words(address, row, rows, self.shape.capacity, self.shape.policy.dtype)
            for address in (self.full.exact_k, self.full.exact_v)
        )
        return k[:, :tokens], v[:, :tokens]

    def read_anchors(self, row: int, rows: int, tokens: int) -> np.ndarray:
        """Token that each closed group kept on the device, int [rows, G]."""
        middle = self.shape.middle
        groups = self.shape.policy.closed_groups(tokens)
        if groups == 0:
            return np.zeros((rows, 0), dtype=np.int64)
        address = self.elastic.middle_token + row * middle * 4
        return self.backend.read(address, (rows, middle), np.int32)[:, :groups].astype(np.int64)

    def _read_middle(self, which: str, row: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """float32 values [rows, middle_capacity, dim], float16 scales [rows, middle_capacity] (0: not quantised)."""
        shape, middle = self.shape, self.shape.middle
        address = getattr(self.elastic, f"middle_{which}")
        if not shape.quantised:
            return self._words(address, row, rows, middle, shape.policy.dtype), np.zeros((rows, middle), np.float16)
        offset, width = row * middle * shape.middle_vector, shape.middle_vector
        if shape.policy.cache_dtype == "int8":
            codes = self.backend.read(address + offset, (rows, middle, width), np.int8)
        else:
            codes = numerics.unpack_int4(self.backend.read(address + offset, (rows, middle, width), np.uint8))
        scales = self.backend.read(
            getattr(self.elastic, f"middle_{which}_scale") + row * middle * 2, (rows, middle), np.float16
        )
        return numerics.dequantise(codes, scales), scales

    def read_elastic(self, which: str, row: int, rows: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """What the elastic cache holds, in token order: float32 [rows, slots, dim] and float16 scales [rows, slots]."""
        shape, policy = self.shape, self.shape.policy
        head, groups, tail = shape.slot_order(tokens)
        exact = self._words(getattr(self.elastic, f"exact_{which}"), row, rows, shape.exact, policy.dtype)
        if groups == 0:
            values = exact[:, head + tail]
            return values, np.zeros(values.shape[:2], np.float16)
        middle, scales = self._read_middle(which, row, rows)
        none = np.zeros((rows, 1), np.float16)
        return (
            np.concatenate([exact[:, head], middle[:, :groups], exact[:, tail]], axis=1),
            np.concatenate([none.repeat(len(head), 1), scales[:, :groups], none.repeat(len(tail), 1)], axis=1),
        )
