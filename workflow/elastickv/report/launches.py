"""Cases that were measured with both launch modes, plain and dependent."""

from __future__ import annotations

from collections.abc import Iterable

from elastickv.report import tables
from elastickv.report.inputs import Case
from elastickv.report.text import NOTHING, times_interval
from elastickv.schemas.base import at

MODES = ("plain", "dependent")


def mode(case: Case) -> str | None:
    """The launch mode that a case was measured with; None if it was not measured."""
    return at(case.record, ("resolved", "launch"))


def other(case: Case, cases: Iterable[Case]) -> Case | None:
    """The publishable case that differs from `case` only in its launch mode, measured on the same device."""
    found = (each for each in cases if each.publishable and case.publishable and mode(each) != mode(case))
    return next((each for each in found if _alike(each) == _alike(case)), None)


def _alike(case: Case) -> tuple:
    return case.record.device.name, case.content.model_copy(update={"id": "", "launch": "auto"})


def both(cases: list[Case]) -> list[dict[str, Case]]:
    """The cases that were measured in both modes, by mode."""
    pairs = ((case, other(case, cases)) for case in cases if mode(case) == "plain")
    return [{"plain": plain, "dependent": dependent} for plain, dependent in pairs if dependent]


def table(cases: list[Case]) -> str:
    """Speedup and verdict with plain launches beside those with dependent launches; empty without such cases."""

    def judged(case: Case) -> str:
        return f"{case.verdict.mark} {case.verdict.verdict.replace('_', ' ')}"

    def golden(pair: dict[str, Case]) -> str:
        held = [name for name in MODES if pair[name].golden]
        return f"only with {held[0]} launches" if len(held) == 1 else "with both" if held else NOTHING

    columns = {
        "plain": lambda pair: f"`{pair['plain'].id}`",
        "plain, speedup": lambda pair: times_interval(pair["plain"].record.statistics.speedup),
        "plain, verdict": lambda pair: judged(pair["plain"]),
        "dependent": lambda pair: f"`{pair['dependent'].id}`",
        "dependent, speedup": lambda pair: times_interval(pair["dependent"].record.statistics.speedup),
        "dependent, verdict": lambda pair: judged(pair["dependent"]),
        "golden ticket": golden,
    }
    return tables.of(both(cases), columns)
