"""`elastickv bench`: one case given by flags, measured by the same code path as a case of the matrix."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from elastickv import device, jobs, matrix, records
from elastickv.errors import MachineError, UsageError
from elastickv.judge import noise
from elastickv.measure import demand, supervisor
from elastickv.schemas.base import given
from elastickv.schemas.case import AnyCase
from elastickv.schemas.config import CASE_KEYS
from elastickv.schemas.measurement import Forced, Measurement
from elastickv.schemas.once import Once

CASE_FLAGS = (*CASE_KEYS, "backend")
MEASURE_FLAGS = (
    *(
        "reps",
        "warmup",
        "inner_loops",
        "truncate",
        "precision",
        "max_seconds",
        "confidence",
        "processes",
        "sustained_seconds",
    ),
    "decode_tokens",
)
STUDY_FLAGS = ("loop", "warps", "splits", "stage")


def _given(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the flags that were given."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def case_of(args: argparse.Namespace) -> AnyCase:
    """The canonical case of the flags, completed by the documented defaults."""
    flags, measure = _given(args, CASE_FLAGS), _given(args, MEASURE_FLAGS)
    measure.setdefault("processes", 1)  # a quick look; the command's own default
    if not args.graphs:
        measure["graphs"] = False
    case = matrix.case_from_flags({"id": "bench", **flags, "measure": measure})
    if not case.kind.CACHE:
        if args.inference:
            raise UsageError(f"bench: --inference: {matrix.no_cycle(case.workload)}")
        return case
    if args.inference:
        if not case.measure.decode_tokens:
            raise UsageError("bench: --decode_tokens: must be at least 1 with --inference, not 0")
        return case
    if case.measure.decode_tokens and args.decode_tokens is not None:
        print("elastickv: note: --decode_tokens has no effect without --inference", file=sys.stderr)
    return case.model_copy(update={"measure": case.measure.model_copy(update={"decode_tokens": 0})})


def _built(build: str, backend: str) -> None:
    """The CPU library takes seconds to build, so a missing one is built; a missing fatbin is an error with its fix.

    A binary built from other sources is measured, with a note.
    """
    from elastickv.build import cpu, fingerprint
    from elastickv.schemas.build import Build

    manifest, kernels = Path(build) / backend / "manifest.json", fingerprint.KERNELS / backend
    if backend == "cpu" and not manifest.exists():
        cpu.build(manifest.parent)
    stated = records.load(manifest, Build).root if manifest.exists() and kernels.is_dir() else None
    if stated and not fingerprint.of_these_sources(stated):
        note = f"{manifest.parent} was not built from the current {kernels}: run elastickv build {backend}"
        print(f"elastickv: note: {note}", file=sys.stderr)


def _forced(args: argparse.Namespace, case: AnyCase, backend: str) -> Forced | None:
    """Launch parameters that the flags set instead of the launch rules; None if there are none."""
    forced = _given(args, STUDY_FLAGS)
    if forced and (backend != "cuda" or not case.kind.CACHE):
        raise UsageError(f"bench: --{next(iter(forced))}: applies only to decode on a GPU")
    return Forced(**forced) if forced else None


def _once(args: argparse.Namespace, case: AnyCase, backend: str, forced: Forced | None) -> int:
    """Launches the elastic arm once; with `--json`, prints one object."""
    request = {"task": "once", "case": case.model_dump(mode="json"), "build": args.build,
               "forced": forced and forced.model_dump(mode="json")}  # fmt: skip
    with device.exclusive_device(backend) as uuid:
        answer = supervisor.in_worker(backend, request, demand.worker_seconds(case), uuid)
    if "launched" not in answer:
        raise MachineError(answer["reason"], answer.get("fix", "choose a smaller or supported case"))
    if args.json:
        output = Once(case=case, backend=backend, launched=answer["launched"]).model_dump(mode="json")
        records.check(output, "once", "bench")
        sys.stdout.write(records.to_json(output))
    return 0


def _which(path: Path) -> int | None:
    """The identity of the file at `path`, or None; it changes when the file is written or replaced."""
    return path.stat().st_ino if path.exists() else None


def _details(record: Measurement) -> list[str]:
    """Bandwidths and the inference cycle of a record with a result, one line each."""
    lines = []
    for arm, efficiency in record.efficiency:
        share = "not applicable" if efficiency.roofline is None else f"{efficiency.roofline:.3f}"
        lines.append(f"  {arm}: {efficiency.achieved_gbps:.1f} GB/s, roofline {share}")
    cycle = given(record.inference_cycle)
    if cycle:
        speedup = cycle.speedup
        lines.append(f"  inference cycle: {speedup.value:.3f}x [{speedup.low:.3f}, {speedup.high:.3f}]")
    return lines


def run(args: argparse.Namespace) -> int:
    """Measures, prints the record (`--json`) or a line, writes `--out` and `--save-tensors`."""
    case = case_of(args)
    if args.once and (files := _given(args, ("out", "save_tensors"))):
        raise UsageError([f"bench: --{name.replace('_', '-')}: --once measures nothing to write" for name in files])
    out, tensors = (path if path is None else records.destination(path) for path in (args.out, args.save_tensors))
    if out and out == tensors and not out.is_char_device():
        raise UsageError(f"bench: --save-tensors: {args.save_tensors} is also the file of --out; name another one")
    backend = device.resolve_backend(case.backend)
    forced = _forced(args, case, backend)
    _built(args.build, backend)
    if args.once:
        return _once(args, case, backend, forced)
    fixed = tuple(_given(args, ("reps", "warmup", "inner_loops")))
    before = tensors and _which(tensors)
    record = supervisor.measure_case(case, args.build, fixed=fixed, save_tensors=tensors, forced=forced)
    content = record.model_dump(mode="json")
    records.check(content, "measurement", "bench")
    if tensors and not tensors.is_char_device() and _which(tensors) == before:
        print(f"elastickv: note: --save-tensors: nothing was written: {record.status}", file=sys.stderr)
    if out:
        records.write(out, content, "measurement")
    judged = supervisor.by_default(record)
    if args.json:
        sys.stdout.write(records.to_json(content))
    else:
        published = judged.status in noise.PUBLISHED
        print("\n".join([supervisor.describe(judged), *(_details(judged) if published else [])]))
    return jobs.exit_code(judged.status, args.strict)
