"""Markdown tables by tabulate."""

from __future__ import annotations

from typing import Any


def table(rows: list[list[Any]], headers: list[str]) -> str:
    """A pipe table. Cells must be escaped by the caller; numbers are left as they are written."""
    import tabulate

    tabulate.WIDE_CHARS_MODE = False  # else columns are wider where the package wcwidth happens to be installed
    return tabulate.tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, preserve_whitespace=False)
