"""The measurement protocol of language models, the same for every engine: prompt, perplexity, repetitions.

Runs in an engine's environment: it imports the standard library, and numpy for the self-check.

- Self-check (`self_check.py`): a model that does not do what a run assumes has no figures.
- Prompt: the first `context` tokens of the fixed text, by the model's own tokenizer with the special tokens it adds
  (fewer where text or model is shorter: prompt and generated tokens have to fit).
- Perplexity: exp of the mean of -ln p(token | all tokens before it) over the prompt's tokens but the first.
- A repetition empties the cache, runs the prompt through the model (prefill) and takes the likeliest token (the time
  to first token), then feeds `decode_tokens` tokens one at a time, each time taking the likeliest next one (decode).
  One goes before those that count: on a GPU the first pass through each length loads kernels, at a quarter of the rate.
- Engines with several cache implementations: all of this with the first; the others prefill once and decode CACHE_RUNS
  times CACHE_STEPS tokens (no more than `decode_tokens` in all), which are compared with the first's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

from elastickv import records
from elastickv.models import self_check, text
from elastickv.models.refusal import Refusal, one_line
from elastickv.models.self_check import About, Checked

VERSION = 4  # version of this protocol: records of another version are not taken from the store
FEWEST_REPS = 3
CACHE_RUNS, CACHE_STEPS = 3, 8  # for each cache implementation except the first


@dataclass(frozen=True)
class Settings:
    """Settings for running a model, from the config; an engine uses those that it supports."""

    context: int
    decode_tokens: int
    reps: int
    max_seconds: float
    threads: int | None = None
    caches: Sequence[str] = ()
    n_gpu_layers: int = 0
    kv_type: str = "f16"

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Settings:
        """Those of a request, which has more."""
        return cls(**{field.name: content[field.name] for field in fields(cls) if field.name in content})


@dataclass(frozen=True)
class AboutLayers(About):
    """How llama.cpp runs a model. gpu_layers: of them on the GPU, None on a CPU."""

    gpu_layers: int | None


@dataclass(frozen=True)
class Repetition:
    """Seconds of prefill, to the first token and of all decode steps."""

    prefill: float
    first: float
    decode: float


@dataclass(frozen=True)
class CacheRun:
    """Seconds of a decode step in each run with a cache implementation, or why there are none.

    tokens: decoded in all runs, equal_tokens: the first so many are the first cache's. Of the first cache itself only
    the name: its figures are those of the repetitions.
    """

    name: str
    reason: str | None = None
    step_seconds: list[float] | None = None
    tokens: int | None = None
    equal_tokens: int | None = None


@dataclass(frozen=True)
class Measured:
    """What a worker finds: raw figures."""

    about: AboutLayers | About
    self_check: Checked
    prompt_tokens: int
    decode_tokens: int
    seconds: list[Repetition]
    perplexity: float
    perplexity_tokens: int
    peak_memory_bytes: int
    generated_tokens: list[int]
    generated_text: str
    caches: list[CacheRun]

    def to_json(self) -> records.Json:
        """As a worker answers it."""
        return asdict(self)


class Engine(self_check.Engine, Protocol):
    """A loaded model. Every call returns when the device has finished."""

    longest: int | None  # positions that the model allows, None when it does not say

    def tokenize(self, text: str) -> list[int]: ...

    def detokenize(self, tokens: Sequence[int]) -> str: ...

    def negative_log_likelihood(self, tokens: Sequence[int]) -> float:
        """Sum of -ln p(token | tokens before it) over all tokens but the first."""

    def prefill(self, tokens: Sequence[int]) -> None:
        """Empties the cache and runs `tokens` through the model."""

    def likeliest(self) -> int:
        """The likeliest token after what the cache holds."""

    def decode(self, token: int, steps: int) -> list[int]:
        """Feeds `token`, then each likeliest next one: the `steps` tokens that were fed."""

    def use_cache(self, name: str) -> None:
        """The cache implementation from the next prefill on; only for engines whose settings list `caches`."""

    def reset_peak_memory(self) -> None: ...

    def peak_memory_bytes(self) -> int: ...


def prompt_length(available: int, context: int, decode_tokens: int, longest: int | None) -> int:
    """Tokens of the prompt. Raises Refusal when the model has no room for two of them and what is generated."""
    room = math.inf if longest is None else longest - decode_tokens
    length = min(available, context, room)
    if length < 2:
        raise Refusal(
            "unsupported",
            f"the model allows {longest} positions: decode_tokens {decode_tokens} leaves none for a prompt",
        )
    return int(length)


def measure(engine: Engine, settings: Settings, progress: Callable[[str], None]) -> Measured:
    """Raw figures: seconds of each repetition, perplexity, peak memory, what was generated. Raises Refusal."""
    available = engine.tokenize(text.read())
    steps = settings.decode_tokens
    prompt = available[: prompt_length(len(available), settings.context, steps, engine.longest)]
    progress("self-check")
    checked, reference = self_check.check(engine, available, len(prompt), steps)
    progress("perplexity")
    engine.reset_peak_memory()
    perplexity = perplexity_of(engine.negative_log_likelihood(prompt), len(prompt))
    progress("warm-up")
    repetition(engine, prompt, steps)
    seconds, generated = [], []
    started = time.perf_counter()
    while len(seconds) < settings.reps:
        if len(seconds) >= FEWEST_REPS and time.perf_counter() - started > settings.max_seconds:
            break
        progress(f"repetition {len(seconds) + 1} of at most {settings.reps}")
        times, tokens = repetition(engine, prompt, steps)
        if generated and tokens != generated:
            raise Refusal("failed", "greedy decoding gave different tokens when repeated")
        seconds.append(times)
        generated = tokens
    about, peak = engine.about(), engine.peak_memory_bytes()  # before other caches change them
    names = settings.caches
    others = [other_cache(engine, name, prompt, generated, reference, progress) for name in names[1:]]
    return Measured(
        about=about,
        self_check=checked,
        prompt_tokens=len(prompt),
        decode_tokens=steps,
        seconds=seconds,
        perplexity=perplexity,
        perplexity_tokens=len(prompt),
        peak_memory_bytes=peak,
        generated_tokens=generated,
        generated_text=engine.detokenize(generated),
        caches=[CacheRun(name) for name in names[:1]] + others,
    )


def other_cache(
    engine: Engine,
    name: str,
    prompt: Sequence[int],
    expected: Sequence[int],
    reference: self_check.Reference,
    progress: Callable[[str], None],
) -> CacheRun:
    """Seconds of a few runs of decode steps with another cache implementation, or why there are none.

    No more tokens than `expected`: model and caches have room for those. `reference`: what a cache that loses nothing
    has to agree with.
    """
    progress(f"cache {name}")
    steps = max(1, min(CACHE_STEPS, len(expected) // CACHE_RUNS))
    tokens: list[int] = []
    seconds = []
    try:
        engine.use_cache(name)
        if name in self_check.LOSSLESS:
            self_check.largest_difference(engine, reference, chunk=False)
        engine.prefill(prompt)
        for _ in range(min(CACHE_RUNS, len(expected))):
            first = engine.likeliest()
            begin = time.perf_counter()
            tokens += engine.decode(first, steps)
            seconds.append((time.perf_counter() - begin) / steps)
    except Refusal as refusal:
        return CacheRun(name, str(refusal))
    except Exception as error:  # the other caches have their figures: one that fails takes nothing from them
        return CacheRun(name, one_line(error))
    return CacheRun(name, None, seconds, len(tokens), equal_tokens(tokens, expected))


def equal_tokens(tokens: Sequence[int], expected: Sequence[int]) -> int:
    """How many leading tokens are the same."""
    pairs = list(zip(tokens, expected, strict=False))
    return next((i for i, (one, other) in enumerate(pairs) if one != other), len(pairs))


def perplexity_of(negative_log_likelihood: float, tokens: int) -> float:
    """exp of the mean over tokens - 1 predictions. Raises Refusal when the model gave no finite likelihood."""
    mean = negative_log_likelihood / (tokens - 1)
    if not math.isfinite(mean) or mean > 700:  # exp(710) overflows
        raise Refusal("failed", f"the model's likelihood of the text is not finite (mean -ln p is {mean})")
    return math.exp(mean)


def repetition(engine: Engine, prompt: Sequence[int], steps: int) -> tuple[Repetition, list[int]]:
    """The seconds of a repetition of `steps` decode steps, and the tokens that were fed in those."""
    begin = time.perf_counter()
    engine.prefill(prompt)
    prefilled = time.perf_counter()
    first = engine.likeliest()
    chosen = time.perf_counter()
    tokens = engine.decode(first, steps)
    end = time.perf_counter()
    return Repetition(prefilled - begin, chosen - begin, end - chosen), tokens
