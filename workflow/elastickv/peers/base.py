"""What a peer is: a kernel of another library that computes the same attention over the same values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from elastickv import formats
from elastickv.cache.policy import Policy
from elastickv.schemas.case import AnyCase, DecodeCase

# Attention of one layer: reads that layer's query and cache, returns the output, batch * heads * dim elements.
Launch = Callable[[], Any]


@dataclass(frozen=True)
class Inputs:
    """One tensor a layer, contiguous, on the device that is measured, with the very values that our kernel reads.

    q: [batch, heads, dim]; k, v: [batch, kv_heads, slots, dim]. Query head h reads KV head h // (heads / kv_heads).
    """

    q: list[Any]
    k: list[Any]
    v: list[Any]

    @property
    def shape(self) -> Shape:
        """The extents that all layers share."""
        batch, heads, dim = self.q[0].shape
        _, kv_heads, slots, _ = self.k[0].shape
        return Shape(batch, heads, kv_heads, slots, dim)


class Shape(NamedTuple):
    """Extents of one attention call."""

    batch: int
    heads: int
    kv_heads: int
    slots: int
    dim: int


class Peer(Protocol):
    """A kernel of another library. `times`: what one timed launch of it covers, in a sentence."""

    name: str
    library: str  # the distribution whose version says which kernel it is
    times: str

    def supports(self, case: AnyCase, backend: str) -> str | None:
        """None, or why it cannot run the case's full cache on `backend`, in a sentence. Imports nothing heavy."""

    def session(self) -> contextlib.AbstractContextManager[None]:
        """Entered around everything that calls its launches: no setting of the library is made in timed code."""

    def prepare(self, inputs: Inputs) -> Callable[[int], Launch]:
        """Whatever need not be done for every token; returns the launch of a layer. Raises Refusal."""


def attention_only(case: AnyCase) -> str | None:
    """Why no peer computes this case, or None."""
    return None if case.workload == "decode" else "not attention: no library computes it"


def elastic_refusal(case: DecodeCase) -> str | None:
    """Why no peer takes the elastic cache's slots, or None: theirs are of the full cache's type, without a bias."""
    if formats.of(case.cache_dtype).scaled:
        return f"reads no {case.cache_dtype} slots beside {case.dtype} ones"
    if case.bias != "none":
        return f"adds no bias to a slot's logit (bias: {case.bias})"
    if Policy.of_case(case).nothing_compressed(case.seq):
        return "nothing is compressed: the slots are the full cache's"
    return None
