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
from elastickv.report.inputs import Case, Inputs, load
from elastickv.report.text import device_title, plain, times_interval

LONGEST_NAME = 40
WRAPPED = 26
FORMATS = ("svg", "png")


def run(args: argparse.Namespace) -> int:
    """Writes the figures of `args.results` into the folder `args.out`."""
    inputs, out = load(args.cases, args.results, with_baselines=False, with_peers=False), _folder(args.out)
    title = device_title(inputs.backend, inputs.device["name"] if inputs.device else None)
    with drawing.style():
        drawn = {
            "speedup": drawing.speedup(speedup_data(inputs), inputs.thresholds["speedup"], title),
            "efficiency": drawing.efficiency(efficiency_data(inputs), inputs.thresholds, title),
            "samples": drawing.samples(samples_data(inputs), title),
            "ceilings": drawing.ceilings(ceilings_data(inputs), achieved_data(inputs), title),
        }
        for grid in sweeps.grids(inputs)[: sweeps.MOST_DRAWN]:
            drawn[f"heat_map{grid.suffix}"] = drawing_sweeps.heat_map(grid)
            drawn[f"against_ceilings{grid.suffix}"] = drawing_sweeps.against_ceilings(grid)
        for name, figure in drawn.items():
            if figure is not None:
                save(figure, out, name)
    return 0


def _folder(out: str) -> Path:
    """The folder to write into, made where it is missing. UsageError where something else stands in its place."""
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"--out: {out}: cannot be a folder: {error.strerror}; name a folder, new or not") from error
    except OSError as error:
        raise records.cannot_write(out, error) from error
    return Path(out)


def speedup_data(inputs: Inputs) -> list[dict[str, Any]]:
    """One row per case: `speedup` {value, low, high} or None, `note` to stand beside it, and the two ceilings."""
    rows = []
    for case in inputs.cases:
        known, verdict = case.publishable, case.verdict["verdict"].replace("_", " ")
        verdict += " (imprecise)" if case.verdict["status"] == "imprecise" else ""
        interval = case.record["statistics"]["speedup"] if known else None
        without = case.verdict["status"].replace("_", " ")
        rows.append(
            {
                "case": _label(inputs, case),
                "note": f"{times_interval(interval)} {verdict}" if interval else f"no result: {without}",
                "speedup": interval,
                "byte_ceiling": case.verdict["byte_ceiling"],
                "reachable_ceiling": case.verdict["reachable_ceiling"],
            }
        )
    return rows


def efficiency_data(inputs: Inputs) -> list[dict[str, Any]]:
    """One row per case with an efficiency: for `memory` and `roofline` the shares of both arms and of the pure pass."""
    rows = []
    for case in inputs.publishable:
        arms = case.record["efficiency"]
        row: dict[str, Any] = {"case": _label(inputs, case)}
        for kind in ("memory", "roofline"):
            row[kind] = {arm: arms[arm][kind] for arm in ("full", "elastic")}
            row[kind]["pure"] = arms["elastic"].get(f"pure_{kind}")
        if case.record["resolved"]["cold"] and any(row[kind]["elastic"] is not None for kind in ("memory", "roofline")):
            rows.append(row)
    return rows


def samples_data(inputs: Inputs) -> list[dict[str, Any]]:
    """One panel per case with samples, noisy ones too: microseconds of each arm in the order taken."""
    return [
        {
            "case": _label(inputs, case) + ("" if case.publishable else f" ({case.verdict['status']})"),
            **{arm: case.record["samples"][f"{arm}_us"] for arm in ("full", "full_again", "elastic")},
        }
        for case in inputs.cases
        if case.record and case.record.get("samples") and case.record["samples"]["full_us"]
    ]


def ceilings_data(inputs: Inputs) -> list[dict[str, Any]]:
    """Bytes, read and copy bandwidth (GB/s) of each size; of dependent launches too, where the device has them."""
    points = inputs.ceilings["points"] if inputs.ceilings else []
    return [
        {
            "bytes": point["bytes"],
            **{kind: point[f"{kind}_gbps"]["value"] for kind in ("read", "copy")},
            **{f"dependent_{kind}": rate["value"] for kind, rate in _dependent(point)},
        }
        for point in points
    ]


def _dependent(point: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(key.removesuffix("_gbps"), rate) for key, rate in point.get("dependent", {}).items()]


def achieved_data(inputs: Inputs) -> list[dict[str, Any]]:
    """Bytes and bandwidth (GB/s) of both arms of every case of this device whose caches were cold."""
    return [
        {
            "case": plain(case.id, LONGEST_NAME),
            "arm": arm,
            "bytes": case.record["bytes"][arm],
            "gbps": case.record["efficiency"][arm]["achieved_gbps"],
        }
        for case in inputs.own
        if case.record["resolved"]["cold"]
        for arm in ("full", "elastic")
        if case.record["efficiency"][arm].get("achieved_gbps") is not None
    ]


def _label(inputs: Inputs, case: Case) -> str:
    name = plain(case.id, LONGEST_NAME)
    device = f"on {plain(case.record['device']['name'], LONGEST_NAME)}" if inputs.is_foreign(case) else ""
    return "\n".join([name, *textwrap.wrap(device, WRAPPED)])


def save(figure: Any, folder: Path, name: str) -> None:
    """Writes one figure in every format, each atomically; the same data gives the same bytes."""
    for kind in FORMATS:
        with records.replacing(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
