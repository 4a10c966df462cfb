"""Draws the grids of sweeps.py with Matplotlib: a heat map, and speedups against their ceilings. Computes nothing."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from elastickv import formats, policies
from elastickv.judge.noise import IMPRECISE_MARK
from elastickv.report.drawing import FULL, LIMIT, figure_of
from elastickv.report.sweeps import Cell, Grid
from elastickv.report.text import times_short
from elastickv.schemas.parts import Interval

# Orange below 1x, white at 1x, blue above: distinguishable with any colour vision, and by lightness alone.
SLOWER_TO_FASTER = ("#7f3b08", "#e08a1e", "#fbe3c0", "#ffffff", "#c6dbef", "#4292c6", "#08306b")
NO_RESULT, HATCH = "#ececec", "////"
# Colours show the cache dtype, marker shapes the number of tokens.
SHAPES = "osD^vP*X"
TICKS = (0.1, 0.2, 0.3, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
STRIP = 0.07  # share of a panel's height reserved for cases without a result
_ON_THE_LINE = "speedup = ceiling"
LETTERS_AN_INCH = 10.5  # of a title
CELL, MARGIN, WIDEST = (0.78, 0.44), (0.75, 0.75), 11.0  # inches


def heat_map(grid: Grid) -> Any:
    """Heat map of speedup by tokens and kept share, one panel per cache dtype. Hatched: no result."""
    dtypes, columns, rows = grid.cache_dtypes, len(grid.seqs), len(grid.amounts)
    width, height = columns * CELL[0] + MARGIN[0], rows * CELL[1] + MARGIN[1]
    across = max(1, min(len(dtypes), int(WIDEST / width)))
    down = math.ceil(len(dtypes) / across)
    figure = figure_of(max(6.4, across * width + 1), down * height + 1.3)
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    shades = _shades(grid)
    for axes, dtype in zip(panels, dtypes, strict=False):
        _panel(axes, grid, dtype, shades)
    for axes in panels[len(dtypes) :]:
        axes.set_axis_off()
    bar = figure.colorbar(shades, ax=panels, shrink=0.9, aspect=25, pad=0.02)
    _bar_ticks(bar, grid)
    if grid.without_result:
        hatched = _rectangle(0, 0, NO_RESULT, HATCH)
        figure.legend([hatched], ["no result, hence no number"], loc="outside lower center", frameon=False)
    _title(figure, "Speedup over the full cache", grid)
    return figure


def _title(figure: Any, what: str, grid: Grid) -> None:
    """The figure's title: quantity, cases and device, wrapped to the figure's width."""
    letters = int(figure.get_figwidth() * LETTERS_AN_INCH)
    lines = [what, *textwrap.wrap(grid.title, letters), *textwrap.wrap(grid.device, letters)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left")


def _shades(grid: Grid) -> Any:
    """log2(speedup) -> colour; white is 1x. Each side is scaled to its extreme value, but at least to 2x."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm

    strengths = [math.log2(value) for value in _values(grid)]
    lowest, highest = min([-1, *strengths]), max([1, *strengths])
    colours = LinearSegmentedColormap.from_list("speedup", SLOWER_TO_FASTER)
    return ScalarMappable(TwoSlopeNorm(0, lowest, highest), colours)


def _values(grid: Grid) -> list[float]:
    return [cell.speedup.value for cell in grid.cells.values() if cell.speedup]


def _bar_ticks(bar: Any, grid: Grid) -> None:
    """The colour bar for the occurring speedups and 1x."""
    low, high = min([1, *_values(grid)]), max([1.15, *_values(grid)])
    ticks = [tick for tick in TICKS if low <= tick <= high]
    bar.ax.set_ylim(math.log2(low), math.log2(high))
    bar.set_ticks([math.log2(tick) for tick in ticks], labels=[f"{tick:g}x" for tick in ticks])
    bar.minorticks_off()


def _panel(axes: Any, grid: Grid, dtype: str, shades: Any) -> None:
    for y, amount in enumerate(grid.amounts):
        for x, seq in enumerate(grid.seqs):
            cell = grid.cells.get((dtype, amount, seq))
            if cell:
                _cell(axes, x, y, cell, shades)
            elif (dtype, amount, seq) in grid.whole:
                axes.text(x, y, "full cache", ha="center", va="center", fontsize=8, color=FULL)
    axes.set_xlim(-0.5, len(grid.seqs) - 0.5)
    axes.set_ylim(len(grid.amounts) - 0.5, -0.5)
    axes.set_xticks(range(len(grid.seqs)), [str(seq) for seq in grid.seqs])
    axes.set_yticks(range(len(grid.amounts)), [str(amount) for amount in grid.amounts])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("tokens held")
    unit = policies.every_key()[grid.key].unit
    axes.set_ylabel(f"{grid.key} ({unit})" if unit else grid.key)
    axes.set_title(f"cache in {dtype}", loc="left")


def _cell(axes: Any, x: int, y: int, cell: Cell, shades: Any) -> None:
    if cell.speedup is None:
        axes.add_patch(_rectangle(x, y, NO_RESULT, HATCH))
        status = cell.status.replace("out of memory", "no memory")
        box = {"facecolor": NO_RESULT, "edgecolor": "none", "pad": 1.0}
        size, low = (20, -0.1) if cell.mark == "·" else (11, -0.16)  # a dot is small and low
        axes.text(x, y + 0.2, status, ha="center", va="center", fontsize=8, color=LIMIT, bbox=box)
        axes.text(x, y + low, cell.mark, ha="center", va="center", fontsize=size, weight="bold", color=LIMIT)
        return
    value = cell.speedup.value
    colour = shades.to_rgba(math.log2(value))
    axes.add_patch(_rectangle(x, y, colour))
    lightness = 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
    ink = "white" if lightness < 0.5 else LIMIT
    text = times_short(value) + (IMPRECISE_MARK if cell.imprecise else "")
    axes.text(x, y, text, ha="center", va="center", fontsize=10, color=ink)


def _rectangle(x: float, y: float, colour: Any, hatch: str | None = None) -> Any:
    from matplotlib.patches import Rectangle

    edge = "#b5b5b5" if hatch else "white"
    return Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=colour, edgecolor=edge, hatch=hatch, linewidth=0)


def against_ceilings(grid: Grid) -> Any:
    """Speedup with interval against the byte ceiling and against the reachable ceiling. None without speedups."""
    cells = [(dtype, seq, cell) for (dtype, _, seq), cell in grid.cells.items() if cell.speedup]
    if not cells:
        return None
    figure = figure_of(9.4, 5.2)
    panels = figure.subplots(1, 2, sharey=True)
    shape_of = {seq: SHAPES[i % len(SHAPES)] for i, seq in enumerate(grid.seqs)}
    names = {"byte_ceiling": "byte ceiling", "reachable_ceiling": "pure pass"}
    for axes, (key, name) in zip(panels, names.items(), strict=True):
        for dtype, seq, cell in cells:
            _point(axes, getattr(cell, key), cell.speedup, _colour(dtype), shape_of[seq])
        axes.set_xlabel(f"{name} (x)")
    _log_axes(panels, grid, [cell for _, _, cell in cells])
    _without_result(panels[0], grid)
    panels[0].set_ylabel("measured speedup (x)")
    _legends(panels, grid, shape_of)
    _title(figure, "Speedup against its ceilings", grid)
    return figure


def _colour(stored: str) -> tuple[float, ...]:
    """A format's colour; a mixture of both if keys and values have different formats."""
    from matplotlib.colors import to_rgb

    colours = [to_rgb(formats.of(name).colour) for name in stored.split("/")]
    return tuple(sum(parts) / len(parts) for parts in zip(*colours, strict=True))


def _point(axes: Any, ceiling: float, speedup: Interval, colour: tuple[float, ...], shape: str) -> None:
    reach = [[speedup.value - speedup.low], [speedup.high - speedup.value]]
    style = {"markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.6, "elinewidth": 1.2, "capsize": 2.5}
    axes.errorbar(ceiling, speedup.value, yerr=reach, fmt=shape, color=colour, **style)


def _log_axes(panels: Any, grid: Grid, cells: list[Cell]) -> None:
    """Logarithmic axes with plain numbers, equal in both panels, and the line where speedup equals the ceiling."""
    from matplotlib.ticker import NullLocator

    ceilings = [ceiling for cell in cells for ceiling in (cell.byte_ceiling, cell.reachable_ceiling)]
    ceilings += [cell.byte_ceiling for cell in grid.without_result]
    low = 0.92 * min(1, *ceilings, *(cell.speedup.low for cell in cells))
    high = 1.12 * max(*ceilings, *(cell.speedup.high for cell in cells))
    ticks = [tick for tick in TICKS if low <= tick <= high]
    for axes in panels:
        axes.plot([low, high], [low, high], "-", color=FULL, linewidth=1, zorder=0, label=_ON_THE_LINE)
        axes.axhline(1, color=FULL, linewidth=0.6, linestyle=":", zorder=0)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(low * (low / high) ** STRIP if grid.without_result else low, high)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
            axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.grid(color="#ececec", linewidth=0.6)
        axes.set_axisbelow(True)


def _without_result(axes: Any, grid: Grid) -> None:
    """Cases without a result: a cross at their byte ceiling, in a strip below all speedups."""
    missing = grid.without_result
    if not missing:
        return
    bottom, (top, _) = axes.get_ylim()[0], axes.get_xlim()
    axes.axhspan(bottom, top, color=NO_RESULT, linewidth=0, zorder=-1)
    middle = [(bottom * top) ** 0.5] * len(missing)
    label = f"no result ({len(missing)})"
    axes.plot([cell.byte_ceiling for cell in missing], middle, "x", color=LIMIT, markersize=6, label=label)


def _legends(panels: Any, grid: Grid, shape_of: dict[int, str]) -> None:
    """Legends in the empty upper left corners: colours and lines in one panel, shapes in the other."""
    from matplotlib.lines import Line2D

    dtypes = [
        Line2D([], [], marker="o", linestyle="", color=_colour(d), label=f"cache in {d}") for d in grid.cache_dtypes
    ]
    lines, _ = panels[0].get_legend_handles_labels()
    others = [line for line in lines if isinstance(line, Line2D)]
    panels[0].legend(handles=[*dtypes, *others], loc="upper left", frameon=False)
    if len(shape_of) <= len(SHAPES):
        shapes = [
            Line2D([], [], marker=shape, linestyle="", color=FULL, label=f"{seq} tokens held")
            for seq, shape in shape_of.items()
        ]
        panels[1].legend(handles=shapes, loc="upper left", frameon=False)
