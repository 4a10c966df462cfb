"""Hugging Face Transformers as an engine of the protocol: forward passes and a greedy loop, not compiled."""

from __future__ import annotations

import contextlib
import gc
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from elastickv.device import host
from elastickv.models import loading, memory
from elastickv.models.fetching import Fetched
from elastickv.models.protocol import Settings
from elastickv.models.refusal import NO_GPU, Refusal, one_line
from elastickv.models.self_check import About

CHUNK = 512  # tokens whose logits are held at once
# How configurations call the number of positions; Transformers maps most other names to the first.
POSITIONS = ("max_position_embeddings", "max_seq_len", "max_target_positions")
CODE_NEEDED = "trust_remote_code"


def load(fetched: Fetched, settings: Settings, backend: str) -> TransformersEngine:
    """The model, in evaluation mode on its device. Raises Refusal; what Transformers raises passes through."""
    import torch
    import transformers

    if backend == "cuda" and not torch.cuda.is_available():
        raise Refusal(NO_GPU, f"torch {torch.__version__} of this environment cannot use the GPU")
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(settings.threads or host.usable_cores())
    dtype = _dtype(backend)
    free = torch.cuda.mem_get_info()[0] if backend == "cuda" else host.available_memory()
    memory.check_room((fetched.model.parameters or 0) * dtype.itemsize, free, f" as {_name(dtype)}")
    is_gguf = fetched.gguf_file is not None
    weights = (
        {"quantization_config": transformers.GgufConfig(dequantize=True)} if is_gguf else {"use_safetensors": True}
    )
    gc.disable()  # reading a GGUF file makes millions of small objects; with collections it takes half as long again
    try:
        with _no_code(), _only(fetched.folder, fetched.gguf_file) as (folder, common):
            tokenizer = _tokenizer(folder, common)
            # Other shapes are let through here and named by `loading.check`, with the rest that does not fit.
            model, loaded = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **common,
                **weights,
            )
            loading.check(model, loaded, Path(folder, fetched.gguf_file) if is_gguf else None)
    finally:
        gc.enable()
    engine = TransformersEngine(model.to("cuda" if backend == "cuda" else "cpu").eval(), tokenizer, settings)
    engine.use_cache(settings.caches[0])
    return engine


@contextlib.contextmanager
def _only(folder: str, gguf_file: str | None) -> Iterator[tuple[str, dict[str, bool | str]]]:
    """The folder to load from, and what every `from_pretrained` is given.

    A GGUF file is alone in it: of a tokenizer beside it Transformers would take parts.
    """
    common = {"trust_remote_code": False, "local_files_only": True}
    if gguf_file is None:
        yield folder, common
        return
    with tempfile.TemporaryDirectory(prefix="elastickv-") as alone:
        Path(alone, gguf_file).symlink_to(Path(folder, gguf_file))
        yield alone, {**common, "gguf_file": gguf_file}


def _tokenizer(folder: str, common: dict[str, bool | str]) -> Any:
    """The tokenizer, after a look at the configuration: what Transformers refuses of it is named with its file."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, **common)
    except Exception as error:
        if CODE_NEEDED in str(error):
            raise
        raise Refusal("failed", f"{common.get('gguf_file', 'config.json')}: {one_line(error)}") from error
    if not hasattr(config, "auto_map"):
        _check_kind(config)
    return transformers.AutoTokenizer.from_pretrained(folder, **common)


@contextlib.contextmanager
def _no_code() -> Iterator[None]:
    """Refuses a model that requires its own code."""
    try:
        yield
    except ValueError as error:
        if CODE_NEEDED in str(error):
            raise Refusal("unsupported", "the model requires its own Python code, which is never run") from error
        raise


def _check_kind(config: Any) -> None:
    """Raises Refusal for what is no decoder-only language model."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if config.is_encoder_decoder:
        raise Refusal("unsupported", f"{config.model_type} is an encoder-decoder model; a decoder-only one is needed")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise Refusal("unsupported", f"Transformers has no causal language model of type {config.model_type}")


def _dtype(backend: str) -> Any:
    """Half precision on a GPU (bfloat16 where it computes in it), float32 on a CPU."""
    import torch

    if backend == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float16


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def positions(config: Any) -> int | None:
    """The number of positions that a configuration allows; None if unspecified, or -1 or 0 for "no limit"."""
    found = (getattr(config, name, None) for name in POSITIONS)
    return next((value for value in found if isinstance(value, int) and value > 0), None)


class TransformersEngine:
    """A causal language model with one of Transformers' caches."""

    def __init__(self, model: Any, tokenizer: Any, settings: Settings):
        import torch

        self._torch, self._model, self._tokenizer = torch, model, tokenizer
        self._positions = settings.context + settings.decode_tokens
        self._kind = "dynamic"
        self._cuda = model.device.type == "cuda"
        self._cache: Any = None
        self._logits: Any = None
        self._selects = "logits_to_keep" in signature(model.forward).parameters
        self.chunk = CHUNK
        self.longest = positions(model.config.get_text_config())

    def tokenize(self, text: str) -> list[int]:
        """Raises Refusal when the model has no embedding for some of the tokens."""
        tokens = list(self._tokenizer(text, truncation=False)["input_ids"])
        embeddings = self._model.get_input_embeddings().weight.shape[0]
        if max(tokens, default=0) >= embeddings:
            reason = f"the tokenizer gives token {max(tokens)}, the model has embeddings for {embeddings}"
            raise Refusal("failed", f"{reason}: they do not belong together")
        return tokens

    def detokenize(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True)

    def use_cache(self, name: str) -> None:
        """What the next prefill fills. Raises ImportError when a library that it needs is not there."""
        self._kind, self._cache = name, None
        self._new_cache()

    def _new_cache(self) -> Any:
        """dynamic: keys and values grow by concatenation. static: they have their place from the start.

        fp8: stored with one scale per layer. hqq_int4, quanto_int4: groups of 64 in 4 bits, the last 128 tokens exact.
        """
        from transformers import DynamicCache, QuantizedCache, StaticCache

        config = self._model.config
        makers = {
            "dynamic": lambda: DynamicCache(config=config),
            "static": lambda: StaticCache(config=config, max_cache_len=self._positions),
            "fp8": lambda: QuantizedCache("fp8", config),
            "hqq_int4": lambda: QuantizedCache("hqq", config, nbits=4, axis_key=1, axis_value=1),
            "quanto_int4": lambda: QuantizedCache("quanto", config, nbits=4),
        }
        return makers[self._kind]()

    def _forward(self, ids: Any, keep: int) -> Any:
        """Logits [1, keep, vocabulary] (keep 0: all) of ids [1, n] after what the cache holds."""
        return self._run(ids, keep, past_key_values=self._cache, use_cache=True)[:, -keep:]

    def _run(self, ids: Any, keep: Any, **cache: Any) -> Any:
        """Logits [1, m, vocabulary]. `keep`: the last so many positions, or a tensor of positions.

        Models that cannot select give all positions.
        """
        selected = {"logits_to_keep": keep} if self._selects else {}
        with self._torch.inference_mode():
            return self._model(input_ids=ids, **cache, **selected).logits

    def whole_pass(self, tokens: Sequence[int], positions: Sequence[int]) -> Any:
        wanted = self._torch.tensor(list(positions), device=self._model.device)
        logits = self._run(self._ids(tokens), wanted, use_cache=False)[0]
        return self._array(logits if self._selects else logits[wanted])

    def extend(self, tokens: Sequence[int], positions: Sequence[int]) -> Any:
        return self._array(self._forward(self._ids(tokens), 0)[0, list(positions)])

    def logits(self) -> Any:
        return self._array(self._logits[0, -1])

    def _array(self, logits: Any) -> Any:
        return logits.float().cpu().numpy()

    def _ids(self, tokens: Sequence[int]) -> Any:
        return self._torch.tensor([list(tokens)], device=self._model.device)

    def _wait(self) -> None:
        if self._cuda:
            self._torch.cuda.synchronize()

    def negative_log_likelihood(self, tokens: Sequence[int]) -> float:
        """By chunks that share the cache, since logits of all tokens at once can be larger than the model."""
        self._cache, total = self._new_cache(), 0.0
        ids = self._ids(tokens)
        for begin in range(0, len(tokens) - 1, CHUNK):
            end = min(begin + CHUNK, len(tokens) - 1)
            logits = self._forward(ids[:, begin:end], 0)[0].float()
            loss = self._torch.nn.functional.cross_entropy(logits, ids[0, begin + 1 : end + 1], reduction="sum")
            total += loss.item()
        return total

    def prefill(self, tokens: Sequence[int]) -> None:
        self._cache = self._new_cache()
        self._logits = self._forward(self._ids(tokens), 1)
        self._wait()

    def likeliest(self) -> int:
        return int(self._logits[0, -1].argmax())

    def decode(self, token: int, steps: int) -> list[int]:
        """The next token is chosen on the device and read at the end, as a compiled or batched loop would."""
        fed = []
        current = self._ids([token])
        for _ in range(steps):
            fed.append(current)
            self._logits = self._forward(current, 1)
            current = self._logits[:, -1].argmax(-1, keepdim=True)
        self._wait()
        return self._torch.cat(fed, dim=1)[0].tolist()

    def reset_peak_memory(self) -> None:
        if self._cuda:
            self._torch.cuda.reset_peak_memory_stats()
        else:
            memory.reset_peak()

    def peak_memory_bytes(self) -> int:
        """On a GPU what torch allocated there, on a CPU what the process held."""
        return self._torch.cuda.max_memory_allocated() if self._cuda else memory.peak_bytes()

    def about(self) -> About:
        return About(
            dtype=_name(self._model.dtype),
            attention=self._model.config._attn_implementation,
            cache=self._kind,
            threads=None if self._cuda else self._torch.get_num_threads(),
        )


def software() -> dict[str, str | None]:
    """Versions for the record."""
    import torch
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__, "cuda": torch.version.cuda}
