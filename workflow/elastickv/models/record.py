"""From a worker's raw figures to a baseline record: rates with intervals, and a status. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elastickv.measure import statistics
from elastickv.schemas.baseline import Baseline

CONFIDENCE = 0.99
# Relative half-width of the decode rate's interval beyond which a reader calls a record `noisy`; the record is `ok`.
NOISE = {"cuda": 0.10, "cpu": 0.25}


def rate(samples: Sequence[float]) -> dict[str, Any]:
    """Median of the repetitions with its interval (few: their range) and the samples themselves."""
    return {
        **statistics.median_interval(samples, CONFIDENCE).model_dump(),
        "samples": [float(sample) for sample in samples],
    }


def figures(fields: dict[str, Any]) -> dict[str, Any]:
    """Rates from the seconds of each repetition: tokens/s of prefill and decode, ms to the first token."""
    seconds = fields["seconds"]
    return {
        "prefill_tokens_per_second": rate([fields["prompt_tokens"] / times["prefill"] for times in seconds]),
        "decode_tokens_per_second": rate([fields["decode_tokens"] / times["decode"] for times in seconds]),
        "time_to_first_token_ms": rate([times["first"] * 1e3 for times in seconds]),
    }


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
    told = f"the decode rate's interval is {width:.0%} wide to each side, more than {most:.0%} of its value"
    return record.model_copy(update={"status": "noisy", "reason": f"{told}: other work on the machine?"})


def compose(head: dict[str, Any], response: dict[str, Any], ended: str) -> dict[str, Any]:
    """The record: `head` (what is known without measuring) with what the worker answered, or why it did not.

    head: schema, engine, backend, settings, model, device, software, started, text.
    """
    if "fields" not in response:
        status = response.get("status", "failed")
        reason = response.get("reason") or response.get("crashed") or "the worker gave no reason"
        return {**head, "status": status, "reason": reason, "ended": ended}
    fields = response["fields"]
    rates = figures(fields)
    measured = {key: value for key, value in fields.items() if key not in ("seconds", "caches")}
    caches = (
        {"caches": cache_rates(fields["caches"], rates["decode_tokens_per_second"])} if fields.get("caches") else {}
    )
    return {**head, "status": "ok", "reason": None, "ended": ended, **rates, **measured, **caches}


def cache_rates(caches: list[dict[str, Any]], first: dict[str, Any]) -> list[dict[str, Any]]:
    """Decode rates by cache implementation. The first one's is the record's own."""
    entries = []
    for entry in caches:
        seconds = entry.get("step_seconds")
        own = rate([1 / step for step in seconds]) if seconds else None
        kept = {key: value for key, value in entry.items() if key != "step_seconds"}
        entries.append({**kept, "decode_tokens_per_second": first if entry is caches[0] else own})
    return entries
