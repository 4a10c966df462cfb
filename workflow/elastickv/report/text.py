"""Formats strings and numbers for reports. Every string from a record passes through `escape` or `plain`."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Any

from elastickv.judge.verdict import Bounded
from elastickv.schemas.parts import Interval

LONGEST = 300
NOTHING = "–"


def plain(text: Any, longest: int = LONGEST) -> str:
    """One line without control or formatting characters (newlines, bidirectional overrides), at most `longest` long."""
    kept = "".join(
        " " if unicodedata.category(char).startswith(("C", "Z")) else char for char in str(text)[: 4 * longest]
    )
    line = re.sub(" +", " ", kept).strip()
    return line if len(line) <= longest else line[: longest - 1] + "…"


def escape(text: Any, longest: int = LONGEST) -> str:
    """`plain` with all Markdown and HTML markup escaped (underscores inside words need no escape)."""
    safe = html.escape(plain(text, longest), quote=False)
    safe = re.sub(r"([\\`*\[\]|~#!@$])", r"\\\1", safe)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", safe)


def device_title(backend: str | None, name: str | None) -> str:
    """The device in a figure's title: `GPU: NVIDIA H200`, `CPU: …`, `no device`."""
    kind = {"cuda": "GPU: ", "cpu": "CPU: "}.get(backend or "", "")
    return kind + (plain(name, 60) if name else "no device")


def times(value: float | None) -> str:
    """A ratio: `1.96x`."""
    return NOTHING if value is None else f"{value:.2f}x"


def times_short(value: float) -> str:
    """A ratio in three digits, for narrow spaces: `1.96x`, `12.6x`."""
    return f"{value:.2f}x" if value < 9.995 else f"{value:.1f}x"


def interval_digits(ratio: Interval | Bounded) -> int:
    """Decimals needed to show a ratio's interval: two, or three if two would hide it (with slack for rounding)."""
    return 2 if ratio.high - ratio.low > 0.0199 else 3


def times_interval(ratio: Interval | Bounded) -> str:
    """A ratio with its interval: `1.96x [1.95, 1.97]`, or `1.955x [1.951, 1.959]`."""
    digits = interval_digits(ratio)
    return f"{ratio.value:.{digits}f}x [{ratio.low:.{digits}f}, {ratio.high:.{digits}f}]"


def percent(value: float | None, digits: int = 1) -> str:
    return NOTHING if value is None else f"{value * 100:.{digits}f}%"


def microseconds(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"


def size(nbytes: float) -> str:
    """Bytes in decimal units, like bandwidths."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= factor:
            return f"{nbytes / factor:.3g} {unit}"
    return f"{nbytes:.0f} B"
