"""llama.cpp, which comes as source: compiled once for a kind of machine, kept as a wheel in the user's cache.

Installers keep wheels too, but not where an index forbids caching, and not apart for machines that differ.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from elastickv import device
from elastickv.device import host
from elastickv.errors import MachineError
from elastickv.system import host_compiler, nvcc, programs

COMPILERS = ("c++", "g++", "clang++")  # in the order in which CMake looks for them
INSTALL = "install one (Debian, Ubuntu: apt-get install g++), then repeat the command"


PACKAGE = "llama-cpp-python"
OPTIONS = ("-DLLAVA_BUILD=OFF", "-DLLAMA_OPENSSL=OFF")  # for CMake
FOR_CUDA = ("-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=native")
# Extensions of x86 and the processor flags that they need. They are switched on one by one: compiled for the processor
# as it is, llama.cpp would use AMX tiles, which some virtual machines list although the first of them faults.
FOR_X86 = {
    "SSE42": {"sse4_2"}, "AVX": {"avx"}, "F16C": {"f16c"}, "AVX2": {"avx2"}, "FMA": {"fma"}, "BMI2": {"bmi2"},
    "AVX_VNNI": {"avx_vnni"}, "AVX512": {"avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"},
    "AVX512_VBMI": {"avx512vbmi"}, "AVX512_VNNI": {"avx512_vnni"}, "AVX512_BF16": {"avx512_bf16"},
}  # fmt: skip


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


def options() -> tuple[str, ...]:
    """CMake's options here: for the processor and, with a GPU and a whole CUDA toolkit, for that GPU too."""
    flags = host.processor_flags()
    chosen = [f"-DGGML_{name}={'ON' if flags >= needed else 'OFF'}" for name, needed in FOR_X86.items()]
    for_processor = ("-DGGML_NATIVE=OFF", *chosen) if host.is_x86() else ()
    for_cuda = FOR_CUDA if cuda_toolkit() and device.visible_gpus() else ()
    return OPTIONS + for_processor + for_cuda


def store() -> Path:
    """Where finished wheels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "elastickv" / "wheels"


def key(pin: str) -> str:
    """Hash of what a build depends on: package, options, processor, compiler and, for a GPU, toolkit and device."""
    chosen = options()
    with_cuda = set(FOR_CUDA) <= set(chosen)
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


def wheels(pin: str, build: Callable[[tuple[str, ...], Path], None]) -> Path:
    """The folder that holds the wheel of `pin` ("name==version"); `build(options, folder)` puts it there when needed.

    If another process is compiling the same package, this waits for it. Raises MachineError.
    """
    import filelock

    folder = store() / key(pin)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / f".{folder.name}.lock"):
        if not any(folder.glob("*.whl")):
            part = folder.with_name(f".{folder.name}.part")
            for leftover in (part, folder):  # of a build that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            part.mkdir()
            build(options(), part)
            part.rename(folder)
    return folder
