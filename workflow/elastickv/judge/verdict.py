"""Judges measurement records against the thresholds (pure), and writes verdicts.json (`elastickv verdict`)."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from elastickv import records
from elastickv.judge import folder, noise
from elastickv.schemas.base import at, given
from elastickv.schemas.config import Golden
from elastickv.schemas.measurement import Measurement, Sustained
from elastickv.schemas.parts import Interval
from elastickv.schemas.verdict import Criteria, Criterion, Entry, Thresholds, Verdicts

GOLDEN_NEEDS = ("speedup", "sustained", "cv", "memory_efficiency")
MARKS = {
    "golden_ticket": "✅",
    "excellent": "⭐",
    "good": "✓",
    "same": "=",
    "slower": "–",
    "invalid": "✗",
    "skipped": "·",
}
ROOFLINE_STAR = "☆"
SKIPPED_STATUSES = ("unsupported", "out_of_memory")


class Bounded(NamedTuple):
    """A value with the bounds of its interval."""

    value: float
    low: float
    high: float


def run(args: argparse.Namespace) -> int:
    """Judges the plan `args.cases` in `args.results` by `args.golden` and `args.noise` and writes `args.out`."""
    golden = Golden.model_validate(records.read(args.golden, "golden"))
    thresholds = Thresholds(**dict(golden), noise=folder.noise_limits(args.noise))
    judged = [
        judge(entry.record, thresholds) if entry.record else unreadable(entry.case, entry.problem, thresholds)
        for entry in folder.entries(args.cases, args.results)
    ]
    records.save(args.out, Verdicts(schema_="verdicts/2", thresholds=thresholds, cases=judged))
    return 0


def judge(record: Measurement, thresholds: Thresholds) -> Entry:
    """The verdict entry of one valid measurement record; an imprecise one is judged by its widened interval.

    If the record's numbers must not be published, all criteria are not_applicable and have no numbers.
    """
    record = noise.as_judged(record, thresholds.noise)
    problem = invalidity(record)
    if problem:
        verdict = "skipped" if record.status in SKIPPED_STATUSES else "invalid"
        return _entry(record, verdict, problem, _none_judged(thresholds, problem))
    criteria = Criteria(
        speedup=speedup_criterion(record, thresholds.speedup),
        sustained=sustained_criterion(record, thresholds.speedup),
        cv=cv_criterion(record, thresholds.cv),
        memory_efficiency=efficiency_criterion(record, "memory", thresholds.memory_efficiency),
        roofline=efficiency_criterion(record, "roofline", thresholds.roofline),
    )
    verdict, reason = ladder(record, criteria, thresholds.excellent)
    reason += power_capped(record)
    if record.status == "imprecise":
        reason += f"; imprecise: {record.reason}"
    return _entry(record, verdict, reason, criteria)


def power_capped(record: Measurement) -> str:
    """How many rounds ended under the power cap, to be put behind a reason; empty if none did."""
    capped = at(record, ("throttling", "power_capped_rounds"))
    return f"; {capped} of {record.resolved.reps} rounds under the power cap" if capped else ""


def unreadable(case: str, problem: str, thresholds: Thresholds) -> Entry:
    """The entry of a case without a usable record."""
    return Entry(
        case=case,
        status="failed",
        verdict="invalid",
        mark=MARKS["invalid"],
        reason=problem,
        device=None,
        byte_ceiling=None,
        reachable_ceiling=None,
        criteria=_none_judged(thresholds, problem),
    )


def invalidity(record: Measurement) -> str | None:
    """Why no number of this record (after `noise.as_judged`) may be published as a result, or None."""
    if record.status not in noise.PUBLISHED:
        return f"{record.status}: {record.reason}"
    for arm, answer in record.correctness:
        if not answer.relative_error <= answer.tolerance:
            return (
                f"marked ok, but the {arm} arm's relative error {answer.relative_error:.3g} is above its "
                f"tolerance {answer.tolerance:g}"
            )
    speedup = record.statistics.speedup
    if not speedup.low <= speedup.high:
        return f"marked ok, but the bounds of its interval are swapped: {_interval_text(speedup)}"
    return None


def speedup_criterion(record: Measurement, threshold: float) -> Criterion:
    """Judges the speedup's interval; unreachable if the byte ceiling is below the threshold.

    Pure passes are kernels too, so that another one may be faster: what they reach stands beside, and proves nothing.
    """
    found = at_least(record.statistics.speedup, threshold, _byte_limit(record, threshold))
    pure = record.bytes.reachable_ceiling
    return _beside(found, f"pure passes over the same bytes: {pure:.4g}x" if pure < threshold else None)


def _byte_limit(record: Measurement, threshold: float) -> str | None:
    """Why no speedup can reach the threshold, or None."""
    ceiling = record.bytes.ceiling
    return f"the byte ceiling {ceiling:.4g}x is below {threshold:g}x" if ceiling < threshold else None


def _beside(found: Criterion, remark: str | None) -> Criterion:
    """A criterion that did not pass, with a remark behind its reason."""
    if remark is None or found.outcome == "pass":
        return found
    return found.model_copy(update={"reason": f"{found.reason}; {remark}"})


def sustained(record: Measurement) -> Interval | None:
    """The speedup of steady work, if it was measured and is not above the byte ceiling."""
    found = given(record.statistics.sustained)
    measured = found.speedup if isinstance(found, Sustained) else None
    return None if measured is None or noise.beyond_bytes(record, measured) else measured


def sustained_criterion(record: Measurement, threshold: float) -> Criterion:
    """Judges the speedup of steady work as that of the samples: its interval against the same threshold."""
    if record.resolved.backend == "cpu":
        return _not_judged(threshold, "steady work is not measured on a CPU")
    found = record.statistics.sustained
    measured = found.speedup if isinstance(found, Sustained) else None
    if measured is None:
        return _criterion("not_measured", threshold, found.reason)
    beyond = noise.beyond_bytes(record, measured)
    if beyond:
        return _criterion("not_measured", threshold, beyond)
    return at_least(measured, threshold, _byte_limit(record, threshold))


def efficiency_criterion(record: Measurement, kind: str, threshold: float) -> Criterion:
    """Judges the elastic arm's share of the peak (`memory`) or of the read ceiling (`roofline`)."""
    efficiency = record.efficiency.elastic
    if not record.resolved.cold:
        return _not_judged(threshold, "the caches of all layers fit in the last-level cache: memory was not measured")
    measured = Bounded(*(getattr(efficiency, name) for name in (kind, f"{kind}_low", f"{kind}_high")))
    if None in measured:
        return _not_judged(threshold, given(efficiency.reason) or _why_missing(record, kind))
    pure = getattr(efficiency, f"pure_{kind}")
    below = pure is not None and pure < threshold
    remark = f"a pure pass over the same bytes, launched the same way, reaches {pure:.4g}" if below else None
    return _beside(at_least(measured, threshold), remark)


def _why_missing(record: Measurement, kind: str) -> str:
    if kind == "roofline":
        return "no read ceiling was measured"
    why = record.device.model_extra.get("peak_gbps_reason")
    return "no datasheet peak to compare with" + (f": {why}" if why else "")


def variation(record: Measurement) -> float:
    """The coefficient of variation that is judged: of all elastic samples of a process, the largest of several."""
    several = given(record.processes)
    return several.cv if several else record.statistics.elastic.cv


def cv_criterion(record: Measurement, threshold: float) -> Criterion:
    """Judges the coefficient of variation, which has no interval."""
    value, several = variation(record), given(record.processes)
    outcome, relation = ("pass", "is at most") if value <= threshold else ("fail", "is above")
    among = f", the largest of {len(several.runs)} processes," if several else ""
    trimmed = f"{record.statistics.elastic.cv_trimmed:.4g} without the slowest and fastest samples"
    return _criterion(outcome, threshold, f"{value:.4g}{among} {relation} {threshold:g}; {trimmed}", value)


def at_least(measured: Interval | Bounded, threshold: float, limit: str | None = None) -> Criterion:
    """The outcome of an interval that should be at least `threshold`. limit: why that is unreachable, or None."""
    text, low, high = _interval_text(measured), measured.low, measured.high
    if limit:
        outcome, reason = "unreachable", limit
    elif low >= threshold:
        outcome, reason = "pass", f"{text} is at least {threshold:g}"
    elif high < threshold:
        outcome, reason = "fail", f"{text} is below {threshold:g}"
    else:
        outcome, reason = "ambiguous", f"{text} straddles {threshold:g}"
    return _criterion(outcome, threshold, reason, measured.value, measured.low, measured.high)


def ladder(record: Measurement, criteria: Criteria, excellent: float) -> tuple[str, str]:
    """The verdict of a record with publishable numbers, and the reason why it is not higher."""
    speedup = record.statistics.speedup
    if noise.nothing_saved(record):
        return "same", "nothing was compressed: both arms move the same bytes"
    if speedup.high < 1:  # independent of the thresholds, which may be below 1
        return "slower", f"{_interval_text(speedup)}: slower than the full cache"
    if speedup.low <= 1:
        return "same", f"{_interval_text(speedup)} contains 1: no difference was measured"
    missed = "; ".join(f"{name} {criterion.outcome} ({criterion.reason})" for name, criterion in not_passed(criteria))
    if not missed:
        return (
            "golden_ticket",
            f"speedup, sustained, cv and memory_efficiency pass; roofline {criteria.roofline.outcome}",
        )
    if speedup.low >= excellent:
        return "excellent", f"at least {excellent:g}x; not golden: {missed}"
    return "good", f"faster than the full cache; not golden: {missed}"


def not_passed(criteria: Criteria) -> list[tuple[str, Criterion]]:
    """The criteria that keep a case from the golden verdict, by name."""
    return [(name, found) for name, found in criteria if name in GOLDEN_NEEDS and found.outcome != "pass"]


def _interval_text(measured: Interval | Bounded) -> str:
    return f"{measured.value:.4g} [{measured.low:.4g}, {measured.high:.4g}]"


def _criterion(
    outcome: str,
    threshold: float,
    reason: str,
    value: float | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Criterion:
    return Criterion(value=value, low=low, high=high, threshold=threshold, outcome=outcome, reason=reason)


def _not_judged(threshold: float, reason: str) -> Criterion:
    return _criterion("not_applicable", threshold, reason)


def _none_judged(thresholds: Thresholds, reason: str) -> Criteria:
    limits = dict(thresholds) | {"sustained": thresholds.speedup}
    return Criteria(**{name: _not_judged(limits[name], reason) for name in Criteria.model_fields})


def _entry(record: Measurement, verdict: str, reason: str, criteria: Criteria) -> Entry:
    moved, device = given(record.bytes), record.device
    star = ROOFLINE_STAR if verdict == "golden_ticket" and criteria.roofline.outcome == "pass" else ""
    imprecise = noise.IMPRECISE_MARK if record.status == "imprecise" and verdict != "invalid" else ""
    return Entry(
        case=record.case.root.id,
        status=record.status,
        verdict=verdict,
        mark=MARKS[verdict] + star + imprecise,
        reason=reason,
        device=device and device.name,
        byte_ceiling=moved and moved.ceiling,
        reachable_ceiling=moved and given(moved.reachable_ceiling),
        criteria=criteria,
    )
