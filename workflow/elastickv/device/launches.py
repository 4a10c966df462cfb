"""Kernel, grid, block and shared memory of every CUDA launch, from each kernel's own file `kernels/<name>/launch.py`.

Such a file defines `launch(params, gpu) -> Launch`. It is loaded by its path, and imports no more than this module, the
formats and the case models.
"""

from __future__ import annotations

import ctypes
from functools import cache
from types import ModuleType
from typing import NamedTuple

from elastickv.errors import UsageError
from elastickv.system import kernel_files

FILE = "launch.py"
LINEAR_THREADS = 256
MOST_GRID = 2**31 - 1


class Forced(NamedTuple):
    """Launch parameters of decode set for an experiment instead of by rule; None: set by rule.

    loop: `cores` forces CUDA cores. warps: warps per block, a compiled size. splits: maximum splits per row.
    stage: `never`, or `always` if possible.
    """

    loop: str | None = None
    warps: int | None = None
    splits: int | None = None
    stage: str | None = None


class Gpu(NamedTuple):
    """Device properties that determine launches.

    capability: 10 * major + minor of the compute capability that the loaded kernels were compiled for, which is at most
    the device's. shared_bytes: shared memory per SM available to blocks.
    """

    multiprocessors: int
    capability: int
    shared_bytes: int = 48 << 10
    forced: Forced = Forced()


class Launch(NamedTuple):
    """Name of the kernel in the fatbin, its grid, its block size and its dynamic shared memory."""

    name: str
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int = 0


def linear(name: str, threads_needed: int) -> Launch:
    """A launch of at least so many threads in a row, 256 a block."""
    return Launch(name, (min(max(1, -(-threads_needed // LINEAR_THREADS)), MOST_GRID), 1, 1), LINEAR_THREADS)


@cache
def of_kernel(kernel: str) -> ModuleType:
    """The module `kernels/<kernel>/launch.py`. Raises UsageError if it is missing or has no function `launch`."""
    module = kernel_files.module(kernel, FILE)
    if not hasattr(module, "launch"):
        raise UsageError(f"{module.__file__}: must define launch(params, gpu) -> Launch")
    return module


def launch_of(kernel: str, params: ctypes.Structure, gpu: Gpu) -> Launch:
    """Launch of any kernel on a device."""
    return of_kernel(kernel).launch(params, gpu)
