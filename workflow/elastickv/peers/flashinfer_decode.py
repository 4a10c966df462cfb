"""What the adapters of FlashInfer share: what it takes, and trying a launch, which compiles the kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from elastickv.models.refusal import Refusal, one_line
from elastickv.peers.base import Inputs, Launch, attention_only
from elastickv.schemas.case import AnyCase

LIBRARY = "flashinfer-python"
DTYPES = ("fp16", "bf16")
DIMS = (64, 128, 256)


class FlashInfer:
    """A decode kernel of FlashInfer, `tensor_cores` or not. Subclasses offer `launches`."""

    library = LIBRARY
    times = ""

    def __init__(self, name: str, tensor_cores: bool):
        self.name, self.tensor_cores = name, tensor_cores

    def supports(self, case: AnyCase, backend: str) -> str | None:
        """See base.Peer."""
        if attention_only(case):
            return attention_only(case)
        if backend != "cuda":
            return "FlashInfer runs on NVIDIA GPUs alone"
        if case.dtype not in DTYPES:
            return f"FlashInfer decodes {' and '.join(DTYPES)}, not {case.dtype}"
        if case.dim not in DIMS:
            return f"FlashInfer decodes dims {', '.join(map(str, DIMS))}, not {case.dim}"
        return None

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """No gradients."""
        import torch

        with torch.inference_mode():
            yield

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


def _refuses(said: str) -> bool:
    """Whether an error is about what FlashInfer takes, rather than CUDA's `operation not supported`."""
    return "support" in said and "operation not supported" not in said
