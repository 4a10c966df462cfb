"""What a workload offers to whoever measures it. Implementations: `decode.DecodeWorkload`, `elementwise`'s."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from elastickv.cache.bytes_moved import Traffic
from elastickv.device.base import Call
from elastickv.schemas.case import AnyCase
from elastickv.schemas.parts import Answer


class Workload(Protocol):
    """A case with its buffers filled on a device, its arms by name (`full`, `elastic`).

    `layers` sets of buffers rotate; `period` launches visit all that a sample has to visit; `cold`: whether a set has
    left the last-level cache before it is read again. `traffic`: bytes of one launch by arm, and of `slots_only`.
    """

    case: AnyCase
    layers: int
    period: int
    cold: bool
    traffic: dict[str, Traffic]

    def call(self, arm: str, index: int) -> Call:
        """Launch number `index` of an arm."""

    def pure_call(self, arm: str, index: int) -> Call:
        """The pure pass over the bytes of that launch."""

    def check(self) -> dict[str, Answer]:
        """The `correctness` of a record: by arm, each checked on the first and the last layer."""

    def tensors(self) -> dict[str, np.ndarray]:
        """NumPy arrays by name with which anyone can check the first layer again."""


class Cycle(Workload, Protocol):
    """A workload whose caches can grow: what the inference cycle takes of it.

    steps: tokens of a round. repeats: tokens after which what a step does repeats.
    """

    steps: int
    repeats: int

    def cycle_calls(self, arm: str, parity: int, attend: bool = True) -> list[Call]:
        """The launches of one token through all layers. Without `attend` it is appended only."""

    def restore(self) -> None:
        """Brings both arms' caches back to `seq` tokens."""

    def check_cycle(self) -> dict[str, Answer]:
        """The `correctness` of both arms' last outputs."""
