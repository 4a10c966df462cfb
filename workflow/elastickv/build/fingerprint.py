"""What a binary is made of: comment-free source, flags and compiler version. Editing a comment changes nothing.

A binary holds the kernels of every workload. A measurement is known by those that its own workload launches and by what
they include, so that adding a kernel re-times nothing else.
"""

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

# What the cases of a workload (and the ceilings) launch, by the names of the kernels' files. A test compares it with
# what they do launch.
WORKLOADS = {
    "decode": ("fill", "compress", "append", "close", "advance", "decode", "decode_tensor", "stream"),
    "elementwise": ("fill", "elementwise", "stream"),
    "ceilings": ("fill", "stream"),
}
UNITS = {"cuda": "elastickv.cu", "cpu": "elastickv.cpp"}  # the translation unit that includes every kernel
PARAMETERS = "params.h"

_INCLUDE = re.compile(r'^#include "([^"]+)"$', re.MULTILINE)
_STRUCT = re.compile(r"^struct (\w+) \{\n.*?^\};$", re.MULTILINE | re.DOTALL)
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
    files = [kernels / PARAMETERS, *sorted(p for p in (kernels / backend).iterdir() if p.suffix in SUFFIXES)]
    return _digest({file: _text(file) for file in files})


def workload_sha256(backend: str, workload: str, kernels: Path = KERNELS) -> str:
    """Hash of the comment-free sources that a workload's kernels are made of, names included.

    Those are the kernels' files, the headers of the translation unit and all that these include. The unit itself only
    lists the kernels, and of the parameter blocks those count that are named.
    """
    unit = kernels / backend / UNITS[backend]
    launched = {f"{name}{unit.suffix}" for name in WORKLOADS[workload]}
    roots = [file for file in _included(unit) if file.suffix != unit.suffix or file.name in launched]
    texts = {file: _text(file) for file in _closure(roots)}
    parameters = (kernels / PARAMETERS).resolve()
    if parameters in texts:
        others = "\n".join(text for file, text in texts.items() if file != parameters)
        texts[parameters] = _named_structs(texts[parameters], others)
    return _digest(texts)


def _included(file: Path) -> list[Path]:
    """The files that a source includes by name, of those that are there."""
    folders = (file.parent, file.parent.parent)  # as the compilers search: beside the file, then in `kernels`
    names = _INCLUDE.findall(_text(file))
    found = [[path for folder in folders if (path := (folder / name).resolve()).is_file()] for name in names]
    return [paths[0] for paths in found if paths]


def _closure(roots: list[Path]) -> list[Path]:
    """The files and everything that they include, sorted."""
    found: set[Path] = set()
    waiting = list(roots)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _included(file)
    return sorted(found)


def _named_structs(text: str, others: str) -> str:
    """`text` without the structs that neither `others` nor a struct that stays names."""
    structs = {match[1]: match[0] for match in _STRUCT.finditer(text)}
    rest = without_comments(_STRUCT.sub("", text))
    named: set[str] = set()
    seen = f"{others}\n{rest}"
    while more := {name for name in structs.keys() - named if re.search(rf"\b{name}\b", seen)}:
        named |= more
        seen = "\n".join(structs[name] for name in more)
    return "\n".join([rest, *(structs[name] for name in structs if name in named)])


def _text(file: Path) -> str:
    return without_comments(file.read_text(encoding="utf-8"))


def _digest(texts: dict[Path, str]) -> str:
    digest = hashlib.sha256()
    for file, text in texts.items():
        digest.update(f"\0{file.name}\0{text}".encode())
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
    return _sealed({"schema": "fingerprint/2", "any_of": any_of})


def _image(architecture: int, ptx: bool, chosen: compilers.Compiler) -> dict[str, Any]:
    target = f"compute_{architecture}" if ptx else f"sm_{architecture}"
    flags = NVCC_FLAGS if chosen.kind == "nvcc" else NVRTC_FLAGS
    return _target(target, list(flags), chosen.kind, chosen.version)


def by_workload(backend: str, made_of: dict[str, Any]) -> dict[str, str]:
    """By workload: the fingerprint of an image or a library (as `cuda_image` and `cpu` give it) of its kernels alone."""
    content = {key: value for key, value in made_of.items() if key != "sha256"}
    return {name: _sealed(content | {"source": workload_sha256(backend, name)})["sha256"] for name in WORKLOADS}


def _target(target: str, flags: list[str], compiler: str, version: str) -> dict[str, Any]:
    return _sealed(
        {
            "schema": "fingerprint/2",
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
    return _sealed({"schema": "fingerprint/2", "images": sorted(image["sha256"] for image in images)})


def fatbin_of_workloads(images: list[dict[str, str]]) -> dict[str, str]:
    """By workload: the fingerprint of a fatbin of images with these fingerprints by workload."""
    return {name: fatbin_of([{"sha256": image[name]} for image in images])["sha256"] for name in WORKLOADS}


def cpu() -> dict[str, Any]:
    """Fingerprint of the CPU library; the processor counts only where the library is made for it alone."""
    compiler = compilers.host()
    targets = {name: list(flags) for name, flags in compilers.cpu_targets().items()}
    return _library(list(CPU_FLAGS), targets, compiler.kind, compiler.version)


def _library(flags: list[str], targets: dict[str, list[str]], compiler: str, version: str) -> dict[str, Any]:
    return _sealed(
        {
            "schema": "fingerprint/2",
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
