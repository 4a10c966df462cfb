"""Drops root's privilege to ignore file permissions, so that tests see what a user sees."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

VERSION_3 = 0x20080522  # linux/capability.h
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2


@contextmanager
def dropped() -> Iterator[None]:
    """This thread without both capabilities (Linux only), until the block ends. Changes nothing for who is not root."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("<Ii", VERSION_3, 0)
    content = ctypes.create_string_buffer(struct.calcsize("<6I"))
    _must(libc.capget(header, content))
    before = content.raw
    effective, *others = struct.unpack("<6I", before)
    kept = effective & ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    _must(libc.capset(header, struct.pack("<6I", kept, *others)))
    try:
        yield
    finally:
        _must(libc.capset(header, before))


def _must(code: int) -> None:
    if code != 0:
        raise OSError(ctypes.get_errno(), "capabilities")
