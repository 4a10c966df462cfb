"""From a worker's raw figures to a baseline record: rates with intervals, and a status. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

from pydantic import TypeAdapter

from elastickv import records
from elastickv.measure import statistics
from elastickv.models import protocol
from elastickv.schemas.base import given
from elastickv.schemas.baseline import Baseline, Cache, LanguageModel, MeasuredRate, Passage
from elastickv.schemas.parts import Device, OnBackend, Software
from elastickv.schemas.provenance import Provenance

CONFIDENCE = 0.99
# Relative half-width of the decode rate's interval beyond which a reader calls a record `noisy`; the record is `ok`.
NOISE = {"cuda": 0.10, "cpu": 0.25}


@dataclass(frozen=True)
class Head:
    """What is known of a record without measuring; text: the passage, once it is known that it will be run."""

    engine: str
    backend: OnBackend | None
    settings: records.Json
    model: LanguageModel
    device: Device | None
    software: Software
    provenance: Provenance
    started: str
    text: Passage | None = None

    def fields(self) -> dict[str, object]:
        """Fields of the record."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in found.items() if name != "text" or value is not None}


@cache
def _measured() -> TypeAdapter[protocol.Measured]:
    return TypeAdapter(protocol.Measured)


def read(content: records.Json) -> protocol.Measured:
    """What a worker measured, of its answer."""
    return _measured().validate_python(content)


def rate(samples: Sequence[float]) -> MeasuredRate:
    """Median of the repetitions with its interval (few: their range) and the samples themselves."""
    interval = statistics.median_interval(samples, CONFIDENCE)
    return MeasuredRate(**interval.model_dump(), samples=[float(sample) for sample in samples])


def as_judged(record: Baseline) -> Baseline:
    """A record with the status and reason that its decode rate's interval allows: of an `ok` one it may be `noisy`.

    The copy is not validated: no written record is `noisy`.
    """
    if record.status != "ok":
        return record
    rate, most = record.decode_tokens_per_second, NOISE[record.backend]
    width = (rate.high - rate.low) / 2 / rate.value
    if width <= most:
        return record
    reason = f"the half-width of the decode rate's interval is {width:.0%} of its value, more than {most:.0%}"
    return record.model_copy(update={"status": "noisy", "reason": f"{reason}: other load on the machine?"})


def rates(measured: protocol.Measured) -> dict[str, MeasuredRate]:
    """Tokens/s of prefill and decode and ms to the first token, from the seconds of each repetition."""
    seconds = measured.seconds
    return {
        "prefill_tokens_per_second": rate([measured.prompt_tokens / times.prefill for times in seconds]),
        "decode_tokens_per_second": rate([measured.decode_tokens / times.decode for times in seconds]),
        "time_to_first_token_ms": rate([times.first * 1e3 for times in seconds]),
    }


def without(head: Head, status: str, reason: str, ended: str) -> Baseline:
    """The record of what was not measured."""
    return Baseline(**head.fields(), status=status, reason=reason, ended=ended)


def compose(head: Head, measured: protocol.Measured, ended: str) -> Baseline:
    """The record of what a worker measured."""
    found, figures = rates(measured), asdict(measured)
    figures = {name: figures[name] for name in figures if name not in ("about", "seconds", "caches")} | figures["about"]
    caches = [_cache(run, found["decode_tokens_per_second"]) for run in measured.caches]
    return Baseline(
        **head.fields(),
        status="ok",
        reason=None,
        ended=ended,
        **found,
        **figures,
        **({"caches": caches} if caches else {}),
    )


def _cache(run: protocol.CacheRun, first: MeasuredRate) -> Cache:
    """The decode rate of a cache implementation; for the first one, which has no separate runs, the record's rate."""
    if run.step_seconds is None:
        return Cache(name=run.name, decode_tokens_per_second=None if run.reason else first, reason=run.reason)
    own = rate([1 / step for step in run.step_seconds])
    return Cache(
        name=run.name,
        decode_tokens_per_second=own,
        tokens=run.tokens,
        equal_tokens=run.equal_tokens,
        reason=run.reason,
    )


def describe(made: Baseline) -> str:
    """One line on a record, for logs and terminals."""
    line = f"{made.engine} baseline: {made.status}, {made.model.name}"
    decode = given(made.decode_tokens_per_second)
    if made.status in ("ok", "noisy"):
        line += f", decode {decode.value:.1f} [{decode.low:.1f}, {decode.high:.1f}] tokens/s"
        line += f", perplexity {made.perplexity:.2f} on {made.device.name}"
    return line + (f" ({made.reason})" if made.reason else "")
