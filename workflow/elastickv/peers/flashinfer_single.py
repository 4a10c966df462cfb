"""FlashInfer's decode of one sequence, on CUDA cores."""

from __future__ import annotations

from collections.abc import Callable

from elastickv.peers.base import Inputs, Launch
from elastickv.peers.flashinfer_decode import FlashInfer
from elastickv.schemas.case import AnyCase


class Single(FlashInfer):
    """`single_decode_with_kv_cache` on the cache as it lies: [kv_heads, slots, dim]."""

    times = "one call of flashinfer.single_decode_with_kv_cache, layout HND"

    def supports(self, case: AnyCase, backend: str) -> str | None:
        """See base.Peer."""
        refused = super().supports(case, backend)
        if refused or case.batch == 1:
            return refused
        return f"decodes one sequence, not {case.batch}"

    def launches(self, inputs: Inputs) -> Callable[[int], Launch]:
        """See FlashInfer."""
        from flashinfer import single_decode_with_kv_cache

        def launch_of(layer: int) -> Launch:
            q, k, v = inputs.q[layer][0], inputs.k[layer][0], inputs.v[layer][0]
            return lambda: single_decode_with_kv_cache(q, k, v, kv_layout="HND", use_tensor_cores=self.tensor_cores)

        return launch_of


PEER = Single("flashinfer_single", tensor_cores=False)
