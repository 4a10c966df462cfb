"""Compares our timer with another one on one kernel: decode over one long full cache, so that launch gaps are small.

    PYTHONPATH=workflow .envs/peers/bin/python tools/crosscheck.py {cupti,nvbench} [--build build]

CUPTI (through torch's profiler) reports the kernel's own time; NVBench (the package cuda-bench) times batches of
launches between events, behind a kernel that blocks the stream. Needs a GPU, and exits with 1 where ours is off by more
than one percent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from elastickv import device, environments, matrix
from elastickv.device.base import Backend, Mode
from elastickv.device.opening import open_backend
from elastickv.errors import ElastickvError
from elastickv.measure.steps import Rotation, whole_rotations
from elastickv.workloads.decode import DecodeWorkload

LAUNCHES, WARM_UP, SAMPLES, PROFILED = 20, 3, 15, 5
TOKENS = (131072, 65536, 32768, 16384)  # the first that fits
SHAPE = {"heads": 32, "dim": 128, "compress": 4, "dtype": "fp16"}
# NVBench's tags: mean seconds of a launch in its batches, and launches.
GPU_TIME, LAUNCHED = "nv/batch/time/gpu/mean", "nv/batch/sample_size"
TOLERANCE = 0.01


def workload_of(backend: Backend) -> DecodeWorkload:
    """The longest cache that fits."""
    for tokens in TOKENS:
        flags = {"id": "crosscheck", "backend": "cuda", "seq": tokens, **SHAPE, "measure": {"decode_tokens": 0}}
        try:
            return DecodeWorkload(backend, matrix.case_from_flags(flags))
        except MemoryError:
            backend.free_all()
    raise MemoryError(f"{TOKENS[-1]} tokens, the smallest size, do not fit")


def measure(backend: Backend, timer: str) -> str:
    """What the other timer and ours say of a launch; ours before and, where the device is not reset, after it."""
    workload = workload_of(backend)
    mode = Mode(graph=True)
    loops = whole_rotations(LAUNCHES, workload.period)
    rotation = Rotation(backend, lambda index: workload.call("full", index), loops, workload.period, mode)
    for _ in range(WARM_UP):
        rotation.sample()
    ours = [rotation.sample() for _ in range(SAMPLES)]
    if timer == "cupti":
        theirs, launches, version = cupti(rotation)
        ours += [rotation.sample() for _ in range(SAMPLES)]
    else:
        theirs, launches, version = nvbench(backend, workload)  # may reset the device: nothing is timed after it
    return compared(float(np.median(ours)), theirs, f"{timer} ({version}, {launches} launches)")


def compared(ours_us: float, theirs_us: float, other: str) -> str:
    """One line on both times. Raises AssertionError where they differ by more than TOLERANCE."""
    difference = ours_us / theirs_us - 1
    line = f"{other}: {theirs_us:.2f} us, ours {ours_us:.2f} us, {difference:+.2%}"
    assert abs(difference) <= TOLERANCE, line
    return line


def cupti(rotation: Rotation) -> tuple[float, int, str]:
    """Median of the kernel's own durations in us while our graphs are replayed, launches, version."""
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


def main() -> None:
    """Measures with one timer, alone on the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("timer", choices=["cupti", "nvbench"])
    parser.add_argument("--build", default="build")
    args = parser.parse_args()
    sys.path += [str(folder) for folder in [environments.site_packages("cuda")] if folder]  # CuPy
    try:
        with device.exclusive_device("cuda"):
            print(measure(open_backend("cuda", args.build), args.timer))
    except ElastickvError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
