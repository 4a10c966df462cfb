"""`elastickv ab BASE HEAD`: two checkouts' kernels, interleaved in one process.

For whoever changes a kernel: what differs between runs (clocks, load, the card) is in both sides of every round.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from contextlib import ExitStack
from pathlib import Path

from elastickv import device, jobs, matrix
from elastickv.errors import MachineError, UsageError
from elastickv.judge import changes
from elastickv.judge.changes import JudgedPair, Pair
from elastickv.judge.compare import check_tolerance
from elastickv.measure import checkouts
from elastickv.records import Json

HEADERS = (
    "case",
    "arm",
    "BASE us",
    "HEAD us",
    "HEAD / BASE",
    "99% interval",
    "HEAD / HEAD",
    "BASE / BASE",
    "rounds",
    "",
)
SIDES = ("base", "head")
FEWEST_REPETITIONS = 3
UNCLEAR = (
    "; unclear: the interval is too wide for this tolerance; more --repetitions, more --seconds or less other load "
    "narrow it"
)
SECONDS_BESIDE_SAMPLING = 120  # of one repetition of a case: caches, checks, warm-up


def run(args: argparse.Namespace) -> int:
    """Builds both sides, times them and prints a row for each arm of each case. Returns 1 if an arm regressed.

    Returns 1 also where HEAD's answers are wrong and BASE has no problem, and where no case could be timed.
    """
    check_tolerance(args.tolerance)
    if not (isinstance(args.repetitions, int) and args.repetitions >= FEWEST_REPETITIONS):
        raise UsageError(f"--repetitions: must be an integer of at least {FEWEST_REPETITIONS}, not {args.repetitions}")
    if not (isinstance(args.seconds, int | float) and 0 < args.seconds < math.inf):
        raise UsageError(f"--seconds: must be a number above 0, not {args.seconds}")
    files = [str(Path(file).resolve()) for file in args.configfile or [matrix.CONFIG_DEFAULT]]
    cases = matrix.load(files).cases
    unknown = [name for name in args.case or () if name not in cases]
    if unknown:
        raise UsageError(f"--case: no case {', '.join(unknown)} in {', '.join(files)}; there are {', '.join(cases)}")
    backend = device.resolve_backend(args.backend)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="elastickv-ab-")))
        sides = {side: stack.enter_context(checkouts.folder_of(getattr(args, side), scratch / side)) for side in SIDES}
        for folder in sides.values():
            checkouts.build(folder, backend)
        answer = _timed({name: str(folder) for name, folder in sides.items()}, backend, files, args, list(cases))
    judged = judge(answer["cases"], args.tolerance)
    print("\n".join(text(answer["cases"], judged, args.tolerance)))
    broken = any(case.get("broken") for case in answer["cases"].values())
    return 1 if broken or not judged or any(one.outcome == "regressed" for one in judged.values()) else 0


def _timed(sides: Json, backend: str, files: list[str], args: argparse.Namespace, cases: list[str]) -> Json:
    """The answer of the worker. Raises MachineError when there is none."""
    names = args.case or cases
    seconds = len(names) * args.repetitions * (2 * 1.5 * args.seconds + SECONDS_BESIDE_SAMPLING)
    request = {"task": "ab", **sides, "backend": backend, "configfiles": files, "cases": names}
    request |= {"repetitions": args.repetitions, "seconds": args.seconds}
    with device.exclusive_device(backend) as uuid:
        name, variables = ("cuda", {"CUDA_VISIBLE_DEVICES": uuid or ""}) if backend == "cuda" else (None, {})
        answer = jobs.in_worker("elastickv.measure.ab_worker", name, request, seconds, variables)
    if "cases" not in answer:
        raise MachineError(answer["reason"], answer.get("fix", "compare checkouts that measure alone"))
    return answer


def judge(cases: Json, tolerance: float) -> dict[tuple[str, str], JudgedPair]:
    """Every arm's change by (case, arm), of the cases that were timed."""
    found = {(name, arm): rows for name, case in cases.items() for arm, rows in case.get("arms", {}).items()}
    pairs = [pair_of(rows) for rows in found.values()]
    return dict(zip(found, changes.judge_pairs(pairs, tolerance), strict=True))


def pair_of(rows: list[Json]) -> Pair:
    """What the repetitions of one arm found. Its error includes how far HEAD / HEAD or BASE / BASE was from 1."""
    quantile = 2.576
    errors = [math.log(row["high"] / row["low"]) / 2 / quantile for row in rows]
    within = math.sqrt(sum(error**2 for error in errors) / len(errors))
    bias = max(abs(sum(math.log(row["controls"][side]["ratio"]) for row in rows)) / len(rows) for side in SIDES)
    shared = bias * math.sqrt(len(rows))  # more repetitions do not make a bias smaller
    return Pair(tuple(math.log(row["ratio"]) for row in rows), math.hypot(within, shared))


def text(cases: Json, judged: dict[tuple[str, str], JudgedPair], tolerance: float) -> list[str]:
    """The table, the cases that were not timed, and a last line."""
    from tabulate import tabulate

    rows = [[*place, *_cells(cases[place[0]]["arms"][place[1]], one)] for place, one in judged.items()]
    lines = [tabulate(rows, HEADERS, disable_numparse=True, tablefmt="simple"), ""] if rows else []
    untimed = {name: case for name, case in cases.items() if "reason" in case}
    lines += [
        f"{'no longer right' if case.get('broken') else 'not timed'}: {name}: {case['reason']}"
        for name, case in untimed.items()
    ]
    outcomes = [one.outcome for one in judged.values()]
    counted = [f"{outcomes.count(each)} {each}" for each in dict.fromkeys(outcomes)]
    narrower = "" if "unclear" not in outcomes else UNCLEAR
    return [*lines, f"{', '.join(counted) or 'nothing timed'} (tolerance {tolerance:.3g}){narrower}"]


def _cells(rows: list[Json], judged: JudgedPair) -> list[str]:
    middle = {side: sorted(row[side] for row in rows)[len(rows) // 2] for side in SIDES}
    controls = [[row["controls"][side] for row in rows] for side in reversed(SIDES)]
    ranges = [
        f"[{min(one['low'] for one in found):.4f}, {max(one['high'] for one in found):.4f}]" for found in controls
    ]
    times = [f"{middle[side]:.3f}" for side in SIDES]
    interval = f"[{judged.low:.4f}, {judged.high:.4f}]"
    return [*times, f"{judged.factor:.4f}", interval, *ranges, str(sum(row["rounds"] for row in rows)), judged.outcome]
