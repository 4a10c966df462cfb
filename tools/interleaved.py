"""Two builds' kernels interleaved in one process: by how much each arm's time differs, with its interval.

    python tools/interleaved.py BASE HEAD [--configfile F ...] [--case ID ...] [--tolerance 0.01] [--seconds 10]

BASE and HEAD are folders of builds (each with `cuda/` or `cpu/`) whose kernels take the same parameters. Both run under
the present launch rules on caches of their own, each answer is checked against float64 first, and rounds of HEAD, BASE
and HEAD again alternate. Exit code 1 where the interval of HEAD / BASE is not inside 1 +- tolerance.
"""

from __future__ import annotations

import argparse
import sys

from elastickv import device, matrix, workloads
from elastickv.cache import oracle
from elastickv.device.base import Mode
from elastickv.device.opening import open_backend
from elastickv.measure import sampling, statistics
from elastickv.measure.steps import Rotation, choose_loops

ARMS = ("full", "elastic")


def main() -> int:
    """Prints one line for each arm of each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="folder of builds to compare with")
    parser.add_argument("head", help="folder of builds to judge")
    parser.add_argument("--configfile", nargs="+", default=[matrix.CONFIG_DEFAULT], metavar="F")
    parser.add_argument("--case", nargs="+", help="ids of cases; all of the config unless given")
    parser.add_argument("--backend", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tolerance", type=float, default=0.01, help="largest difference that counts as none")
    parser.add_argument("--seconds", type=float, default=10, help="of sampling of an arm, at most")
    args = parser.parse_args()
    cases = matrix.load(args.configfile).cases
    beyond = 0
    print(f"{'case':28} {'arm':8} {'BASE us':>10} {'HEAD / BASE':>12} {'99% interval':>18} {'HEAD / HEAD':>18} rounds")
    with device.exclusive(args.backend):
        backends = [open_backend(args.backend, folder) for folder in (args.head, args.base)]
        for name in args.case or cases:
            for line, outside in compare(backends, cases[name], args.seconds, args.tolerance):
                print(f"{name:28} {line}", flush=True)
                beyond += outside
    print(f"{beyond} arms differ by more than {args.tolerance:.1%}")
    return 1 if beyond else 0


def compare(backends, case, seconds, tolerance):
    """A line of the table, and whether it lies beyond the tolerance, for each arm of a case."""
    made = [workloads.create(backend, case) for backend in backends]
    for workload in made:
        wrong = [arm for arm, entry in workload.check().items() if not oracle.passes(entry)]
        if wrong:
            raise SystemExit(f"{case.id}: wrong answers of {', '.join(wrong)}")
    head = backends[0]
    dependent = head.launch_mode(case.launch) == "dependent"
    mode = Mode(case.measure.graphs and head.name == "cuda", dependent)
    loops = choose_loops(head, made[0], case.measure, mode, fixed=False)
    rule = sampling.Rule(reps=2000, warmup=20, precision=0.001, max_seconds=seconds, confidence=0.99)
    for arm in ARMS:
        take = sampling.pair(
            *(
                Rotation(backend, lambda i, w=workload, arm=arm: w.call(arm, i), loops, workload.period, mode).sample
                for backend, workload in zip(backends, made, strict=True)
            )
        )
        sampling.warm_up(take, rule)
        samples = sampling.interleave(take, rule)
        ratio = statistics.ratio_interval(samples.us["reference"], samples.us["candidate"], 0.99)
        control = samples.controls(0.99)["reference"]
        base = statistics.median_interval(samples.us["candidate"], 0.99).value
        yield (
            f"{arm:8} {base:10.3f} {ratio.value:12.4f} [{ratio.low:.4f}, {ratio.high:.4f}]"
            f" [{control.low:.4f}, {control.high:.4f}] {len(samples)}",
            ratio.high > 1 + tolerance or ratio.low < 1 - tolerance,
        )


if __name__ == "__main__":
    sys.exit(main())
