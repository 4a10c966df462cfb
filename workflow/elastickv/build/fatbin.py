"""Reading fatbins and cubins back: mergers accept an image for the wrong architecture in silence.

A fatbin is a header (magic 0xBA55ED50, version, header bytes, payload bytes) and entries (kind 1 PTX, 2 ELF; header
bytes at offset 4, payload bytes at 8, architecture at 28), as `cuobjdump --list-elf --list-ptx` lists them.
"""

from __future__ import annotations

import struct
from pathlib import Path

from elastickv.schemas.build import ReadBack

MAGIC = 0xBA55ED50
KINDS = {1: "ptx", 2: "elf"}
ELF_MAGIC = b"\x7fELF"
ELF_FLAGS_OFFSET = 48
# The CUDA ELF ABI 8 (CUDA 13) keeps the architecture in bits 8-15 of e_flags, older ones in bits 0-7.
ABI_OFFSET, NEW_ABI = 8, 8


class BrokenBinary(Exception):
    """A file that is not what its name claims."""


def images(fatbin: bytes) -> list[tuple[str, int]]:
    """(kind, architecture) of every entry of a fatbin."""
    magic, _, header, size = struct.unpack_from("<IHHQ", fatbin.ljust(16, b"\0"))
    if magic != MAGIC:
        raise BrokenBinary(f"not a fatbin (magic {magic:#x})")
    found, offset = [], header
    while offset < header + size:
        kind, _, entry_header, payload = struct.unpack_from("<HHIQ", fatbin, offset)
        (architecture,) = struct.unpack_from("<I", fatbin, offset + 28)
        if kind not in KINDS or entry_header == 0:
            raise BrokenBinary(f"unknown entry of kind {kind} at byte {offset}")
        found.append((KINDS[kind], architecture))
        offset += entry_header + payload
    return found


def elf_architecture(cubin: bytes) -> int:
    """The SM architecture in a cubin's ELF header."""
    if cubin[:4] != ELF_MAGIC:
        raise BrokenBinary("not an ELF image")
    (flags,) = struct.unpack_from("<I", cubin, ELF_FLAGS_OFFSET)
    return (flags >> 8) & 0xFF if cubin[ABI_OFFSET] >= NEW_ABI else flags & 0xFF


def ptx_architecture(ptx: bytes) -> int:
    """The `.target sm_XX` of a PTX text."""
    for line in ptx.decode(errors="replace").splitlines():
        if line.startswith(".target sm_"):
            return int(line.removeprefix(".target sm_").split(",")[0].split()[0])
    raise BrokenBinary("no .target line")


def check_image(path: Path, architecture: int, ptx: bool) -> None:
    """Raises BrokenBinary unless the image is for `architecture`."""
    content = path.read_bytes()
    found = ptx_architecture(content) if ptx else elf_architecture(content)
    if found != architecture:
        raise BrokenBinary(f"{path} is for sm_{found}, not sm_{architecture}")


def check_fatbin(path: Path, wanted: list[tuple[str, int]]) -> ReadBack:
    """What the finished fatbin holds; BrokenBinary when not as wanted."""
    found = images(path.read_bytes())
    if sorted(found) != sorted(wanted):
        raise BrokenBinary(f"{path} holds {sorted(found)}, wanted {sorted(wanted)}")
    return ReadBack(
        elf=[f"sm_{architecture}" for kind, architecture in found if kind == "elf"],
        ptx=[f"compute_{architecture}" for kind, architecture in found if kind == "ptx"],
    )
