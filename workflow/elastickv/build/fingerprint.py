"""What a binary is made of: comment-free source, flags and compiler version. Editing a comment changes nothing."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from pathlib import Path
from typing import Any

from elastickv.build import compilers
from elastickv.errors import UsageError

KERNELS = Path("kernels")
SUFFIXES = (".cu", ".cuh", ".cpp", ".hpp", ".h")
NVCC_FLAGS = ("-O3", "--use_fast_math", "-lineinfo", "-std=c++17")
NVRTC_FLAGS = ("--ptxas-options=-O3", "--use_fast_math", "-lineinfo", "-std=c++17")
CPU_FLAGS = ("-O3", "-fopenmp", "-fPIC", "-std=c++17", "-fno-math-errno")

_COMMENT_OR_STRING = re.compile(
    r"""//(?:[^\\\n]|\\\n|\\.)*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'""", re.DOTALL
)


def without_comments(source: str) -> str:
    """C++ source without comments, white space folded; strings stay as they are."""

    def replace(match: re.Match[str]) -> str:
        text = match.group()
        return " " if text.startswith("/") else text

    lines = (re.sub(r"[ \t]+", " ", line).strip() for line in _COMMENT_OR_STRING.sub(replace, source).splitlines())
    return "\n".join(line for line in lines if line)


def source_sha256(backend: str, kernels: Path = KERNELS) -> str:
    """Hash of a backend's comment-free sources: `kernels/params.h` and everything in its folder, names included.

    Raises UsageError where there are none.
    """
    if not (kernels / backend).is_dir():
        raise UsageError(f"{kernels / backend}: no such folder: run this in the root of a checkout, which holds the kernels")
    files = [kernels / "params.h", *sorted(p for p in (kernels / backend).iterdir() if p.suffix in SUFFIXES)]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"\0{file.name}\0{without_comments(file.read_text(encoding='utf-8'))}".encode())
    return digest.hexdigest()


def _sealed(content: dict[str, Any]) -> dict[str, Any]:
    """`content` with its own hash as `sha256`."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def cuda_image(architecture: int, ptx: bool, compiler: str) -> dict[str, Any]:
    """Fingerprint of one CUDA image that is built here; `compiler` is auto, nvcc or nvrtc."""
    return _image(architecture, ptx, compilers.choose(architecture, compiler))


def planned_image(architecture: int, ptx: bool, compiler: str) -> dict[str, Any]:
    """What decides whether one CUDA image is built again, without asking for a GPU: who plans may have another, or none.

    The machine that builds takes one of the compilers, by its driver.
    """
    candidates = compilers.candidates(architecture, compiler)
    any_of = [_image(architecture, ptx, each) for each in candidates]
    return _sealed({"schema": "fingerprint/1", "any_of": any_of})


def _image(architecture: int, ptx: bool, chosen: compilers.Compiler) -> dict[str, Any]:
    target = f"compute_{architecture}" if ptx else f"sm_{architecture}"
    flags = NVCC_FLAGS if chosen.kind == "nvcc" else NVRTC_FLAGS
    return _target(target, list(flags), chosen.kind, chosen.version)


def _target(target: str, flags: list[str], compiler: str, version: str) -> dict[str, Any]:
    return _sealed(
        {
            "schema": "fingerprint/1",
            "target": target,
            "source": source_sha256("cuda"),
            "flags": flags,
            "compiler": compiler,
            "compiler_version": version,
        }
    )


def planned_fatbin(build: dict[str, Any]) -> dict[str, Any]:
    """What decides whether the fatbin that a config's `build` section asks for is merged again; asks for no GPU."""
    images = [planned_image(architecture, False, build["compiler"]) for architecture in build["architectures"]]
    if build.get("ptx"):
        images.append(planned_image(build["ptx"], True, build["compiler"]))
    return fatbin_of(images)


def fatbin_of(images: list[dict[str, Any]]) -> dict[str, Any]:
    """Fingerprint of a fatbin with these image fingerprints."""
    return _sealed({"schema": "fingerprint/1", "images": sorted(image["sha256"] for image in images)})


def cpu() -> dict[str, Any]:
    """Fingerprint of the CPU library; the processor counts only where the library is made for it alone."""
    compiler = compilers.host()
    targets = {name: list(flags) for name, flags in compilers.cpu_targets().items()}
    return _library(list(CPU_FLAGS), targets, compiler.kind, compiler.version)


def _library(flags: list[str], targets: dict[str, list[str]], compiler: str, version: str) -> dict[str, Any]:
    return _sealed(
        {
            "schema": "fingerprint/1",
            "source": source_sha256("cpu"),
            "flags": flags,
            "targets": targets,
            "compiler": compiler,
            "compiler_version": version,
            "cpu": compilers.cpu_features_sha256() if "native" in targets else platform.machine(),
        }
    )


def of_these_sources(manifest: dict[str, Any]) -> bool:
    """Whether a build was made of the kernels here, by whatever compilers and flags its manifest states."""
    if manifest["backend"] == "cpu":
        stated = (manifest[key] for key in ("flags", "targets", "compiler", "compiler_version"))
        return _library(*stated)["sha256"] == manifest["fingerprint"]
    images = [
        _target(one["architecture"], one["flags"], one["compiler"], one["compiler_version"])
        for one in manifest["images"]
    ]
    return fatbin_of(images)["sha256"] == manifest["fingerprint"]
