"""The interface of workloads: the keys of their cases, their kernels, buffers, bytes and reference."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from elastickv import formats
from elastickv.policies import Key

if TYPE_CHECKING:
    import numpy as np

LARGEST_INT = 2**31 - 1  # kernels count in C ints
Fault = tuple[str, str]  # key of a case, and what is wrong with its value


class Traffic(NamedTuple):
    """Bytes one launch reads and writes."""

    read: int
    write: int

    @property
    def total(self) -> int:
        return self.read + self.write


class Buffer(NamedTuple):
    """An array on the device. dtype: name of a format without scales."""

    shape: tuple[int, ...]
    dtype: str = "fp32"

    @property
    def count(self) -> int:
        """Its elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return self.count * formats.of(self.dtype).bits // 8


class Kind:
    """A kind of workload. Its two arms are called `full` and `elastic`.

    TAKES: the config's case keys that its cases have, in addition to launch, seed and measure. KEYS: keys of its
    own. DTYPE: the only dtype of its cases; None: they say it. CACHE: whether its elastic arm is an elastic cache, with
    a policy, an inference cycle and peers. KERNELS: all that it launches, but for `fill` and `stream`, which all do.
    """

    MEANING: ClassVar[str]  # what is timed, for the reference of the config
    TITLE: ClassVar[str]  # the same in three words, for reports: "decode attention"
    KERNELS: ClassVar[tuple[str, ...]]
    TAKES: ClassVar[tuple[str, ...]] = ()
    KEYS: ClassVar[dict[str, Key]] = {}
    DTYPE: ClassVar[str | None] = "fp32"
    CACHE: ClassVar[bool] = False

    def __init__(self, name: str):
        self.name = name

    @property
    def kernels(self) -> tuple[str, ...]:
        """All kernels that a measurement launches."""
        return ("fill", *self.KERNELS, "stream")

    def faults(self, case: Mapping[str, Any]) -> Iterator[Fault]:
        """What is wrong with the values of a case's keys, each of which is valid by itself."""
        yield from ()


class Buffered(Kind, ABC):
    """A kind whose buffers and bytes its file counts. Methods get a case with its keys as attributes."""

    @abstractmethod
    def buffers(self, case: Any) -> dict[str, Buffer]:
        """The arrays of one set by their names, as they lie one after the other in memory."""

    @abstractmethod
    def traffic(self, case: Any) -> dict[str, Traffic]:
        """Bytes that one launch of each arm, `full` and `elastic`, must move, each of them counted once.

        `slots_only`, where it is given: of the elastic arm if its elements were no smaller than the full arm's.
        """


class Declared(Buffered):
    """A kind that its file describes whole: one launch an arm, inputs filled with values of mean 0 and deviation 1.

    Of its buffers `full_out` and `elastic_out` are written, the others are read.
    """

    @abstractmethod
    def launch(self, arm: str, case: Any, at: Mapping[str, int]) -> tuple[str, dict[str, Any]]:
        """Name of the kernel that an arm launches, and the fields of its parameter block. at: addresses of buffers."""

    @abstractmethod
    def reference(self, arm: str, case: Any, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """What the arm should write, float64. arrays: the inputs as they are stored, float32, by their names."""
