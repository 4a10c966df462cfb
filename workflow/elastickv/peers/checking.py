"""Checks that a peer computes what it is timed for: its answers on new inputs that differ from the timed ones.

A kernel that caches answers, or skips tokens or layers, fails at least one of these checks.
"""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Iterator, Set
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from elastickv.cache import oracle
from elastickv.measure.steps import Rotation
from elastickv.schemas.parts import Answer as Correctness

if TYPE_CHECKING:
    from elastickv.peers.comparison import Bench

REPLAYS = 5
SLOWER = 2.0  # a replay on new queries that takes this many times as long shows cached answers
UNCHANGED = "the answer does not change with its inputs"


class Answer(NamedTuple):
    """The reference of one layer's check."""

    layer: int
    reference: np.ndarray
    anchors: str | None


class Wrong(Exception):
    """A peer's answer is wrong; the message describes the error."""

    def __init__(self, reason: str, correctness: Correctness):
        super().__init__(reason)
        self.correctness = correctness


class Check:
    """The checks of one peer on one cache. seeds: of the checked inputs, all distinct and different from the case's."""

    def __init__(self, bench: Bench, cache: str):
        self.bench, self.cache = bench, cache
        self.seeds: list[int] = []
        self._new = _seeds(bench.case.seed)

    def refill(self) -> None:
        """Writes new values to all caches and queries; what is prepared from them is never timed."""
        self.bench.workload.refill(self._seed())

    def any_layer(self) -> set[int]:
        """An unpredictable layer."""
        return {secrets.randbelow(self.bench.workload.layers)}

    def run(self, rotation: Rotation, layers: Set[int]) -> Correctness:
        """Replays what is timed, gives the queries new values in place, replays it again and checks these layers.

        Raises Wrong where an answer is wrong; the reason says whether it is still that of the queries before.
        """
        before = dict(self._outputs(rotation))
        self.bench.workload.refill_queries(self._seed())
        wrote = dict(self._outputs(rotation))
        correctness = self.bench.entry(self.bench.answers(self.cache, layers), wrote.__getitem__)
        if not oracle.passes(correctness):
            unchanged = all(np.array_equal(wrote[layer], before[layer], equal_nan=True) for layer in wrote)
            raise Wrong(fault(correctness) + (f": {UNCHANGED}" if unchanged else ""), correctness)
        return correctness

    def stores_answers(self, rotation: Rotation) -> str | None:
        """Why the times of samples, whose queries repeat, are not valid; None if they are.

        A kernel that recognises repeated queries and caches answers passes every check and is fast in every sample.
        """
        pairs = [self._new_and_again_us(rotation) for _ in range(REPLAYS)]
        if min(new / again for new, again in pairs) <= SLOWER:  # a busy machine slows some of them
            return None
        new, again = (statistics.median(times) for times in zip(*pairs, strict=True))
        return f"{again:.3g} us a launch on queries seen before, {new:.3g} us on new ones: the kernel caches answers"

    def _new_and_again_us(self, rotation: Rotation) -> tuple[float, float]:
        """Time of a launch on new queries, and on the same once more, written anew so that all else is alike."""
        seed, taken = self._seed(), []
        for _ in range(2):
            self.bench.workload.refill_queries(seed)
            programs = rotation.programs
            launches = len(programs) * rotation.launches
            taken.append(self.bench.runner.seconds(*programs) * 1e6 / launches)
        return taken[0], taken[1]

    def _seed(self) -> int:
        self.seeds.append(next(self._new))
        return self.seeds[-1]

    def _outputs(self, rotation: Rotation) -> Iterator[tuple[int, np.ndarray]]:
        """Layer and output of every launch of a rotation."""
        runner, loops = self.bench.runner, rotation.launches
        for window, program in enumerate(rotation.programs):
            for index, output in enumerate(runner.answers(program)):
                yield (window * loops + index) % self.bench.workload.layers, output


def _seeds(timed: int) -> Iterator[int]:
    """Unpredictable distinct seeds, all different from that of the timed inputs."""
    used = {timed}
    while True:
        seed = secrets.randbits(32)
        if seed not in used:
            used.add(seed)
            yield seed


def fault(correctness: Correctness) -> str:
    """What is wrong with an answer."""
    if correctness.anchors == "wrong":
        return "the device kept other tokens than the policy selects"
    if not correctness.written or not correctness.finite:
        return "the output contains NaN or infinity, or was not completely written"
    return f"relative error {correctness.relative_error:.3g}, allowed {correctness.tolerance:.3g}"
