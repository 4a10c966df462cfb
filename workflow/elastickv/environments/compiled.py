"""Packages that come as source: compiled once for a kind of machine, kept as wheels among the user's caches.

Installers keep wheels too, but not where an index forbids caching, and not apart for machines that differ.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from elastickv import device
from elastickv.device import host
from elastickv.errors import MachineError
from elastickv.system import host_compiler, nvcc, programs

COMPILERS = ("c++", "g++", "clang++")  # in the order in which CMake looks for them
INSTALL = "install one (Debian, Ubuntu: apt-get install g++), then repeat the command"


@dataclass(frozen=True)
class Source:
    """A package without wheels: its name, options for CMake, and more of them for a machine with a GPU.

    for_x86: what switches an extension on, with the processor's flags that it takes.
    """

    package: str
    options: tuple[str, ...]
    for_cuda: tuple[str, ...]
    for_x86: tuple[tuple[str, tuple[str, ...]], ...]


# Extensions are switched on one by one: compiled for the processor as it is, llama.cpp would use AMX tiles, and some
# virtual machines list those and fault on the first of them.
LLAMA = Source(
    "llama-cpp-python",
    ("-DLLAVA_BUILD=OFF", "-DLLAMA_OPENSSL=OFF"),
    ("-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=native"),
    (
        ("GGML_SSE42", ("sse4_2",)),
        ("GGML_AVX", ("avx",)),
        ("GGML_F16C", ("f16c",)),
        ("GGML_AVX2", ("avx2",)),
        ("GGML_FMA", ("fma",)),
        ("GGML_BMI2", ("bmi2",)),
        ("GGML_AVX_VNNI", ("avx_vnni",)),
        ("GGML_AVX512", ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw")),
        ("GGML_AVX512_VBMI", ("avx512vbmi",)),
        ("GGML_AVX512_VNNI", ("avx512_vnni",)),
        ("GGML_AVX512_BF16", ("avx512_bf16",)),
    ),
)


def compiler() -> host_compiler.Command:
    """The C++ compiler that CMake will take. Raises MachineError when there is none."""
    try:
        return host_compiler.find(COMPILERS)
    except MachineError as error:
        fix = error.fix if host_compiler.chosen() else INSTALL
        raise MachineError(f"llama.cpp is compiled on this machine: {error.problem}", fix) from None


def cuda_toolkit() -> Path | None:
    """The folder of the CUDA toolkit whose nvcc is on PATH, if it holds cuBLAS too; else None."""
    folder = nvcc.toolkit()
    headers = [*folder.glob("include/cublas_v2.h"), *folder.glob("targets/*/include/cublas_v2.h")] if folder else []
    return folder if headers else None


def extensions(source: Source) -> tuple[str, ...]:
    """CMake's options for this processor's extensions, where it is an x86; elsewhere the package's own choice."""
    if not host.is_x86():
        return ()
    flags = host.processor_flags()
    chosen = (f"-D{name}={'ON' if flags.issuperset(needed) else 'OFF'}" for name, needed in source.for_x86)
    return ("-DGGML_NATIVE=OFF", *chosen)


def options(source: Source) -> tuple[str, ...]:
    """CMake's options here: for the processor and, with a GPU and a whole CUDA toolkit, for that GPU too."""
    for_cuda = source.for_cuda if cuda_toolkit() and device.visible_gpus() else ()
    return source.options + extensions(source) + for_cuda


def store() -> Path:
    """Where finished wheels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "elastickv" / "wheels"


def key(source: Source, pin: str) -> str:
    """Hash of what a build depends on: package, options, processor, compiler and, for a GPU, toolkit and device."""
    chosen = options(source)
    with_cuda = set(source.for_cuda) <= set(chosen)
    content = {
        "pin": pin,
        "options": chosen,
        "machine": [platform.system(), platform.machine(), device.cpu_model(), host.instruction_sets()],
        "libc": platform.libc_ver(),
        "compiler": _version(*compiler()),
        "cuda": [_version("nvcc"), device.gpu_names()] if with_cuda else None,
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _version(*command: str) -> str:
    return programs.run([*command, "--version"], INSTALL).stdout.strip()


def wheels(source: Source, pin: str, build: Callable[[tuple[str, ...], Path], None]) -> Path:
    """The folder that holds the wheel of `pin` ("name==version"); `build(options, folder)` puts it there when needed.

    If another process is compiling the same package, this waits for it. Raises MachineError.
    """
    import filelock

    folder = store() / key(source, pin)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / f".{folder.name}.lock"):
        if not any(folder.glob("*.whl")):
            part = folder.with_name(f".{folder.name}.part")
            for leftover in (part, folder):  # of a build that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            part.mkdir()
            build(options(source), part)
            part.rename(folder)
    return folder
