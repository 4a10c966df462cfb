"""Our caches as torch tensors: the same memory if a peer can read its layout, otherwise gathered copies."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

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
        [tensor(backend, getattr(layer.full.segments[0], which), shape, case.dtype) for layer in workload.caches]
        for which in "kv"
    )
    return Inputs(_queries(workload), keys, values)


def elastic(workload: DecodeWorkload) -> Inputs:
    """Queries and the slots of every layer's elastic cache in token order, copied together from what lies in memory."""
    keys, values = ([_gathered(workload, layer, which) for layer in workload.caches] for which in "kv")
    return Inputs(_queries(workload), keys, values)


def _gathered(workload: DecodeWorkload, layer: LayerCaches, which: str) -> Any:
    import torch

    case, shape, backend = workload.case, workload.shape, workload.backend
    segments = layer.elastic.segments[: layer.elastic.segment_count]
    held = [tensor(backend, getattr(one, which), (shape.rows, one.capacity, shape.dim), case.dtype) for one in segments]
    before = np.cumsum([0] + [one.capacity for one in segments])
    slots = torch.cat(held, dim=1)
    parts = shape.layouts(0, shape.rows, case.seq)
    gathered = slots.new_empty((shape.rows, len(parts[0][0].token), shape.dim))
    for layout, rows in parts:
        places = torch.as_tensor(before[layout.segment] + layout.place, device=slots.device)
        gathered[rows] = slots[rows][:, places]
    return gathered.view(case.batch, case.kv_heads, -1, shape.dim)
