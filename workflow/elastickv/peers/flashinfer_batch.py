"""FlashInfer's decode of a batch over a paged cache, on CUDA cores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from elastickv.peers.base import Inputs, Launch
from elastickv.peers.flashinfer_decode import FlashInfer

PAGE_SLOTS = 64
WORKSPACE_BYTES = 256 << 20


def paged(cache: Any) -> Any:
    """[batch, kv_heads, slots, dim] -> pages in order [batch * pages, kv_heads, PAGE_SLOTS, dim], last ones padded."""
    from torch.nn.functional import pad

    batch, kv_heads, slots, dim = cache.shape
    pages = pages_of(slots)
    whole = pad(cache, (0, 0, 0, pages * PAGE_SLOTS - slots)).view(batch, kv_heads, pages, PAGE_SLOTS, dim)
    return whole.transpose(1, 2).contiguous().view(batch * pages, kv_heads, PAGE_SLOTS, dim)


def pages_of(slots: int) -> int:
    """Pages that a sequence takes."""
    return -(-slots // PAGE_SLOTS)


class Batch(FlashInfer):
    """`BatchDecodeWithPagedKVCacheWrapper`, planned once for all layers, as an inference engine does."""

    times = (
        f"one run of flashinfer.BatchDecodeWithPagedKVCacheWrapper, planned before; HND, pages of {PAGE_SLOTS} slots"
    )

    def launches(self, inputs: Inputs) -> Callable[[int], Launch]:
        """Copies the caches into pages; all layers share one plan."""
        import torch
        from flashinfer import BatchDecodeWithPagedKVCacheWrapper

        shape, device = inputs.shape, inputs.q[0].device
        pages = pages_of(shape.slots)
        caches = [(paged(k), paged(v)) for k, v in zip(inputs.k, inputs.v, strict=True)]
        integers = {"dtype": torch.int32, "device": device}
        indptr = torch.arange(shape.batch + 1, **integers) * pages
        indices = torch.arange(shape.batch * pages, **integers)
        last = torch.full((shape.batch,), shape.slots - (pages - 1) * PAGE_SLOTS, **integers)
        wrapper = BatchDecodeWithPagedKVCacheWrapper(
            torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=device),
            "HND",
            use_cuda_graph=True,
            use_tensor_cores=self.tensor_cores,
            paged_kv_indptr_buffer=indptr.clone(),
            paged_kv_indices_buffer=indices.clone(),
            paged_kv_last_page_len_buffer=last.clone(),
        )
        dtype = inputs.q[0].dtype
        wrapper.plan(
            indptr.cpu(), indices, last.cpu(), shape.heads, shape.kv_heads, shape.dim, PAGE_SLOTS,
            q_data_type=dtype, kv_data_type=dtype,
        )  # fmt: skip

        def launch_of(layer: int) -> Launch:
            q, cache = inputs.q[layer], caches[layer]
            return lambda: wrapper.run(q, cache)

        return launch_of


PEER = Batch("flashinfer_batch", tensor_cores=False)
