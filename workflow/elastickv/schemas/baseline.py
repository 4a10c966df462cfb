"""The record of a language-model baseline."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import MISSING, ConfigDict

from elastickv.schemas.base import Count, Model, Positive, Sha256, Text, Time, field, version
from elastickv.schemas.parts import Device, OnBackend, Rate, Reason, Software
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
    """The model that was run."""

    name: Text
    file: str | MISSING | None = MISSING
    revision: str | MISSING | None = MISSING
    sha256: Sha256 | MISSING | None = field(
        "of the weights' file; of several, the hash of what sha256sum prints of them", default=MISSING
    )
    config_sha256: Sha256 | MISSING | None = field(
        "the same of the configuration and tokenizer files beside safetensors weights;"
        " null for GGUF files, which hold their own",
        default=MISSING,
    )
    license: str | MISSING | None = MISSING
    parameters: int | MISSING | None = field("elements of all tensors", "elements", ge=1, default=MISSING)


class MeasuredRate(Rate):
    """Median with interval; samples raw."""

    confidence: float = field("of the interval", gt=0, lt=1)
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
    tokens: int | MISSING = field("decoded with this cache", "tokens", ge=1, default=MISSING)
    equal_tokens: Count | MISSING = field(
        "the first so many are those that the first cache decodes", "tokens", default=MISSING
    )
    reason: str | None = field("why there is no rate")


class Passage(Model):
    """What prompt and perplexity are taken from."""

    source: Text
    sha256: Sha256


class SelfCheck(Model):
    """A run's forward calls against one pass over all tokens; differences as shares of what another context changes."""

    tokens: int = field("compared", "tokens", ge=1)
    tolerance: Positive
    largest_difference: float = field("between the calls of a run and one pass", ge=0)
    causality_difference: float = field("what later tokens change in the logits before them", ge=0)
    seconds: float = field("that the check took", "seconds", ge=0)


class Baseline(Model):
    """What a language-model engine does with its own full cache on this device. No figures unless it ran."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            reason_unless_ok(),
            when(status("ok"), RAN),
            when(status("failed", "out_of_memory", "unsupported"), has(**all_null(*FIGURES))),
        )
    )

    schema_: Literal["baseline/2"] = version("baseline/2")
    engine: Text | MISSING = field("transformers, gguf …", default=MISSING)
    backend: OnBackend | MISSING | None = MISSING
    status: Literal["ok", "out_of_memory", "unsupported", "failed"]
    reason: Reason
    settings: dict[str, Any] | MISSING = field(
        "as configured, defaults filled in; what was used can be less (reps: the number of samples)", default=MISSING
    )
    model: LanguageModel
    device: Device | None
    software: Software
    started: Time
    ended: Time
    dtype: str | MISSING | None = MISSING
    prefill_tokens_per_second: MeasuredRate | MISSING | None = field("prefill rate", "tokens/s", default=MISSING)
    decode_tokens_per_second: MeasuredRate | MISSING | None = field("decode rate", "tokens/s", default=MISSING)
    time_to_first_token_ms: MeasuredRate | MISSING | None = field("time to first token", "ms", default=MISSING)
    perplexity: Positive | MISSING | None = MISSING
    perplexity_tokens: int | MISSING | None = field(
        "all but the first are predicted, each from all before it", "tokens", ge=1, default=MISSING
    )
    self_check: SelfCheck | MISSING = MISSING
    peak_memory_bytes: int | MISSING | None = field(
        "while measuring: allocated on the GPU, or the largest resident size of the process",
        "bytes",
        ge=1,
        default=MISSING,
    )
    generated_text: str | MISSING | None = field("greedy continuation of the prompt", default=MISSING)
    generated_tokens: list[Count] | MISSING = field("their numbers in the vocabulary", default=MISSING)
    attention: str | MISSING | None = field("attention implementation", default=MISSING)
    cache: str | MISSING | None = field("cache implementation", default=MISSING)
    caches: list[Cache] | MISSING = field(
        "decode rates by cache implementation: the first's is the record's, the others' of a few short runs",
        default=MISSING,
    )
    gpu_layers: int | MISSING | None = field("layers on the GPU; -1: all", "layers", ge=-1, default=MISSING)
    threads: int | MISSING | None = field("CPU threads", "threads", ge=1, default=MISSING)
    text: Passage | MISSING = MISSING
    prompt_tokens: int | MISSING | None = field("tokens of the prompt", "tokens", ge=1, default=MISSING)
    decode_tokens: int | MISSING | None = field("tokens generated in a repetition", "tokens", ge=1, default=MISSING)


ROOT, TITLE = Baseline, "Baseline record"
