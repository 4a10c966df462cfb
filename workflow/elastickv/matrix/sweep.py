"""Expands `matrices`: every combination of a sweep's axes, less `exclude`, with `include`."""

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
    """A case before its defaults: its id, what it says itself, and the key path that it comes from."""

    id: str
    said: Case
    path: KeyPath


def expand(name: str, sweep: dict[str, Any], common: Case) -> tuple[list[Row], list[tuple[KeyPath, str]]]:
    """The cases of a structurally valid sweep, and its faults as messages, each by its key path in the sweep.

    common: the config's `defaults`. `exclude` is held against what combinations resolve to, so it can name keys that
    are defaulted. An include's axis keys say which combinations it adds its other keys to; when no combination has them
    it is a case of its own, to which `base` does not apply. Where `policy` is an axis, a combination has no keys that
    other policies have alone.
    """
    base, axes = sweep.get("base", {}), sweep["axes"]
    faults = [
        (("axes", key), "also in base; a key is the same for all cases or an axis") for key in axes if key in base
    ]
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
        faults.append(((), "has no case left: exclude removes every combination"))
    return [Row(case_id, case, ()) for case_id, case in rows] + own, faults


def _points(axes: Case) -> list[Case]:
    """Every combination of the axes; those that are alike but for keys of other policies than theirs are one."""
    points = (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
    return list({tuple(point.items()): point for point in (_whole({}, point) for point in points)}.values())


def _whole(base: Case, point: Case) -> Case:
    """A combination with its base; where it names a policy, without keys that other policies have alone."""
    said, policy = base | point, point.get("policy")
    return {key: value for key, value in said.items() if policy is None or _applies(key, policy)}


def _applies(key: str, policy: str) -> bool:
    return key not in policies.every_key() or key in policies.of(policy).KEYS


def _of_no_policy(base: Case, axes: Case) -> list[tuple[KeyPath, str]]:
    """The keys that no policy of the axis `policy` has: nothing would be left of them."""
    named = axes.get("policy", [])
    return [
        ((place, key), f"applies to no policy of this sweep: {', '.join(named)}")
        for place, said in (("base", base), ("axes", axes))
        for key in said
        if named and not any(_applies(key, policy) for policy in named)
    ]


def _excluded(
    points: list[Case], excludes: list[Case], base: Case, common: Case
) -> tuple[list[Case], list[tuple[KeyPath, str]]]:
    """Each exclude is held against all combinations, so that two overlapping ones are both of use."""
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


def _id(name: str, said: Case) -> str:
    """`sweep-seq1024-compress2-int8`: numbers after their key, then words alone, in one order whatever the YAML's.

    Axis order in the file does not matter either, so that reordering re-times nothing.
    """
    return "-".join([name, *_id_parts(said)])


def _id_parts(said: Case) -> Iterator[str]:
    for key in _KEY_ORDER:
        if key in said:
            yield str(said[key]) if isinstance(said[key], str) else f"{key}{str(said[key]).lower()}"
