"""A workload that is described by its file (`kinds.Declared`): buffers, launches and checks are made from it."""

from __future__ import annotations

import numpy as np

from elastickv import formats
from elastickv.cache import bytes_moved, oracle
from elastickv.device import params
from elastickv.device.base import Backend, Call
from elastickv.device.params import FillParams, StreamParams
from elastickv.errors import UsageError
from elastickv.kinds import Declared
from elastickv.schemas.case import OtherCase
from elastickv.schemas.parts import Answer
from elastickv.workloads import rotation
from elastickv.workloads.arena import Arena

ARMS = ("full", "elastic")
PIECE = 16  # bytes that a pure pass moves at once


def output(arm: str) -> str:
    """The buffer that an arm writes."""
    return f"{arm}_out"


class DeclaredWorkload:
    """Rotates over `layers` sets of the buffers that its kind names."""

    def __init__(self, backend: Backend, case: OtherCase):
        assert isinstance(case.kind, Declared)
        self.backend, self.case, self.kind = backend, case, case.kind
        self.buffers, self.traffic = self.kind.buffers(case), bytes_moved.traffic(case)
        self.inputs = [name for name in self.buffers if name not in map(output, ARMS)]
        self._agree()
        fitting = rotation.fitting(case, backend.facts()["last_level_cache_bytes"], backend.memory_budget())
        self.layers, self.cold = fitting.layers, fitting.cold
        order = [*self.inputs, *map(output, ARMS)]  # a pure pass reads the inputs as one
        sizes = [self.buffers[name].nbytes for name in order]
        self._arenas = [Arena(backend, sizes) for _ in range(self.layers)]
        self.sets = [dict(zip(order, map(arena.take, sizes), strict=True)) for arena in self._arenas]
        self._sink = backend.allocate(256)
        for number, places in enumerate(self.sets):
            for stream, name in enumerate(self.inputs):
                buffer = self.buffers[name]
                dtype, counter = formats.of(buffer.dtype).number, number * len(self.inputs) + stream
                block = FillParams(places[name], buffer.count, dtype, case.seed, counter, 0)
                backend.launch(Call("fill", block))
        backend.synchronize()

    def _agree(self) -> None:
        """Raises UsageError where the kind's bytes do not fit its buffers."""
        lacking = [output(arm) for arm in ARMS if output(arm) not in self.buffers]
        if lacking:
            raise UsageError(f"workload {self.kind.name}: no buffer {lacking[0]}, which the arm writes")
        held = sum(self.buffers[name].nbytes for name in self.inputs)
        for arm in ARMS:
            moved, room = self.traffic[arm], {"read": held, "write": self.buffers[output(arm)].nbytes}
            for word, most in room.items():
                if getattr(moved, word) > most:
                    mismatch = f"{getattr(moved, word)} bytes to {word}, its buffers hold {most}"
                    raise UsageError(f"workload {self.kind.name}: traffic of arm {arm} declares {mismatch}")

    @property
    def period(self) -> int:
        """Launches after which the rotation repeats."""
        return self.layers

    def call(self, arm: str, index: int) -> Call:
        """Launch number `index` of an arm, on set index % layers."""
        kernel, fields = self.kind.launch(arm, self.case, self.sets[index % self.layers])
        if kernel not in self.kind.KERNELS:
            raise UsageError(f"workload {self.kind.name}: launches {kernel}, which its KERNELS do not name")
        return Call(kernel, params.block_of(kernel)(**fields))

    def pure_call(self, arm: str, index: int) -> Call:
        """A pure pass with the arm's reads and writes, in whole pieces."""
        moved, places = self.traffic[arm], self.sets[index % self.layers]
        read, write = (-(-nbytes // PIECE) * PIECE for nbytes in moved)
        first = places[self.inputs[0]] if self.inputs else 0
        return Call("stream", StreamParams(first, read, places[output(arm)], write, self._sink))

    def _array(self, name: str, number: int) -> np.ndarray:
        stored = formats.of(self.buffers[name].dtype)
        return stored.decode(self.backend.read(self.sets[number][name], self.buffers[name].shape, stored.words))

    def check(self) -> dict[str, Answer]:
        """Correctness per arm on the first and the last set, outputs poisoned with NaN beforehand."""
        sets = sorted({0, self.layers - 1})
        return {arm: self._check(arm, sets) for arm in ARMS}

    def _check(self, arm: str, sets: list[int]) -> Answer:
        answers = []
        for number in sets:
            call, written = self.call(arm, number), output(arm)
            self.backend.fill_bytes(self.sets[number][written], self.buffers[written].nbytes, 0xFF)
            self.backend.launch(call)
            self.backend.synchronize()
            arrays = {name: self._array(name, number) for name in self.inputs}
            expected = np.asarray(self.kind.reference(arm, self.case, arrays), np.float64)
            if expected.shape != self.buffers[written].shape:
                mismatch = f"{list(expected.shape)}, {written} is {list(self.buffers[written].shape)}"
                raise UsageError(f"workload {self.kind.name}: the reference of arm {arm} is {mismatch}")
            answers.append(
                oracle.check(self._array(written, number), expected, self.buffers[written].dtype, layers=[number])
            )
        return oracle.worst(answers)

    def tensors(self) -> dict[str, np.ndarray]:
        """Set 0 for `--save-tensors`: every buffer by its name, valid right after `check`."""
        return {name: self._array(name, 0) for name in self.buffers}
