"""The elastic cache of a full one, by a policy's runs: the NumPy reference for the kernels.

Rows are those of kernels/params.h (batch * kv_heads), or some of them; KV heads may keep different numbers of slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from elastickv import anchors, formats
from elastickv.cache import oracle
from elastickv.policies import Policy
from elastickv.policies.base import Run, Segment

# What formats keep for each KV head, or for each row, by segment and `k_state` or `v_state`.
States = Mapping[tuple[int, str], np.ndarray]


class Layout(NamedTuple):
    """The slots of one KV head in token order, int [slots] each: segment, slot within it, first token represented."""

    segment: np.ndarray
    place: np.ndarray
    token: np.ndarray


@dataclass(frozen=True)
class CompactCache:
    """An elastic cache in token order. slots: of the KV head that keeps most; past a row's `counts` all is 0, kept -1.

    counts: int [rows]. kept: int [rows, slots], token of each slot (the group's first for a mean). segment: int [rows,
    slots]. k, v: float32 [rows, slots, dim] as stored (dequantised). k_scale, v_scale: float16 [rows, slots], 0 where
    the segment's format has none. bias: float32 [rows, slots].
    """

    counts: np.ndarray
    kept: np.ndarray
    segment: np.ndarray
    k: np.ndarray
    v: np.ndarray
    k_scale: np.ndarray
    v_scale: np.ndarray
    bias: np.ndarray


def layout(runs: Sequence[Run]) -> Layout:
    """Where the slots of a KV head lie, in token order."""
    some = [run for run in runs if run.slots]
    columns = [(np.full(run.slots, run.segment), np.array(run.places()), _tokens(run)) for run in some]
    order = _order(some)
    return Layout(*(np.concatenate(parts)[order] for parts in zip(*columns, strict=True)))


def nothing_compressed(policy: Policy, kv_heads: int, tokens: int) -> bool:
    """True when the elastic cache holds the same values in the same bytes as the full one."""
    segments = policy.segments(tokens)
    plain = [(segment.keys, segment.values) == (policy.dtype, policy.dtype) for segment in segments]
    runs = [run for head in range(kv_heads) for run in policy.runs(head, tokens, tokens) if run.slots]
    every = all(sum(policy.slots(head, tokens)) == tokens for head in range(kv_heads))
    return every and all(plain[run.segment] for run in runs)


def _alike(policy: Policy, heads: Sequence[int], tokens: int) -> Iterator[tuple[list[Run], list[int]]]:
    """Runs that have slots, each with the rows that are built of them."""
    rows: dict[tuple[Run, ...], list[int]] = {}
    runs = {head: policy.runs(head, tokens, tokens) for head in set(heads)}
    for row, head in enumerate(heads):
        rows.setdefault(runs[head], []).append(row)
    return (([run for run in found if run.slots], members) for found, members in rows.items())


def _order(runs: Sequence[Run]) -> np.ndarray:
    """Numbers of the runs' slots, counted from run to run, in token order."""
    return np.argsort(np.concatenate([_tokens(run) for run in runs]), kind="stable")


def _tokens(run: Run) -> np.ndarray:
    """First token of each of a run's slots."""
    return run.token + np.arange(run.slots) * run.each


def _groups(x: np.ndarray, run: Run) -> np.ndarray:
    """Vectors of a run's groups: [rows, tokens, dim] -> [rows, slots, each, dim]."""
    rows, _, dim = x.shape
    return x[:, run.token : run.token + run.slots * run.each].reshape(rows, run.slots, run.each, dim)


def compact(
    k: np.ndarray,
    v: np.ndarray,
    policy: Policy,
    heads: Sequence[int] | None = None,
    kept: np.ndarray | None = None,
    states: States | None = None,
) -> CompactCache:
    """The elastic cache of a full one.

    k, v: float32 [rows, tokens, dim], the values that the full cache stores. heads: the KV head of each row (a row each
    where it is not said). kept: int [rows, slots] overrides the choice of anchors (to follow a kernel that
    broke a tie the other way). states: of each KV head.
    """
    rows, tokens, _ = k.shape
    heads = range(rows) if heads is None else heads
    parts = []
    for runs, members in _alike(policy, heads, tokens):
        of_rows = {at: state[[heads[row] for row in members]] for at, state in (states or {}).items()}
        some = slice(None) if len(members) == rows else members
        follows = None if kept is None else kept[some, : sum(run.slots for run in runs)]
        parts.append((some, _of_runs(k[some], v[some], policy, runs, follows, of_rows)))
    return parts[0][1] if len(parts) == 1 else _padded(parts, rows)


def _padded(parts: list[tuple[list[int], CompactCache]], rows: int) -> CompactCache:
    """The rows of all parts in one cache."""
    slots = max(part.kept.shape[1] for _, part in parts)
    whole = {}
    for field in fields(CompactCache):
        first = getattr(parts[0][1], field.name)
        shape = first.shape[1:] if field.name == "counts" else (slots, *first.shape[2:])
        array = np.full((rows, *shape), -1 if field.name == "kept" else 0, first.dtype)
        for members, part in parts:
            found = getattr(part, field.name)
            array[members] = found if field.name == "counts" else np.pad(
                found, [(0, 0), (0, slots - found.shape[1])] + [(0, 0)] * (found.ndim - 2),
                constant_values=-1 if field.name == "kept" else 0,
            )  # fmt: skip
        whole[field.name] = array
    return CompactCache(**whole)


def _of_runs(
    k: np.ndarray, v: np.ndarray, policy: Policy, runs: Sequence[Run], kept: np.ndarray | None, states: States
) -> CompactCache:
    """The elastic cache of rows that are all built of the same runs."""
    segments, order = policy.segments(k.shape[1]), _order(runs)
    if kept is not None:
        by_run = np.empty_like(kept)
        by_run[:, order] = kept
        chosen = np.split(by_run, np.cumsum([run.slots for run in runs])[:-1], axis=1)
    else:
        chosen = [None] * len(runs)
    columns = [
        _of_run(k, v, policy, run, segments[run.segment], follows, states)
        for run, follows in zip(runs, chosen, strict=True)
    ]
    arrays = [np.concatenate(parts, axis=1)[:, order] for parts in zip(*columns, strict=True)]
    return CompactCache(np.full(len(k), len(order)), *arrays)


def _of_run(
    k: np.ndarray,
    v: np.ndarray,
    policy: Policy,
    run: Run,
    segment: Segment,
    kept: np.ndarray | None,
    states: States,
) -> tuple[np.ndarray, ...]:
    """A run's slots: kept, segment, k, v, k_scale, v_scale, bias."""
    keys, values, tokens = _groups(k, run), _groups(v, run), _tokens(run)
    shape = keys.shape[:2]
    number = np.full(shape, run.segment)
    if run.segment == 0:
        none = np.zeros(shape, np.float16)
        exact = keys[:, :, 0], values[:, :, 0]
        return np.broadcast_to(tokens, shape), number, *exact, none, none, np.zeros(shape, np.float32)
    chosen = _chosen(policy, keys, values) if kept is None else kept - tokens
    of_keys, of_values = (states.get((run.segment, field)) for field in ("k_state", "v_state"))
    k_stored, k_scale = _stored(_stands_for(keys, chosen, policy), segment.keys, of_keys)
    v_stored, v_scale = _stored(_stands_for(values, chosen, policy), segment.values, of_values)
    bias = np.full(shape, run.bias, np.float32)
    return tokens + chosen, number, k_stored, v_stored, k_scale, v_scale, bias


def _chosen(policy: Policy, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The token that represents each group, int [rows, slots]."""
    if keys.shape[2] == 1:
        return np.zeros(keys.shape[:2], np.int64)
    return anchors.of(policy.anchor).choose(keys, values)


def _stands_for(groups: np.ndarray, chosen: np.ndarray, policy: Policy) -> np.ndarray:
    """Each group's vector before it is stored, float32 [rows, slots, dim]: its token's, or the mean in float32."""
    if policy.anchor is None or anchors.of(policy.anchor).score is not None:
        return np.take_along_axis(groups, chosen[:, :, None, None], axis=2)[:, :, 0]
    total = np.zeros(groups[:, :, 0].shape, np.float32)
    for member in range(groups.shape[2]):
        total += groups[:, :, member]
    return total / np.float32(groups.shape[2])


def _stored(vectors: np.ndarray, name: str, state: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Vectors as a format reads them back, float32 [rows, slots, dim], and their scales, float16 [rows, slots]."""
    stored = formats.of(name)
    words, scale = stored.store(vectors, state)
    return stored.load(words, scale), scale


def attention(
    q: np.ndarray, held: CompactCache, heads: Sequence[int], segments: Sequence[Segment], states: States
) -> np.ndarray:
    """The float64 answer of an elastic cache; q: [rows, group, dim], heads: the KV head of each row."""
    if not states:
        return oracle.decode_attention(q, held.k, held.v, held.bias, held.counts)
    rows = (_parts(held, row, head, segments, states) for row, head in enumerate(heads))
    return np.stack([oracle.attend(*each) for each in zip(q, rows, strict=True)])


def _parts(held: CompactCache, row: int, head: int, segments: Sequence[Segment], states: States) -> list[oracle.Part]:
    """A row's slots by segment, with what formats keep for its head."""
    parts = []
    for number, segment in enumerate(segments):
        here = np.flatnonzero(held.segment[row, : held.counts[row]] == number)
        kept = [
            (formats.of(name).per_head, states[number, field][head]) if (number, field) in states else None
            for field, name in (("k_state", segment.keys), ("v_state", segment.values))
        ]
        parts.append(oracle.Part(held.k[row, here], held.v[row, here], held.bias[row, here], *kept))
    return parts


def anchors_right(k: np.ndarray, v: np.ndarray, policy: Policy, heads: Sequence[int], kept: np.ndarray) -> bool:
    """Whether the tokens `kept`, int [rows, slots] in token order, are correct for their slots (`Anchor.right`)."""
    for runs, members in _alike(policy, heads, k.shape[1]):
        order = _order(runs)
        by_run = np.empty((len(members), len(order)), kept.dtype)
        by_run[:, order] = kept[members, : len(order)]
        ends = np.cumsum([run.slots for run in runs])
        for run, end in zip(runs, ends, strict=True):
            chosen = by_run[:, end - run.slots : end] - _tokens(run)
            if (chosen < 0).any() or (chosen >= run.each).any():
                return False
            if run.each > 1 and not anchors.of(policy.anchor).right(
                _groups(k[members], run), _groups(v[members], run), chosen
            ):
                return False
    return True
