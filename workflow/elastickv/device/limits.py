"""Rules for unsupported cases, from the case and facts about the GPU. They need no device.

Backends use them to refuse a case (status `unsupported`); `elastickv cases` and `elastickv doctor` report them early.
"""

from __future__ import annotations

from typing import NamedTuple

from elastickv import formats
from elastickv.schemas.case import AnyCase, DecodeCase

DECODE_DIMS = (64, 80, 96, 128, 256)  # head dims that both backends have decode kernels for
MOST_ROWS = 65535  # blocks in the second and third extent of a CUDA grid
DEPENDENT_CAPABILITY = 90  # the first compute capability with programmatic dependent launch


class Limit(NamedTuple):
    """Why a case cannot run: the key at fault, one sentence, and the nearest value of the key that runs, if any."""

    key: str
    reason: str
    instead: str | int | None


def on_cpu(case: AnyCase) -> Limit | None:
    """None, or what the CPU kernels lack for a canonical case."""
    if case.launch == "dependent":
        return Limit("launch", "launch: dependent exists only on NVIDIA GPUs from sm_90 on", "auto")
    return _dim(case)


def on_cuda(case: AnyCase, capability: int | None = None) -> Limit | None:
    """None, or what the CUDA kernels lack for a canonical case.

    capability: 10 * major + minor of the GPU's (or its kernels') compute capability; None if no GPU is known, then any
    will do.
    """
    if case.launch == "dependent" and capability is not None and capability < DEPENDENT_CAPABILITY:
        has = f"{capability // 10}.{capability % 10}"
        reason = f"launch: dependent needs a GPU and kernels of compute capability 9.0, not {has}; use plain or auto"
        return Limit("launch", reason, "auto")
    return _dim(case) or _rows(case)


def anywhere(case: AnyCase) -> Limit | None:
    """None, or why a canonical case runs on no device that its `backend` (auto, cuda, cpu) may mean."""
    if case.backend == "cpu":
        return on_cpu(case)
    found = on_cuda(case)
    return found if case.backend == "cuda" or on_cpu(case) else None


def _dim(case: AnyCase) -> Limit | None:
    if not isinstance(case, DecodeCase):
        return None
    fitting = [dim for dim in DECODE_DIMS if _refusal(case, dim) is None]
    nearest = min(fitting, key=lambda dim: abs(dim - case.dim), default=None)
    if case.dim in DECODE_DIMS:
        reason = _refusal(case, case.dim)
        return Limit("dim", reason, nearest) if reason else None
    allowed = ", ".join(map(str, DECODE_DIMS))
    return Limit("dim", f"dim {case.dim} has no decode kernel; dims that have one: {allowed}", nearest)


def _refusal(case: DecodeCase, dim: int) -> str | None:
    """Why one of a case's formats cannot store vectors of `dim`, or None."""
    for name in case.formats:
        if (refuses := formats.of(name).refuses) and (why := refuses(dim)):
            return f"{name}: {why}"
    return None


def _rows(case: AnyCase) -> Limit | None:
    if not isinstance(case, DecodeCase) or case.batch * case.kv_heads <= MOST_ROWS:
        return None
    reason = f"batch x kv_heads is {case.batch * case.kv_heads}; a grid holds {MOST_ROWS} rows"
    return Limit("batch", reason, MOST_ROWS // case.kv_heads or None)
