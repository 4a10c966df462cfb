"""`elastickv report markdown`: report.md. Each section is a function of Inputs; see also environment.py."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict

from elastickv import policies, records
from elastickv.judge.verdict import Bounded
from elastickv.report import conditions, environment, peers
from elastickv.report import sweeps as sweep_grids
from elastickv.report.cautions import cautions, cycle_holds
from elastickv.report.inputs import Case, Inputs, load
from elastickv.report.tables import table
from elastickv.report.text import NOTHING, escape, microseconds, percent, size, times, times_interval
from elastickv.schemas.base import at, given
from elastickv.schemas.measurement import InferenceCycle
from elastickv.schemas.parts import Device

KINDS = {"cuda": "GPU", "cpu": "CPU"}
FOREIGN = "‡"
LONGEST_REASON = 600
# The original's published figures (its README, "Current Achievement").
ORIGINAL_CLAIMS = ["*the original's claim*", "1.96x", "< 5%", "73.8%", "0.82", NOTHING]


def run(args: argparse.Namespace) -> int:
    """Writes `args.out` from the results folder `args.results` by the plan `args.cases`."""
    records.write_text(args.out, report(load(args.cases, args.results)))
    return 0


def report(inputs: Inputs) -> str:
    """The whole report."""
    sections = [
        heading(inputs),
        results(inputs),
        kept(inputs),
        cautions(inputs),
        sweeps(inputs),
        inference_cycles(inputs),
        without_result(inputs),
        times_and_bytes(inputs),
        peers.section(inputs.peers, [case.id for case in inputs.cases], at(inputs.device, ("name",))),
        beside_the_original(inputs),
        environment.baselines(inputs),
        environment.machine(inputs),
        conditions.conditions(inputs),
        environment.builds(inputs),
        environment.ceilings(inputs),
        HOW_TO_READ,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def heading(inputs: Inputs) -> str:
    """The title (GPU or CPU), the device, and the number of cases by verdict."""
    kind = KINDS.get(inputs.backend or "", "no device")
    name = escape(inputs.device.name) if inputs.device else "no device that any record names"
    counts = Counter(case.verdict.verdict for case in inputs.cases)
    tally = ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in counts.items())
    lines = [f"# Elastic KV cache: {kind} results", "", f"Device: **{name}**{_driver(inputs.device)}.", ""]
    if inputs.backend == "cpu":
        lines += ["**These are timings of native CPU kernels. They say nothing about any accelerator.**", ""]
    lines += [f"{len(inputs.cases)} cases: {tally}."]
    foreign = [case for case in inputs.cases if inputs.is_foreign(case)]
    if foreign:
        lines += ["", f"{FOREIGN} marks {len(foreign)} cases measured on another device, which is named in their row."]
    return "\n".join(lines)


def _driver(device: Device | None) -> str:
    driver = at(device, ("driver",))
    return f", driver {escape(driver)}" if driver else ""


def results(inputs: Inputs) -> str:
    """One row per case: speedup with interval, ceilings, variation, efficiencies, verdict with mark and reason."""
    confidences = sorted({case.record.statistics.speedup.confidence for case in inputs.publishable})
    levels = " and ".join(f"{level:.0%}" if level * 100 % 1 == 0 else f"{level:.1%}" for level in confidences)
    headers = ["case", "speedup", "byte ceiling", "reachable", "CV", "memory eff.", "roofline", "verdict", "why"]
    rows = [_result_row(inputs, case) for case in inputs.cases]
    note = f"Speedup: full cache / elastic cache, median of paired ratios with its {levels} interval." if levels else ""
    note += " Memory efficiency and roofline are the elastic arm's (the full cache's in parentheses)."
    return (
        f"## Results\n\n{table(rows, headers)}\n\n{note.strip()}\n\n![Speedups and their ceilings](figures/speedup.png)"
    )


def _result_row(inputs: Inputs, case: Case) -> list[str]:
    verdict = case.verdict
    ceilings = [times(verdict.byte_ceiling)]
    judgement = [f"{verdict.mark} {verdict.verdict.replace('_', ' ')}", escape(verdict.reason, LONGEST_REASON)]
    if not case.publishable:
        return [_name(inputs, case), NOTHING, *ceilings, NOTHING, NOTHING, NOTHING, NOTHING, *judgement]
    measured, full = case.record.statistics, case.record.efficiency.full
    return [
        _name(inputs, case),
        times_interval(measured.speedup),
        *ceilings,
        times(verdict.reachable_ceiling),
        percent(measured.elastic.cv_trimmed, 2),
        _efficiency(verdict.criteria.memory_efficiency.value, full.memory),
        _efficiency(verdict.criteria.roofline.value, full.roofline),
        *judgement,
    ]


def _name(inputs: Inputs, case: Case) -> str:
    if not inputs.is_foreign(case):
        return f"`{case.id}`"
    return f"`{case.id}` {FOREIGN} {escape(case.record.device.name)}{_driver(case.record.device)}"


def _efficiency(elastic: float | None, full: float | None) -> str:
    if elastic is None:
        return NOTHING
    return percent(elastic) + (f" ({percent(full)})" if full is not None else "")


def kept(inputs: Inputs) -> str:
    """What the elastic caches keep, one line per policy; empty if all cases have the default policy."""
    found: dict[str, list[str]] = defaultdict(list)
    for case in inputs.cases:
        if case.content is not None and case.content.kind.CACHE:
            found[case.content.policy].append(f"`{case.id}`")
    if not {*found} - {policies.DEFAULT}:
        return ""
    lines = (f"- **{name}**: {policies.of(name).MEANING}. {', '.join(ids)}." for name, ids in found.items())
    return "\n".join(["## What the elastic caches keep", "", *lines])


def sweeps(inputs: Inputs) -> str:
    """Heat map and speedups against ceilings for every sweep; empty if the plan has none."""
    grids = sweep_grids.grids(inputs)
    if not grids:
        return ""
    parts = ["## Sweeps", SWEEPS_NOTE.format(keys=" or ".join(dict.fromkeys(grid.key for grid in grids)))]
    for grid in grids[: sweep_grids.MOST_DRAWN]:
        missing = len(grid.without_result)
        without = f", {missing} without a result" if missing else ""
        parts.append(f"### {escape(grid.title)}\n\n{escape(grid.device)}: {len(grid.cells)} cases{without}.")
        parts.append(f"![Speedup over tokens, {grid.key} and cache dtype](figures/heat_map{grid.suffix}.png)")
        if missing < len(grid.cells):
            parts.append(f"![Speedups against their ceilings](figures/against_ceilings{grid.suffix}.png)")
    if len(grids) > sweep_grids.MOST_DRAWN:
        parts.append(
            f"{len(grids) - sweep_grids.MOST_DRAWN} more sweeps are not drawn; their cases are in the table above."
        )
    return "\n\n".join(parts)


def inference_cycles(inputs: Inputs) -> str:
    """The inference cycle (append, compress, attend, layer by layer); empty if no case has one."""
    rows = []
    for case in inputs.publishable:
        cycle = given(case.record.inference_cycle)
        if cycle:
            steps = cycle.layer_steps_per_second
            rates = [f"{rate:,.0f}" for rate in (steps.full, steps.elastic)]
            counts = [cycle.decode_tokens, cycle.layers]
            speedup = times_interval(cycle.speedup) if cycle_holds(case.record) else NOTHING
            rows.append([_name(inputs, case), *counts, *rates, speedup, _appending(cycle)])
    if not rows:
        return ""
    rates = ["full cache, layer steps/s", "elastic, layer steps/s"]
    headers = ["case", "tokens", "layers", *rates, "speedup", "appending alone: full / elastic (us)"]
    note = (
        "Each step appends a token's key and value, compresses the tokens that have left the window, and attends. A "
        "layer step is a step of one attention layer, not a token of a model. Appending alone: time per layer step of "
        "the append and its share of closing groups, launched separately without attention."
    )
    return f"## Inference cycle\n\n{table(rows, headers)}\n\n{note}"


def _appending(cycle: InferenceCycle) -> str:
    """Time of a layer's append (for the elastic cache, plus its share of closing groups), launched separately."""
    alone = given(cycle.append_us)
    return f"{alone.full:.3g} / {alone.elastic:.3g}" if alone else NOTHING


def without_result(inputs: Inputs) -> str:
    """The cases without a number, with status and reason; empty if there are none."""
    missing = [case for case in inputs.cases if not case.publishable]
    rows = [
        [
            _name(inputs, case) if case.record else f"`{case.id}`",
            case.verdict.status,
            escape(case.reason, LONGEST_REASON),
        ]
        for case in missing
    ]
    return f"## Cases without a result\n\n{table(rows, ['case', 'status', 'reason'])}" if rows else ""


def times_and_bytes(inputs: Inputs) -> str:
    """The data behind the speedups: times, bytes, A/A control and sampling."""
    rows = []
    for case in inputs.publishable:
        record = case.record
        measured, moved, used = record.statistics, record.bytes, record.resolved
        control = measured.controls.full
        dropped = len(record.samples.dropped)
        launched = [used.launch, "graph" if used.graphs else "no graph"]
        if hasattr(case.content, "pass_order"):
            launched.append(case.content.pass_order)
        rows.append(
            [
                _name(inputs, case),
                *(microseconds(arm.median_us) for arm in (measured.full, measured.elastic)),
                *(size(nbytes) for nbytes in (moved.full, moved.elastic)),
                times_interval(Bounded(control.ratio, control.low, control.high)).replace("x", ""),
                f"{measured.elastic.count}" + (f" ({dropped} dropped)" if dropped else ""),
                f"{used.layers}, {'cold' if used.cold else 'warm'}",
                ", ".join(launched),
                f"{record.correctness.elastic.relative_error:.1e}",
            ]
        )
    headers = ["case", "full, us", "elastic, us", "full, bytes", "elastic, bytes", "A/A control", "rounds"]
    headers += ["layers", "launch", "relative error"]
    return f"## Times, bytes and checks\n\n{table(rows, headers)}" if rows else ""


def beside_the_original(inputs: Inputs) -> str:
    """The original's claims, compared with the same figures of this run."""
    rows = [ORIGINAL_CLAIMS]
    for case in inputs.publishable:
        measured, elastic = case.record.statistics, case.record.efficiency.elastic
        score = case.record.original_score
        rows.append(
            [
                _name(inputs, case),
                times_interval(measured.speedup),
                percent(measured.elastic.cv_trimmed, 2),
                percent(elastic.memory),
                NOTHING if elastic.roofline is None else f"{elastic.roofline:.2f}",
                NOTHING if score is None else f"{score:.2f}",
            ]
        )
    headers = ["case", "speedup", "CV", "memory efficiency", "roofline", "original's score"]
    note = "The original measured its elementwise pass, checked no output, assumed a peak of 256 GB/s and clipped its "
    note += (
        "roofline at 1. Its score, min(1, 0.5 * copy ceiling / peak + 0.5 * speedup), is shown here with the real peak."
    )
    return f"## Comparison with the original's claims\n\n{table(rows, headers)}\n\n{note}"


SWEEPS_NOTE = """Cases of a sweep differ only in tokens held, {keys} and cache dtype. A hatched field is a case without
a result and shows its mark and status instead of a number. An empty field is not in the matrix. In the second figure,
a case on the line reaches its ceiling; error bars are intervals."""

HOW_TO_READ = """## How to read this

- **Byte ceiling**: full-cache bytes / elastic bytes, the largest speedup that the bytes allow. **Reachable**: the ratio
  of the times of pure passes over the same bytes, launched in the same way.
- **CV**: standard deviation / mean of the trimmed elastic samples. **A/A control**: the full cache compared with
  itself, in the same rounds.
- **Memory efficiency**: bytes / time / datasheet peak. **Roofline**: bytes / time / read ceiling of the same process,
  never clipped.
- Verdicts: golden ticket (speedup, CV and memory efficiency pass; ☆ roofline too), ⭐ excellent, ✓ good, = same,
  – slower, ✗ invalid, · skipped. A mark with ~ is imprecise: the speedup's interval is widened by the deviation of its
  control from 1. A case whose output is wrong, whose timing is noise or whose speedup exceeds its byte ceiling has no
  number."""
