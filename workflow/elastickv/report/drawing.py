"""Draws rows from figures.py with Matplotlib (no display needed). Computes nothing; all text is drawn literally."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from elastickv.schemas.base import given
from elastickv.schemas.ceilings import Point
from elastickv.schemas.config import Golden
from elastickv.schemas.parts import Interval

FULL, ELASTIC, CONTROL, LIMIT = "#7f8c9b", "#1f6fb4", "#c9ced6", "#222222"
REACHABLE, GOAL = "#e08a1e", "#c0392b"
PANELS_ACROSS = 3
ROOMY = 12  # up to this many rows are drawn with wide spacing
MOST_TICKS = 9  # largest number of labelled sizes on the axis
KINDS = {"memory": ("memory efficiency", "memory_efficiency"), "roofline": ("roofline", "roofline")}


class SpeedupRow(NamedTuple):
    """A case with its annotation, both ceilings and, if it has one, its speedup."""

    case: str
    note: str
    speedup: Interval | None
    byte_ceiling: float | None
    reachable_ceiling: float | None


class Shares(NamedTuple):
    """Shares of a bandwidth reached by both arms and by a pure pass over the elastic bytes."""

    full: float | None
    elastic: float | None
    pure: float | None


class EfficiencyRow(NamedTuple):
    """A case's shares of the datasheet peak and of the read ceiling."""

    case: str
    memory: Shares
    roofline: Shares


class SampleSeries(NamedTuple):
    """A case's samples of each arm, in microseconds, in the order taken."""

    case: str
    full: list[float]
    full_again: list[float]
    elastic: list[float]


class Achieved(NamedTuple):
    """Bandwidth of one arm of a case, in GB/s."""

    case: str
    arm: str
    bytes: int
    gbps: float


def style() -> AbstractContextManager[Any]:
    """Settings for all figures: Agg, no mathtext in strings from records, the same SVG ids every time."""
    import matplotlib

    matplotlib.use("Agg")
    settings = {
        "text.parse_math": False,
        "svg.hashsalt": "elastickv",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.use": True,
        "savefig.dpi": 150,
    }
    return matplotlib.rc_context(settings)


def figure_of(width: float, height: float) -> Any:
    """An empty figure, sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def speedup(rows: list[SpeedupRow], goal: float, title: str) -> Any:
    """One line per case: the interval, both ceilings, and an annotation with figures and verdict."""
    figure = figure_of(9, 1.8 + (0.45 if len(rows) <= ROOMY else 0.3) * len(rows))
    axes = figure.subplots()
    axes.axvline(1, color=FULL, linewidth=1)
    axes.axvline(goal, color=GOAL, linewidth=1, linestyle="--", label=f"threshold {goal:g}x", zorder=0)
    for y, row in enumerate(rows):
        if row.speedup is not None:
            _speedup_row(axes, y, row)
        axes.annotate(
            row.note,
            (1.01, y),
            xycoords=("axes fraction", "data"),
            va="center",
            annotation_clip=False,
            color=LIMIT if row.speedup else FULL,
        )
    axes.plot([], [], "o", color=ELASTIC, label="measured, with interval")
    axes.plot([], [], "|", color=LIMIT, markersize=12, markeredgewidth=2, label="byte ceiling")
    axes.plot([], [], "|", color=REACHABLE, markersize=12, markeredgewidth=2, label="pure pass")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    axes.set_yticks(range(len(rows)), [row.case for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=min(0.9, axes.get_xlim()[0]), right=axes.get_xlim()[1] + 0.05)
    axes.set_xlabel("speedup over the full cache (x)")
    figure.suptitle(f"Speedup and what limits it\n{title}", x=0.01, ha="left")
    return figure


def _speedup_row(axes: Any, y: int, row: SpeedupRow) -> None:
    interval = row.speedup
    reach = [[interval.value - interval.low], [interval.high - interval.value]]
    axes.barh(y, interval.value - 1, left=1, height=0.5, color=ELASTIC, alpha=0.3)
    axes.errorbar(interval.value, y, xerr=reach, fmt="o", color=ELASTIC, capsize=4, markersize=5)
    for ceiling, colour in ((row.byte_ceiling, LIMIT), (row.reachable_ceiling, REACHABLE)):
        axes.plot(ceiling, y, "|", color=colour, markersize=16, markeredgewidth=2)


def efficiency(rows: list[EfficiencyRow], thresholds: Golden, title: str) -> Any:
    """Shares of datasheet peak and of the read ceiling: both arms, the pure pass, the threshold. None without rows."""
    kinds = [kind for kind in KINDS if any(getattr(row, kind).elastic is not None for row in rows)]
    if not kinds:
        return None
    figure = figure_of(2 + 4 * len(kinds), 1.6 + 0.55 * len(rows))
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        name, criterion = KINDS[kind]
        _efficiency_panel(axes, [getattr(row, kind) for row in rows], name, getattr(thresholds, criterion))
    panels[0].set_yticks(range(len(rows)), [row.case for row in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    figure.suptitle(f"How much of the memory bandwidth is used\n{title}", x=0.01, ha="left")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 * len(kinds), frameon=False)
    return figure


def _efficiency_panel(axes: Any, rows: list[Shares], name: str, threshold: float) -> None:
    for offset, arm, colour in ((-0.2, "full", FULL), (0.2, "elastic", ELASTIC)):
        values = [_drawable(getattr(row, arm)) for row in rows]
        label = {"full": "full cache", "elastic": "elastic cache"}[arm]
        axes.barh([y + offset for y in range(len(rows))], values, height=0.36, color=colour, label=label)
        for y, value in enumerate(values):
            if not math.isnan(value):
                inside = value > 0.12  # inside the bar's base, away from the mark of the pure pass
                mark = (rows[y].pure or 0) if arm == "elastic" else 0
                place, ink = (0.01, "white") if inside else (max(value, mark) + 0.015, LIMIT)
                axes.text(place, y + offset, f"{value:.0%}", va="center", color=ink, fontsize=8)
    for y, row in enumerate(rows):
        if row.pure is not None:
            axes.plot(row.pure, y + 0.2, "|", color=LIMIT, markersize=14, markeredgewidth=2)
    axes.plot([], [], "|", color=LIMIT, markersize=12, markeredgewidth=2, label="pure pass over the elastic bytes")
    axes.axvline(threshold, color=GOAL, linewidth=1, linestyle="--", label="threshold", zorder=0)
    axes.set_xlim(0, max(1.05, axes.get_xlim()[1]))
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_title(name, loc="left")


def _drawable(value: float | None) -> float:
    return math.nan if value is None else value


def samples(panels: list[SampleSeries], title: str) -> Any:
    """Every sample in the order taken, one panel per case. None without panels."""
    if not panels:
        return None
    across = min(PANELS_ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    figure = figure_of(3.6 * across, 0.9 + 2.3 * down)
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
        for arm, colour in (("full_again", CONTROL), ("full", FULL), ("elastic", ELASTIC)):
            label = {"full": "full cache", "full_again": "full cache again (control)", "elastic": "elastic cache"}[arm]
            axes.plot(getattr(panel, arm), ".", color=colour, markersize=4, label=label)
        axes.set_ylim(bottom=0)
        axes.set_title(panel.case, loc="left", fontsize=9)
        axes.set_ylabel("us a launch")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle(f"Samples in the order taken\n{title}", x=0.01, ha="left")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def ceilings(points: list[Point], achieved: list[Achieved], title: str) -> Any:
    """Bandwidth of pure passes by size, and of the cases at their sizes. None without points."""
    if not points:
        return None
    figure = figure_of(8, 4.6)
    axes = figure.subplots()
    megabytes = [point.bytes / 1e6 for point in points]
    for kind, colour in (("read", LIMIT), ("copy", CONTROL)):
        for line, name, rates in (
            (".-", "", points),
            (".--", ", dependent launches", [given(p.dependent) for p in points]),
        ):
            if rates[0]:
                drawn = [getattr(rate, f"{kind}_gbps").value if rate else math.nan for rate in rates]
                axes.plot(megabytes, drawn, line, color=colour, label=f"pure {kind}{name}")
    for arm, colour, name in (("full", REACHABLE, "full cache"), ("elastic", ELASTIC, "elastic cache")):
        of_arm = [row for row in achieved if row.arm == arm]
        if of_arm:
            axes.plot([row.bytes / 1e6 for row in of_arm], [row.gbps for row in of_arm], "D", color=colour,
                      markersize=5, label=f"{name}, by case")  # fmt: skip
    if len(achieved) <= 2 * ROOMY:
        _name_cases(axes, [row for row in achieved if row.arm == "elastic"])
    axes.set_xscale("log")
    ticks = megabytes if len(megabytes) <= MOST_TICKS else megabytes[::-2][::-1]
    axes.set_xticks(ticks, [f"{size:,.0f}" if size >= 10 else f"{size:.1f}" for size in ticks], fontsize=8)
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("bytes of a launch (MB)")
    axes.set_ylabel("GB/s")
    axes.set_title(f"Bandwidth by size\n{title}", loc="left")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _name_cases(axes: Any, rows: list[Achieved]) -> None:
    for row in rows:
        place = (row.bytes / 1e6, row.gbps)
        axes.annotate(row.case, place, xytext=(6, -9), textcoords="offset points", fontsize=7, color=ELASTIC)
