"""What a peer is: a kernel of someone else that computes the same attention over the same values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from elastickv.cache.compact import nothing_compressed
from elastickv.schemas.case import DecodeCase, policy_of

# Attention of one layer: reads that layer's query and cache, returns the output, batch * heads * dim elements, in new
# memory or in some that is kept, but in no other layer's.
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


class Peer:
    """A kernel of another library, or one of your own. A subclass says `times` and has `prepare`; the rest may stay.

    times: what one timed launch covers, in a sentence. needs: the distributions that have to be installed for it in the
    environment `peers`, the library itself first: its version says which kernel it is. beside: further distributions,
    whose versions the record states where they are there.
    """

    times: str = ""
    needs: tuple[str, ...] = ("torch",)
    beside: tuple[str, ...] = ()

    def supports(self, case: DecodeCase, backend: str) -> str | None:
        """None, or why it cannot run the case's full cache on `backend` (cuda, cpu), in a sentence."""
        return None

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Entered around everything that calls its launches: no setting of the library is made in timed code."""
        import torch

        with torch.inference_mode():
            yield

    def prepare(self, inputs: Inputs) -> Callable[[int], Launch]:
        """Whatever need not be done for every token (plans, copies of the caches); returns the launch of a layer.

        Keys and values stay as they are from here on; a launch has to read the query anew each time. Raises Refusal.
        """
        raise NotImplementedError


def elastic_refusal(case: DecodeCase) -> str | None:
    """Why no peer takes the elastic cache's slots, or None.

    Theirs are of the full cache's type, without a bias, as many for every KV head.
    """
    policy, heads = policy_of(case), range(case.kv_heads)
    if {name for segment in policy.segments(case.seq) for name in (segment.keys, segment.values)} != {case.dtype}:
        return f"reads no {case.stored_as} slots beside {case.dtype} ones"
    if policy.biased:
        return f"adds no bias to a slot's logit (bias: {policy.values.get('bias', policy.NAME)})"
    if len({sum(policy.slots(head, case.seq)) for head in heads}) > 1:
        return "reads as many slots for every KV head: here they differ"
    if nothing_compressed(policy, case.kv_heads, case.seq):
        return "nothing is compressed: the slots are the full cache's"
    return None
