"""The interface of peers: kernels of others that compute the same attention over the same values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from elastickv.cache.compact import nothing_compressed
from elastickv.schemas.case import DecodeCase, policy_of

# Attention of one layer: reads that layer's query and cache and returns the output, batch * heads * dim elements, in
# new or reused memory that no other layer uses.
Launch = Callable[[], Any]


@dataclass(frozen=True)
class Inputs:
    """One contiguous tensor per layer on the measured device, with the same values that our kernel reads.

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
    """A kernel of another library or your own. A subclass must define `times` and `prepare`; the rest is optional.

    times: a sentence on what one timed launch covers. needs: distributions that it requires in the environment `peers`,
    the library itself first, whose version identifies the kernel. beside: optional distributions, whose versions are
    recorded if installed.
    """

    times: str = ""
    needs: tuple[str, ...] = ("torch",)
    beside: tuple[str, ...] = ()

    def supports(self, case: DecodeCase, backend: str) -> str | None:
        """None, or a sentence on why it cannot run the case's full cache on `backend` (cuda, cpu)."""
        return None

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """A context around all calls of its launches, for settings of the library outside timed code."""
        import torch

        with torch.inference_mode():
            yield

    def prepare(self, inputs: Inputs) -> Callable[[int], Launch]:
        """Does work that is not needed for every token (plans, copies of the caches); returns the launch of a layer.

        Keys and values do not change afterwards; every launch must read the query again. Raises Refusal.
        """
        raise NotImplementedError


def elastic_refusal(case: DecodeCase) -> str | None:
    """Why no peer can read the elastic cache's slots, or None.

    Peers require slots of the full cache's type, without a bias and equally many for every KV head.
    """
    policy, heads = policy_of(case), range(case.kv_heads)
    if {name for segment in policy.segments(case.seq) for name in (segment.keys, segment.values)} != {case.dtype}:
        return f"cannot read {case.stored_as} slots together with {case.dtype} slots"
    if policy.biased:
        return f"cannot add a bias to a slot's logit (bias: {policy.values.get('bias', policy.NAME)})"
    if len({sum(policy.slots(head, case.seq)) for head in heads}) > 1:
        return "requires the same number of slots for every KV head"
    if nothing_compressed(policy, case.kv_heads, case.seq):
        return "nothing is compressed: the slots are those of the full cache"
    return None
