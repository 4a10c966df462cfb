"""torch.nn.functional.scaled_dot_product_attention, by each of its backends and as it chooses itself."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

from elastickv.models.refusal import Refusal, one_line
from elastickv.peers.base import Inputs, Launch, Peer
from elastickv.schemas.case import DecodeCase

# How torch and cuDNN say that the chosen backend does not take these inputs (torch's warnings say why).
NO_KERNEL = ("No available kernel", "No viable backend", "cuDNN Frontend error", "execution plans support")
HALF = ("fp16", "bf16")


class Sdpa(Peer):
    """`choice`: a name of torch.nn.attention.SDPBackend, or None for torch's own choice.

    Grouped-query attention by `enable_gqa`, so that no head is copied; `grouped` hands the query heads that share a KV
    head over as the rows of one query block instead, which is the same without a mask and lets them share the reads.
    """

    needs = ("torch",)
    beside = ("nvidia-cudnn-cu13",)

    def __init__(
        self,
        choice: str | None = None,
        *,
        backends: tuple[str, ...] = ("cuda", "cpu"),
        dtypes: tuple[str, ...] = ("fp16", "bf16", "fp32"),
        grouped: bool = False,
    ):
        self.choice, self.backends, self.dtypes, self.grouped = choice, backends, dtypes, grouped
        text = f"sdpa_kernel({choice})" if choice else "its own choice of kernel"
        heads = "query heads of a KV head as rows" if grouped else "enable_gqa where heads share a KV head"
        self.times = f"one call of torch.nn.functional.scaled_dot_product_attention, {text}, {heads}"

    def supports(self, case: DecodeCase, backend: str) -> str | None:
        if backend not in self.backends:
            return f"torch supports {self.choice} only on NVIDIA GPUs"
        if case.dtype not in self.dtypes:
            return f"torch's {self.choice} supports {' and '.join(self.dtypes)}, not {case.dtype}"
        if self.grouped and case.heads == case.kv_heads:
            return "no heads share a KV head: the same as torch_default"
        return None

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """No gradients, and the backend chosen once."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        chosen = sdpa_kernel(getattr(SDPBackend, self.choice)) if self.choice else contextlib.nullcontext()
        with super().session(), chosen:
            yield

    def prepare(self, inputs: Inputs) -> Callable[[int], Launch]:
        """Tries one layer; what torch will not run is refused with its own reasons."""
        from torch.nn.functional import scaled_dot_product_attention

        shape = inputs.shape
        share = shape.heads != shape.kv_heads
        rows = shape.heads // shape.kv_heads if self.grouped else 1
        queries = [q.view(shape.batch, shape.heads // rows, rows, shape.dim) for q in inputs.q]

        def launch_of(layer: int) -> Launch:
            q, k, v = queries[layer], inputs.k[layer], inputs.v[layer]
            if share and not self.grouped:
                return lambda: scaled_dot_product_attention(q, k, v, enable_gqa=True)
            return lambda: scaled_dot_product_attention(q, k, v)

        _try(launch_of(0))
        return launch_of


def _try(launch: Launch) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            launch()
        except RuntimeError as error:
            if not any(words in str(error) for words in NO_KERNEL):
                raise
            reasons = dict.fromkeys(_first_sentence(str(warning.message)) for warning in seen)
            raise Refusal(
                "unsupported", "torch has no kernel for this: " + ("; ".join(reasons) or one_line(error))
            ) from error


def _first_sentence(warning: str) -> str:
    """A warning of torch without the place in its source."""
    return warning.partition(" (Triggered internally")[0].strip()


PEERS = {
    # As anyone gets it who calls it.
    "torch_default": Sdpa(),
    # The query heads of a KV head as one block: what a careful caller does for grouped queries.
    "torch_grouped": Sdpa(grouped=True),
    # cuDNN's fused attention.
    "torch_cudnn": Sdpa("CUDNN_ATTENTION", backends=("cuda",), dtypes=HALF),
    # FlashAttention-2 on a GPU, torch's own blocked kernel on a CPU.
    "torch_flash": Sdpa("FLASH_ATTENTION"),
    # The memory-efficient attention of xFormers, as it is built into torch.
    "torch_efficient": Sdpa("EFFICIENT_ATTENTION", backends=("cuda",)),
    # Attention in single operations: two products and a softmax.
    "torch_math": Sdpa("MATH"),
}
