"""The memory of one layer's caches: a full one and its elastic counterpart, laid out as kernels/params.h says."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from elastickv import formats
from elastickv.cache.policy import Policy
from elastickv.device.base import Backend
from elastickv.device.params import Cache
from elastickv.formats.base import Format
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
        self.exact_format, self.middle_format = (formats.of(name) for name in (case.dtype, case.cache_dtype))
        self.vector, self.middle_vector = (
            one.vector_bytes(self.dim) for one in (self.exact_format, self.middle_format)
        )
        self.biased = self.policy.bias != "none"
        self.scaled = self.middle_format.scaled

    def full_sizes(self) -> list[int]:
        """Bytes of the full cache's key and value arrays."""
        return [self.rows * self.capacity * self.vector] * 2

    def elastic_sizes(self) -> list[int]:
        """Bytes of the elastic cache's arrays: exact k, v; middle k, v; scales k, v; biases exact, middle."""
        scales = self.rows * self.middle * self.middle_format.scale_bytes
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
            dtype=shape.exact_format.number,
            cache_dtype=shape.exact_format.number,
            rows=rows,
            dim=shape.dim,
            sinks=shape.capacity,
            compress=1,
        )
        self.elastic_arena = Arena(backend, shape.elastic_sizes())
        addresses = [self.elastic_arena.take(size) for size in shape.elastic_sizes()]
        present = [True, True, True, True, shape.scaled, shape.scaled, shape.biased, shape.biased]
        self.elastic = Cache(
            *(address if used else None for address, used in zip(addresses, present, strict=True)),
            middle_token=backend.allocate(max(rows * shape.middle * 4, 4)),
            tokens=tokens["elastic"],
            dtype=shape.exact_format.number,
            cache_dtype=shape.middle_format.number,
            rows=rows,
            dim=shape.dim,
            sinks=policy.sinks,
            window=policy.window,
            compress=policy.compress,
            ring=shape.ring,
            middle_capacity=shape.middle,
        )

    def _words(self, address: int, row: int, rows: int, slots: int, stored: Format) -> np.ndarray:
        """What lies in memory of the vectors of `slots` slots a row, [rows, slots, words], from row `row` on."""
        dim = self.shape.dim
        offset = row * slots * stored.vector_bytes(dim)
        return self.backend.read(address + offset, (rows, slots, stored.words_of(dim)), stored.words)

    def _exact(self, address: int, row: int, rows: int, slots: int) -> np.ndarray:
        """Vectors in `dtype`, float32 [rows, slots, dim]."""
        stored = self.shape.exact_format
        return stored.decode(self._words(address, row, rows, slots, stored))

    def read_full(self, row: int, rows: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of the full cache, float32 [rows, tokens, dim]."""
        k, v = (
            self._exact(address, row, rows, self.shape.capacity) for address in (self.full.exact_k, self.full.exact_v)
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
        """float32 values [rows, middle_capacity, dim], float16 scales [rows, middle_capacity] (0: no scales)."""
        middle, stored = self.shape.middle, self.shape.middle_format
        words = self._words(getattr(self.elastic, f"middle_{which}"), row, rows, middle, stored)
        scales = np.zeros((rows, middle), np.float16)
        if stored.scaled:
            address = getattr(self.elastic, f"middle_{which}_scale") + row * middle * stored.scale_bytes
            scales = self.backend.read(address, (rows, middle), np.float16)
        return stored.load(words, scales), scales

    def read_elastic(self, which: str, row: int, rows: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """What the elastic cache holds, in token order: float32 [rows, slots, dim] and float16 scales [rows, slots]."""
        shape = self.shape
        head, groups, tail = shape.slot_order(tokens)
        exact = self._exact(getattr(self.elastic, f"exact_{which}"), row, rows, shape.exact)
        if groups == 0:
            values = exact[:, head + tail]
            return values, np.zeros(values.shape[:2], np.float16)
        middle, scales = self._read_middle(which, row, rows)
        none = np.zeros((rows, 1), np.float16)
        return (
            np.concatenate([exact[:, head], middle[:, :groups], exact[:, tail]], axis=1),
            np.concatenate([none.repeat(len(head), 1), scales[:, :groups], none.repeat(len(tail), 1)], axis=1),
        )
