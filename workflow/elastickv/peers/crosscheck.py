"""Compares our timer with others on one kernel: decode over one long full cache, so that launch gaps are small.

CUPTI (through torch's profiler) reports the kernel's time; NVBench (the package cuda-bench) times batches of launches
between events, behind a kernel that blocks the stream. Its other samples (single launches after it filled the cache
with writes) took 5% more on an H200, perhaps for what those writes left to be written back.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from elastickv import device, matrix
from elastickv.build import binary
from elastickv.device.base import Backend, Mode
from elastickv.errors import MachineError
from elastickv.measure.steps import Rotation
from elastickv.schemas.case import AnyCase
from elastickv.workloads.decode import DecodeWorkload

TIMERS = ("cupti", "nvbench")
SECONDS = 600
LAUNCHES, WARM_UP, SAMPLES, PROFILED = 20, 3, 15, 5
TOKENS = (131072, 65536, 32768, 16384)  # the first that fits
SHAPE = {"heads": 32, "dim": 128, "compress": 4, "dtype": "fp16"}
# NVBench's tags: mean seconds of a launch in its batches, and launches.
GPU_TIME, LAUNCHED = "nv/batch/time/gpu/mean", "nv/batch/sample_size"
TOLERANCE = 0.01


class Timed(NamedTuple):
    """What another timer says of a launch, in us, and ours of the same one, over a cache of `tokens`.

    us: None where the other gave no time, for `reason`.
    """

    us: float | None = None
    ours_us: float | None = None
    tokens: int = 0
    samples: int = 0
    version: str = ""
    reason: str | None = None

    @property
    def difference(self) -> float:
        """Relative difference of ours from the other."""
        return self.ours_us / self.us - 1


def case_of(tokens: int) -> AnyCase:
    """The case whose full cache is read."""
    return matrix.case_from_flags({"id": "crosscheck", "backend": "cuda", "seq": tokens, **SHAPE,
                                   "measure": {"decode_tokens": 0}})  # fmt: skip


def measure(backend: Backend, name: str) -> Timed:
    """Our timer, before and after another one of TIMERS."""
    workload = _workload(backend)
    rotation = Rotation(
        backend, lambda index: workload.call("full", index), LAUNCHES, workload.period, Mode(graph=True)
    )
    for _ in range(WARM_UP):
        rotation.sample()
    ours = [rotation.sample() for _ in range(SAMPLES)]
    if name == "cupti":
        us, samples, version = cupti(rotation)
        ours += [rotation.sample() for _ in range(SAMPLES)]
    else:
        us, samples, version = nvbench(backend, workload)  # may reset the device: nothing is timed after it
    return Timed(us, float(np.median(ours)), workload.tokens, samples, version)


def _workload(backend: Backend) -> DecodeWorkload:
    for tokens in TOKENS:
        try:
            return DecodeWorkload(backend, case_of(tokens))
        except MemoryError:
            backend.free_all()
    raise MemoryError(f"{TOKENS[-1]} tokens, the smallest size, do not fit")


def cupti(rotation: Rotation) -> tuple[float, int, str]:
    """Median of the kernel's own durations while our graphs are replayed, in us; launches; version."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(PROFILED):
            rotation.sample()
        torch.cuda.synchronize()
    durations = [
        event.time_range.elapsed_us()
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and event.name.startswith("decode")
    ]
    if not durations:
        raise RuntimeError("CUPTI reported no kernel named decode")
    return float(np.median(durations)), len(durations), f"torch {torch.__version__}"


def nvbench(backend: Any, workload: DecodeWorkload) -> tuple[float, int, str]:
    """Mean of NVBench's batches in us, launches, version. The cache is far larger than the last-level cache: cold."""
    from cuda import bench

    call = workload.call("full", 0)

    def decode(state: Any) -> None:
        state.exec(lambda launch: backend.launch_on(call, launch.get_stream().addressof()), batched=True)

    bench.register(decode)
    with tempfile.TemporaryDirectory(prefix="elastickv-") as folder:
        out = Path(folder, "nvbench.json")
        bench.run_all_benchmarks(["elastickv", "--devices", "0", "--timeout", "60", "--json", str(out), "--quiet"])
        state = json.loads(out.read_text(encoding="utf-8"))["benchmarks"][0]["states"][0]
    return *read_nvbench(state), f"cuda-bench {bench.__version__}"


def read_nvbench(state: Mapping[str, Any]) -> tuple[float, int]:
    """Mean GPU time in us and launches out of one state of NVBench's JSON. LookupError when it measured nothing."""
    if state.get("is_skipped"):
        raise LookupError(f"NVBench skipped it: {state.get('skip_reason')}")
    values = {
        summary["tag"]: entry["value"]
        for summary in state["summaries"]
        for entry in summary.get("data", [])
        if entry["name"] == "value"
    }
    return float(values[GPU_TIME]) * 1e6, int(values.get(LAUNCHED, 0))


def agrees(found: Mapping[str, Timed]) -> bool | None:
    """Whether ours is within TOLERANCE of every other timer; None if none gave a time."""
    differences = [one.difference for one in found.values() if one.us]
    return all(abs(one) <= TOLERANCE for one in differences) if differences else None


def run(args: argparse.Namespace) -> int:
    """`elastickv crosscheck`: one worker for each other timer. Exit 1 when ours is off by more than TOLERANCE."""
    found = timers(args.build)
    if args.json:
        result = {name: one._asdict() for name, one in found.items()}
        print(json.dumps({"tolerance": TOLERANCE, "agrees": agrees(found), "timers": result}, indent=1))
    else:
        print("\n".join(line(name, one) for name, one in found.items()))
    if agrees(found) is None:
        raise MachineError("no other timer gave a time", "elastickv env peers, on a machine with a GPU and a network")
    return 0 if agrees(found) else 1


def timers(build: str) -> dict[str, Timed]:
    """Each timer's result, or why it has none. Raises MachineError without a GPU, its build or the environment."""
    from elastickv.peers import supervisor

    device.resolve_backend("cuda")
    binary.facts(build, "cuda", "decode")
    found: dict[str, Timed] = {}
    with device.exclusive_device("cuda") as uuid:
        for name in TIMERS:
            request = {"task": "crosscheck", "build": build, "timer": name}
            answer = supervisor.ask("cuda", request, SECONDS, uuid)
            found[name] = Timed(**answer) if answer.get("us") else Timed(reason=answer.get("reason"))
    return found


def line(name: str, result: Timed) -> str:
    """One line on one timer."""
    if result.us is None:
        return f"{name}: no time ({result.reason})"
    return f"{name} ({result.version}): {result.us:.2f} us, ours {result.ours_us:.2f} us, {result.difference:+.2%}"
