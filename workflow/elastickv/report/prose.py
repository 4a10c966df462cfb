"""Texts from the jinja2 templates beside this file, `<name>.jinja`. Phrases are printed and their numbers kept."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from elastickv.report import cautions, phrases, text
from elastickv.report.phrases import Number


class Prose(NamedTuple):
    """A text and its numbers in order, each with the pointers to its record."""

    text: str
    numbers: list[Number]


def render(name: str, **values: Any) -> Prose:
    """A template filled in. It sees `values`, functions of `phrases`, and `cautions.cycle_holds`.

    A backslash at the end of a line joins it with the next one.
    """
    numbers: list[Number] = []
    written = _templates().get_template(f"{name}.jinja").render(values, numbers=numbers)
    return Prose(re.sub(r"\n{3,}", "\n\n", written).strip(), numbers)


@cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_published,
    )
    made.globals |= {name: getattr(phrases, name) for name in phrases.IN_TEMPLATES}
    made.globals |= {"cycle_holds": cautions.cycle_holds}
    made.filters["escape"] = text.escape
    return made


def _source(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").replace("\\\n", "")


@jinja2.pass_context
def _published(context: jinja2.runtime.Context, value: Any) -> str:
    """The text of a phrase, whose numbers are kept."""
    phrase = value if isinstance(value, list) else [value]
    context["numbers"].extend(phrases.numbers_of(phrase))
    return "".join(piece.text if isinstance(piece, Number) else str(piece) for piece in phrase)
