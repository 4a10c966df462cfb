"""The headers that list the kernels for each backend's translation unit: a kernel is a folder with a source in it."""

from __future__ import annotations

from pathlib import Path

from elastickv import records
from elastickv.device import params
from elastickv.errors import UsageError

FOLDER = Path("build/.kernels")  # a fixed path, because compilers may include it in their output
SOURCES = {"cuda": "kernel.cu", "cpu": "kernel.cpp"}
LISTS = {"cuda": "kernels_cuda.h", "cpu": "kernels_cpu.h"}


def sources(backend: str, kernels: Path) -> dict[str, Path]:
    """The source of every kernel that a backend has, by name, sorted. UsageError for a folder badly named."""
    found = {path.parent.name: path for path in sorted(kernels.glob(f"*/{SOURCES[backend]}"))}
    wrong = [path for name, path in found.items() if not name.isidentifier()]
    if wrong:
        raise UsageError(f"{wrong[0].parent}: the folder of a kernel must be named by letters, digits and underscores")
    return found


def content(backend: str, kernels: Path) -> str:
    """The list of one backend: an include for each kernel, and `ELASTICKV_KERNELS(X)`: `X(name, Block)` for each."""
    names = list(sources(backend, kernels))
    includes = [f'#include "{name}/{SOURCES[backend]}"' for name in names]
    rows = (f"X({name}, {params.block_name(name)})" for name in names)
    return "\n".join(["#pragma once", *includes, " ".join(["#define ELASTICKV_KERNELS(X)", *rows])]) + "\n"


def write(backend: str, kernels: Path) -> Path:
    """The folder of the backend's list, which is written where it is not there yet."""
    path, text = FOLDER / LISTS[backend], content(backend, kernels)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        records.write_text(path, text)
    return FOLDER
