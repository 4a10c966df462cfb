"""Markdown tables by tabulate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from elastickv.report.text import NOTHING

Item = TypeVar("Item")


def table(rows: list[list[Any]], headers: list[str]) -> str:
    """A pipe table. The caller escapes the cells; numbers are not reformatted."""
    import tabulate

    tabulate.WIDE_CHARS_MODE = False  # otherwise the width depends on whether wcwidth is installed
    return tabulate.tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, preserve_whitespace=False)


def of(items: Iterable[Item], columns: dict[str, Callable[[Item], Any]]) -> str:
    """A table with a row per item, whose cells the columns' functions give; empty without items."""
    rows = [[cell(item) for cell in columns.values()] for item in items]
    return table(rows, [*columns]) if rows else ""


def published(cell: Callable[[Any], str]) -> Callable[[Any], str]:
    """A column that only cases with a publishable result have."""
    return lambda case: cell(case) if case.publishable else NOTHING
