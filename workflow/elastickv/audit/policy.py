"""What a canonical decode case keeps, and when its groups close.

Of the default policy this is written from its definition (docs/architecture.md); of another one only its file says it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from elastickv import policies

GROUPED = "grouped"


class Slots(NamedTuple):
    """How many, how many KV heads have any, and the formats of their keys and of their values."""

    count: int
    heads: int
    names: tuple[str, str]


class Kept(NamedTuple):
    """segments: of one sequence, all KV heads together. biased: whether slots have a bias."""

    segments: list[Slots]
    biased: bool


def taken_from(case: dict[str, Any]) -> str | None:
    """A note on what is not computed again: slots of a policy other than the default one. None: nothing."""
    name = _name(case)
    if case["workload"] != "decode" or name == GROUPED:
        return None
    return f"slots and closings are those that policy {name} itself counts; the bytes that follow are computed again"


def kept(case: dict[str, Any]) -> Kept:
    """What the elastic cache of `seq` tokens keeps."""
    if _name(case) != GROUPED:
        return _by_its_file(case)
    groups = max(0, case["seq"] - case["sinks"] - case["window"]) // case["compress"]
    exact = case["seq"] - groups * case["compress"]
    heads, segments = case["kv_heads"], ((exact, (case["dtype"], case["dtype"])), (groups, _stored(case)))
    return Kept(
        [Slots(heads * slots, heads if slots else 0, names) for slots, names in segments], case["bias"] != "none"
    )


def period(case: dict[str, Any]) -> int:
    """The tokens after which closings repeat."""
    return case["compress"] if _name(case) == GROUPED else _made(case).period


def _name(case: dict[str, Any]) -> str:
    return case.get("policy", GROUPED)


def _stored(case: dict[str, Any]) -> tuple[str, str]:
    """Formats of compressed slots: of keys, of values."""
    return tuple(case.get(name, case["cache_dtype"]) for name in ("key_dtype", "value_dtype"))


def _made(case: dict[str, Any]) -> policies.Policy:
    return policies.of(_name(case))(case, case["dtype"], *_stored(case))


def _by_its_file(case: dict[str, Any]) -> Kept:
    made, tokens = _made(case), case["seq"]
    of_heads = [made.slots(head, tokens) for head in range(case["kv_heads"])]
    return Kept(
        [
            Slots(sum(counts), sum(map(bool, counts)), (segment.keys, segment.values))
            for segment, *counts in zip(made.segments(tokens), *of_heads, strict=True)
        ],
        made.biased,
    )
