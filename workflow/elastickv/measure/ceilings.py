"""Ceilings: what a pure read, copy or mixed pass reaches on this device, by size and interleaved with samples."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from elastickv import demand, device, records, statistics
from elastickv.backends.base import Backend, Call, Mode
from elastickv.backends.params import FillParams, StreamParams
from elastickv.roofline import Traffic, gbps

LARGE_BYTES = {"cuda": 1 << 30, "cpu": 256 << 20}
CURVE_MIB = {"cuda": (1, 4, 16, 64, 256, 1024, 4096), "cpu": (1, 4, 16, 64, 256)}
LAUNCHES = {"cuda": 20, "cpu": 2}
REPETITIONS = 9
CONFIDENCE = 0.99


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
        return self.backend.program([call] * launches, Mode(graph=self.backend.name == "cuda")), nbytes, launches


def _sized_pass(backend: Backend, buffer: LargeBuffer, nbytes: int, copy: bool) -> dict[str, Any]:
    """Bandwidth of passes over `nbytes`, cold: consecutive launches walk through the large buffer."""
    count = max(1, buffer.nbytes // nbytes)
    launches = LAUNCHES[backend.name]
    half = nbytes // 2
    calls = []
    for index in range(launches):
        start = buffer.address + index % count * nbytes
        params = (start, half, start + half, half) if copy else (start, nbytes, None, 0)
        calls.append(Call("stream", StreamParams(*params, buffer.sink)))
    program = backend.program(calls, Mode(graph=backend.name == "cuda"))
    backend.seconds(program)
    rates = [gbps(nbytes * launches, backend.seconds(program) * 1e6) for _ in range(REPETITIONS)]
    interval = statistics.median_interval(rates, CONFIDENCE)
    return {**{key: interval[key] for key in ("value", "low", "high")}, "samples": rates}


def curve(backend: Backend) -> list[dict[str, Any]]:
    """Read and copy bandwidth by size on this device, ascending."""
    sizes = [mib << 20 for mib in CURVE_MIB[backend.name]]
    buffer = LargeBuffer(backend, max(sizes))
    return [
        {
            "bytes": size,
            "read_gbps": _sized_pass(backend, buffer, size, copy=False),
            "copy_gbps": _sized_pass(backend, buffer, size, copy=True),
        }
        for size in sizes
        if size <= buffer.nbytes
    ]


def measure(backend: Backend) -> dict[str, Any]:
    """The measured part of `ceilings.json`; the plateau is the median at the largest size."""
    points = curve(backend)
    plateau = {kind: points[-1][kind]["value"] for kind in ("read_gbps", "copy_gbps")}
    return {"device": backend.facts(), "software": device.software(), "points": points, **plateau}


def _not_measured(response: dict[str, Any]) -> dict[str, Any]:
    """Status and reason of a worker that brought no curve."""
    reason = response.get("error") or response.get("crashed") or response.get("out_of_memory")
    status = "out_of_memory" if "out_of_memory" in response else "failed"
    empty = {"device": None, "software": device.software(), "points": [], "read_gbps": None, "copy_gbps": None}
    return {"status": status, "reason": reason, **empty}


def run(args: argparse.Namespace) -> int:
    """`elastickv ceilings`: one worker process on the chosen backend, under the device's lock."""
    from elastickv.measure import supervisor

    backend = device.resolve_backend(args.backend)
    build, started = supervisor.build_facts(args.build, backend), supervisor.now()
    request = {"task": "ceilings", "backend": backend, "build": args.build}
    response = supervisor.in_worker(backend, request, demand.CEILINGS_SECONDS)
    measured = {"status": "ok", "reason": None, **response["record"]} if "record" in response else None
    record = {
        "schema": "ceilings/1",
        "backend": backend,
        "build": build,
        "started": started,
        "ended": supervisor.now(),
        **(measured or _not_measured(response)),
    }
    records.write(Path(args.out), record, "ceilings")
    rates = "" if record["reason"] else f", read {record['read_gbps']:.1f} GB/s, copy {record['copy_gbps']:.1f} GB/s"
    print(f"ceilings on {backend}: {record['status']}{rates}")
    return 0
