"""What a binary is made of: comment-free source, flags and compiler version. Editing a comment changes nothing.

A binary holds the kernels of every workload and the code of every storage format and anchor rule. A measurement is
known by the kernels that its own workload launches, by what they include, by its own formats and by its own anchor
rule, so that adding a kernel, a format or a rule re-times nothing else.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from elastickv import anchors, formats, kinds, records
from elastickv.build import compilers, headers, images
from elastickv.errors import UsageError
from elastickv.schemas.build import Fingerprints

if TYPE_CHECKING:
    from elastickv.schemas.build import CpuBuild, CudaBuild

KERNELS = Path("kernels")
SCHEMA = "fingerprint/2"
SUFFIXES_OF = {"cuda": (".cu", ".cuh", ".h"), "cpu": (".cpp", ".hpp", ".h")}
SUFFIXES = (".cu", ".cuh", ".cpp", ".hpp", ".h")
NVCC_FLAGS = ("-O3", "--use_fast_math", "-lineinfo", "-std=c++17")
NVRTC_FLAGS = ("--ptxas-options=-O3", "--use_fast_math", "-lineinfo", "-std=c++17")
CPU_FLAGS = ("-O3", "-fopenmp", "-fPIC", "-std=c++17", "-fno-math-errno")

UNITS = {"cuda": "elastickv.cu", "cpu": "elastickv.cpp"}  # the translation unit that includes every kernel
PARAMETERS, FORMATS, ANCHORS = "params.h", "formats", "anchors"

_INCLUDE = re.compile(r'^#include "([^"]+)"$', re.MULTILINE)
_STRUCT = re.compile(r"^struct (\w+) \{\n.*?^\};$", re.MULTILINE | re.DOTALL)
_COMMENT_OR_STRING = re.compile(
    r"""//(?:[^\\\n]|\\\n|\\.)*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'""", re.DOTALL
)


def launched() -> dict[str, tuple[str, ...]]:
    """The kernels that the cases of each workload launch, and those of `ceilings`."""
    return {name: kind.kernels for name, kind in kinds.every().items()} | {"ceilings": ("fill", "stream")}


def without_comments(source: str) -> str:
    """C++ source without comments, white space folded; strings stay as they are."""

    def replace(match: re.Match[str]) -> str:
        text = match.group()
        return " " if text.startswith("/") else text

    lines = (re.sub(r"[ \t]+", " ", line).strip() for line in _COMMENT_OR_STRING.sub(replace, source).splitlines())
    return "\n".join(line for line in lines if line)


def source_sha256(backend: str, kernels: Path = KERNELS) -> str:
    """Hash of a backend's comment-free sources: all of `kernels` that is not in the other backend's language, by path.

    Raises UsageError where there are none.
    """
    if not (kernels / backend).is_dir():
        raise UsageError(
            f"{kernels / backend}: no such folder: run this in the root of a checkout, which holds the kernels"
        )
    files = sorted(file for file in kernels.rglob("*") if file.suffix in SUFFIXES_OF[backend])
    listed = {Path(name): text for name, text in headers.contents().items()}
    return _digest({file.relative_to(kernels): _text(file) for file in files} | listed)


def workload_sha256(backend: str, workload: str, kernels: Path = KERNELS) -> str:
    """Hash of the comment-free sources that a workload's kernels are made of, names included.

    Those are the kernels' sources, the headers of the translation unit and all that these include. The unit itself only
    lists the kernels, and of the parameter blocks those count that are named. Storage formats and anchor rules are
    hashed one by one.
    """
    folders = (kernels, kernels / backend)
    kept = [source for name, source in headers.sources(backend, kernels).items() if name in launched()[workload]]
    roots = [source.resolve() for source in kept] + _included(kernels / backend / UNITS[backend], folders)
    texts = {file: _text(file) for file in _closure(roots, folders)}
    parameters = (kernels / PARAMETERS).resolve()
    if parameters in texts:
        others = "\n".join(text for file, text in texts.items() if file != parameters)
        texts[parameters] = _named_structs(texts[parameters], others)
    own = {kernels.resolve() / workload / name: text for name, text in _declaration(workload, kernels).items()}
    return _digest({file.relative_to(kernels.resolve()): text for file, text in (texts | own).items()})


def _declaration(workload: str, kernels: Path) -> dict[str, str]:
    """Comment-free Python of a workload that its own files describe whole: they decide what is launched."""
    if not isinstance(kinds.every().get(workload), kinds.Declared):
        return {}
    files = sorted((kernels / workload).glob("*.py"))
    return {file.name: ast.unparse(ast.parse(file.read_text(encoding="utf-8"))) for file in files}


def format_sha256(name: str, kernels: Path = KERNELS) -> str:
    """Hash of what the kernels know of a storage format: its line in the list, and its comment-free header."""
    header = kernels / FORMATS / f"{name}.h"
    return _digest({Path(headers.OF_FORMATS): headers.format_facts(formats.of(name)), Path(header.name): _text(header)})


def anchor_sha256(name: str, kernels: Path = KERNELS) -> str:
    """Hash of what the kernels know of an anchor rule: its line in the list, and its comment-free header."""
    header = kernels / ANCHORS / f"{name}.h"
    return _digest({Path(headers.OF_ANCHORS): headers.anchor_facts(anchors.of(name)), Path(header.name): _text(header)})


def _included(file: Path, folders: Sequence[Path]) -> list[Path]:
    """The existing files that a source includes by name: in its folder, otherwise in `folders`."""
    searched = (file.parent, *folders)
    names = _INCLUDE.findall(_text(file))
    found = [[path for folder in searched if (path := (folder / name).resolve()).is_file()] for name in names]
    return [paths[0] for paths in found if paths]


def _closure(roots: list[Path], folders: Sequence[Path]) -> list[Path]:
    """The files and everything that they include, sorted."""
    found: set[Path] = set()
    waiting = list(roots)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _included(file, folders)
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
        digest.update(f"\0{file.as_posix()}\0{text}".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _MadeOf:
    """What decides whether a binary is made again: all its fields."""

    def content(self) -> records.Json:
        """The fields, as they are hashed."""
        return {"schema": SCHEMA, **asdict(self)}

    @property
    def sha256(self) -> str:
        """The fingerprint."""
        return _sha256(self.content())


def _sha256(content: records.Json) -> str:
    return hashlib.sha256(records.canonical_json(content).encode()).hexdigest()


@dataclass(frozen=True)
class Image(_MadeOf):
    """One CUDA image. target: `sm_90`, or `compute_90` for PTX; source: the hash of the kernels."""

    target: str
    source: str
    flags: tuple[str, ...]
    compiler: str
    compiler_version: str


@dataclass(frozen=True)
class Library(_MadeOf):
    """The CPU library. targets: flags by processor; cpu: what the library is made for alone."""

    source: str
    flags: tuple[str, ...]
    targets: Mapping[str, tuple[str, ...]]
    compiler: str
    compiler_version: str
    cpu: str


def cuda_image(architecture: int, ptx: bool, compiler: str) -> Image:
    """What one CUDA image that is built here is made of; `compiler` is auto, nvcc or nvrtc."""
    return _image(architecture, ptx, compilers.choose(architecture, compiler))


def planned(image: str, compiler: str) -> list[records.Json]:
    """What decides whether a CUDA image (named by its file) is built again, without asking for a GPU: the contents of
    the images of which the machine that builds makes one, by its driver.
    """
    architecture, ptx = images.target(image)
    candidates = compilers.candidates(architecture, compiler)
    return [_image(architecture, ptx, each).content() for each in candidates]


def _image(architecture: int, ptx: bool, chosen: compilers.Compiler) -> Image:
    target = f"compute_{architecture}" if ptx else f"sm_{architecture}"
    flags = NVCC_FLAGS if chosen.kind == "nvcc" else NVRTC_FLAGS
    return Image(target, source_sha256("cuda"), flags, chosen.kind, chosen.version)


def by_part(backend: str, made_of: Image | Library) -> Fingerprints:
    """Fingerprints of an image or a library, of one workload's kernels, one format's or one rule's code alone."""
    return Fingerprints(
        **{name: replace(made_of, source=workload_sha256(backend, name)).sha256 for name in launched()},
        formats={
            name: replace(made_of, source=format_sha256(name)).sha256 for name in _present(FORMATS, formats.every())
        },
        anchors={
            name: replace(made_of, source=anchor_sha256(name)).sha256 for name in _present(ANCHORS, anchors.every())
        },
    )


def _present(folder: str, names: Iterable[str]) -> list[str]:
    """Those that the kernels have a header of."""
    return [name for name in names if (KERNELS / folder / f"{name}.h").is_file()]


def fatbin_of(fingerprints: Iterable[str]) -> str:
    """The fingerprint of a fatbin of images with these fingerprints."""
    return _sha256({"schema": SCHEMA, "images": sorted(fingerprints)})


def fatbin_of_parts(built: Sequence[Fingerprints]) -> Fingerprints:
    """The fingerprints of a fatbin of images with these fingerprints."""
    return Fingerprints(
        **{name: fatbin_of(image.of(name) for image in built) for name in launched()},
        formats={name: fatbin_of(image.formats[name] for image in built) for name in built[0].formats},
        anchors={name: fatbin_of(image.anchors[name] for image in built) for name in built[0].anchors},
    )


def cpu() -> Library:
    """What the CPU library is made of; the processor counts only where the library is made for it alone."""
    compiler = compilers.host()
    return _library(CPU_FLAGS, compilers.cpu_targets(), compiler.kind, compiler.version)


def _library(flags: Sequence[str], targets: Mapping[str, Sequence[str]], compiler: str, version: str) -> Library:
    made_for = compilers.cpu_features_sha256() if "native" in targets else platform.machine()
    of_targets = {name: tuple(each) for name, each in targets.items()}
    return Library(source_sha256("cpu"), tuple(flags), of_targets, compiler, version, made_for)


def of_these_sources(manifest: CpuBuild | CudaBuild) -> bool:
    """Whether a build was made from the current kernels, with any compilers and flags."""
    if manifest.backend == "cpu":
        made_of = _library(manifest.flags, manifest.targets, manifest.compiler, manifest.compiler_version)
        return made_of.sha256 == manifest.fingerprint
    source = source_sha256("cuda")
    made_of = [
        Image(one.architecture, source, tuple(one.flags), one.compiler, one.compiler_version) for one in manifest.images
    ]
    return fatbin_of(image.sha256 for image in made_of) == manifest.fingerprint
