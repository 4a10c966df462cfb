"""The machines that run kernels: one small interface (base.py), one class each for CUDA and CPU."""

from __future__ import annotations

from pathlib import Path

from elastickv.device.base import Backend


def open_backend(name: str, build: Path | str) -> Backend:
    """The backend `cuda` or `cpu` on the binaries of `build`/cuda or `build`/cpu."""
    if name == "cuda":
        from elastickv.device.cuda import CudaBackend

        return CudaBackend(Path(build) / "cuda")
    from elastickv.device.cpu import CpuBackend

    return CpuBackend(Path(build) / "cpu")
