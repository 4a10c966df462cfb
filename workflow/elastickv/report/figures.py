"""`elastickv report figures`: speedups and their ceilings, samples, efficiencies, bandwidth, sweeps, as SVG and PNG.

Functions named *_data (and `sweeps.grids`) turn Inputs into plain rows; those in `drawing.py` and `drawing_sweeps.py`
draw them and compute nothing.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.errors import UsageError
from elastickv.report import drawing, drawing_sweeps, sweeps
from elastickv.report.drawing import Achieved, EfficiencyRow, SampleSeries, Shares, SpeedupRow
from elastickv.report.inputs import Case, Inputs, load
from elastickv.report.text import device_title, plain, times_interval
from elastickv.schemas.base import at, given
from elastickv.schemas.measurement import Efficiencies

LONGEST_NAME = 40
WRAPPED = 26
FORMATS = ("svg", "png")


def run(args: argparse.Namespace) -> int:
    """Writes the figures of `args.results` into the folder `args.out`."""
    inputs, out = load(args.cases, args.results, with_baselines=False, with_peers=False), _folder(args.out)
    title = device_title(inputs.backend, inputs.device.name if inputs.device else None)
    with drawing.style():
        drawn = {
            "speedup": drawing.speedup(speedup_data(inputs), inputs.thresholds.speedup, title),
            "efficiency": drawing.efficiency(efficiency_data(inputs), inputs.thresholds, title),
            "samples": drawing.samples(samples_data(inputs), title),
            "ceilings": drawing.ceilings(at(inputs.ceilings, ("points",)) or [], achieved_data(inputs), title),
        }
        for grid in sweeps.grids(inputs)[: sweeps.MOST_DRAWN]:
            drawn[f"heat_map{grid.suffix}"] = drawing_sweeps.heat_map(grid)
            drawn[f"against_ceilings{grid.suffix}"] = drawing_sweeps.against_ceilings(grid)
        for name, figure in drawn.items():
            if figure is not None:
                save(figure, out, name)
    return 0


def _folder(out: str) -> Path:
    """The output folder, created if missing. Raises UsageError if the path exists and is not a folder."""
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"--out: {out}: cannot be a folder: {error.strerror}; name a new or existing folder"
        ) from error
    except OSError as error:
        raise records.cannot_write(out, error) from error
    return Path(out)


def speedup_data(inputs: Inputs) -> list[SpeedupRow]:
    """One row per case with its annotation."""
    rows = []
    for case in inputs.cases:
        interval, verdict = case.record.statistics.speedup if case.publishable else None, case.verdict
        judged = verdict.verdict + (" (imprecise)" if verdict.status == "imprecise" else "")
        note = f"{times_interval(interval)} {judged}" if interval else f"no result: {verdict.status}"
        ceilings = verdict.byte_ceiling, verdict.reachable_ceiling
        rows.append(SpeedupRow(_label(inputs, case), note.replace("_", " "), interval, *ceilings))
    return rows


def efficiency_data(inputs: Inputs) -> list[EfficiencyRow]:
    """One row per case that has an efficiency."""
    rows = []
    for case in inputs.publishable:
        arms = case.record.efficiency
        row = EfficiencyRow(_label(inputs, case), _shares(arms, "memory"), _shares(arms, "roofline"))
        if case.record.resolved.cold and (row.memory.elastic, row.roofline.elastic) != (None, None):
            rows.append(row)
    return rows


def _shares(arms: Efficiencies, kind: str) -> Shares:
    pure = given(getattr(arms.elastic, f"pure_{kind}"))
    return Shares(full=getattr(arms.full, kind), elastic=getattr(arms.elastic, kind), pure=pure)


def samples_data(inputs: Inputs) -> list[SampleSeries]:
    """One panel per case with samples, including noisy ones."""
    found = ((case, at(case.record, ("samples",))) for case in inputs.cases)
    return [
        SampleSeries(
            case=_label(inputs, case) + ("" if case.publishable else f" ({case.verdict.status})"),
            full=samples.full_us,
            full_again=samples.full_again_us,
            elastic=samples.elastic_us,
        )
        for case, samples in found
        if samples and samples.full_us
    ]


def achieved_data(inputs: Inputs) -> list[Achieved]:
    """Bytes and bandwidth of both arms of every case of this device with cold caches."""
    rows = []
    for case in (case for case in inputs.own if case.record.resolved.cold):
        name, moved, efficiency = plain(case.id, LONGEST_NAME), case.record.bytes, case.record.efficiency
        rows.append(Achieved(name, "full", moved.full, efficiency.full.achieved_gbps))
        rows.append(Achieved(name, "elastic", moved.elastic, efficiency.elastic.achieved_gbps))
    return rows


def _label(inputs: Inputs, case: Case) -> str:
    name = plain(case.id, LONGEST_NAME)
    device = f"on {plain(case.record.device.name, LONGEST_NAME)}" if inputs.is_foreign(case) else ""
    return "\n".join([name, *textwrap.wrap(device, WRAPPED)])


def save(figure: Any, folder: Path, name: str) -> None:
    """Writes one figure in every format, each atomically; the same data gives the same bytes."""
    for kind in FORMATS:
        with records.replacing(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
