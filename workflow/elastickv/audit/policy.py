"""The slots that a canonical decode case keeps, and when its groups close.

For the default policy, implemented from its definition (docs/how-we-measure.md); for other policies, from their files.
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
    """A note that slots of a policy other than the default are not recomputed; None for the default policy."""
    name = _name(case)
    if case["workload"] != "decode" or name == GROUPED:
        return None
    return f"slots and closings are as counted by policy {name}; the resulting bytes are recomputed"


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
