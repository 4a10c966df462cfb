"""Ceilings: bandwidth of pure read, copy and mixed passes on this device, by size and interleaved with samples."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import MISSING

from elastickv import device, jobs, records
from elastickv.build import binary
from elastickv.cache.bytes_moved import COLD_FACTOR, Traffic, gbps
from elastickv.device.base import Backend, Call, Mode
from elastickv.device.params import FillParams, StreamParams
from elastickv.measure import demand, statistics
from elastickv.measure.stopwatch import Stopwatch
from elastickv.schemas.base import Model
from elastickv.schemas.ceilings import Ceilings, Pair, Point
from elastickv.schemas.parts import BuildUsed, Device, Machine, Rate, Software

LARGE_BYTES = {"cuda": 1 << 30, "cpu": 256 << 20}
GRAPH_LAUNCHES = 20
CONFIDENCE = 0.99

# The curve by size.
KINDS = tuple(Pair.model_fields)
SMALLEST_BYTES = 256 << 10
LARGEST_BYTES = {"cuda": 4 << 30, "cpu": 1 << 30}
MOST_BYTES = {"cuda": 4 << 30, "cpu": 2 << 30}
# A graph that moves as much takes so long that its start does not count; a CPU's launches have none.
GRAPH_BYTES = {"cuda": 4 << 30, "cpu": 0}
FEWEST_LAUNCHES, MOST_LAUNCHES = 2, 8192
FEWEST_ROUNDS, MOST_ROUNDS = 3, 9
LIMIT_SECONDS = {"cuda": 20.0, "cpu": 8.0}


def large_bytes(backend: str, budget: int) -> int:
    """Size of the buffer for pure passes between a case's samples, if `budget` bytes may be allocated."""
    return min(LARGE_BYTES[backend], budget // 4) // 256 * 256


class LargeBuffer:
    """A buffer far larger than any cache, filled once, over which pure passes are timed."""

    def __init__(self, backend: Backend, nbytes: int | None = None):
        self.backend = backend
        budget = backend.memory_budget()
        self.nbytes = min(nbytes, budget // 2) // 256 * 256 if nbytes else large_bytes(backend.name, budget)
        self.address = backend.allocate(self.nbytes)
        self.sink = backend.allocate(256)
        backend.launch(Call("fill", FillParams(self.address, self.nbytes // 4, 0, 1, 0, 0)))
        backend.synchronize()

    def program(self, mix: Traffic) -> tuple[Any, int, int]:
        """Passes over the whole buffer with the read-write mix of `mix`: the program, bytes of a launch, launches."""
        read = self.nbytes * mix.read // mix.total // 256 * 256
        write = (self.nbytes - read) // 256 * 256 if mix.write else 0
        call = Call("stream", StreamParams(self.address, read, self.address + read, write, self.sink))
        launches = GRAPH_LAUNCHES if self.backend.name == "cuda" else 1
        return self.backend.program([call] * launches, Mode(graph=self.backend.name == "cuda")), read + write, launches


@dataclass(frozen=True)
class Pass:
    """Launches over `nbytes` each, one after the other through the buffer, replayed as one program."""

    nbytes: int
    launches: int
    program: Any

    def gbps(self, backend: Backend) -> float:
        """Bandwidth of one replay."""
        return gbps(self.nbytes * self.launches, backend.seconds(self.program) * 1e6)


def sizes_of(backend: str, buffer_bytes: int) -> list[int]:
    """The curve's sizes: powers of two that fit into the buffer."""
    powers = range(SMALLEST_BYTES.bit_length() - 1, LARGEST_BYTES[backend].bit_length())
    return [1 << power for power in powers if 1 << power <= buffer_bytes]


def buffer_bytes(backend: str, last_level_cache: int, budget: int) -> int:
    """Bytes to walk through: whole passes of the largest size, enough to flush the cache, within bounds."""
    largest = LARGEST_BYTES[backend]
    wanted = max(1, -(-COLD_FACTOR * last_level_cache // largest)) * largest
    return min(wanted, MOST_BYTES[backend], budget // 2) // 256 * 256


def launches_of(backend: str, nbytes: int, buffer: int, last_level_cache: int) -> tuple[int, int, bool]:
    """Launches of a program over passes of `nbytes`, how many different places they visit, and whether all are cold.

    As many as flush the cache before the program begins again; beyond that enough for the start of a graph to cost
    nothing. Both bounded, so that no program takes long.
    """
    to_flush = -(-COLD_FACTOR * last_level_cache // nbytes)
    launches = min(max(to_flush, FEWEST_LAUNCHES, min(GRAPH_LAUNCHES, GRAPH_BYTES[backend] // nbytes)), MOST_LAUNCHES)
    places = min(launches, max(1, buffer // nbytes))
    return launches, places, places * nbytes >= COLD_FACTOR * last_level_cache


class Shape(NamedTuple):
    """One pass of the curve: bytes of a launch, whether it reads or copies, how its launches follow each other."""

    nbytes: int
    kind: str
    dependent: bool


def _pass(backend: Backend, buffer: LargeBuffer, nbytes: int, launches: int, copy: bool, dependent: bool) -> Pass:
    places, half = max(1, buffer.nbytes // nbytes), nbytes // 2
    calls = []
    for index in range(launches):
        start = buffer.address + index % places * nbytes
        params = (start, half, start + half, half) if copy else (start, nbytes, None, 0)
        calls.append(Call("stream", StreamParams(*params, buffer.sink)))
    return Pass(nbytes, launches, backend.program(calls, Mode(backend.name == "cuda", dependent)))


def curve(backend: Backend) -> list[Point]:
    """Read and copy bandwidth by size on this device, ascending; each point states whether its passes were cold.

    Rounds over all sizes, so that a disturbance costs each of them one sample and none of them all: at least
    FEWEST_ROUNDS, at most MOST_ROUNDS, in between as many as fit into LIMIT_SECONDS. If the device supports dependent
    launches, a point has both launch modes.
    """
    cache = backend.facts()["last_level_cache_bytes"]
    buffer = LargeBuffer(backend, buffer_bytes(backend.name, cache, backend.memory_budget()))
    modes = (False, True) if backend.launch_mode("auto") == "dependent" else (False,)
    shapes = {
        nbytes: launches_of(backend.name, nbytes, buffer.nbytes, cache)
        for nbytes in sizes_of(backend.name, buffer.nbytes)
    }
    passes = {
        Shape(nbytes, kind, dependent): _pass(backend, buffer, nbytes, shape[0], kind == "copy_gbps", dependent)
        for nbytes, shape in shapes.items()
        for kind in KINDS
        for dependent in modes
    }
    rates = _rounds(backend, passes)
    points = []
    for nbytes, (_, places, cold) in shapes.items():
        plain, *more = ({kind: _rate(rates[Shape(nbytes, kind, mode)]) for kind in KINDS} for mode in modes)
        dependent = Pair(**more[0]) if more else MISSING
        points.append(Point(bytes=nbytes, **plain, dependent=dependent, layers=places, cold=cold))
    return points


def _rounds(backend: Backend, passes: dict[Shape, Pass]) -> dict[Shape, list[float]]:
    """GB/s of each pass by round; a first round warms up and determines how many rounds fit into the time."""
    began = time.monotonic()
    for one in passes.values():
        one.gbps(backend)
    fitting = int(LIMIT_SECONDS[backend.name] / (time.monotonic() - began))
    rates: dict[Shape, list[float]] = {key: [] for key in passes}
    for _ in range(min(max(FEWEST_ROUNDS, fitting), MOST_ROUNDS)):
        for key, one in passes.items():
            rates[key].append(one.gbps(backend))
    return rates


def _rate(rates: list[float]) -> Rate:
    interval = statistics.median_interval(rates, CONFIDENCE)
    return Rate(value=interval.value, low=interval.low, high=interval.high, samples=rates)


class Measured(Model):
    """What the worker answers: the measured fields of the record."""

    device: Device
    software: Software
    points: list[Point]
    machine: Machine


def measure(backend: Backend, machine: Machine) -> Measured:
    """The measured fields of `ceilings.json`."""
    return Measured(device=backend.facts(), software=device.software(), points=curve(backend), machine=machine)


def compose(backend: str, built: BuildUsed, answer: jobs.Answer, watch: Stopwatch) -> Ceilings:
    """The record from a worker's answer; the plateau is the median at the largest size."""
    head = {"backend": backend, "build": built, "started": watch.started, "ended": watch.ended()}
    if "record" not in answer:
        status, reason = jobs.ended(answer)
        return Ceilings(
            **head, status=status, reason=reason, device=None, software=device.software(), points=[], read_gbps=None,
            copy_gbps=None,
        )  # fmt: skip
    found = Measured.model_validate(answer["record"])
    largest = found.points[-1]
    return Ceilings(
        **head,
        status="ok",
        reason=None,
        device=found.device,
        software=found.software,
        points=found.points,
        read_gbps=largest.read_gbps.value,
        copy_gbps=largest.copy_gbps.value,
        machine=found.machine,
    )


def describe(record: Ceilings) -> str:
    """One line on a record, for logs and terminals."""
    rates = "" if record.reason else f", read {record.read_gbps:.1f} GB/s, copy {record.copy_gbps:.1f} GB/s"
    return f"ceilings on {record.backend}: {record.status}{rates}"


def run(args: argparse.Namespace) -> int:
    """`elastickv ceilings`: one worker process on the chosen backend, under the device's lock. No store knows it."""
    from elastickv.measure.supervisor import in_worker

    records.check_file(args.out)
    backend = device.resolve_backend(args.backend)
    built, watch = binary.facts(args.build, backend, "ceilings"), Stopwatch()
    with device.exclusive_device(backend) as uuid:
        answer = in_worker(backend, {"task": "ceilings", "build": args.build}, demand.CEILINGS_SECONDS, uuid)
    record = compose(backend, built, answer, watch)
    return jobs.deliver(args.out, record, describe(record))
