"""llama.cpp (through llama-cpp-python) as an engine of the protocol: a GGUF file as it is, with quantised weights."""

from __future__ import annotations

import ctypes
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from elastickv.device import host
from elastickv.models import gpu, llama_log, memory
from elastickv.models.fetching import Fetched
from elastickv.models.protocol import AboutLayers, Settings
from elastickv.models.refusal import NO_GPU, Refusal, failure

BATCH = 512  # tokens evaluated at once, llama.cpp's own default
WHOLE = 2048  # tokens that the self-check evaluates at once


def load(fetched: Fetched, settings: Settings, backend: str) -> LlamaEngine:
    """The model with room for prompt and generated tokens. Raises Refusal; what llama.cpp raises passes through."""
    import llama_cpp

    if backend == "cuda" and not llama_cpp.llama_supports_gpu_offload():
        raise Refusal(NO_GPU, "llama.cpp of this environment was built without CUDA")
    path = Path(fetched.folder, fetched.gguf_file)
    used_before = gpu.used_bytes() if backend == "cuda" else None
    if backend == "cpu":
        memory.check_room(fetched.bytes, host.available_memory())
    positions = settings.context + settings.decode_tokens
    threads = settings.threads or host.usable_cores()
    layers = settings.n_gpu_layers if backend == "cuda" else 0
    kind = getattr(llama_cpp, f"GGML_TYPE_{settings.kv_type.upper()}")
    try:
        with llama_log.loading():
            model = llama_cpp.Llama(
                str(path),
                n_ctx=positions,
                n_batch=min(BATCH, positions),
                n_threads=threads,
                n_threads_batch=threads,
                n_gpu_layers=layers,
                flash_attn=True,  # what llama.cpp takes where it can, and what quantised values need
                type_k=kind,
                type_v=kind,
                verbose=True,
            )
    except ValueError as error:
        raise failure(llama_log.reason(f"{path.name}: llama.cpp cannot load it")) from error
    about = AboutLayers(
        dtype=fetched.dtype,
        attention="flash",
        cache=settings.kv_type,
        threads=threads,
        gpu_layers=layers if backend == "cuda" else None,
    )
    return LlamaEngine(model, about, used_before)


def _fill(batch: Any, tokens: Sequence[int], begin: int, wanted: Container[int]) -> None:
    """Tokens of the one sequence from position `begin` on; logits of those whose index is wanted."""
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i] = token
        batch.pos[i] = begin + i
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = 0
        batch.logits[i] = i in wanted


class LlamaEngine:
    """One sequence in llama.cpp's cache, evaluated through its C interface.

    used_before: what was in use on the GPU before the model was loaded; None on a CPU.
    """

    def __init__(self, model: Any, about: AboutLayers, used_before: int | None):
        import llama_cpp

        self._api, self._model, self._about, self._used_before = llama_cpp, model, about, used_before
        self._vocabulary = model.n_vocab()
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self._used = 0  # positions in the cache
        self.chunk = BATCH
        self._logits: Any = None
        longest = self._api.llama_model_n_ctx_train(model.model)
        self.longest = longest if longest > 0 else None

    def tokenize(self, text: str) -> list[int]:
        """With the special tokens that the model's own tokenizer adds; what looks like one in the text is text."""
        return self._model.tokenize(text.encode(), add_bos=True, special=False)

    def detokenize(self, tokens: Sequence[int]) -> str:
        return self._model.detokenize(list(tokens)).decode("utf-8", errors="replace")

    def _clear(self) -> None:
        self._api.llama_memory_clear(self._api.llama_get_memory(self._model.ctx), True)
        self._used = 0

    def _evaluate(self, tokens: Sequence[int], all_logits: bool = False) -> Any:
        """Logits [n or 1, vocabulary] after what the cache holds, of all of at most BATCH tokens or of the last one.

        A view of llama.cpp's memory, valid until the next call.
        """
        count = len(tokens)
        _fill(self._batch, tokens, self._used, range(count) if all_logits else {count - 1})
        llama_log.MESSAGES.clear()
        code = self._api.llama_decode(self._model.ctx, self._batch)
        if code:
            raise failure(llama_log.reason(f"llama_decode of {count} tokens after {self._used} returned {code}"))
        self._used += count
        return self._rows(self._model.ctx, count if all_logits else 1)

    def _rows(self, context: Any, count: int) -> Any:
        """Logits [count, vocabulary] of the last evaluation, a view; waits for the device."""
        import numpy as np

        logits = self._api.llama_get_logits(context)
        if not logits:
            raise Refusal("unsupported", "llama.cpp has no logits for this model: it does not generate text")
        return np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (count, self._vocabulary))

    def whole_pass(self, tokens: Sequence[int], positions: Sequence[int]) -> Any:
        """In a separate context whose single batch holds WHOLE tokens, so that it has no seams where the run has some.

        Its cache is of the same type and empty.
        """
        parameters = type(self._model.context_params).from_buffer_copy(self._model.context_params)
        parameters.n_batch, parameters.n_ubatch = len(tokens), min(len(tokens), WHOLE)
        context = self._api.llama_init_from_model(self._model.model, parameters)
        if not context:
            raise Refusal("out_of_memory", "not enough memory for the self-check's second cache")
        batch = self._api.llama_batch_init(len(tokens), 0, 1)
        try:
            _fill(batch, tokens, 0, set(positions))
            code = self._api.llama_decode(context, batch)
            if code:
                raise Refusal("failed", f"llama_decode of {len(tokens)} tokens at once returned {code}")
            return self._rows(context, len(positions)).copy()
        finally:
            self._api.llama_batch_free(batch)
            self._api.llama_free(context)

    def extend(self, tokens: Sequence[int], positions: Sequence[int]) -> Any:
        return self._evaluate(tokens, all_logits=True)[list(positions)]

    def logits(self) -> Any:
        return self._logits[0].copy()

    def negative_log_likelihood(self, tokens: Sequence[int]) -> float:
        import numpy as np

        self._clear()
        total = 0.0
        for begin in range(0, len(tokens) - 1, BATCH):
            chunk = tokens[begin : min(begin + BATCH, len(tokens) - 1)]
            logits = self._evaluate(chunk, all_logits=True)
            nexts = np.asarray(tokens[begin + 1 : begin + 1 + len(chunk)])
            largest = logits.max(axis=1)
            sums = np.log(np.exp(logits - largest[:, None]).sum(axis=1, dtype=np.float64)) + largest
            total += float((sums - logits[np.arange(len(chunk)), nexts]).sum())
        return total

    def prefill(self, tokens: Sequence[int]) -> None:
        self._clear()
        for begin in range(0, len(tokens), BATCH):
            self._logits = self._evaluate(tokens[begin : begin + BATCH])

    def likeliest(self) -> int:
        return int(self._logits[0].argmax())

    def decode(self, token: int, steps: int) -> list[int]:
        fed = []
        for _ in range(steps):
            fed.append(token)
            self._logits = self._evaluate([token])
            token = self.likeliest()
        return fed

    def reset_peak_memory(self) -> None:
        memory.reset_peak()

    def peak_memory_bytes(self) -> int:
        """What came into use on the GPU since loading began (llama.cpp frees none of it), or the process held."""
        used = gpu.used_bytes() if self._used_before is not None else None
        return memory.peak_bytes() if used is None else used - self._used_before

    def about(self) -> AboutLayers:
        return self._about


def software() -> dict[str, str | None]:
    """Versions for the record, and what the library was compiled for."""
    import llama_cpp

    return {
        "llama-cpp-python": llama_cpp.__version__,
        "llama.cpp built with": llama_cpp.llama_print_system_info().decode().strip(" |\n"),
    }
