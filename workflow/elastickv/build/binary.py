"""The binary that was built of the kernels, as records name it."""

from __future__ import annotations

from pathlib import Path

from elastickv import records
from elastickv.errors import MachineError


def facts(build: str, backend: str) -> dict[str, str]:
    """Fingerprint and hash of the binary that will run. Raises MachineError when it was not built, or not from this."""
    manifest = Path(build) / backend / "manifest.json"
    if not manifest.exists():
        raise MachineError(f"{manifest} is missing: the {backend} kernels are not built", f"elastickv build {backend}")
    content = records.read(manifest, "build")
    binary = manifest.with_name(Path(content["binary"]["path"]).name)
    if not binary.is_file() or records.sha256_file(binary) != content["binary"]["sha256"]:
        raise MachineError(f"{binary} is not the binary that {manifest} describes", f"elastickv build {backend}")
    return {"fingerprint": content["fingerprint"], "sha256": content["binary"]["sha256"]}
