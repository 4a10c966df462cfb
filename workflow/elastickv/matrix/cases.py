"""From what a case says to its canonical form: defaults filled in, rules between keys checked, keys in one order."""

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
OF_ONE = ("key_dtype", "value_dtype")  # how keys, or values, alone are stored
Fault = tuple[tuple[str, ...], str]  # (key path within the case, message)


def content_key(case: AnyCase) -> str:
    """Hex sha256 of what a case measures: its canonical JSON without the id."""
    content = case.model_dump(mode="json", exclude={"id"})
    return hashlib.sha256(records.canonical_json(content).encode()).hexdigest()


def filled(said: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """What the case says with defaults for the rest, those of keys included that do not apply to it.

    said: structurally valid, as common is, the config's `defaults`.
    """
    full = CaseKeys().model_dump() | common | said
    only = kinds.of(full["workload"]).DTYPE
    if only:
        full["dtype"] = said.get("dtype", only)
    full.setdefault("kv_heads", full.get("heads"))
    full.setdefault("cache_dtype", full["dtype"])
    return full


def applying(said: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """`filled` with the keys alone that apply to the case's workload and policy, or that it says (and must not)."""
    full = filled(said, common)
    return {key: full[key] for key in ("workload", *own_keys(full["workload"], full["policy"])) if key in full} | said


def resolve(
    case_id: str, said: dict[str, Any], common: dict[str, Any], measure: Measure, backend: str
) -> tuple[dict[str, Any], list[Fault]]:
    """What the canonical case holds, and the faults that make it invalid (then it must not be used).

    said: what the case says itself, structurally valid; common: the config's `defaults`; measure: the complete one.
    """
    full = filled(said, common)
    workload, policy = full["workload"], full["policy"]
    full_measure = Measure(**(measure.model_dump() | said.get("measure", {})))
    if not kinds.of(workload).CACHE:  # it has no inference cycle; 0 keeps a changed number of tokens from re-timing it
        full_measure = full_measure.model_copy(update={"decode_tokens": 0})
    faults = list(_faults(workload, said, full, full_measure))
    head = {"schema": CASE_SCHEMA, "id": case_id, "workload": workload, "backend": backend}
    own = _formats_said_once({key: full[key] for key in own_keys(workload, policy) if key in full})
    if policy == policies.DEFAULT:  # goes without saying
        own.pop("policy", None)
    return head | own | {"measure": full_measure.model_dump()}, faults


def _formats_said_once(content: dict[str, Any]) -> dict[str, Any]:
    """The same with key_dtype and value_dtype only where they differ from cache_dtype."""
    stored = content.get("cache_dtype")
    key, value = (content.get(name, stored) for name in OF_ONE)
    stored = key if key == value else stored
    differing = {name: used for name, used in zip(OF_ONE, (key, value), strict=True) if used != stored}
    said = {name: used for name, used in content.items() if name not in OF_ONE or name in differing}
    return said | ({"cache_dtype": stored} if "cache_dtype" in content else {})


def _faults(workload: str, said: dict[str, Any], full: dict[str, Any], measure: Measure) -> Iterator[Fault]:
    keys, kind = own_keys(workload, full["policy"]), kinds.of(workload)
    for key in said:
        if key not in (*keys, "workload", "measure"):
            refuser = _refuser(workload, full["policy"], key)
            yield (key,), f"does not apply to {refuser}; keys that do: {', '.join(keys)}"
    if not kind.CACHE and said.get("measure", {}).get("decode_tokens"):
        yield ("measure", "decode_tokens"), no_cycle(workload)
    missing = [key for key in keys if key not in full and key not in OF_ONE]
    if missing:
        yield (), f"lacks {', '.join(missing)}: give it here or in defaults"
        return
    yield from _decode_faults(full, measure) if kind.CACHE else _other_faults(kind, full)
    kept = measure.reps - 2 * math.floor(measure.reps * measure.truncate / 100)
    if kept < 2:
        yield ("measure", "truncate"), f"{shown(measure.truncate)} leaves {kept} of {measure.reps} reps; need 2"


def _refuser(workload: str, policy: str, key: str) -> str:
    """What a key does not apply to: the workload, or its policy where other policies have that key."""
    return f"policy {policy}" if kinds.of(workload).CACHE and key in policies.every_key() else f"workload {workload}"


def no_cycle(workload: str) -> str:
    """Why what is asked of an inference cycle is refused."""
    return f"does not apply to workload {workload}, which has no inference cycle"


def _other_faults(kind: kinds.Kind, case: dict[str, Any]) -> Iterator[Fault]:
    if case["dtype"] != kind.DTYPE:
        yield ("dtype",), f"must be {kind.DTYPE} for workload {kind.name}, is {case['dtype']}"
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
            yield (key,), f"must be {allowed}, is {case[key]}; the exact segment decides dtype"
    products = {
        "seq * dim": case["seq"] * case["dim"],
        "batch * heads * dim": case["batch"] * case["heads"] * case["dim"],
        "seq + measure.decode_tokens": case["seq"] + measure.decode_tokens,
    }
    for words, value in products.items():
        if value > LARGEST_INT:
            yield (words.split()[0],), f"{words} must be at most {LARGEST_INT}, is {value}"
    yield from _policy_faults(case)


def _policy_faults(case: dict[str, Any]) -> Iterator[Fault]:
    """What the policy says of its keys, and a format of compressed slots where it has none."""
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
            told = f"must be dtype ({case['dtype']}), is {case[key]}"
            yield (key,), f"{told}: policy {made.NAME} keeps every slot in dtype"
