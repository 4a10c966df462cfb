"""Ceilings: what a pure read, copy or mixed pass reaches on this device, by size and interleaved with samples."""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np

from elastickv import device, records
from elastickv.backends.base import Backend, Call
from elastickv.backends.params import FillParams, StreamParams
from elastickv.roofline import Traffic, gbps

LARGE_BYTES = {"cuda": 1 << 30, "cpu": 256 << 20}
CURVE_MIB = {"cuda": (1, 4, 16, 64, 256, 1024, 4096), "cpu": (1, 4, 16, 64, 256)}
LAUNCHES = {"cuda": 20, "cpu": 2}
REPETITIONS = 9


class LargeBuffer:
    """A buffer far larger than any cache, filled once, over which pure passes are timed."""

    def __init__(self, backend: Backend, nbytes: int | None = None):
        self.backend = backend
        wanted = nbytes or LARGE_BYTES[backend.name]
        self.nbytes = min(wanted, backend.memory_budget() // 4) // 256 * 256
        self.address = backend.allocate(self.nbytes)
        self.sink = backend.allocate(256)
        backend.launch(Call("fill", FillParams(self.address, self.nbytes // 4, 0, 1, 0, 0)))
        backend.synchronize()

    def pass_of(self, mix: Traffic) -> tuple[Call, int]:
        """A pure pass over the whole buffer with the read-write mix of `mix`; also the bytes it moves."""
        read = self.nbytes * mix.read // mix.total // 256 * 256
        write = (self.nbytes - read) // 256 * 256 if mix.write else 0
        return Call("stream", StreamParams(self.address, read, self.address + read, write, self.sink)), read + write

    def program(self, mix: Traffic) -> tuple[Any, int, int]:
        """A replayable program of that pass, the bytes of one launch, and the number of launches."""
        call, nbytes = self.pass_of(mix)
        launches = LAUNCHES[self.backend.name] if self.backend.name == "cuda" else 1
        return self.backend.program([call] * launches, graph=self.backend.name == "cuda"), nbytes, launches


def _sized_pass(backend: Backend, buffer: LargeBuffer, nbytes: int, copy: bool) -> dict[str, Any]:
    """Bandwidth of passes over `nbytes`, cold: consecutive launches walk through the large buffer."""
    count = max(1, buffer.nbytes // nbytes)
    launches = min(max(LAUNCHES[backend.name], 1), 64)
    half = nbytes // 2 // 256 * 256
    calls = []
    for index in range(launches):
        start = buffer.address + index % count * nbytes
        params = (start, half, start + half, half) if copy else (start, nbytes, None, 0)
        calls.append(Call("stream", StreamParams(*params, buffer.sink)))
    program = backend.program(calls, graph=backend.name == "cuda")
    backend.seconds(program)
    times = [backend.seconds(program) * 1e6 / launches for _ in range(REPETITIONS)]
    moved = 2 * half if copy else nbytes
    return {"bytes": moved, "us": times, "gbps": gbps(moved, float(np.median(times)))}


def curve(backend: Backend) -> dict[str, Any]:
    """Read and copy bandwidth by size on this device."""
    sizes = [mib << 20 for mib in CURVE_MIB[backend.name]]
    buffer = LargeBuffer(backend, max(sizes) if backend.name == "cuda" else None)
    sizes = [size for size in sizes if size <= buffer.nbytes]
    return {
        "read": [_sized_pass(backend, buffer, size, copy=False) for size in sizes],
        "copy": [_sized_pass(backend, buffer, size, copy=True) for size in sizes],
    }


def measure(backend: Backend) -> dict[str, Any]:
    """The record of `ceilings.json`."""
    started = datetime.datetime.now(datetime.UTC).isoformat()
    points = curve(backend)
    return {
        "schema": "ceilings/1",
        "backend": backend.name,
        "device": backend.facts(),
        "software": device.software(),
        "started": started,
        "ended": datetime.datetime.now(datetime.UTC).isoformat(),
        "read_gbps": max(point["gbps"] for point in points["read"][-2:]),
        "copy_gbps": max(point["gbps"] for point in points["copy"][-2:]),
        **points,
    }


def run(args: argparse.Namespace) -> int:
    """`elastickv ceilings`: one worker process on the chosen backend, under the device's lock."""
    from elastickv.measure import supervisor

    backend = device.resolve_backend(args.backend)
    response = supervisor.in_worker(backend, {"task": "ceilings", "backend": backend, "build": args.build}, 600)
    if "error" in response:
        from elastickv.errors import MachineError

        raise MachineError(f"ceilings could not be measured: {response['error']}", response.get("fix", "see above"))
    records.write(Path(args.out), response["record"], "ceilings")
    print(json.dumps({key: response["record"][key] for key in ("backend", "read_gbps", "copy_gbps")}))
    return 0
