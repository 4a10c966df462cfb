"""Phrases of the social posts: text in which every number has a pointer to its record field."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from elastickv import policies
from elastickv.report.inputs import Baseline, Case
from elastickv.report.text import interval_digits, plain
from elastickv.schemas.base import at
from elastickv.schemas.case import own_keys, policy_of

KINDS = {"cuda": "GPU", "cpu": "CPU"}
VERDICT_WORDS = ("golden_ticket", "excellent", "good", "same", "slower", "invalid", "skipped")
LONGEST_NAME = 48
IN_TEMPLATES = (
    *("confidence", "count", "interval", "launch", "measured", "of_baseline", "part", "rate"),
    *("shape", "speedup", "tally", "times", "workload"),
)


@dataclass(frozen=True)
class Number:
    """A published number: its text, its value and its JSON pointers (`count`: the number of pointers)."""

    text: str
    value: float
    file: str
    fields: tuple[str, ...]
    how: str = "value"


Phrase = list[str | Number]


def text_of(phrase: Phrase) -> str:
    """The published text of a phrase."""
    return "".join(piece if isinstance(piece, str) else piece.text for piece in phrase)


def numbers_of(phrase: Phrase) -> list[Number]:
    return [piece for piece in phrase if isinstance(piece, Number)]


def measured(case: Case, path: str, form: Callable[[Any], str] = str) -> Number:
    """The number at a path such as `statistics/speedup/value` of a case's record."""
    value = at(case.record, path.split("/"))
    return Number(form(value), value, f"results_{case.id}.json", (f"/{path}",))


def times(case: Case, path: str, digits: int = 2) -> Number:
    """A ratio: `1.96x`, x in ASCII."""
    return measured(case, path, lambda value: f"{value:.{digits}f}x")


def interval(case: Case, path: str) -> Phrase:
    """`1.96x [1.95, 1.97]`."""
    digits = interval_digits(at(case.record, path.split("/")))
    low, high = (measured(case, f"{path}/{key}", lambda value: f"{value:.{digits}f}") for key in ("low", "high"))
    return [times(case, f"{path}/value", digits), " [", low, ", ", high, "]"]


def speedup(case: Case, criterion: str = "speedup") -> Phrase:
    """The judged speedup with its interval; criterion: `speedup` or `sustained`, which must have a value."""
    found, where = getattr(case.verdict.criteria, criterion), f"/cases/{case.place}/criteria/{criterion}"
    digits = interval_digits(found)
    value, low, high = (
        Number(f"{bound:.{digits}f}", bound, "verdicts.json", (f"{where}/{key}",))
        for key, bound in (("value", found.value), ("low", found.low), ("high", found.high))
    )
    return [replace(value, text=f"{value.text}x"), " [", low, ", ", high, "]"]


def confidence(case: Case) -> Phrase:
    """`99% interval` of the speedup, and whether it was widened."""
    share = measured(case, "statistics/speedup/confidence", lambda value: f"{value * 100:g}%")
    return [share, " interval, widened: imprecise" if case.verdict.status == "imprecise" else " interval"]


def count(cases: list[Case]) -> Number:
    """The number of the given cases."""
    fields = tuple(f"/cases/{case.place}/verdict" for case in cases)
    return Number(str(len(cases)), len(cases), "verdicts.json", fields, "count")


def tally(cases: list[Case]) -> Phrase:
    """`Of 6 cases: 1 golden, 4 excellent, 1 invalid`: every verdict that occurs, best first."""
    phrase: Phrase = ["Of ", count(cases), " case" + ("s" if len(cases) != 1 else "")]
    separator = ": "
    for word in VERDICT_WORDS:
        chosen = [case for case in cases if case.verdict.verdict == word]
        if chosen:
            phrase += [separator, count(chosen), f" {word.removesuffix('_ticket')}"]
            separator = ", "
    return phrase


def of_baseline(baseline: Baseline, path: str, form: str) -> Number:
    """The number at a path of a language-model baseline's record."""
    value = at(baseline.record, path.split("/"))
    return Number(form.format(value), value, f"{baseline.engine}_baseline.json", (f"/{path}",))


def rate(baseline: Baseline, form: str) -> Phrase:
    """`61.5 tokens/s [61.0, 62.1]`: the decode rate of a language-model baseline."""
    value, low, high = (
        of_baseline(baseline, f"decode_tokens_per_second/{key}", form) for key in ("value", "low", "high")
    )
    return [value, " tokens/s [", low, ", ", high, "]"]


def workload(case: Case) -> str:
    """The workload's name in posts, without implying more than was measured."""
    return case.content.kind.TITLE


def part(case: Case) -> str:
    """What the speedup of a post is of: the attention kernel, not a model; or another pass."""
    return "attention kernel only" if case.content.kind.CACHE else workload(case)


def launch(case: Case) -> str:
    """The launch mode that a case was measured with: `plain` or `dependent`."""
    return case.record.resolved.launch


def shape(case: Case) -> Phrase:
    """The case without its id: `batch 1 x 4096 tokens x 32 heads x 128, compress 4, fp16`."""
    content = case.content
    if not {"seq", "heads", "dim", "compress"} <= {*own_keys(content.workload)}:
        return _own_shape(case)
    phrase: Phrase = []
    if hasattr(content, "batch"):
        phrase += ["batch ", measured(case, "case/batch"), " x "]
    phrase += [measured(case, "case/seq"), " tokens x ", measured(case, "case/heads"), " heads x "]
    phrase += [measured(case, "case/dim")]
    if getattr(content, "kv_heads", content.heads) != content.heads:
        phrase += [", ", measured(case, "case/kv_heads"), " KV heads"]
    stored = getattr(content, "stored_as", content.dtype)
    stored = content.dtype if stored == content.dtype else f"{content.dtype} with {stored} middle"
    return [*phrase, *_kept(case), f", {stored}"]


def _kept(case: Case) -> Phrase:
    """`, compress 4`, or with a policy other than the default one `, head_budget, full_heads 2`."""
    content = case.content
    if not content.kind.CACHE:
        return [", compress ", measured(case, "case/compress")]
    phrase: Phrase = [] if content.policy == policies.DEFAULT else [f", {content.policy}"]
    made = policy_of(content)
    for key in made.shown_keys(made.values):
        number = made.KEYS[key].kind is int
        phrase += [f", {key} ", measured(case, f"case/{key}") if number else str(made.values[key]).lower()]
    return phrase


def _own_shape(case: Case) -> Phrase:
    """The keys of a workload's cases: `rows 64, seq 4096, fp32`."""
    phrase: Phrase = []
    for key in (*case.content.kind.KEYS, *case.content.kind.TAKES):
        phrase += [f"{key} ", measured(case, f"case/{key}"), ", "]
    return [*phrase, case.content.dtype]


def name(text: Any, instead: str, forbidden: tuple[str, ...]) -> str:
    """A device's or model's name, sanitised for posts: no mentions, tags, marks or reserved words."""
    harmless = re.sub(r"[^A-Za-z0-9_ ()+,./-]", " ", re.sub(r"\((R|TM)\)", "", plain(text)))
    kept = textwrap.shorten(harmless, LONGEST_NAME, placeholder="")
    return instead if not kept or any(word in kept.lower() for word in forbidden) else kept
