"""float64 reference answers from the values as stored, and the check that decides `ok` or `incorrect`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import MISSING

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
