"""Our caches as torch tensors: the same memory where a peer can read it as it lies, gathered where it cannot."""

from __future__ import annotations

import ctypes
from typing import Any

from elastickv import formats
from elastickv.device.base import Backend
from elastickv.peers.base import Inputs
from elastickv.workloads.cache import LayerCaches
from elastickv.workloads.decode import DecodeWorkload


def _torch_dtype(dtype: str) -> Any:
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]


def tensor(backend: Backend, address: int, shape: tuple[int, ...], dtype: str) -> Any:
    """The array at `address` as a tensor that shares its memory. The backend has to outlive it."""
    import torch

    nbytes = formats.of(dtype).vector_bytes(1)
    for extent in shape:
        nbytes *= extent
    if backend.name == "cpu":
        flat = torch.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), dtype=torch.uint8)
    else:
        import cupy

        memory = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(address, nbytes, backend), 0)
        flat = torch.from_dlpack(cupy.ndarray((nbytes,), dtype="uint8", memptr=memory))
    return flat.view(_torch_dtype(dtype)).view(shape)


def _queries(workload: DecodeWorkload) -> list[Any]:
    case = workload.case
    shape = (case.batch, case.heads, case.dim)
    return [tensor(workload.backend, workload.query(i), shape, case.dtype) for i in range(workload.layers)]


def full(workload: DecodeWorkload) -> Inputs:
    """Queries and full caches of every layer, in place (no room for further tokens: they end at the last one)."""
    case, backend = workload.case, workload.backend
    if workload.shape.capacity != case.seq:
        raise ValueError("caches that can grow are not contiguous over the sequence")
    shape = (case.batch, case.kv_heads, case.seq, case.dim)
    keys, values = (
        [tensor(backend, getattr(layer.full, name), shape, case.dtype) for layer in workload.caches]
        for name in ("exact_k", "exact_v")
    )
    return Inputs(_queries(workload), keys, values)


def elastic(workload: DecodeWorkload) -> Inputs:
    """Queries and the slots of every layer's elastic cache in token order, copied together from what lies in memory."""
    keys, values = ([_gathered(workload, layer, which) for layer in workload.caches] for which in "kv")
    return Inputs(_queries(workload), keys, values)


def _gathered(workload: DecodeWorkload, layer: LayerCaches, which: str) -> Any:
    import torch

    case, shape, backend = workload.case, workload.shape, workload.backend
    order = shape.slot_order(case.seq)
    exact = tensor(backend, getattr(layer.elastic, f"exact_{which}"), (shape.rows, shape.exact, shape.dim), case.dtype)
    parts = [exact[:, order.head], exact[:, order.tail]]
    if order.groups:
        middle = (shape.rows, shape.middle, shape.dim)
        parts.insert(
            1, tensor(backend, getattr(layer.elastic, f"middle_{which}"), middle, case.dtype)[:, : order.groups]
        )
    return torch.cat(parts, dim=1).view(case.batch, case.kv_heads, -1, shape.dim)
