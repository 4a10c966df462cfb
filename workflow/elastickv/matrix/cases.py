"""Resolves a case to its canonical form: fills in defaults, checks the rules between keys, fixes the order of keys."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

from elastickv import formats, kinds, policies, records
from elastickv.matrix.wording import shown
from elastickv.schemas.case import AnyCase, own_keys
from elastickv.schemas.config import LARGEST_INT, CaseKeys, Measure

CASE_SCHEMA = "case/1"
OF_ONE = ("key_dtype", "value_dtype")  # storage formats of keys only and of values only
Fault = tuple[tuple[str, ...], str]  # (key path within the case, message)


def content_key(case: AnyCase) -> str:
    """Hex sha256 of a case's content: its canonical JSON without the id."""
    content = case.model_dump(mode="json", exclude={"id"})
    return hashlib.sha256(records.canonical_json(content).encode()).hexdigest()


def filled(given: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """The given keys of a case, completed by defaults, including keys that do not apply to it.

    given: keys of the case; common: the config's `defaults`; both structurally valid.
    """
    full = CaseKeys().model_dump() | common | given
    only = kinds.of(full["workload"]).DTYPE
    if only:
        full["dtype"] = given.get("dtype", only)
    full.setdefault("kv_heads", full.get("heads"))
    full.setdefault("cache_dtype", full["dtype"])
    return full


def applying(given: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """`filled`, restricted to keys that apply to the case's workload and policy or are given (an error if not both)."""
    full = filled(given, common)
    return {key: full[key] for key in ("workload", *own_keys(full["workload"], full["policy"])) if key in full} | given


def resolve(
    case_id: str, given: dict[str, Any], common: dict[str, Any], measure: Measure, backend: str
) -> tuple[dict[str, Any], list[Fault]]:
    """The content of the canonical case, and its faults. With faults, the content must not be used.

    given: keys of the case, structurally valid; common: the config's `defaults`; measure: complete settings.
    """
    full = filled(given, common)
    workload, policy = full["workload"], full["policy"]
    full_measure = Measure(**(measure.model_dump() | given.get("measure", {})))
    if not kinds.of(workload).CACHE:  # without a cycle, changing decode_tokens must not repeat measurements
        full_measure = full_measure.model_copy(update={"decode_tokens": 0})
    faults = list(_faults(workload, given, full, full_measure))
    head = {"schema": CASE_SCHEMA, "id": case_id, "workload": workload, "backend": backend}
    own = _formats_once({key: full[key] for key in own_keys(workload, policy) if key in full})
    if policy == policies.DEFAULT:  # the default is omitted
        own.pop("policy", None)
    return head | own | {"measure": full_measure.model_dump()}, faults


def _formats_once(content: dict[str, Any]) -> dict[str, Any]:
    """Drops key_dtype and value_dtype where they equal cache_dtype."""
    stored = content.get("cache_dtype")
    key, value = (content.get(name, stored) for name in OF_ONE)
    stored = key if key == value else stored
    differing = {name: used for name, used in zip(OF_ONE, (key, value), strict=True) if used != stored}
    given = {name: used for name, used in content.items() if name not in OF_ONE or name in differing}
    return given | ({"cache_dtype": stored} if "cache_dtype" in content else {})


def _faults(workload: str, given: dict[str, Any], full: dict[str, Any], measure: Measure) -> Iterator[Fault]:
    keys, kind = own_keys(workload, full["policy"]), kinds.of(workload)
    for key in given:
        if key not in (*keys, "workload", "measure"):
            refuser = _refuser(workload, full["policy"], key)
            yield (key,), f"does not apply to {refuser}; keys that do: {', '.join(keys)}"
    if not kind.CACHE and given.get("measure", {}).get("decode_tokens"):
        yield ("measure", "decode_tokens"), no_cycle(workload)
    missing = [key for key in keys if key not in full and key not in OF_ONE]
    if missing:
        yield (), f"lacks {', '.join(missing)}: set it here or in defaults"
        return
    yield from _decode_faults(full, measure) if kind.CACHE else _other_faults(kind, full)
    kept = measure.reps - 2 * math.floor(measure.reps * measure.truncate / 100)
    if kept < 2:
        yield (
            ("measure", "truncate"),
            f"{shown(measure.truncate)} leaves {kept} of {measure.reps} reps; minimum 2",
        )


def _refuser(workload: str, policy: str, key: str) -> str:
    """What a key does not apply to: the policy if another policy has the key, otherwise the workload."""
    return f"policy {policy}" if kinds.of(workload).CACHE and key in policies.every_key() else f"workload {workload}"


def no_cycle(workload: str) -> str:
    """Why keys of the inference cycle are refused."""
    return f"does not apply to workload {workload}, which has no inference cycle"


def _other_faults(kind: kinds.Kind, case: dict[str, Any]) -> Iterator[Fault]:
    if case["dtype"] != kind.DTYPE:
        yield ("dtype",), f"must be {kind.DTYPE} for workload {kind.name}, not {case['dtype']}"
    for key, message in kind.faults(case):
        yield (key,), message


def _decode_faults(case: dict[str, Any], measure: Measure) -> Iterator[Fault]:
    if case["heads"] % case["kv_heads"]:
        yield (
            ("kv_heads",),
            f"heads must be a multiple of kv_heads; heads is {case['heads']}, kv_heads {case['kv_heads']}",
        )
    for key in ("cache_dtype", *OF_ONE):
        if key in case and case[key] not in (case["dtype"], *formats.scaled()):
            allowed = formats.listed((f"dtype ({case['dtype']})", *formats.scaled()))
            yield (key,), f"must be {allowed}, not {case[key]}; dtype is the format of the exact segment"
    products = {
        "seq * dim": case["seq"] * case["dim"],
        "batch * heads * dim": case["batch"] * case["heads"] * case["dim"],
        "seq + measure.decode_tokens": case["seq"] + measure.decode_tokens,
    }
    for words, value in products.items():
        if value > LARGEST_INT:
            yield (words.split()[0],), f"{words} must be at most {LARGEST_INT}, not {value}"
    yield from _policy_faults(case)


def _policy_faults(case: dict[str, Any]) -> Iterator[Fault]:
    """Faults that the policy finds in its keys, and a format for compressed slots that the policy does not have."""
    made = policies.of(case["policy"])
    fault = made.fault({key: case[key] for key in made.KEYS}, case)
    if fault:
        yield (fault[0],), fault[1]
        return
    stored = {key: case.get(key, case["cache_dtype"]) for key in OF_ONE}
    segments = made(case, case["dtype"], *stored.values()).segments(case["seq"])
    unused = {*stored.values()} - {case["dtype"], *(name for one in segments for name in (one.keys, one.values))}
    for key in ("cache_dtype", *OF_ONE):
        if case.get(key) in unused:
            message = f"must be dtype ({case['dtype']}), not {case[key]}"
            yield (key,), f"{message}: policy {made.NAME} keeps every slot in dtype"
