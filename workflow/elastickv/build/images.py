"""The names of a build's image files, one for each architecture."""

from __future__ import annotations

import re
from collections.abc import Sequence


def names(architectures: Sequence[int], ptx: int | None) -> tuple[str, ...]:
    """The image files of a build: `sm_<architecture>.cubin` each, and `compute_<ptx>.ptx` if PTX is configured."""
    images = [f"sm_{architecture}.cubin" for architecture in architectures]
    return tuple(images + ([f"compute_{ptx}.ptx"] if ptx else []))


def target(image: str) -> tuple[int, bool]:
    """Architecture and whether it is PTX, of an image file's name: `compute_90.ptx` is (90, True)."""
    match = re.fullmatch(r"(?:sm_(\d+)\.cubin|compute_(\d+)\.ptx)", image)
    if match is None:
        raise ValueError(f"{image}: not the name of an image")
    return int(match[1] or match[2]), match[2] is not None
