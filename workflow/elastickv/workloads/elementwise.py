"""The `elementwise` workload: the pass the original kernel ran. A bandwidth exercise, not attention."""

from __future__ import annotations

import math

import numpy as np

from elastickv.cache import bytes_moved, oracle
from elastickv.device.base import Backend, Call
from elastickv.device.params import ElementwiseParams, FillParams, StreamParams
from elastickv.schemas.case import OtherCase
from elastickv.schemas.parts import Answer
from elastickv.workloads import rotation
from elastickv.workloads.arena import Arena

CHECK_CHUNK_BYTES = 64 << 20
INPUTS = ("q", "k", "v")


class ElementwiseWorkload:
    """Rotates over `layers` sets of q, k, v and two ping-pong outputs per arm; launches of a set alternate."""

    def __init__(self, backend: Backend, case: OtherCase):
        self.backend, self.case = backend, case
        self.shape = (case.heads, case.seq, case.dim)
        self.count = math.prod(self.shape)
        self.traffic = bytes_moved.traffic(case)
        fitting = rotation.fitting(case, backend.facts()["last_level_cache_bytes"], backend.memory_budget())
        self.layers, self.cold = fitting.layers, fitting.cold
        nbytes = self.count * 4
        names = tuple(case.kind.buffers(case))
        self._arenas = [Arena(backend, [nbytes] * len(names)) for _ in range(self.layers)]
        self.sets = [{name: arena.take(nbytes) for name in names} for arena in self._arenas]
        self._sink = backend.allocate(256)
        for number, buffers in enumerate(self.sets):
            for stream, name in enumerate(names):
                params = FillParams(buffers[name], self.count, 0, case.seed, number * len(names) + stream, 0)
                backend.launch(Call("fill", params))
        backend.synchronize()

    @property
    def period(self) -> int:
        """Launches after which the rotation repeats: every set, in both directions."""
        return 2 * self.layers

    def call(self, arm: str, index: int) -> Call:
        """Launch number `index` of an arm: set index % layers, writing the buffer it did not write last.

        In alternating order every second pass over a set works from its last group to its first.
        """
        buffers, target = self.sets[index % self.layers], index // self.layers % 2
        heads, seq, dim = self.shape
        return Call(
            "elementwise",
            ElementwiseParams(
                *(buffers[name] for name in INPUTS),
                previous=buffers[f"{arm}{1 - target}"],
                out=buffers[f"{arm}{target}"],
                heads=heads,
                seq=seq,
                dim=dim,
                compress=1 if arm == "full" else self.case.compress,
                scale=1 / math.sqrt(dim),
                reverse=target if self.case.pass_order == "alternating" else 0,
            ),
        )

    def pure_call(self, arm: str, index: int) -> Call:
        """A pure pass with the arm's reads (from q, k, v on) and writes."""
        moved, buffers = self.traffic[arm], self.sets[index % self.layers]
        return Call("stream", StreamParams(buffers["q"], moved.read, buffers[f"{arm}0"], moved.write, self._sink))

    def _array(self, address: int, head: int, heads: int) -> np.ndarray:
        _, seq, dim = self.shape
        return self.backend.read(address + head * seq * dim * 4, (heads, seq, dim), np.float32)

    def check(self) -> dict[str, Answer]:
        """Correctness per arm on the first and the last set, outputs poisoned with NaN beforehand."""
        sets = sorted({0, self.layers - 1})
        return {arm: self._check(arm, sets) for arm in ("full", "elastic")}

    def _check(self, arm: str, sets: list[int]) -> Answer:
        answers = []
        heads, seq, dim = self.shape
        step = max(1, CHECK_CHUNK_BYTES // (seq * dim * 4))
        for number in sets:
            buffers = self.sets[number]
            call = self.call(arm, number)
            self.backend.fill_bytes(buffers[f"{arm}0"], self.count * 4, 0xFF)
            self.backend.launch(call)
            self.backend.synchronize()
            for head in range(0, heads, step):
                rows = min(step, heads - head)
                q, k, v, previous, out = (
                    self._array(buffers[name], head, rows) for name in (*INPUTS, f"{arm}1", f"{arm}0")
                )
                expected = oracle.elementwise(q, k, v, previous, call.params.compress)
                answers.append(oracle.check(out, expected, "fp32", layers=[number]))
        return oracle.worst(answers)

    def tensors(self) -> dict[str, np.ndarray]:
        """Set 0 for `--save-tensors`, [heads, seq, dim]: valid right after `check`."""
        buffers, heads = self.sets[0], self.shape[0]
        saved = {name: self._array(buffers[name], 0, heads) for name in INPUTS}
        saved["previous"] = self._array(buffers["elastic1"], 0, heads)
        saved["full_out"] = self._array(buffers["full0"], 0, heads)
        saved["elastic_out"] = self._array(buffers["elastic0"], 0, heads)
        return saved


WORKLOAD = ElementwiseWorkload
