"""Markdown tables by tabulate."""

from __future__ import annotations

from typing import Any


def table(rows: list[list[Any]], headers: list[str]) -> str:
    """A pipe table. The caller escapes the cells; numbers are not reformatted."""
    import tabulate

    tabulate.WIDE_CHARS_MODE = False  # otherwise the width depends on whether wcwidth is installed
    return tabulate.tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, preserve_whitespace=False)
