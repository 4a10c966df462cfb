"""The binary that was built of the kernels, as records name it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from elastickv import records
from elastickv.build import provenance
from elastickv.errors import MachineError
from elastickv.schemas.build import Build, CpuBuild, CudaBuild
from elastickv.schemas.parts import BuildUsed, Compiled


def facts(build: str, backend: str, workload: str, stored: Iterable[str] = (), anchor: str | None = None) -> BuildUsed:
    """The binary that will run: its hash, how each part was compiled, and where its sources come from.

    `fingerprint` is that of the workload's kernels, of the formats `stored` and of the anchor rule alone. MachineError
    when it was not built, or not from this.
    """
    manifest = Path(build) / backend / "manifest.json"
    if not manifest.exists():
        raise MachineError(f"{manifest} is missing: the {backend} kernels are not built", f"elastickv build {backend}")
    made = records.load(manifest, Build).root
    binary = manifest.with_name(Path(made.binary.path).name)
    if not binary.is_file() or records.sha256_file(binary) != made.binary.sha256:
        raise MachineError(f"{binary} is not the binary that {manifest} describes", f"elastickv build {backend}")
    try:
        known_by = made.fingerprints.of(workload, stored, anchor)
    except KeyError as error:
        lacks = f"{manifest} belongs to a build without {error.args[0]}, which was added later"
        raise MachineError(lacks, f"elastickv build {backend}") from None
    return BuildUsed(
        fingerprint=known_by,
        sha256=made.binary.sha256,
        compiled=_compiled(made),
        provenance=provenance.here(),
    )


def _compiled(manifest: CpuBuild | CudaBuild) -> list[Compiled]:
    """Every image of a fatbin, or every target of the CPU library: compiler, its version and flags."""
    if isinstance(manifest, CpuBuild):
        parts = [(name, manifest, [*manifest.flags, *flags]) for name, flags in manifest.targets.items()]
    else:
        parts = [(image.architecture, image, image.flags) for image in manifest.images]
    return [
        Compiled(target=target, compiler=part.compiler, version=part.compiler_version, flags=" ".join(flags))
        for target, part, flags in parts
    ]
