"""The manifest of a build: the contents of a binary and how it was built."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, RootModel

from elastickv import records
from elastickv.schemas.base import Count, Model, Open, Sha256, Text, field, version

Size = Annotated[int, field("size", "bytes", ge=1)]


class Binary(Model):
    """The file that was built."""

    path: Text
    sha256: Sha256
    bytes: Size


class Kernel(Model):
    """Resources of one kernel, as reported by ptxas."""

    registers: int = field("registers per thread", "registers", ge=1)
    spill_bytes: Count = field("spilled bytes per thread", "bytes")
    shared_bytes: Count = field("static shared memory per block", "bytes")


class Image(Model):
    """The code of one architecture."""

    architecture: str = field(pattern="^(sm|compute)_[0-9]+$")
    kind: Literal["elf", "ptx"]
    compiler: Literal["nvcc", "nvrtc"]
    compiler_version: Text
    flags: list[str]
    minimum_driver: str = field("major version of the oldest driver that loads it", pattern="^[0-9]+$")
    sha256: Sha256
    bytes: Size
    kernels: dict[str, Kernel] = field("resources by kernel, from ptxas; empty for PTX, which the driver compiles")


class ReadBack(Model):
    """Architectures found in the finished file."""

    elf: list[Annotated[str, Field(pattern="^sm_[0-9]+$")]]
    ptx: list[Annotated[str, Field(pattern="^compute_[0-9]+$")]]


class Fingerprints(Open):
    """Fingerprints that identify the kernels of a measurement: by workload, by storage format and by anchor rule."""

    __pydantic_extra__: dict[str, Sha256] = Field(init=False)
    ceilings: Sha256
    formats: dict[str, Sha256] = field("by storage format: fingerprint of the code that reads and writes it")
    anchors: dict[str, Sha256] = field("by anchor rule: fingerprint of the code that applies it")

    def of(self, workload: str, stored: Iterable[str] = (), anchor: str | None = None) -> str:
        """The fingerprint of a workload with these formats and anchor rule. Raises KeyError if the build lacks one."""
        of_workload = self.model_dump()[workload]
        named = [{name: self.formats[name] for name in sorted({*stored})}] if stored else []
        named += [{anchor: self.anchors[anchor]}] if anchor else []
        if not named:
            return of_workload
        return hashlib.sha256(records.canonical_json([of_workload, *named]).encode()).hexdigest()


class _Build(Model):
    schema_: Literal["build/4"] = version("build/4")
    backend: str
    fingerprint: Sha256 = field("sha256 of comment-free source, flags and compiler versions")
    fingerprints: Fingerprints
    binary: Binary


class CudaBuild(_Build):
    """A GPU binary: one entry per image."""

    backend: Literal["cuda"]
    images: list[Image] = field("one image per architecture", min_length=1)
    read_back: ReadBack


class CpuBuild(_Build):
    """A CPU library, compiled by the system's compiler."""

    backend: Literal["cpu"]
    compiler: Text
    compiler_version: Text
    flags: list[str]
    targets: dict[str, list[str]] = field(
        "compiler flags per processor target; the target to run is chosen when the library is loaded", min_length=1
    )
    kernels: list[str] = field("names", min_length=1)


class Build(RootModel[Annotated[CudaBuild | CpuBuild, Field(discriminator="backend")]]):
    """The contents of a binary and how it was built."""


ROOT, TITLE = Build, "Build manifest"
