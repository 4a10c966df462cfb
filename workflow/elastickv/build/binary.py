"""The binary that was built of the kernels, as records name it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elastickv.build import provenance
from elastickv import records
from elastickv.errors import MachineError


def facts(build: str, backend: str, workload: str) -> dict[str, Any]:
    """The binary that will run: its hash, how each part was compiled, and where its sources come from.

    `fingerprint` is that of the workload's kernels alone. MachineError when it was not built, or not from this.
    """
    manifest = Path(build) / backend / "manifest.json"
    if not manifest.exists():
        raise MachineError(f"{manifest} is missing: the {backend} kernels are not built", f"elastickv build {backend}")
    content = records.read(manifest, "build")
    binary = manifest.with_name(Path(content["binary"]["path"]).name)
    if not binary.is_file() or records.sha256_file(binary) != content["binary"]["sha256"]:
        raise MachineError(f"{binary} is not the binary that {manifest} describes", f"elastickv build {backend}")
    return {
        "fingerprint": content["fingerprints"][workload],
        "sha256": content["binary"]["sha256"],
        "compiled": _compiled(content),
        "provenance": provenance.here(),
    }


def _compiled(manifest: dict[str, Any]) -> list[dict[str, str]]:
    """Every image of a fatbin, or every target of the CPU library: compiler, its version and flags."""
    if manifest["backend"] == "cpu":
        parts = [(name, manifest, [*manifest["flags"], *flags]) for name, flags in manifest["targets"].items()]
    else:
        parts = [(image["architecture"], image, image["flags"]) for image in manifest["images"]]
    return [
        {
            "target": target,
            "compiler": part["compiler"],
            "version": part["compiler_version"],
            "flags": " ".join(flags),
        }
        for target, part, flags in parts
    ]
