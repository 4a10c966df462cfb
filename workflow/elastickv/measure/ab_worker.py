"""The process of `elastickv ab` that times two checkouts' kernels, each under its own package. Called as `jobs.worker`.

A checkout contributes its launch rules, parameter blocks, caches and backend; sampling and statistics are this
package's. The caches are allocated anew for every repetition, because where they lie in memory changes the times.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from elastickv.jobs.worker import serve, show
from elastickv.measure import sampling, statistics
from elastickv.records import Json

ARMS = ("full", "elastic")
PACKAGES = ("elastickv", "elastickv_kernels")
SAMPLE_SECONDS = 0.05
FEWEST_GRAPH_LAUNCHES = 20
MOST_LOOPS = 64
CONFIDENCE = 0.99


class Checkout:
    """A checkout's package; while `entered`, `elastickv` is imported from it, and it is the working folder."""

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self._modules: dict[str, ModuleType] = {}

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Within it `elastickv` is this checkout's package, also for imports inside functions."""
        others = _taken()
        sys.modules.update(self._modules)
        sys.path.insert(0, str(self.folder / "workflow"))
        try:
            with contextlib.chdir(self.folder):
                yield
        finally:
            sys.path.remove(str(self.folder / "workflow"))
            self._modules = _taken()
            sys.modules.update(others)

    def module(self, name: str) -> Any:
        """The module elastickv.`name`; call only while entered."""
        return importlib.import_module(f"elastickv.{name}")


def _taken() -> dict[str, ModuleType]:
    """The packages' modules, taken out of the table of loaded ones."""
    names = [name for name in sys.modules if name.partition(".")[0] in PACKAGES]
    return {name: sys.modules.pop(name) for name in names}


class Problem(NamedTuple):
    """Why a side cannot be timed. wrong: because its answers are wrong."""

    reason: str
    wrong: bool = False


class Side:
    """One checkout's kernels: a backend, and the workload of the case under way."""

    def __init__(self, folder: str, backend: str):
        self.checkout = Checkout(folder)
        with self.checkout.entered():
            opening = self.checkout.module("device.opening")
            self.backend = opening.open_backend(backend, self.checkout.folder / "build/ab")

    def start(self, configfiles: list[str], name: str) -> Problem | None:
        """Makes and checks the caches of a case; why it cannot be timed, or None."""
        module = self.checkout.module
        with self.checkout.entered():
            case = module("matrix").load(configfiles).cases[name]
            unsupported = self.backend.supports(case)
            if unsupported:
                return Problem(unsupported)
            self.workload = module("workloads").create(self.backend, case)
            wrong = [arm for arm, entry in self.workload.check().items() if not module("cache.oracle").passes(entry)]
            dependent = self.backend.launch_mode(case.launch) == "dependent"
            graphs = case.measure.graphs and self.backend.name == "cuda"
            self.mode = module("device.base").Mode(graphs, dependent)
        return Problem(f"wrong answers of {', '.join(wrong)} in {self.checkout.folder}", wrong=True) if wrong else None

    def loops(self) -> int:
        """Launches of a program: as many as take 50 ms, no more than a rotation over all buffers needs."""
        trial = FEWEST_GRAPH_LAUNCHES if self.mode.graph else 1
        with self.checkout.entered():
            program = self.backend.program([self.workload.call("full", i) for i in range(trial)], self.mode)
            self.backend.seconds(program)
            slowest = self.backend.seconds(program) / trial
        period = self.workload.period
        fitting = max(trial, min(MOST_LOOPS, int(SAMPLE_SECONDS / slowest)))
        return fitting if fitting >= period else max(trial, math.ceil(period / math.ceil(period / fitting)))

    def sampler(self, arm: str, loops: int) -> Callable[[], float]:
        """Takes one sample of an arm, in microseconds per launch.

        On a GPU it is a whole rotation over the buffers. On a CPU it is one program, and the rotation goes on from
        sample to sample: a rotation may take seconds.
        """
        windows = math.ceil(self.workload.period / loops)
        with self.checkout.entered():
            programs = [
                self.backend.program([self.workload.call(arm, w * loops + i) for i in range(loops)], self.mode)
                for w in range(windows)
            ]
        turns = itertools.cycle([programs] if self.backend.name == "cuda" else [[one] for one in programs])

        def take() -> float:
            sampled = next(turns)
            with self.checkout.entered():
                return self.backend.seconds(*sampled, lead=sampled) * 1e6 / (len(sampled) * loops)

        return take

    def end(self) -> None:
        """Frees the caches of the case."""
        self.workload = None
        with self.checkout.entered():
            self.backend.free_all()


def _compared(request: Json) -> Json:
    """By case and arm: what every repetition found. A case that cannot be timed has a reason instead.

    `broken`: that HEAD's answers are wrong and BASE has no problem.
    """
    sides = {name: Side(request[name], request["backend"]) for name in ("head", "base")}
    return {"cases": {name: _case(sides, name, request) for name in request["cases"]}}


def _case(sides: dict[str, Side], name: str, request: Json) -> Json:
    found: dict[str, list[Json]] = {arm: [] for arm in ARMS}
    for repetition in range(request["repetitions"]):
        show(f"  {name}: repetition {repetition + 1} of {request['repetitions']} ")
        order = list(sides)[:: 1 if repetition % 2 else -1]  # who is first in memory alternates
        try:
            try:
                problems = {side: sides[side].start(request["configfiles"], name) for side in order}
            except MemoryError as error:
                return {"reason": str(error) or "allocation failed"}
            if any(problems.values()):
                return _untimed(problems)
            loops = sides["head"].loops()
            for arm in ARMS:
                found[arm].append(_arm(sides, arm, loops, request["seconds"]))
        finally:
            for side in order:
                sides[side].end()
    show()
    return {"arms": found}


def _untimed(problems: dict[str, Problem | None]) -> Json:
    """The answer for a case that a side cannot be timed with."""
    head, base = problems["head"], problems["base"]
    reasons = dict.fromkeys(problem.reason for problem in (head, base) if problem)
    return {"reason": "; ".join(reasons), "broken": bool(head and head.wrong and base is None)}


def _arm(sides: dict[str, Side], arm: str, loops: int, seconds: float) -> Json:
    """One repetition of an arm: interval of HEAD / BASE, both sides' median times (us) and controls."""
    rule = sampling.Rule(reps=2000, warmup=20, precision=0.001, max_seconds=seconds, confidence=CONFIDENCE)
    take = sampling.pair(*(sides[name].sampler(arm, loops) for name in ("head", "base")))
    sampling.warm_up(take, rule)
    samples = sampling.interleave(take, rule)
    ratio = statistics.median_interval(samples.ratios(), CONFIDENCE)
    controls = {name: one.model_dump() for name, one in samples.controls(CONFIDENCE).items()}
    medians = {"head": float(np.median(samples.of("reference"))), "base": float(np.median(samples.of("candidate")))}
    found = {"ratio": ratio.value, "low": ratio.low, "high": ratio.high, "rounds": len(samples), **medians}
    return found | {"controls": {"head": controls["reference"], "base": controls["candidate"]}}


if __name__ == "__main__":
    sys.exit(serve({"ab": _compared}))
