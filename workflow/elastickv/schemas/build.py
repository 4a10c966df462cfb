"""The manifest of a build: what a binary holds and what it was made of."""

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
    """What ptxas says of one kernel."""

    registers: int = field("registers of a thread", "registers", ge=1)
    spill_bytes: Count = field("spilled by a thread", "bytes")
    shared_bytes: Count = field("static shared memory of a block", "bytes")


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
    kernels: dict[str, Kernel] = field("by kernel, from ptxas; empty for PTX, which is compiled by the driver")


class ReadBack(Model):
    """Architectures found in the finished file."""

    elf: list[Annotated[str, Field(pattern="^sm_[0-9]+$")]]
    ptx: list[Annotated[str, Field(pattern="^compute_[0-9]+$")]]


class Fingerprints(Open):
    """What measurements are known by: by workload, of the kernels that it launches alone, by format, by anchor rule."""

    __pydantic_extra__: dict[str, Sha256] = Field(init=False)
    ceilings: Sha256
    formats: dict[str, Sha256] = field("by storage format, of the code that reads and writes it")
    anchors: dict[str, Sha256] = field("by anchor rule, of the code that chooses by it")

    def of(self, workload: str, stored: Iterable[str] = (), anchor: str | None = None) -> str:
        """That of one workload on these formats, with this anchor rule. KeyError for what the build does not have."""
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
    images: list[Image] = field("one for each architecture", min_length=1)
    read_back: ReadBack


class CpuBuild(_Build):
    """A CPU library, made by the system's compiler."""

    backend: Literal["cpu"]
    compiler: Text
    compiler_version: Text
    flags: list[str]
    targets: dict[str, list[str]] = field(
        "flags of each processor that it has kernels for; which one runs is chosen when it is loaded", min_length=1
    )
    kernels: list[str] = field("names", min_length=1)


class Build(RootModel[Annotated[CudaBuild | CpuBuild, Field(discriminator="backend")]]):
    """What a binary holds and what it was made of."""


ROOT, TITLE = Build, "Build manifest"
