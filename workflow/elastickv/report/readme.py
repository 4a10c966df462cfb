"""`elastickv report readme`: writes tables of a committed run between marks in the README and the pages of docs/.

A block begins with `<!-- results: SECTION of FOLDER -->` and ends with `<!-- end of results -->`. SECTION is a key of
SECTIONS, FOLDER a results folder relative to the checkout. As in the posts, every figure is a `Number`, which names the
file of the folder and the JSON pointer that it was read from.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

from elastickv import records
from elastickv.errors import UsageError
from elastickv.report import phrases
from elastickv.report.cautions import beats_pure_pass, cycle_holds
from elastickv.report.inputs import Inputs, load
from elastickv.report.phrases import Number, Phrase
from elastickv.report.tables import table
from elastickv.report.text import NOTHING, escape, microseconds, percent, size, times
from elastickv.schemas.base import at
from elastickv.system import readable

END = "<!-- end of results -->"
BLOCK = re.compile(rf"<!-- results: (?P<section>[a-z ]+) of (?P<folder>\S+) -->\n(?P<text>.*?){END}", re.DOTALL)
Form = Callable[[Any], str]
Row = dict[str, Any]  # what its columns read: places by key, and the case
Column = Callable[[Row], Phrase]


class Place(NamedTuple):
    """A model that was read from a file of the results folder, and its JSON pointer there."""

    model: Any
    file: str
    pointer: str


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
    """The table of a section, with the device, the date and a link to the records; without columns that are empty."""
    device, driver = (at(inputs.device, (fact,)) for fact in ("name", "driver"))
    days = sorted(case.record.ended[:10] for case in inputs.cases if case.record)
    where = f"**{escape(device or 'no device')}**" + (f", driver {escape(driver)}" if driver else "")
    head = f"Measured on {where}, {days[-1] if days else 'never'}: [report]({link}/report.md), [records]({link}/)."
    titles, rows = cells(inputs, name)
    return f"{head}\n\n{table([[phrases.text_of(cell) for cell in row] for row in rows], titles)}\n"


def cells(inputs: Inputs, name: str) -> tuple[list[str], list[list[Phrase]]]:
    """The titles and the rows of a section; rows and columns without any figure are left out."""
    rows = _points(inputs) if name == "ceilings" else _cases(inputs)
    made = [[column(row) for column in SECTIONS[name].values()] for row in rows]
    kept = [row for row in made if any(cell != [NOTHING] for cell in row[1:])]
    filled = [any(row[place] != [NOTHING] for row in kept) or not kept for place in range(len(SECTIONS[name]))]
    return [*compress(SECTIONS[name], filled)], [[*compress(row, filled)] for row in kept]


def _cases(inputs: Inputs) -> list[Row]:
    """Every case; one that may not be published has no record."""
    return [
        {
            "case": case,
            "record": Place(case.record if case.publishable else None, f"results_{case.id}.json", ""),
            "verdict": Place(case.verdict, "verdicts.json", f"/cases/{case.place}"),
        }
        for case in inputs.cases
    ]


def _points(inputs: Inputs) -> list[Row]:
    points = inputs.ceilings.points if inputs.ceilings else []
    return [{"point": Place(point, "ceilings.json", f"/points/{index}")} for index, point in enumerate(points)]


def _case(row: Row) -> Phrase:
    return [f"`{row['case'].id}`"]


def _judged(row: Row) -> Phrase:
    verdict = row["case"].verdict
    status = "" if row["case"].publishable else f" ({verdict.status})"
    return [f"{verdict.mark} {verdict.verdict.replace('_', ' ')}{status}"]


def _figure(path: str, form: Form) -> Column:
    """The number at a path, which begins with the key of a place; a dash if there is none."""
    key, *names = path.split("/")

    def column(row: Row) -> Phrase:
        model, file, pointer = row[key]
        value = at(model, names)
        return [NOTHING] if value is None else [Number(form(value), value, file, ("/".join([pointer, *names]),))]

    return column


def _interval(path: str, value: str, form: Form) -> Column:
    """`1.000 [0.999, 1.001]`: `value`, `low` and `high` below a path; a dash if there are none."""

    def column(row: Row) -> Phrase:
        middle, low, high = (_figure(f"{path}/{key}", form)(row) for key in (value, "low", "high"))
        return middle if middle == [NOTHING] else [*middle, " [", *low, ", ", *high, "]"]

    return column


def _control(arm: str) -> Column:
    return _interval(f"record/statistics/controls/{arm}", "ratio", lambda number: f"{number:.3f}")


def _pure_pass(row: Row) -> Phrase:
    """`3.26x`, or `3.26x, no bound` where the case is faster."""
    record = row["record"].model
    shown = _figure("verdict/reachable_ceiling", times)(row)
    return [*shown, ", no bound"] if record and beats_pure_pass(record) else shown


def _speedup(row: Row) -> Phrase:
    return phrases.speedup(row["case"]) if row["case"].publishable else [NOTHING]


def _sustained(row: Row) -> Phrase:
    found = row["case"].publishable and row["case"].verdict.criteria.sustained
    return phrases.speedup(row["case"], "sustained") if found and found.value is not None else [NOTHING]


def _cycle_speedup(row: Row) -> Phrase:
    whole = row["case"].publishable and cycle_holds(row["case"].record)
    return phrases.interval(row["case"], "inference_cycle/speedup") if whole else [NOTHING]


def _time(value: float) -> str:
    return f"{microseconds(value)} us"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _short(value: float) -> str:
    return f"{value:.3g}"


# The columns of each section, by header.
SECTIONS: dict[str, dict[str, Column]] = {
    "speedups": {
        "case": _case,
        "full cache": _figure("record/statistics/full/median_us", _time),
        "elastic cache": _figure("record/statistics/elastic/median_us", _time),
        "speedup": _speedup,
        "sustained": _sustained,
        "byte ceiling": _figure("verdict/byte_ceiling", times),
        "pure pass": _pure_pass,
        "verdict": _judged,
    },
    "controls": {
        "case": _case,
        "control, full cache": _control("full"),
        "control, elastic cache": _control("elastic"),
        "processes": _figure("record/resolved/processes", str),
        "rounds": _figure("record/resolved/reps", str),
        "CV": _figure("verdict/criteria/cv/value", lambda value: percent(value, 2)),
        "relative error": _figure("record/correctness/elastic/relative_error", lambda value: f"{value:.1e}"),
        "allowed": _figure("record/correctness/elastic/tolerance", lambda value: f"{value:.0e}"),
    },
    "bandwidth": {
        "case": _case,
        "full cache": _figure("record/bytes/full", size),
        "full, GB/s": _figure("record/efficiency/full/achieved_gbps", _whole),
        "full, roofline": _figure("record/efficiency/full/roofline", percent),
        "elastic cache": _figure("record/bytes/elastic", size),
        "elastic, GB/s": _figure("record/efficiency/elastic/achieved_gbps", _whole),
        "elastic, roofline": _figure("record/efficiency/elastic/roofline", percent),
        "pure pass of its bytes": _figure("record/efficiency/elastic/pure_roofline", percent),
    },
    "cycle": {
        "case": _case,
        "tokens": _figure("record/inference_cycle/decode_tokens", str),
        "layers": _figure("record/inference_cycle/layers", str),
        "full cache, layer steps/s": _figure("record/inference_cycle/layer_steps_per_second/full", _whole),
        "elastic, layer steps/s": _figure("record/inference_cycle/layer_steps_per_second/elastic", _whole),
        "speedup of the cycle": _cycle_speedup,
        "append alone, full, us": _figure("record/inference_cycle/append_us/full", _short),
        "append alone, elastic, us": _figure("record/inference_cycle/append_us/elastic", _short),
    },
    "ceilings": {
        "bytes of a pass": _figure("point/bytes", size),
        "read, GB/s": _figure("point/read_gbps/value", _whole),
        "copy": _figure("point/copy_gbps/value", _whole),
        "read, dependent launches": _figure("point/dependent/read_gbps/value", _whole),
        "copy, dependent launches": _figure("point/dependent/copy_gbps/value", _whole),
    },
    "energy": {
        "case": _case,
        "full cache": _figure("record/energy/joules_per_token/full", lambda value: f"{value * 1e3:.4g} mJ"),
        "elastic cache": _figure("record/energy/joules_per_token/elastic", lambda value: f"{value * 1e3:.4g} mJ"),
        "full cache, W": _figure("record/energy/arms/full/watts", _whole),
        "elastic cache, W": _figure("record/energy/arms/elastic/watts", _whole),
    },
}
