"""Which slots hold a token while a cache grows: the tables that a policy gives, on the device (kernels/params.h)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from elastickv.device.base import Backend, Call
from elastickv.device.params import MOST_RUNS, MOST_SEGMENTS, AdvanceParams, Closing, Live, Run
from elastickv.policies import Policy, base


class Addresses(NamedTuple):
    """What all layers of an arm share on the device: number of tokens, live slots, closing groups."""

    tokens: int
    live: int
    closing: int


def _table(kind: Any, rows: Iterable[Iterable[tuple]], width: int) -> np.ndarray:
    """Records of a ctypes structure, [rows, width]: what is past a row's end is 0."""
    dtype = np.dtype(kind)
    empty = (0,) * len(dtype)
    padded = [[*map(tuple, row), *[empty] * (width - len(row))] for row in map(list, rows)]
    return np.array(padded, dtype).reshape(-1, width)


def extent(live: base.Live) -> int:
    """Slots from the first on, whether or not they hold a token, up to the last that does."""
    if live.length == 0:
        return live.head
    return live.head + min(live.first + live.length, live.ring)


class Positions:
    """An arm's places for `first` to `first + steps` tokens: tables made once, and where they stand, on the device."""

    def __init__(self, backend: Backend, policy: Policy, batch: int, kv_heads: int, first: int, steps: int):
        self._backend, self.batch, self.kv_heads, self.first = backend, batch, kv_heads, first
        self.rows, capacity, heads = batch * kv_heads, first + steps, range(kv_heads)
        numbers = [min(tokens, capacity) for tokens in range(first, capacity + 2)]  # the last is never decoded with
        live = [[policy.live(head, tokens, capacity) for head in heads] for tokens in numbers]
        closing = [[policy.closing(head, tokens, capacity) for head in heads] for tokens in numbers[:-2]]
        closing.append([base.Closing()] * kv_heads)
        runs = [policy.runs(head, first, capacity) for head in heads]
        self._extents = np.array([[list(map(extent, segments)) for segments in of] for of in live]).max(axis=1)
        self._live = _table(Live, [segments for of in live for segments in of], MOST_SEGMENTS)
        self._closing = _table(Closing, closing, kv_heads)
        self.closes = bool(self._closing["count"].any())
        self.most_slots = max(sum(run.slots for run in of) for of in runs)
        self.at = Addresses(*map(backend.allocate, (4, *self._sizes())))
        self._live_of, self._closing_of = self._upload(self._live), self._upload(self._closing)
        self.runs = self._upload(_table(Run, runs, MOST_RUNS))

    def _sizes(self) -> tuple[int, int]:
        """Bytes of the live slots of two states, and of the closing groups."""
        return 2 * self.rows * MOST_SEGMENTS * self._live.itemsize, self.rows * self._closing.itemsize

    def _upload(self, table: np.ndarray) -> int:
        address = self._backend.allocate(table.nbytes)
        self._backend.write(address, table.view(np.uint8))
        return address

    def touched(self, growing: bool) -> list[int]:
        """Slots of each segment, [0, n), that can hold a token: with the first number of tokens, or any later one."""
        return [int(most) for most in self._extents[: len(self._extents) if growing else 1].max(axis=0)]

    def restore(self) -> None:
        """Back to the first number of tokens."""
        states = self._live.reshape(-1, self.kv_heads, MOST_SEGMENTS)[:2]
        self._backend.write(self.at.tokens, np.array([self.first], np.int32))
        self._backend.write(self.at.live, np.tile(states, (1, self.batch, 1)).view(np.uint8))
        self._backend.write(self.at.closing, np.tile(self._closing[0], self.batch).view(np.uint8))

    def advance(self) -> Call:
        """One token more."""
        tables = self._live_of, self._closing_of, self.first
        return Call("advance", AdvanceParams(*self.at, *tables, self.rows, self.kv_heads))
