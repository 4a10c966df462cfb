"""FlashInfer's decode of one sequence and of a batch over a paged cache, each on CUDA cores and on tensor cores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from elastickv.models.refusal import Refusal, one_line
from elastickv.peers.base import Inputs, Launch, Peer
from elastickv.schemas.case import DecodeCase

DTYPES = ("fp16", "bf16")
DIMS = (64, 128, 256)
PAGE_SLOTS = 64
WORKSPACE_BYTES = 256 << 20


class FlashInfer(Peer):
    """A decode kernel of FlashInfer, `tensor_cores` or not. Subclasses offer `launches`."""

    needs = ("flashinfer-python", "torch")

    def __init__(self, tensor_cores: bool):
        self.tensor_cores = tensor_cores

    def supports(self, case: DecodeCase, backend: str) -> str | None:
        if backend != "cuda":
            return "FlashInfer runs only on NVIDIA GPUs"
        if case.dtype not in DTYPES:
            return f"FlashInfer decodes {' and '.join(DTYPES)}, not {case.dtype}"
        if case.dim not in DIMS:
            return f"FlashInfer decodes dims {', '.join(map(str, DIMS))}, not {case.dim}"
        return None

    def prepare(self, inputs: Inputs) -> Callable[[int], Launch]:
        """Plans, compiles and tries one layer."""
        try:
            launch_of = self.launches(inputs)
            launch_of(0)()
        except (RuntimeError, ValueError, NotImplementedError) as error:
            if not (isinstance(error, NotImplementedError) or _refuses(str(error).lower())):
                raise
            raise Refusal("unsupported", f"FlashInfer: {one_line(error)}") from error
        return launch_of

    def launches(self, inputs: Inputs) -> Callable[[int], Launch]:
        """The launch of a layer, planned."""
        raise NotImplementedError


def _refuses(text: str) -> bool:
    """Whether an error is about what FlashInfer takes, rather than CUDA's `operation not supported`."""
    return "support" in text and "operation not supported" not in text


class Single(FlashInfer):
    """`single_decode_with_kv_cache` on the cache as it lies: [kv_heads, slots, dim]."""

    times = "one call of flashinfer.single_decode_with_kv_cache, layout HND"

    def supports(self, case: DecodeCase, backend: str) -> str | None:
        refused = super().supports(case, backend)
        if refused or case.batch == 1:
            return refused
        return f"decodes one sequence, not {case.batch}"

    def launches(self, inputs: Inputs) -> Callable[[int], Launch]:
        from flashinfer import single_decode_with_kv_cache

        def launch_of(layer: int) -> Launch:
            q, k, v = inputs.q[layer][0], inputs.k[layer][0], inputs.v[layer][0]
            return lambda: single_decode_with_kv_cache(q, k, v, kv_layout="HND", use_tensor_cores=self.tensor_cores)

        return launch_of


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


PEERS = {
    "flashinfer_single": Single(tensor_cores=False),
    "flashinfer_single_tensor": Single(tensor_cores=True),
    "flashinfer_batch": Batch(tensor_cores=False),
    "flashinfer_batch_tensor": Batch(tensor_cores=True),
}
