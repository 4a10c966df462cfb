"""Two checkouts' kernels interleaved in one process: by how much each arm's time differs, with its interval.

    python tools/interleaved.py BASE HEAD [--configfile F ...] [--case ID ...] [--tolerance 0.01] [--seconds 10]

BASE and HEAD are checkouts whose kernels are built (`elastickv build`). Each runs under its own package, with its own
launch rules, parameter blocks and caches; each answer is checked against float64 first, and rounds of
HEAD, BASE and HEAD again alternate. Exit code 1 where the interval of HEAD / BASE is not inside 1 +- tolerance.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from pathlib import Path

ARMS = ("full", "elastic")
PACKAGE = "elastickv"


class Checkout:
    """A checkout's package; while `entered`, `elastickv` is imported from it and not from another checkout."""

    def __init__(self, folder: str):
        self.folder = Path(folder).resolve()
        self._modules: dict[str, object] = {}

    @contextlib.contextmanager
    def entered(self):
        """Within it `elastickv` is this checkout's package, also for imports inside functions."""
        others = _taken()
        sys.modules.update(self._modules)
        sys.path.insert(0, str(self.folder / "workflow"))
        try:
            yield self
        finally:
            sys.path.remove(str(self.folder / "workflow"))
            self._modules = _taken()
            sys.modules.update(others)

    def module(self, name: str):
        """The module elastickv.`name`; call only while entered."""
        return importlib.import_module(f"{PACKAGE}.{name}")

    def bound(self, function):
        """The function, which then runs with this checkout entered."""

        def call(*args, **kwargs):
            with self.entered():
                return function(*args, **kwargs)

        return call


def _taken() -> dict[str, object]:
    """The package's modules, taken out of the table of loaded ones."""
    names = [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]
    return {name: sys.modules.pop(name) for name in names}


class Side:
    """One checkout's kernels: a backend, and the workload of the case under way."""

    def __init__(self, checkout: Checkout, backend: str):
        self.checkout = checkout
        with checkout.entered():
            opening = checkout.module("device.opening")
            self.backend = opening.open_backend(backend, checkout.folder / "build")

    def start(self, configfiles: list[str], name: str, backend: str) -> None:
        """Makes and checks the caches of a case. Raises SystemExit where an answer is wrong."""
        with self.checkout.entered():
            case = self.checkout.module("matrix").load(configfiles).cases[name]
            self.workload = self.checkout.module("workloads").create(self.backend, case)
            answers, oracle = self.workload.check(), self.checkout.module("cache.oracle")
            wrong = [arm for arm, entry in answers.items() if not oracle.passes(entry)]
            if wrong:
                raise SystemExit(f"{name}: wrong answers of {', '.join(wrong)} in {self.checkout.folder}")
            dependent = self.backend.launch_mode(case.launch) == "dependent"
            mode = self.checkout.module("device.base").Mode(case.measure.graphs and backend == "cuda", dependent)
            self.case, self.mode = case, mode

    def loops(self) -> int:
        """Launches of a sample."""
        with self.checkout.entered():
            steps = self.checkout.module("measure.steps")
            return steps.choose_loops(self.backend, self.workload, self.case.measure, self.mode, fixed=False)

    def sampler(self, arm: str, loops: int):
        """What takes one sample of an arm."""
        with self.checkout.entered():
            steps = self.checkout.module("measure.steps")
            rotation = steps.Rotation(
                self.backend, lambda i: self.workload.call(arm, i), loops, self.workload.period, self.mode
            )
            return self.checkout.bound(rotation.sample)

    def end(self) -> None:
        """Frees the caches of the case."""
        self.workload = None
        with self.checkout.entered():
            self.backend.free_all()


def main() -> int:
    """Prints one line for each arm of each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="checkout to compare with")
    parser.add_argument("head", help="checkout to judge")
    parser.add_argument("--configfile", nargs="+", default=["config/config.yaml"], metavar="F")
    parser.add_argument("--case", nargs="+", help="ids of cases; all of the config unless given")
    parser.add_argument("--backend", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tolerance", type=float, default=0.01, help="largest difference that counts as none")
    parser.add_argument("--seconds", type=float, default=10, help="of sampling of an arm, at most")
    args = parser.parse_args()
    head, base = Checkout(args.head), Checkout(args.base)
    with head.entered():
        names = args.case or list(head.module("matrix").load(args.configfile).cases)
        exclusive = head.module("device").exclusive_device(args.backend)
    beyond = 0
    print(f"{'case':28} {'arm':8} {'BASE us':>10} {'HEAD / BASE':>12} {'99% interval':>18} {'HEAD / HEAD':>18} rounds")
    with exclusive:
        sides = Side(head, args.backend), Side(base, args.backend)
        for name in names:
            for side in sides:
                side.start(args.configfile, name, args.backend)
            for line, outside in compare(*sides, args.seconds, args.tolerance):
                print(f"{name:28} {line}", flush=True)
                beyond += outside
            for side in sides:
                side.end()
    print(f"{beyond} arms differ by more than {args.tolerance:.1%}")
    return 1 if beyond else 0


def compare(head: Side, base: Side, seconds: float, tolerance: float):
    """A line of the table, and whether it is outside the tolerance, for each arm of a case."""
    with head.checkout.entered():
        sampling, statistics = head.checkout.module("measure.sampling"), head.checkout.module("measure.statistics")
        rule = sampling.Rule(reps=2000, warmup=20, precision=0.001, max_seconds=seconds, confidence=0.99)
    loops = head.loops()
    for arm in ARMS:
        take = sampling.pair(head.sampler(arm, loops), base.sampler(arm, loops))
        with head.checkout.entered():
            sampling.warm_up(take, rule)
            samples = sampling.interleave(take, rule)
            ratio = statistics.ratio_interval(samples.us["reference"], samples.us["candidate"], 0.99)
            control = samples.controls(0.99)["reference"]
            median = statistics.median_interval(samples.us["candidate"], 0.99).value
        yield (
            f"{arm:8} {median:10.3f} {ratio.value:12.4f} [{ratio.low:.4f}, {ratio.high:.4f}]"
            f" [{control.low:.4f}, {control.high:.4f}] {len(samples)}",
            ratio.high > 1 + tolerance or ratio.low < 1 - tolerance,
        )


if __name__ == "__main__":
    sys.exit(main())
