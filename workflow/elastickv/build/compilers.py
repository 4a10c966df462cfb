"""The compilers of this machine: nvcc, NVRTC 12.9 for what nvcc 13 no longer targets, and the system's C++ compiler."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path
from typing import NamedTuple

from elastickv import device, environments
from elastickv.device import host as host_facts
from elastickv.errors import MachineError
from elastickv.system import host_compiler
from elastickv.system import nvcc as nvcc_search

OLDEST_OF_NVCC_13 = 75
AVX2 = ("-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512cd", "-mprefer-vector-width=512")
X86_TARGETS = {"avx512": (*AVX2, *AVX512), "avx2": AVX2, "portable": ()}
NVRTC_LIBRARY = "nvidia/cuda_nvrtc/lib/libnvrtc.so.12"


class Compiler(NamedTuple):
    """kind: nvcc, nvrtc, or a host compiler's name; path: program or library, None until its environment is made.

    arguments: those that a host compiler is always called with.
    """

    kind: str
    path: Path | None
    version: str
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """The program, and the arguments that come first."""
        return [str(self.path), *self.arguments]

    @property
    def major(self) -> int:
        """CUDA major version."""
        return int(self.version.split(".")[0])

    @property
    def minimum_driver(self) -> str:
        """Oldest NVIDIA driver that loads its images."""
        return "580" if self.major >= 13 else "525"


def _locked(package: str) -> str:
    """Version of a package in the cuda lock."""
    for line in environments.requirement_lines(environments.LOCKS / "cuda.txt"):
        name, _, rest = line.partition("==")
        if name == package:
            return rest.split(";")[0].strip()
    raise MachineError(f"envs/cuda.txt does not pin {package}", "restore envs/cuda.txt")


def _in_environment(relative: str) -> Path | None:
    folder = environments.site_packages("cuda")
    path = folder / relative if folder else None
    return path if path and path.exists() else None


def nvcc() -> Compiler:
    """nvcc on PATH, else the pinned wheel's (its path is None until `.envs/cuda` is made).

    Raises MachineError if the one on PATH does not report its version.
    """
    found = nvcc_search.find()
    if found is None:
        return pinned_nvcc()
    answer = nvcc_search.ask(found)
    if answer.version is None:
        raise MachineError(answer.problem or str(found), nvcc_search.NVRTC_INSTEAD)
    return Compiler("nvcc", found, answer.version)


def pinned_nvcc() -> Compiler:
    """The pinned wheel's nvcc."""
    return Compiler("nvcc", _in_environment("nvidia/cu13/bin/nvcc"), _locked("nvidia-cuda-nvcc"))


def nvrtc() -> Compiler:
    """NVRTC 12.9 of the pinned wheels."""
    return Compiler("nvrtc", _in_environment(NVRTC_LIBRARY), _locked("nvidia-cuda-nvrtc-cu12"))


def _nvcc_targets(compiler: Compiler, architecture: int) -> bool:
    if compiler.path is None:
        return architecture >= OLDEST_OF_NVCC_13
    return architecture in nvcc_search.ask(compiler.path).targets


def candidates(architecture: int, wanted: str) -> tuple[Compiler, ...]:
    """The compilers that `choose` may take for an image, the preferred one first. Asks no GPU and no driver.

    Raises MachineError if `nvcc` is configured and cannot target the architecture.
    """
    if wanted == "nvrtc":
        return (nvrtc(),)
    compiler = nvcc()
    targeted = _nvcc_targets(compiler, architecture)
    if wanted == "nvcc":
        if not targeted:
            raise MachineError(
                f"nvcc {compiler.version} cannot target sm_{architecture}",
                "set build.compiler to auto or nvrtc, or remove the architecture from build.architectures",
            )
        return (compiler,)
    return (compiler, nvrtc()) if targeted else (nvrtc(),)


def choose(architecture: int, wanted: str) -> Compiler:
    """The compiler of one image: `auto` takes nvcc where it targets the architecture and the driver is new enough.

    Raises MachineError if `nvcc` is configured and cannot target the architecture.
    """
    preferred, *others = candidates(architecture, wanted)
    if not others:
        return preferred
    driver = device.cuda_driver_version()
    return preferred if driver is None or preferred.major <= driver[0] else others[0]


def host() -> Compiler:
    """The system's C++ compiler ($CXX, g++, clang++). Raises MachineError if none works."""
    command = host_compiler.find()
    version = host_compiler.version(command)
    return Compiler(host_compiler.name(command), Path(command[0]), version, command[1:])


def cpu_targets() -> dict[str, tuple[str, ...]]:
    """What the CPU library is compiled for, the best target first, with its flags; chosen among when it is loaded.

    On x86 any processor can run the library. Elsewhere it is made for this machine's.
    """
    return X86_TARGETS if host_facts.is_x86() else {"native": ("-march=native",)}


@cache
def cpu_features_sha256() -> str:
    """Hash of model and instruction sets: code built with -march=native for one is foreign to another."""
    text = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        kept = ("model name", "flags", "Features", "cpu family", "model\t")
        lines = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith(kept)]
        text += "\n".join(sorted(set(lines)))
    return hashlib.sha256(text.encode()).hexdigest()
