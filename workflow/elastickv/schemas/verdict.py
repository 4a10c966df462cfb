"""The verdicts: the judgement of every case of the plan."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from elastickv.schemas.base import Model, Number, Positive, Text, field, version
from elastickv.schemas.config import Golden, Noise
from elastickv.schemas.parts import MeasuredStatus
from elastickv.schemas.rules import has, one_of, rules, status, when

_PASS = has(outcome=one_of("pass"))
_STARRED = ("✅", "✅☆", "✅~", "✅☆~")
_IMPRECISE = ("✅~", "✅☆~", "⭐~", "✓~", "=~", "–~")


class Criterion(Model):
    """One criterion: a figure of a case compared with its threshold."""

    value: Number | None
    low: Number | None
    high: Number | None
    threshold: Number
    outcome: Literal["pass", "fail", "ambiguous", "unreachable", "not_applicable", "not_measured"] = field(
        "ambiguous: the interval straddles the threshold; unreachable: the byte ceiling is below it"
    )
    reason: Text


class Criteria(Model):
    """The criteria of the verdict."""

    speedup: Criterion
    sustained: Criterion = field("the speedup of steady work")
    cv: Criterion
    memory_efficiency: Criterion
    roofline: Criterion


class Entry(Model):
    """The judgement of one case."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            when(has(mark=one_of(*_STARRED)), has(verdict=one_of("golden_ticket"))),
            when(
                has(verdict=one_of("golden_ticket")),
                has(
                    mark=one_of(*_STARRED),
                    status=one_of("ok", "imprecise"),
                    criteria=has(speedup=_PASS, sustained=_PASS, cv=_PASS, memory_efficiency=_PASS),
                ),
            ),
            when(status("incorrect", "failed", "noisy"), has(verdict=one_of("invalid"))),
            when(status("unsupported", "out_of_memory"), has(verdict=one_of("skipped"))),
            when(has(mark=one_of(*_IMPRECISE)), has(status=one_of("imprecise"))),
            when(status("imprecise"), has(mark=one_of(*_IMPRECISE, "✗"))),
        )
    )

    case: Text = field("its id")
    status: Literal[MeasuredStatus, "imprecise"] = field("status of the record, after its controls are judged")
    verdict: Literal["golden_ticket", "excellent", "good", "same", "slower", "invalid", "skipped"]
    mark: Literal["✅", "✅☆", "⭐", "✓", "=", "–", "✗", "·", "✅~", "✅☆~", "⭐~", "✓~", "=~", "–~"] = field(
        "~: imprecise, the speedup's interval is widened"
    )
    reason: Text
    device: str | None
    byte_ceiling: Positive | None = field("largest speedup that the bytes allow", "times")
    reachable_ceiling: Positive | None = field("the ratio of the times of pure passes", "times")
    criteria: Criteria


class Thresholds(Golden):
    """The thresholds and noise limits of the verdicts."""

    noise: Noise


class Verdicts(Model):
    """The judgement of every case of the plan, in its order."""

    schema_: Literal["verdicts/2"] = version("verdicts/2")
    thresholds: Thresholds
    cases: list[Entry]


ROOT, TITLE = Verdicts, "Verdicts"
