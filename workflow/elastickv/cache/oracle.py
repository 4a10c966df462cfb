"""float64 reference answers from the values as stored, and the check that decides `ok` or `incorrect`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import MISSING

from elastickv.formats.base import PerHead
from elastickv.schemas.parts import Answer

# Relative L2 error allowed against float64 on the stored inputs, by the dtype of the output (quantised middles too).
TOLERANCE = {"fp32": 1e-5, "fp16": 1e-3, "bf16": 5e-3}


def decode_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: np.ndarray | None = None, counts: np.ndarray | None = None
) -> np.ndarray:
    """Attention of one new token: o = sum_i softmax_i(q.k_i / sqrt(D) + bias_i) v_i, in float64.

    q: [rows, group, dim] (group = heads / kv_heads query heads share a row's cache); k, v: [rows, slots, dim]; bias:
    [rows, slots] or None; counts: [rows], slots of each row that count, or None: all. Returns float64 [rows, group,
    dim]. One row at a time, to bound memory.
    """
    out = np.empty(q.shape, dtype=np.float64)
    for row in range(q.shape[0]):
        slots = slice(None if counts is None else int(counts[row]))
        logits = q[row].astype(np.float64) @ k[row, slots].astype(np.float64).T / math.sqrt(q.shape[-1])
        if bias is not None:
            logits = logits + bias[row, slots].astype(np.float64)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        out[row] = (weights / weights.sum(axis=1, keepdims=True)) @ v[row, slots].astype(np.float64)
    return out


class Part(NamedTuple):
    """Slots of one segment of one row, as they read back: k, v float32 [slots, dim], bias float32 [slots] or None.

    key, value: what their formats keep per head, each with the state of the row's head; None: nothing.
    """

    k: np.ndarray
    v: np.ndarray
    bias: np.ndarray | None = None
    key: tuple[PerHead, np.ndarray] | None = None
    value: tuple[PerHead, np.ndarray] | None = None


def attend(q: np.ndarray, parts: Sequence[Part]) -> np.ndarray:
    """Attention of one row's queries [group, dim] over the slots of all parts together, float64 [group, dim].

    A part's dot products are with the query as its key format wants it, its share of the answer is what its value
    format makes of the weighted mean of its values.
    """
    logits = [_logits(q.astype(np.float64), part) for part in parts]
    largest = np.concatenate(logits, axis=1).max(axis=1, keepdims=True)
    weights = [np.exp(each - largest) for each in logits]
    shares = [each.sum(axis=1, keepdims=True) for each in weights]
    out = np.zeros(q.shape, np.float64)
    for part, weight, share in zip(parts, weights, shares, strict=True):
        mean = weight @ part.v.astype(np.float64) / np.where(share == 0, 1, share)
        if part.value and part.value[0].answer:
            mean = part.value[0].answer(part.value[1], mean)
        out += share / sum(shares) * mean
    return out


def _logits(q: np.ndarray, part: Part) -> np.ndarray:
    """Scores of a part's slots with their bias, [group, slots]."""
    keeps, state = part.key or (None, None)
    transformed = keeps.query(state, q) if keeps and keeps.query else q
    dots = transformed @ part.k.astype(np.float64).T
    if keeps and keeps.shift:
        dots = dots + keeps.shift(state, q)[:, None]
    logits = dots / math.sqrt(q.shape[-1])
    return logits if part.bias is None else logits + part.bias.astype(np.float64)


def elementwise(q: np.ndarray, k: np.ndarray, v: np.ndarray, previous: np.ndarray, compress: int) -> np.ndarray:
    """One pass of the elementwise workload in float64.

    q, k, v, previous: float32 [heads, seq, dim]; returns float64 [heads, seq, dim]. Anchors (t % compress == 0):
    exp(dot(q_g, k_g) / sqrt(dim)) * v_g with g = 4 consecutive dims; others 0.95 * previous of their anchor.
    """
    heads, seq, dim = q.shape
    out = np.empty(q.shape, dtype=np.float64)
    anchor_of = np.arange(seq) // compress * compress
    anchors = np.arange(0, seq, compress)
    for head in range(heads):
        qa, ka, va = (x[head, anchors].astype(np.float64).reshape(len(anchors), dim // 4, 4) for x in (q, k, v))
        weight = np.exp((qa * ka).sum(axis=2, keepdims=True) / math.sqrt(dim))
        out[head] = 0.95 * previous[head, anchor_of].astype(np.float64)
        out[head, anchors] = (weight * va).reshape(len(anchors), dim)
    return out


def check(
    answer: np.ndarray, reference: np.ndarray, dtype: str, anchors: str | None = None, layers: Sequence[int] = ()
) -> Answer:
    """The `correctness` entry of one arm. NaN or infinity in `answer` never passes.

    answer: float32, poisoned with NaN before the kernel ran; reference: float64 of the same shape.
    anchors: whether the device kept the tokens that the policy keeps (`right`, `wrong`; None: nothing was dropped).
    layers: of which layers it is the answer.
    """
    finite = bool(np.isfinite(answer).all())
    written = not bool(np.isnan(answer).any())
    difference = np.abs(answer.astype(np.float64) - reference)
    norm = float(np.linalg.norm(reference))
    error = float(np.linalg.norm(difference)) / norm if norm > 0 else float(np.linalg.norm(difference))
    return Answer(
        reference="float64",
        max_abs_error=float(difference.max()) if finite else None,
        relative_error=error if finite else None,
        tolerance=TOLERANCE[dtype],
        finite=finite,
        written=written,
        layers_checked=list(layers) or MISSING,
        anchors=anchors,
    )


def passes(answer: Answer) -> bool:
    """Whether one arm's answer is right."""
    whole = answer.finite and answer.written and answer.anchors != "wrong"
    return whole and answer.relative_error is not None and answer.relative_error <= answer.tolerance


def worst(answers: Sequence[Answer]) -> Answer:
    """The answer with the largest error (a wrong anchor or one not finite comes first), naming all layers checked."""
    failing = [one for one in answers if one.relative_error is None or one.anchors == "wrong"]
    found = failing[0] if failing else max(answers, key=lambda one: one.relative_error)
    return found.model_copy(
        update={"layers_checked": sorted({layer for one in answers for layer in one.layers_checked})}
    )
