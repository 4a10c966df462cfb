"""Expands `matrices`: all combinations of a sweep's axes, minus `exclude`, plus `include`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin

from elastickv import policies
from elastickv.matrix import cases
from elastickv.matrix.wording import KeyPath, shown
from elastickv.schemas.config import CASE_KEYS

MOST_CASES = 10_000
_WORDS = [key for key, (kind, _) in CASE_KEYS.items() if get_origin(get_args(kind)[0]) is Literal]
_KEY_ORDER = (*(key for key in CASE_KEYS if key not in _WORDS), *_WORDS)
Case = dict[str, Any]


class Row(NamedTuple):
    """A case before defaults are applied: its id, its given keys, and its key path in the config."""

    id: str
    given: Case
    path: KeyPath


def expand(name: str, sweep: dict[str, Any], common: Case) -> tuple[list[Row], list[tuple[KeyPath, str]]]:
    """The cases of a structurally valid sweep, and (key path in the sweep, message) of each fault.

    common: the config's `defaults`. `exclude` is compared with resolved combinations, so it may name keys that have
    their default. An include adds its other keys to the combinations that have its axis values; if there are none, it
    is a separate case, to which `base` does not apply. If `policy` is an axis, combinations drop the keys that only
    other policies have.
    """
    base, axes = sweep.get("base", {}), sweep["axes"]
    faults = [(("axes", key), "also in base; a key must be either in base or an axis") for key in axes if key in base]
    combinations = math.prod(len(values) for values in axes.values())
    if combinations > MOST_CASES:
        faults.append((("axes",), f"{combinations} combinations; at most {MOST_CASES} are allowed"))
    if faults:
        return [], faults
    points = _points(axes)
    points, faults = _excluded(points, sweep.get("exclude", []), base, common)
    faults += _of_no_policy(base, axes)
    rows = [(_id(name, point), _whole(base, point)) for point in points]
    rows, own = _included(name, points, rows, sweep.get("include", []))
    if not rows and not own:
        faults.append(((), "has no cases left: exclude removes every combination"))
    return [Row(case_id, case, ()) for case_id, case in rows] + own, faults


def _points(axes: Case) -> list[Case]:
    """All combinations of the axes. Those that differ only in keys of other policies are merged."""
    points = (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
    return list({tuple(point.items()): point for point in (_whole({}, point) for point in points)}.values())


def _whole(base: Case, point: Case) -> Case:
    """A combination merged with base; if it names a policy, without keys that only other policies have."""
    given, policy = base | point, point.get("policy")
    return {key: value for key, value in given.items() if policy is None or _applies(key, policy)}


def _applies(key: str, policy: str) -> bool:
    return key not in policies.every_key() or key in policies.of(policy).KEYS


def _of_no_policy(base: Case, axes: Case) -> list[tuple[KeyPath, str]]:
    """The keys that no policy on the axis `policy` has; they would have no effect."""
    named = axes.get("policy", [])
    return [
        ((place, key), f"applies to no policy of this sweep: {', '.join(named)}")
        for place, given in (("base", base), ("axes", axes))
        for key in given
        if named and not any(_applies(key, policy) for policy in named)
    ]


def _excluded(
    points: list[Case], excludes: list[Case], base: Case, common: Case
) -> tuple[list[Case], list[tuple[KeyPath, str]]]:
    """Compares each exclude with all combinations, so that overlapping excludes all count as used."""
    faults, dropped = [], set()
    whole = [cases.applying(_whole(base, point), common) for point in points] if excludes else []
    for index, pick in enumerate(excludes):
        hits = [i for i, case in enumerate(whole) if _has(case, pick)]
        if not hits:
            faults.append((("exclude", index), f"{shown(pick)} matches no combination of the axes"))
        dropped.update(hits)
    return [point for i, point in enumerate(points) if i not in dropped], faults


def _included(
    name: str, points: list[Case], rows: list[tuple[str, Case]], includes: list[Case]
) -> tuple[list[tuple[str, Case]], list[Row]]:
    rows, own = list(rows), []
    axes = set().union(*points)
    for index, include in enumerate(includes):
        pick = {key: value for key, value in include.items() if key in axes}
        hits = [i for i, point in enumerate(points) if _has(point, pick)]
        for i in hits:
            case_id, case = rows[i]
            rows[i] = (case_id, _with(case, include))
        if not hits:
            own.append(Row(_id(name, include), dict(include), ("include", index)))
    return rows, own


def _with(case: Case, added: Case) -> Case:
    both = case | added
    if "measure" in case and "measure" in added:
        both["measure"] = case["measure"] | added["measure"]
    return both


def _has(case: Case, pick: Case) -> bool:
    return all(key in case and case[key] == value for key, value in pick.items())


def _id(name: str, given: Case) -> str:
    """`sweep-seq1024-compress2-int8`: keys with their numbers, then words without their keys.

    The order is fixed and independent of the file, so that reordering axes does not repeat measurements.
    """
    return "-".join([name, *_id_parts(given)])


def _id_parts(given: Case) -> Iterator[str]:
    for key in _KEY_ORDER:
        if key in given:
            yield str(given[key]) if isinstance(given[key], str) else f"{key}{str(given[key]).lower()}"
