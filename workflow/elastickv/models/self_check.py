"""Checks a loaded model before it is timed: do the forward calls of a run give the answers of the model?

A run fills a cache (prefill), continues with many tokens at once (perplexity) and with one at a time (decode). Here the
same tokens also go through one pass without a filled cache, and the logits of both ways are compared. A second such
pass, over tokens with a changed middle, serves two ends. Logits before the change must stay the same: the model is
causal. Logits after it do change, and by how much is the unit of every difference here: a model that ignores its cache
is off by about 1, however large its logits are, a right one by rounding. What was measured of right and wrong models,
and the tolerances that follow, are in docs/architectures.md.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from elastickv.models.refusal import Refusal, one_line, status_of

STEPS = 4  # single tokens
NEAR, FAR = 4, 4  # compared positions: the first after a seam, and others spread over the rest
FEWEST_TOKENS = 8  # of a prompt: the change needs tokens before, within and after it
EXACT, ROUNDED = 0.001, 0.35  # tolerances: in float32, and with fewer bits in weights, activations or cache
# The unit is at least this share of the logits' own size: rounding goes by their size, whatever the context does.
LEAST_UNIT = {EXACT: 0.003, ROUNDED: 0.05}
LOSSLESS = ("dynamic", "static")  # cache implementations that hold keys and values as they are
MARGIN = 1.25  # what a change of context has to do, beyond what the tolerance leaves to rounding
MASKED = -1e9  # logits below it are of tokens that the model never gives


class Engine(Protocol):
    """What is checked. Logits are float32 arrays [positions, vocabulary]."""

    chunk: int  # most tokens of one call of `extend`

    def whole_pass(self, tokens: Sequence[int], positions: Sequence[int]) -> np.ndarray:
        """Logits at `positions` (ascending) of one pass over `tokens` that finds no filled cache."""

    def prefill(self, tokens: Sequence[int]) -> None: ...

    def extend(self, tokens: Sequence[int], positions: Sequence[int]) -> np.ndarray:
        """Logits at `positions` (ascending) within `tokens`, which follow what the cache holds."""

    def decode(self, token: int, steps: int) -> list[int]: ...

    def logits(self) -> np.ndarray:
        """[vocabulary] after the last token of a prefill or of decoding."""

    def about(self) -> About: ...


@dataclass(frozen=True)
class About:
    """How an engine runs a model: fields of the record. None: unknown or not applicable."""

    dtype: str | None
    attention: str | None
    cache: str | None
    threads: int | None


@dataclass(frozen=True)
class Checked:
    """Field `self_check` of a record."""

    tokens: int
    tolerance: float
    largest_difference: float
    causality_difference: float
    seconds: float


@dataclass(frozen=True)
class Split:
    """Tokens by the call that they go through: prefill up to `head`, a chunk up to `prompt`, then single steps.

    `changed`: the same tokens but for those from `change` up to `head`.
    """

    tokens: list[int]
    changed: list[int]
    change: int
    head: int
    prompt: int

    @property
    def before(self) -> list[int]:
        return [self.change - 1 - position for position in reversed(spread(self.change))]

    @property
    def chunk(self) -> list[int]:
        return [self.head + position for position in spread(self.prompt - self.head)]

    @property
    def steps(self) -> list[int]:
        return list(range(self.prompt, len(self.tokens)))

    @property
    def compared(self) -> list[int]:
        return [*self.before, self.head - 1, *self.chunk, *self.steps]


def spread(count: int) -> list[int]:
    """Positions out of `count`, ascending: the first NEAR, then FAR (or fewer) up to the last."""
    rest = {NEAR - 1 + (count - NEAR) * (i + 1) // FAR for i in range(FAR)} if count > NEAR else set()
    return sorted({*range(min(NEAR, count)), *rest})


def split(text: Sequence[int], prompt: int, steps: int, chunk: int) -> Split:
    """The first `prompt` tokens of a text and `steps` more (from its beginning where it is too short).

    Raises Refusal if that is too short for the check.
    """
    if prompt < FEWEST_TOKENS:
        reason = f"a prompt of {prompt} tokens is too short for the self-check, which needs {FEWEST_TOKENS}"
        raise Refusal("unsupported", reason)
    kinds = sorted(set(text[:prompt]))
    if len(kinds) < 2:
        raise Refusal("failed", f"the tokenizer maps all text to token {kinds[0]}: is it this model's tokenizer?")
    head = prompt - min(chunk, prompt // 2)
    change = head // 2
    tokens = [text[i % len(text)] for i in range(prompt + steps)]
    other = dict(zip(kinds, kinds[1:] + kinds[:1], strict=True))
    middle = [other[token] for token in tokens[change:head]]
    return Split(tokens, tokens[:change] + middle + tokens[head:], change, head, prompt)


@dataclass(frozen=True)
class Reference:
    """What the calls of a run are compared with: logits by position, and the unit of differences."""

    split: Split
    rows: dict[int, np.ndarray]
    unit: float
    tolerance: float

    def difference(self, position: int, logits: np.ndarray) -> float:
        """Distance from the whole pass in units. Raises Refusal for what is no number."""
        return distance(logits, self.rows[position], position) / self.unit


def distance(logits: np.ndarray, others: np.ndarray, position: int) -> float:
    """L2 norm of the difference but for a constant, which leaves probabilities as they are."""
    given = ~(others <= MASKED)  # what is no number counts as given
    if not given.any() or not (np.isfinite(logits[given]).all() and np.isfinite(others[given]).all()):
        raise Refusal("failed", f"the model's logits at position {position} are not finite")
    apart = logits[given].astype(np.float64) - others[given]
    return float(np.linalg.norm(apart - apart.mean()))


def reference(engine: Engine, split: Split) -> tuple[Reference, float]:
    """The logits of a whole pass, and how far the model is from causal. Raises Refusal."""
    positions = split.compared
    rows, others = (
        dict(zip(positions, engine.whole_pass(tokens, positions), strict=True))
        for tokens in (split.tokens, split.changed)
    )
    about = engine.about()
    tolerance = EXACT if about.dtype == "float32" and about.cache in LOSSLESS else ROUNDED
    least = LEAST_UNIT[tolerance]
    after = split.chunk[:NEAR]
    effect = float(np.median([distance(rows[p], others[p], p) for p in after]))
    size = float(np.median([distance(rows[p], np.where(rows[p] <= MASKED, MASKED, 0), p) for p in after]))
    if effect <= MARGIN * tolerance * least * size:
        what = "the text before a token hardly changes its logits"
        share = f"by {effect / size if size else 0:.1g} of their size, {MARGIN * tolerance * least:.2g} is needed"
        raise Refusal(
            "unsupported" if effect else "failed", f"{what} ({share} to tell a use of the cache from rounding)"
        )
    made = Reference(split, rows, max(effect, least * size), tolerance)
    worst, position = max((made.difference(p, others[p]), p) for p in split.before)
    if not worst <= made.tolerance:
        what = f"the model is not causal: other tokens after position {position} change its logits there"
        raise Refusal("unsupported", f"{what} ({_by(worst, made)})")
    return made, worst


@dataclass(frozen=True)
class Call:
    """A forward call of a run: what it was, its first token, and the logits of compared positions."""

    what: str
    first: int
    rows: dict[int, np.ndarray]


def calls(engine: Engine, split: Split, chunk: bool) -> Iterator[Call]:
    """The calls of a run; those right after a seam and those further on apart.

    Without `chunk` the prefill takes the whole prompt.
    """
    head = split.head if chunk else split.prompt
    engine.prefill(split.tokens[:head])
    yield Call("a prefill", 0, {head - 1: engine.logits()})
    if chunk:
        rows = engine.extend(split.tokens[head : split.prompt], [position - head for position in split.chunk])
        pairs = list(zip(split.chunk, rows, strict=True))
        for part in filter(None, (pairs[:NEAR], pairs[NEAR:])):
            yield Call("several tokens at once after a filled cache", head, dict(part))
    steps = {}
    for position in split.steps:
        engine.decode(split.tokens[position], 1)
        steps[position] = engine.logits()
    yield Call("single tokens after a filled cache", split.prompt, steps)


def largest_difference(engine: Engine, made: Reference, chunk: bool = True) -> float:
    """Of all calls that `calls` gives. Raises Refusal when it is beyond the tolerance.

    In float32 every position counts. With fewer bits the median of a call's positions does: rounding sends single
    tokens to other experts, and then their logits alone are far off.
    """
    largest = 0.0
    for call in calls(engine, made.split, chunk):
        found = sorted((made.difference(position, logits), position) for position, logits in call.rows.items())
        difference, position = found[(len(found) - 1) // 2 if made.tolerance == ROUNDED else -1]
        if not difference <= made.tolerance:
            reason = f"with {call.what}, logits at position {position} are not those of one pass over all tokens"
            if call.first and _without_cache(engine, made, call, position):
                reason = f"the model ignores the cache it is given: {reason}"
            raise Refusal("unsupported", f"{reason} ({_by(difference, made)})")
        largest = max(largest, difference)
    return largest


def _without_cache(engine: Engine, made: Reference, call: Call, position: int) -> bool:
    """Whether logits are those of a pass that begins after the cache."""
    first = position if call.first == made.split.prompt else call.first
    alone = engine.whole_pass(made.split.tokens[first : position + 1], [position - first])[0]
    return distance(call.rows[position], alone, position) <= made.tolerance * made.unit


def _by(found: float, made: Reference) -> str:
    return f"by {found:.2g} of what another context changes, {made.tolerance:g} is allowed"


@contextlib.contextmanager
def _naming(call: str) -> Iterator[None]:
    """Whatever a model raises in a call that a run needs means that it cannot be run so; memory is another matter."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        if status_of(error) == "out_of_memory":
            raise
        traceback.print_exc()
        raise Refusal("unsupported", f"the engine cannot run {call} with this model: {one_line(error)}") from error


def check(engine: Engine, text: Sequence[int], prompt: int, steps: int) -> tuple[Checked, Reference]:
    """How far the calls are off, and what other caches are compared with. Raises Refusal.

    text: tokens; the first `prompt` ones are a run's prompt. steps: tokens that the run decodes.
    """
    began = time.perf_counter()
    planned = split(text, prompt, min(STEPS, steps), engine.chunk)
    with _naming("one pass over all tokens"):
        made, causality = reference(engine, planned)
    with _naming("a filled cache"):
        largest = largest_difference(engine, made)
    seconds = time.perf_counter() - began
    return Checked(len(planned.tokens), made.tolerance, largest, causality, seconds), made
