"""The record of a language-model baseline."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import MISSING, ConfigDict

from elastickv.schemas.base import Count, Model, Positive, Sha256, Text, Time, field, optional, version
from elastickv.schemas.parts import Device, OnBackend, Rate, Reason, Software
from elastickv.schemas.provenance import Provenance
from elastickv.schemas.rules import NUMBER, OBJECT, STRING, all_null, has, reason_unless_ok, rules, status, when

RATES = ("prefill_tokens_per_second", "decode_tokens_per_second", "time_to_first_token_ms")
FIGURES = (*RATES, "perplexity", "peak_memory_bytes", "generated_text")
RAN = has(
    *FIGURES,
    "backend",
    "dtype",
    "self_check",
    backend=STRING,
    device=OBJECT,
    dtype=STRING | {"minLength": 1},
    perplexity=NUMBER,
    generated_text=STRING,
    **dict.fromkeys(RATES, OBJECT),
)


class LanguageModel(Model):
    """The model that was measured."""

    name: Text
    file: str | MISSING | None = MISSING
    revision: str | MISSING | None = MISSING
    sha256: Sha256 | MISSING | None = optional(
        "sha256 of the weights file; for several files, of their sha256sum output"
    )
    config_sha256: Sha256 | MISSING | None = optional(
        "the same for the configuration and tokenizer files next to safetensors weights;"
        " null for GGUF files, which contain theirs"
    )
    license: str | MISSING | None = MISSING
    parameters: int | MISSING | None = optional("total number of elements of all tensors", "elements", ge=1)


class MeasuredRate(Rate):
    """A median with its interval and the raw samples."""

    confidence: float = field("confidence of the interval", gt=0, lt=1)
    method: Text
    resamples: Count
    seed: Count


class Cache(Model):
    """The decode rate with one cache implementation."""

    model_config = ConfigDict(
        json_schema_extra={"dependentRequired": {"tokens": ["equal_tokens"], "equal_tokens": ["tokens"]}}
    )

    name: Text
    decode_tokens_per_second: MeasuredRate | None = field("decode rate", "tokens/s")
    tokens: int | MISSING = optional("tokens decoded with this cache", "tokens", ge=1)
    equal_tokens: Count | MISSING = optional("length of the common prefix with the tokens of the first cache", "tokens")
    reason: str | None = field("why there is no rate; null if there is one")


class Passage(Model):
    """The text that the prompt and the perplexity are taken from."""

    source: Text
    sha256: Sha256


class SelfCheck(Model):
    """A run's forward calls compared with one pass over all tokens, relative to the effect of a different context."""

    tokens: int = field("compared", "tokens", ge=1)
    tolerance: Positive
    largest_difference: float = field("largest relative difference between a run's calls and the single pass", ge=0)
    causality_difference: float = field("relative change of earlier logits caused by later tokens", ge=0)
    seconds: float = field("duration of the check", "seconds", ge=0)


class Baseline(Model):
    """A language-model engine with its own full cache on this device. It has figures only if it ran."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            reason_unless_ok(),
            when(status("ok"), RAN),
            when(status("failed", "out_of_memory", "unsupported"), has(**all_null(*FIGURES))),
        )
    )

    schema_: Literal["baseline/2"] = version("baseline/2")
    engine: Text | MISSING = optional("transformers, gguf …")
    backend: OnBackend | MISSING | None = MISSING
    status: Literal["ok", "out_of_memory", "unsupported", "failed"]
    reason: Reason
    settings: dict[str, Any] | MISSING = optional(
        "the settings with defaults; the repetitions made may be fewer, see the samples"
    )
    model: LanguageModel
    device: Device | None
    software: Software
    provenance: Provenance = field("of the run that measured it")
    started: Time
    ended: Time
    dtype: str | MISSING | None = MISSING
    prefill_tokens_per_second: MeasuredRate | MISSING | None = optional("prefill rate", "tokens/s")
    decode_tokens_per_second: MeasuredRate | MISSING | None = optional("decode rate", "tokens/s")
    time_to_first_token_ms: MeasuredRate | MISSING | None = optional("time to first token", "ms")
    perplexity: Positive | MISSING | None = MISSING
    perplexity_tokens: int | MISSING | None = optional(
        "tokens of the text; each but the first is predicted from all earlier ones", "tokens", ge=1
    )
    self_check: SelfCheck | MISSING = MISSING
    peak_memory_bytes: int | MISSING | None = optional(
        "peak during the measurement: allocated on the GPU, or resident memory of the process", "bytes", ge=1
    )
    generated_text: str | MISSING | None = optional("greedy continuation of the prompt")
    generated_tokens: list[Count] | MISSING = optional("vocabulary ids of the generated tokens")
    attention: str | MISSING | None = optional("attention implementation")
    cache: str | MISSING | None = optional("cache implementation")
    caches: list[Cache] | MISSING = optional(
        "decode rates by cache implementation; the first has the record's rate, the others are from a few short runs"
    )
    gpu_layers: int | MISSING | None = optional("layers that run on the GPU; -1: all", "layers", ge=-1)
    threads: int | MISSING | None = optional("CPU threads", "threads", ge=1)
    text: Passage | MISSING = MISSING
    prompt_tokens: int | MISSING | None = optional("tokens of the prompt", "tokens", ge=1)
    decode_tokens: int | MISSING | None = optional("tokens generated per repetition", "tokens", ge=1)


ROOT, TITLE = Baseline, "Baseline record"
