"""The memory of one layer's caches: a full one and its elastic counterpart, in the layout of kernels/params.h."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from elastickv import anchors, formats
from elastickv.cache.compact import Layout, layout
from elastickv.device import params
from elastickv.device.base import Backend
from elastickv.device.params import MOST_SEGMENTS, Cache
from elastickv.formats.base import Format
from elastickv.policies import Policy
from elastickv.policies.base import Key, Live, Run, Segment
from elastickv.schemas.case import DecodeCase, policy_of
from elastickv.workloads.arena import Arena, padded
from elastickv.workloads.positions import Addresses

TOKEN_BYTES = 4  # of the number of the token that a slot represents
BIAS_BYTES = 4
STATES = ("k_state", "v_state")

# Some slots of one segment, [n, slots, ...], by its number, a layout, the rows [n, 1] that have it, which of its slots.
Gather = Callable[[int, Layout, np.ndarray, np.ndarray], np.ndarray]


class Everything(Policy):
    """What a full cache keeps."""

    NAME = "everything"
    MEANING = "every token stays exact"
    KEYS: ClassVar[Mapping[str, Key]] = {}

    def segments(self, capacity: int) -> tuple[Segment, ...]:
        return (Segment("exact", self.dtype, self.dtype, capacity),)

    def live(self, head: int, tokens: int, capacity: int) -> tuple[Live, ...]:
        return (Live(tokens),)

    def runs(self, head: int, tokens: int, capacity: int) -> tuple[Run, ...]:
        return (Run(0, 0, tokens, 1, 0),)


class Array(NamedTuple):
    """An array of a cache: the number of its segment, its field in kernels/params.h, its bytes."""

    segment: int
    field: str
    bytes: int


class CacheShape:
    """Sizes of a case's caches. rows = batch * kv_heads; capacity = tokens that the caches may grow to."""

    def __init__(self, case: DecodeCase, capacity: int, policy: Policy | None = None):
        self.policies = {
            "full": Everything({}, case.dtype, case.dtype, case.dtype),
            "elastic": policy or policy_of(case),
        }
        self.policy = self.policies["elastic"]
        self.batch, self.kv_heads, self.dim, self.capacity = case.batch, case.kv_heads, case.dim, capacity
        self.rows = case.batch * case.kv_heads
        self.segments = {arm: made.segments(capacity) for arm, made in self.policies.items()}
        if len(self.segments["elastic"]) > MOST_SEGMENTS:
            raise ValueError(f"policy {self.policy.NAME} has more than {MOST_SEGMENTS} segments")
        self.seed = case.seed
        self.exact_format = formats.of(case.dtype)
        self.vector = self.exact_format.vector_bytes(self.dim)

    @property
    def scaled(self) -> tuple[bool, bool]:
        """Whether slots have scales for keys, and for values, in any segment."""
        elastic = self.segments["elastic"]
        return any(formats.of(one.keys).scaled for one in elastic), any(
            formats.of(one.values).scaled for one in elastic
        )

    def heads(self, row: int, rows: int) -> list[int]:
        """KV heads of `rows` rows from `row` on."""
        return [number % self.kv_heads for number in range(row, row + rows)]

    def arrays(self, arm: str) -> list[Array]:
        """The arrays that a launch reads: vectors of every segment, then scales, biases, what formats keep per head."""
        of_slots = [
            Array(number, field, self.rows * segment.slots * size)
            for fields in (("k", "v"), ("k_scale", "v_scale"), ("bias",))
            for number, segment in enumerate(self.segments[arm])
            for field in fields
            if (size := self._slot_bytes(arm, segment)[field])
        ]
        of_heads = [Array(*at, self.kv_heads * stored.state_bytes(self.dim)) for at, stored in self._keeping(arm)]
        return of_slots + of_heads

    def _keeping(self, arm: str) -> list[tuple[tuple[int, str], Format]]:
        """The formats that keep something per KV head, by their segment and field."""
        return [
            ((number, field), stored)
            for number, segment in enumerate(self.segments[arm])
            for field, stored in zip(STATES, formats.of_names(segment.keys, segment.values), strict=True)
            if stored.per_head is not None and segment.slots
        ]

    @cached_property
    def states(self) -> dict[tuple[int, str], np.ndarray]:
        """What formats of the elastic cache keep for each KV head, float32 [kv_heads, ...], by segment and field."""
        return {
            at: np.ascontiguousarray(stored.state(self.dim, self.kv_heads, self.seed + STATES.index(at[1])), np.float32)
            for at, stored in self._keeping("elastic")
        }

    def _slot_bytes(self, arm: str, segment: Segment) -> dict[str, int]:
        """Bytes of a slot by array; 0: there is none."""
        keys, values = formats.of(segment.keys), formats.of(segment.values)
        return {
            "k": keys.vector_bytes(self.dim),
            "v": values.vector_bytes(self.dim),
            "k_scale": keys.scale_bytes,
            "v_scale": values.scale_bytes,
            "bias": BIAS_BYTES if self.policies[arm].biased else 0,
        }

    def token_bytes(self) -> list[int]:
        """Bytes of the token numbers of the slots in each segment except the exact one."""
        return [self.rows * segment.slots * TOKEN_BYTES for segment in self.segments["elastic"][1:]]

    def footprint(self) -> int:
        """Bytes that one layer allocates, both arms."""
        sizes = [array.bytes for arm in self.segments for array in self.arrays(arm)]
        return sum(map(padded, sizes + self.token_bytes()))

    def layouts(self, row: int, rows: int, tokens: int) -> list[tuple[Layout, list[int]]]:
        """Where slots of a cache of `tokens` tokens lie, each with the rows, counted from `row`, that it holds for."""
        alike: dict[tuple[Run, ...], list[int]] = {}
        for index, head in enumerate(self.heads(row, rows)):
            alike.setdefault(self.policy.runs(head, tokens, self.capacity), []).append(index)
        return [(layout(runs), members) for runs, members in alike.items()]


class LayerCaches:
    """One layer: a full and an elastic cache on the device. at: where the token counters of each arm's layers are."""

    def __init__(self, backend: Backend, shape: CacheShape, at: Mapping[str, Addresses]):
        self.backend, self.shape = backend, shape
        self.arenas, self.caches = {}, {}
        for arm in shape.segments:
            arrays = shape.arrays(arm)
            self.arenas[arm] = Arena(backend, [array.bytes for array in arrays])
            self.caches[arm] = self._cache(arm, arrays, at[arm])
        for number, size in enumerate(shape.token_bytes(), start=1):
            self.elastic.segments[number].token = backend.allocate(max(size, TOKEN_BYTES))
        self.write_states()

    @property
    def full(self) -> Cache:
        return self.caches["full"]

    @property
    def elastic(self) -> Cache:
        return self.caches["elastic"]

    def _cache(self, arm: str, arrays: list[Array], at: Addresses) -> Cache:
        shape, rule, segments = self.shape, self.shape.policies[arm].anchor, self.shape.segments[arm]
        cache = Cache(
            tokens=at.tokens,
            live=at.live,
            closing=at.closing,
            segment_count=len(segments),
            rows=shape.rows,
            kv_heads=shape.kv_heads,
            dim=shape.dim,
            dtype=shape.exact_format.number,
            anchor=anchors.of(rule).number if rule else -1,
        )
        for number, segment in enumerate(segments):
            keys, values = (formats.of(name).number for name in (segment.keys, segment.values))
            cache.segments[number] = params.Segment(k_format=keys, v_format=values, capacity=segment.slots)
        for array in arrays:
            setattr(cache.segments[array.segment], array.field, self.arenas[arm].take(array.bytes))
        return cache

    def write_states(self) -> None:
        """Writes what formats keep for each KV head."""
        for (number, field), state in self.shape.states.items():
            self.backend.write(getattr(self.elastic.segments[number], field), state)

    def _words(self, address: int, row: int, rows: int, slots: int, stored: Format) -> np.ndarray:
        """What lies in memory of the vectors of `slots` slots a row, [rows, slots, words], from row `row` on."""
        dim = self.shape.dim
        offset = row * slots * stored.vector_bytes(dim)
        return self.backend.read(address + offset, (rows, slots, stored.words_of(dim)), stored.words)

    def read_full(self, row: int, rows: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of the full cache, float32 [rows, tokens, dim]."""
        stored, segment = self.shape.exact_format, self.full.segments[0]
        k, v = (
            stored.decode(self._words(address, row, rows, self.shape.capacity, stored))
            for address in (segment.k, segment.v)
        )
        return k[:, :tokens], v[:, :tokens]

    def read_kept(self, row: int, rows: int, tokens: int) -> np.ndarray:
        """Token of each slot, of groups as the device chose: int [rows, slots] in token order, padded by -1."""

        @cache
        def chosen(number: int) -> np.ndarray:
            slots = self.shape.segments["elastic"][number].slots
            address = self.elastic.segments[number].token + row * slots * TOKEN_BYTES
            return self.backend.read(address, (rows, slots), np.int32)

        def kept(number: int, found: Layout, members: np.ndarray, here: np.ndarray) -> np.ndarray:
            return chosen(number)[members, found.place[here]] if number else found.token[here]

        return self._in_order(row, rows, tokens, kept, np.full((), -1, np.int64))

    def read_elastic(self, which: str, row: int, rows: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """What the elastic cache holds, in token order: float32 [rows, slots, dim] and float16 scales [rows, slots].

        KV heads that keep fewer slots than others are padded by zeros.
        """

        @cache
        def read(number: int) -> tuple[np.ndarray, np.ndarray]:
            return self._read_segment(number, which, row, rows)

        def held(index: int) -> Gather:
            return lambda number, found, members, here: read(number)[index][members, found.place[here]]

        values = self._in_order(row, rows, tokens, held(0), np.zeros(self.shape.dim, np.float32))
        return values, self._in_order(row, rows, tokens, held(1), np.zeros((), np.float16))

    def _read_segment(self, number: int, which: str, row: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """float32 values [rows, capacity, dim], float16 scales [rows, capacity] (0: the format has none)."""
        made, segment = self.shape.segments["elastic"][number], self.elastic.segments[number]
        stored = formats.of(made.keys if which == "k" else made.values)
        words = self._words(getattr(segment, which), row, rows, made.slots, stored)
        scales = np.zeros((rows, made.slots), np.float16)
        if stored.scaled:
            address = getattr(segment, f"{which}_scale") + row * made.slots * stored.scale_bytes
            scales = self.backend.read(address, (rows, made.slots), np.float16)
        return stored.load(words, scales), scales

    def _in_order(self, row: int, rows: int, tokens: int, of: Gather, padding: np.ndarray) -> np.ndarray:
        """[rows, slots, ...] in token order, each row's slots past its last one `padding`."""
        layouts = self.shape.layouts(row, rows, tokens)
        slots = max(len(found.token) for found, _ in layouts)
        whole = np.full((rows, slots, *padding.shape), padding)
        for found, members in layouts:
            for number in np.unique(found.segment):
                here = np.flatnonzero(found.segment == number)
                index = np.array(members)[:, None]
                whole[index, here] = of(int(number), found, index, here)
        return whole
