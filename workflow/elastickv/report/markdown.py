"""`elastickv report markdown`: report.md, whose text is report.md.jinja and whose tables are made here and beside."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable

from elastickv import policies, records
from elastickv.judge import verdict
from elastickv.judge.verdict import Bounded
from elastickv.policies.base import Policy
from elastickv.report import conditions, environment, launches, peers, prose, sweeps, tables
from elastickv.report.cautions import beats_pure_pass, cycle_holds, of_record
from elastickv.report.inputs import Case, Inputs, load
from elastickv.report.text import NOTHING, escape, microseconds, percent, size, times, times_interval
from elastickv.schemas.base import at, given, present
from elastickv.schemas.measurement import InferenceCycle, Measurement
from elastickv.schemas.parts import Device

KINDS = {"cuda": "GPU", "cpu": "CPU"}
FOREIGN = "‡"
LONGEST_REASON = 600
WARM_UPS = {True: "stationary", False: "trend left", None: "test did not run"}
# The original's published figures (its README, "Current Achievement").
ORIGINAL_CLAIMS = ["*the original's claim*", "1.96x", "< 5%", "73.8%", "0.82", NOTHING]


def run(args: argparse.Namespace) -> int:
    """Writes `args.out` from the results folder `args.results` by the plan `args.cases`."""
    records.write_text(args.out, report(load(args.cases, args.results)))
    return 0


def report(inputs: Inputs) -> str:
    """The whole report."""
    counts = Counter(case.verdict.verdict for case in inputs.cases)
    confidences = sorted({case.record.statistics.speedup.confidence for case in inputs.publishable})
    written = prose.render(
        "report.md",
        inputs=inputs,
        kind=KINDS.get(inputs.backend or "", "no device"),
        device=escape(inputs.device.name) if inputs.device else "no device that any record names",
        driver=_driver(inputs.device),
        verdicts=", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in counts.items()),
        foreign=sum(map(inputs.is_foreign, inputs.cases)),
        foreign_mark=FOREIGN,
        levels=" and ".join(f"{level:.0%}" if level * 100 % 1 == 0 else f"{level:.1%}" for level in confidences),
        results=results(inputs),
        launches=launches.table(inputs.publishable),
        kept=kept(inputs),
        cautions=[(case, caution) for case in inputs.publishable for caution in of_record(case.record)],
        sweeps=sweeps.grids(inputs),
        most_drawn=sweeps.MOST_DRAWN,
        cycles=cycles(inputs),
        without_result=without_result(inputs),
        times_and_bytes=times_and_bytes(inputs),
        peers=peers.tables_of(inputs.peers, [case.id for case in inputs.cases], at(inputs.device, ("name",))),
        original=beside_the_original(inputs),
        energy=conditions.energy(inputs),
        conditions=conditions.conditions(inputs),
        **environment.sections(inputs),
    )
    return written.text + "\n"


def _driver(device: Device | None) -> str:
    driver = at(device, ("driver",))
    return f", driver {escape(driver)}" if driver else ""


def _name(inputs: Inputs) -> Callable[[Case], str]:
    """The column of case ids, with the device of a case that was measured on another one."""

    def shown(case: Case) -> str:
        device = case.record.device if inputs.is_foreign(case) else None
        return f"`{case.id}`" + (f" {FOREIGN} {escape(device.name)}{_driver(device)}" if device else "")

    return shown


def covered(record: Measurement) -> str:
    """What an interval covers: `3 processes`, or `one process`, without what differs between processes."""
    several = given(record.processes)
    return f"{len(several.runs)} processes" if several else "one process"


def results(inputs: Inputs) -> str:
    """One row per case: speedup with interval, ceilings, variation, efficiencies, verdict with mark and reason."""

    def efficiency(case: Case, criterion: str, key: str) -> str:
        elastic = getattr(case.verdict.criteria, criterion).value
        full = getattr(case.record.efficiency.full, key)
        if elastic is None:
            return NOTHING
        return percent(elastic) + (f" ({percent(full)})" if full is not None else "")

    def sustained(case: Case) -> str:
        found = verdict.sustained(case.record)
        return times_interval(found) if found else NOTHING

    def pure_pass(case: Case) -> str:
        return times(case.verdict.reachable_ceiling) + (", no bound" if beats_pure_pass(case.record) else "")

    columns = {
        "case": _name(inputs),
        "speedup": tables.published(lambda case: times_interval(case.record.statistics.speedup)),
        "sustained": tables.published(sustained),
        "interval covers": tables.published(lambda case: covered(case.record)),
        "byte ceiling": lambda case: times(case.verdict.byte_ceiling),
        "pure pass": tables.published(pure_pass),
        "CV (trimmed)": tables.published(lambda case: _variation(case.record)),
        "memory eff.": tables.published(lambda case: efficiency(case, "memory_efficiency", "memory")),
        "roofline": tables.published(lambda case: efficiency(case, "roofline", "roofline")),
        "verdict": lambda case: f"{case.verdict.mark} {case.verdict.verdict.replace('_', ' ')}",
        "why": lambda case: escape(case.verdict.reason, LONGEST_REASON),
    }
    if not any(verdict.sustained(case.record) for case in inputs.publishable):
        del columns["sustained"]  # of a CPU, and of single processes
    return tables.of(inputs.cases, columns)


def kept(inputs: Inputs) -> dict[type[Policy], list[str]]:
    """The cases of each policy; empty if all have the default policy."""
    found: dict[type[Policy], list[str]] = defaultdict(list)
    for case in inputs.cases:
        if case.content is not None and case.content.kind.CACHE:
            found[policies.of(case.content.policy)].append(f"`{case.id}`")
    return found if {*found} - {policies.of(policies.DEFAULT)} else {}


def cycles(inputs: Inputs) -> str:
    """The inference cycle (append, compress, attend, layer by layer)."""

    def appending(cycle: InferenceCycle) -> str:
        alone = given(cycle.append_us)
        return f"{alone.full:.3g} / {alone.elastic:.3g}" if alone else NOTHING

    found = [(case, cycle) for case in inputs.publishable if (cycle := given(case.record.inference_cycle))]
    name = _name(inputs)
    columns = {
        "case": lambda row: name(row[0]),
        "tokens": lambda row: row[1].decode_tokens,
        "layers": lambda row: row[1].layers,
        "full cache, layer steps/s": lambda row: f"{row[1].layer_steps_per_second.full:,.0f}",
        "elastic, layer steps/s": lambda row: f"{row[1].layer_steps_per_second.elastic:,.0f}",
        "speedup": lambda row: times_interval(row[1].speedup) if cycle_holds(row[0].record) else NOTHING,
        "appending alone: full / elastic (us)": lambda row: appending(row[1]),
    }
    return tables.of(found, columns)


def without_result(inputs: Inputs) -> str:
    """The cases without a number, with status and reason."""
    name = _name(inputs)
    columns = {
        "case": name,
        "status": lambda case: case.verdict.status,
        "reason": lambda case: escape(case.reason, LONGEST_REASON),
    }
    return tables.of([case for case in inputs.cases if not case.publishable], columns)


def _variation(record: Measurement) -> str:
    """The coefficient of variation that is judged, and that of the published process's trimmed samples."""
    return f"{percent(verdict.variation(record), 2)} ({percent(record.statistics.elastic.cv_trimmed, 2)})"


def times_and_bytes(inputs: Inputs) -> str:
    """The data behind the speedups: times, bytes, A/A controls (full, elastic) and sampling."""

    def control(record: Measurement) -> str:
        found = present(record.statistics.controls).values()
        bounds = (Bounded(one.ratio, one.low, one.high) for one in found)
        return ", ".join(times_interval(one).replace("x", "") for one in bounds)

    def rounds(record: Measurement) -> str:
        dropped = len(record.samples.dropped)
        return f"{record.resolved.reps}" + (f" ({dropped} dropped)" if dropped else "")

    def launch(case: Case) -> str:
        used = case.record.resolved
        order = [case.content.pass_order] if hasattr(case.content, "pass_order") else []
        return ", ".join([used.launch, "graph" if used.graphs else "no graph", *order])

    def warm_up(record: Measurement) -> str:
        found = given(record.resolved.warm_up)
        return NOTHING if found is None else WARM_UPS[found.stationary]

    columns = {
        "case": _name(inputs),
        "full, us": lambda case: microseconds(case.record.statistics.full.median_us),
        "elastic, us": lambda case: microseconds(case.record.statistics.elastic.median_us),
        "full, bytes": lambda case: size(case.record.bytes.full),
        "elastic, bytes": lambda case: size(case.record.bytes.elastic),
        "A/A controls": lambda case: control(case.record),
        "rounds": lambda case: rounds(case.record),
        "processes": lambda case: given(case.record.resolved.processes) or NOTHING,
        "layers": lambda case: environment.layers(case.record.resolved),
        "launch": launch,
        "warm-up": lambda case: warm_up(case.record),
        "relative error": lambda case: f"{case.record.correctness.elastic.relative_error:.1e}",
    }
    return tables.of(inputs.publishable, columns)


def beside_the_original(inputs: Inputs) -> str:
    """The original's claims, compared with the same figures of this run."""
    name, rows = _name(inputs), [ORIGINAL_CLAIMS]
    for case in inputs.publishable:
        measured, elastic, score = case.record.statistics, case.record.efficiency.elastic, case.record.original_score
        figures = [times_interval(measured.speedup), _variation(case.record), percent(elastic.memory)]
        figures += [NOTHING if value is None else f"{value:.2f}" for value in (elastic.roofline, score)]
        rows.append([name(case), *figures])
    headers = ["case", "speedup", "CV (trimmed)", "memory efficiency", "roofline", "original's score"]
    return tables.table(rows, headers)
