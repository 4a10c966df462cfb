"""Device memory cut into aligned pieces."""

from __future__ import annotations

from elastickv.device.base import Backend
from elastickv.device.params import READ_AHEAD

ALIGNMENT = 256


def padded(nbytes: int, read_ahead: int = READ_AHEAD) -> int:
    """Bytes that a piece takes: what kernels may read past its end, and the alignment of the next one."""
    return -(-(nbytes + read_ahead) // ALIGNMENT) * ALIGNMENT


class Arena:
    """One allocation handed out front to back: a layer's buffers lie together, and a pure pass reads them as one."""

    def __init__(self, backend: Backend, sizes: list[int]):
        self.size = sum(map(padded, sizes))
        self.address = backend.allocate(max(self.size, ALIGNMENT))
        self._next = self.address

    def take(self, nbytes: int) -> int:
        """Address of the next piece."""
        address = self._next
        self._next += padded(nbytes)
        return address
