"""`elastickv report readme`: writes tables of a committed run between marks in the README and the pages of docs/.

A block begins with `<!-- results: SECTION of FOLDER -->` and ends with `<!-- end of results -->`. SECTION is a key of
SECTIONS, FOLDER a results folder relative to the checkout. As in the posts, every figure is a `Number`, which names the
file of the folder and the JSON pointer that it was read from.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.errors import UsageError
from elastickv.report import phrases
from elastickv.report.cautions import cycle_holds
from elastickv.report.inputs import Case, Inputs, load
from elastickv.report.phrases import Number, Phrase
from elastickv.report.tables import table
from elastickv.report.text import NOTHING, escape, microseconds, percent, size, times
from elastickv.schemas.base import at
from elastickv.system import readable

END = "<!-- end of results -->"
BLOCK = re.compile(rf"<!-- results: (?P<section>[a-z ]+) of (?P<folder>\S+) -->\n(?P<text>.*?){END}", re.DOTALL)
Form = Callable[[Any], str]
Column = Callable[[Any], Phrase]


def run(args: argparse.Namespace) -> int:
    """Rewrites the blocks of `args.out` that name the results folder `args.results`, by the plan `args.cases`.

    Raises UsageError if it is not a text file or has no such block, MachineError if it cannot be read.
    """
    path = Path(args.out)
    try:
        text = path.read_text(encoding="utf-8")
    except PermissionError as error:
        raise readable.cannot_read(path, error) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}; name a Markdown file of the checkout") from error
    inputs, link = load(args.cases, args.results), os.path.relpath(args.results, path.parent)
    records.write_text(path, replaced(text, inputs, args.results, link, str(path)))
    return 0


def replaced(text: str, inputs: Inputs, folder: Path | str, link: str, name: str) -> str:
    """`text` with the blocks of `folder` written again. Raises UsageError if there are none, or of unknown sections.

    link: path of the folder relative to the file. name: the file in messages.
    """
    blocks = [block for block in BLOCK.finditer(text) if Path(block["folder"]).resolve() == Path(folder).resolve()]
    if not blocks:
        raise UsageError(f"{name}: has no block <!-- results: SECTION of {folder} --> that ends with {END}")
    for block in reversed(blocks):
        if block["section"] not in SECTIONS:
            raise UsageError(f"{name}: results: {block['section']}: must be one of {', '.join(SECTIONS)}")
        written = section(inputs, link, block["section"])
        text = f"{text[: block.start('text')]}{written}\n{text[block.end('text') :]}"
    return text


def section(inputs: Inputs, link: str, name: str = "speedups") -> str:
    """The table of a section, with the device, the date and a link to the records."""
    device, driver = (at(inputs.device, (fact,)) for fact in ("name", "driver"))
    days = sorted(case.record.ended[:10] for case in inputs.cases if case.record)
    where = f"**{escape(device or 'no device')}**" + (f", driver {escape(driver)}" if driver else "")
    head = f"Measured on {where}, {days[-1] if days else 'never'}: [report]({link}/report.md), [records]({link}/)."
    rows = [[phrases.text_of(cell) for cell in row] for row in cells(inputs, name)]
    return f"{head}\n\n{table(rows, [*SECTIONS[name][1]])}\n"


def cells(inputs: Inputs, name: str) -> list[list[Phrase]]:
    """The rows of a section; those without any figure are left out."""
    items, columns = SECTIONS[name]
    rows = [[column(item) for column in columns.values()] for item in items(inputs)]
    return [row for row in rows if any(cell != [NOTHING] for cell in row[1:])]


def _case(case: Case) -> Phrase:
    return [f"`{case.id}`"]


def _judged(case: Case) -> Phrase:
    verdict = case.verdict
    status = "" if case.publishable else f" ({verdict.status})"
    return [f"{verdict.mark} {verdict.verdict.replace('_', ' ')}{status}"]


def _figure(path: str, form: Form) -> Column:
    """The number at a path of a case's record; a dash if it has none, or may not be published."""

    def column(case: Case) -> Phrase:
        there = case.publishable and at(case.record, path.split("/")) is not None
        return [phrases.measured(case, path, form)] if there else [NOTHING]

    return column


def _interval(path: str, value: str) -> Column:
    """`1.000 [0.999, 1.001]`, where the figure beside `low` and `high` has the name `value`."""
    value, low, high = (_figure(f"{path}/{key}", lambda number: f"{number:.3f}") for key in (value, "low", "high"))
    return lambda case: [*value(case), " [", *low(case), ", ", *high(case), "]"] if case.publishable else [NOTHING]


def _speedup(case: Case) -> Phrase:
    return phrases.speedup(case) if case.publishable else [NOTHING]


def _cycle_speedup(case: Case) -> Phrase:
    whole = case.publishable and cycle_holds(case.record)
    return phrases.interval(case, "inference_cycle/speedup") if whole else [NOTHING]


def _byte_ceiling(case: Case) -> Phrase:
    return _ratio(case, "byte_ceiling")


def _reachable_ceiling(case: Case) -> Phrase:
    return _ratio(case, "reachable_ceiling") if case.publishable else [NOTHING]


def _ratio(case: Case, key: str) -> Phrase:
    value = getattr(case.verdict, key)
    return (
        [NOTHING] if value is None else [Number(times(value), value, "verdicts.json", (f"/cases/{case.place}/{key}",))]
    )


def _point(path: str, form: Form) -> Column:
    """The number at a path of a point of ceilings.json; a dash if the device has no such launches."""

    def column(item: tuple[int, Any]) -> Phrase:
        place, point = item
        value = at(point, path.split("/"))
        return (
            [NOTHING] if value is None else [Number(form(value), value, "ceilings.json", (f"/points/{place}/{path}",))]
        )

    return column


def _points(inputs: Inputs) -> Iterable[tuple[int, Any]]:
    return enumerate(inputs.ceilings.points if inputs.ceilings else [])


def _cases(inputs: Inputs) -> Iterable[Case]:
    return inputs.cases


def _time(value: float) -> str:
    return f"{microseconds(value)} us"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _short(value: float) -> str:
    return f"{value:.3g}"


# Section -> its rows, and its columns by header.
SECTIONS: dict[str, tuple[Callable[[Inputs], Iterable[Any]], dict[str, Column]]] = {
    "speedups": (
        _cases,
        {
            "case": _case,
            "full cache": _figure("statistics/full/median_us", _time),
            "elastic cache": _figure("statistics/elastic/median_us", _time),
            "speedup": _speedup,
            "byte ceiling": _byte_ceiling,
            "reachable": _reachable_ceiling,
            "verdict": _judged,
        },
    ),
    "controls": (
        _cases,
        {
            "case": _case,
            "A/A control": _interval("statistics/controls/full", "ratio"),
            "rounds": _figure("statistics/elastic/count", str),
            "CV": _figure("statistics/elastic/cv_trimmed", lambda value: percent(value, 2)),
            "relative error": _figure("correctness/elastic/relative_error", lambda value: f"{value:.1e}"),
            "allowed": _figure("correctness/elastic/tolerance", lambda value: f"{value:.0e}"),
        },
    ),
    "bandwidth": (
        _cases,
        {
            "case": _case,
            "full cache": _figure("bytes/full", size),
            "full, GB/s": _figure("efficiency/full/achieved_gbps", _whole),
            "full, roofline": _figure("efficiency/full/roofline", percent),
            "elastic cache": _figure("bytes/elastic", size),
            "elastic, GB/s": _figure("efficiency/elastic/achieved_gbps", _whole),
            "elastic, roofline": _figure("efficiency/elastic/roofline", percent),
            "pure pass of its bytes": _figure("efficiency/elastic/pure_roofline", percent),
        },
    ),
    "cycle": (
        _cases,
        {
            "case": _case,
            "tokens": _figure("inference_cycle/decode_tokens", str),
            "layers": _figure("inference_cycle/layers", str),
            "full cache, layer steps/s": _figure("inference_cycle/layer_steps_per_second/full", _whole),
            "elastic, layer steps/s": _figure("inference_cycle/layer_steps_per_second/elastic", _whole),
            "speedup of the cycle": _cycle_speedup,
            "append alone, full, us": _figure("inference_cycle/append_us/full", _short),
            "append alone, elastic, us": _figure("inference_cycle/append_us/elastic", _short),
        },
    ),
    "ceilings": (
        _points,
        {
            "bytes of a pass": _point("bytes", size),
            "read, GB/s": _point("read_gbps/value", _whole),
            "copy": _point("copy_gbps/value", _whole),
            "read, dependent launches": _point("dependent/read_gbps/value", _whole),
            "copy, dependent launches": _point("dependent/copy_gbps/value", _whole),
        },
    ),
    "energy": (
        _cases,
        {
            "case": _case,
            "full cache": _figure("energy/joules_per_token/full", lambda value: f"{value * 1e3:.4g} mJ"),
            "elastic cache": _figure("energy/joules_per_token/elastic", lambda value: f"{value * 1e3:.4g} mJ"),
            "full cache, W": _figure("energy/arms/full/watts", _whole),
            "elastic cache, W": _figure("energy/arms/elastic/watts", _whole),
        },
    ),
}
