"""The order of a measurement: check, calibrate, warm up, interleave, judge the samples. Runs inside the worker."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import MISSING

from elastickv import workloads
from elastickv.cache import bytes_moved, oracle
from elastickv.cache.bytes_moved import Traffic, gbps
from elastickv.device import State
from elastickv.device.base import Backend, Call, Mode
from elastickv.jobs.worker import show
from elastickv.measure import cycle, energy, machine, sampling, statistics, sustained
from elastickv.measure.ceilings import LargeBuffer
from elastickv.measure.record import ended
from elastickv.measure.steady import Replays
from elastickv.schemas.base import given
from elastickv.schemas.case import AnyCase, DecodeCase
from elastickv.schemas.config import Measure
from elastickv.schemas.measurement import (
    Bytes,
    Clocks,
    Controls,
    Correctness,
    DecodeShape,
    DecodeShapes,
    Efficiencies,
    Efficiency,
    Energy,
    Measurement,
    PurePass,
    Reachable,
    Resolved,
    ReuseBytes,
    Rounds,
    Samples,
    Statistics,
    Sustained,
    Throttling,
)
from elastickv.schemas.parts import Unavailable
from elastickv.workloads.base import Workload

SAMPLE_SECONDS = 0.05
FEWEST_GRAPH_LAUNCHES = 20
PROBE_EVERY = 5
READ, COPY = Traffic(1, 0), Traffic(1, 1)
ARMS = {"reference": "full", "candidate": "elastic"}  # what the sampler calls the arms of a case, and what we do


class Rotation:
    """One arm's launches in the order of its layers, `launches` of them a sample.

    Where these are whole rotations, every sample replays the same program. Otherwise the next sample goes on where the
    last one ended, so that between two visits of a layer all others are visited. Programs are made when needed.
    """

    def __init__(self, backend: Backend, call: Callable[[int], Call], loops: int, period: int, mode: Mode):
        self.backend, self.launches, self.period, self.mode = backend, loops, period, mode
        self._calls = [call(index) for index in range(period)]
        self._programs: dict[int, Any] = {}
        self._next = 0

    def _program(self, first: int) -> Any:
        """The program of a sample that begins with launch `first` of the rotation."""
        if first not in self._programs:
            calls = [self._calls[(first + index) % self.period] for index in range(self.launches)]
            self._programs[first] = self.backend.program(calls, self.mode)
        return self._programs[first]

    @property
    def programs(self) -> list[Any]:
        """Programs that together visit all layers, the first launch first."""
        return [self._program(first) for first in range(0, self.period, self.launches)]

    def sample(self) -> float:
        """Microseconds per launch of one sample. On a GPU it runs once before, untimed, so that every sample begins
        alike, whichever arm was sampled before."""
        program = self._program(self._next)
        self._next = (self._next + self.launches) % self.period
        return self.backend.seconds(program, lead=[program]) * 1e6 / self.launches

    def replay(self) -> None:
        """Visits all layers once, untimed."""
        self.backend.seconds(*self.programs)

    def steady(self) -> Replays:
        """Whole rotations, to be replayed without a pause."""
        programs = self.programs
        return Replays(self.backend, programs, len(programs) * self.launches)


def whole_rotations(loops: int, period: int) -> int:
    """`loops` rounded up to a multiple of `period`."""
    return math.ceil(loops / period) * period


def choose_loops(backend: Backend, workload: Workload, settings: Measure, mode: Mode, fixed: bool) -> int:
    """Launches of a sample: `inner_loops`, fewer where they would take over 50 ms (a graph holds at least 20).

    On a GPU always whole rotations: at least one, and `inner_loops` is rounded up. On a CPU a sample may be one launch,
    and is so short that `reps` rounds fit into `max_seconds`: of many short samples few meet another process.
    """
    whole, period = backend.name == "cuda", workload.period
    if fixed:
        return whole_rotations(settings.inner_loops, period) if whole else settings.inner_loops
    least = FEWEST_GRAPH_LAUNCHES if mode.graph else 1
    trial = max(least, min(settings.inner_loops, period))  # several layers, whose caches are cold
    share = settings.max_seconds / (settings.reps * len(sampling.SERIES))
    longest = SAMPLE_SECONDS if whole else min(SAMPLE_SECONDS, share)
    fitting = max(1, int(longest / _slowest_launch(backend, workload, mode, trial)))
    if not whole:
        return max(least, min(settings.inner_loops, fitting))
    most = whole_rotations(max(settings.inner_loops, least), period)
    return most if most <= fitting else whole_rotations(max(least, fitting - period + 1), period)


def _slowest_launch(backend: Backend, workload: Workload, mode: Mode, trial: int) -> float:
    """Seconds of a launch of the slower arm, out of a second replay of `trial` launches."""
    seconds = []
    for arm in ARMS.values():
        program = backend.program([workload.call(arm, i) for i in range(trial)], mode)
        backend.seconds(program)
        seconds.append(backend.seconds(program) / trial)
    return max(seconds)


class Probe(NamedTuple):
    """One pure pass: what it moves, before which round it was taken, its bytes, and microseconds of one launch."""

    kind: str
    round: int
    bytes: int
    us: float


class Probes:
    """Ceilings interleaved with the samples: large read, copy, mixed passes; pure passes over each arm's bytes."""

    def __init__(self, backend: Backend, workload: Workload, buffer: LargeBuffer, loops: int, mode: Mode):
        self.backend = backend
        self.pure = {
            arm: Rotation(backend, lambda i, arm=arm: workload.pure_call(arm, i), loops, workload.period, mode)
            for arm in ARMS.values()
        }
        self.mixes = {"read": READ, "copy": COPY, **{f"mix_{arm}": workload.traffic[arm] for arm in self.pure}}
        self.large = {name: buffer.program(mix) for name, mix in self.mixes.items()}
        self.taken: list[Probe] = []
        self._bytes = {arm: workload.traffic[arm].total for arm in self.pure}
        for rotation in self.pure.values():
            rotation.sample()

    def take(self, index: int) -> None:
        """All probes once, before every fifth round; index: of the round that follows."""
        if index % PROBE_EVERY:
            return
        for name, (program, nbytes, launches) in self.large.items():
            if name.startswith("mix") and self.mixes[name].write < self.mixes[name].read / 100:
                continue  # a few bytes of output: the read ceiling is this mix's ceiling
            us = self.backend.seconds(program) * 1e6 / launches
            self.taken.append(Probe(name, index, nbytes, us))
        for arm, rotation in self.pure.items():
            self.taken.append(Probe(f"pure_{arm}", index, self._bytes[arm], rotation.sample()))

    def bandwidths(self, kind: str) -> np.ndarray:
        """GB/s of each sample of one kind of pass."""
        return np.array([gbps(probe.bytes, probe.us) for probe in self.taken if probe.kind == kind])

    def ceiling(self, arm: str) -> np.ndarray:
        """GB/s samples of the ceiling that an arm is compared with: that of its read-write mix, or the read ceiling."""
        mixed = self.bandwidths(f"mix_{arm}")
        return mixed if len(mixed) else self.bandwidths("read")

    def pure_us(self, arm: str) -> list[float]:
        """Microseconds of each pure pass over an arm's bytes."""
        return [probe.us for probe in self.taken if probe.kind == f"pure_{arm}"]


def _efficiency(
    moved: int, samples_us: list[float], probes: Probes, arm: str, peak: float | None, cold: bool, confidence: float
) -> Efficiency:
    """Achieved bandwidth against the datasheet peak and the ceiling of the same process. Never clipped."""
    time = statistics.median_interval(samples_us, confidence)
    ceiling = float(np.median(probes.ceiling(arm)))
    pure = gbps(moved, float(np.median(probes.pure_us(arm))))

    def over(limit: float | None, microseconds: float) -> float | None:
        return gbps(moved, microseconds) / limit if limit and cold else None

    return Efficiency(
        achieved_gbps=gbps(moved, time.value),
        peak_gbps=peak,
        ceiling_gbps=ceiling,
        memory=over(peak, time.value),
        memory_low=over(peak, time.high),
        memory_high=over(peak, time.low),
        roofline=over(ceiling, time.value),
        roofline_low=over(ceiling, time.high),
        roofline_high=over(ceiling, time.low),
        pure_memory=pure / peak if peak and cold else None,
        pure_roofline=pure / ceiling if cold else None,
        reason=None if cold else "the rotation does not flush the last-level cache, so the cache is not cold",
    )


def _quality(record: Measurement, backend: str, probes: Probes, alone: bool) -> tuple[str, str | None]:
    """Status and reason of finished samples: `ok`, `noisy` or `failed`. alone: no other process used the GPU.

    Controls are judged by `judge.noise`, not here, so that records do not depend on thresholds.
    """
    highest = max(efficiency.roofline or 0 for _, efficiency in record.efficiency)
    if backend == "cuda" and highest > bytes_moved.BEYOND_PEAK and alone:
        return "failed", f"roofline {highest:.3f} is above 1.02: the byte count is wrong or the cache was warm"
    few = _too_few(record)
    if few:
        return "noisy", few
    ceilings = probes.ceiling("elastic")
    spread = float(np.ptp(ceilings) / np.median(ceilings))
    if highest > bytes_moved.BEYOND_PEAK + spread:
        return "noisy", f"roofline {highest:.3f} is above 1.02 plus the read ceiling's own spread of {spread:.3f}"
    return "ok", None


def _too_few(record: Measurement) -> str | None:
    """Why there are too few rounds for an interval, or None."""
    count, dropped = len(record.samples.full_us), len(record.samples.dropped)
    if count >= sampling.FEWEST_FOR_INTERVAL:
        return None
    bound = record.resolved.stopped
    left = f" ({dropped} more dropped)" if dropped else ""
    return (
        f"{bound} ended the sampling after {count} rounds{left}, too few for an interval, which needs "
        f"{sampling.FEWEST_FOR_INTERVAL}: raise measure.{bound}"
    )


def rule(settings: Measure, fixed: Collection[str] = (), processes: int = 1) -> sampling.Rule:
    """When a case stops. fixed: names among reps and warmup of which as many are taken as given. processes: as many
    share `max_seconds`."""
    return sampling.Rule(
        reps=settings.reps,
        warmup=settings.warmup,
        precision=settings.precision,
        max_seconds=settings.max_seconds / processes,
        confidence=settings.confidence,
        control=settings.precision,
        fixed_reps="reps" in fixed,
        fixed_warmup="warmup" in fixed,
    )


def measure(
    backend: Backend, blank: Measurement, fixed: set[str], state: State, processes: int = 1
) -> tuple[Measurement, Workload | None]:
    """Measures one case; returns its record and the workload (None when it could not be made).

    blank: the initial record, with only case, build and device. fixed: those of reps, warmup and inner_loops that are
    exact values instead of upper bounds. processes: this one is one of so many.
    """
    case = blank.case.root
    unsupported = backend.supports(case)
    if unsupported:
        return ended(blank, "unsupported", unsupported), None
    try:
        buffer = LargeBuffer(backend)
        workload = workloads.create(backend, case)
    except MemoryError as error:
        return ended(blank, "out_of_memory", str(error) or "allocation failed"), None
    correctness = Correctness(**workload.check())
    resolved = _rotated(backend, case, workload, processes)
    checked = blank.model_copy(update={"resolved": resolved, "correctness": correctness})
    wrong = _wrong(correctness)
    if wrong:
        return ended(checked, "incorrect", wrong), workload
    record = _timed(backend, checked, fixed, state, workload, buffer)
    untimed = checked.model_copy(update={"resolved": record.resolved})
    if given(record.statistics) and case.kind.CACHE and case.measure.decode_tokens:
        mode = Mode(record.resolved.graphs, record.resolved.launch == "dependent")
        taken = cycle.measure(backend, workload, case, mode)
        wrong = _wrong(taken.correctness)
        if wrong:
            return ended(untimed, "incorrect", f"at the end of the inference cycle: {wrong}"), workload
        record = record.model_copy(update={"inference_cycle": taken})
    if record.status == "failed":
        return ended(untimed, record.status, record.reason), workload
    return record, workload


def _rotated(backend: Backend, case: AnyCase, workload: Workload, processes: int) -> Resolved:
    """What is known of a measurement once the workload is there."""
    return Resolved(
        backend=backend.name,
        layers=workload.layers,
        cold=workload.cold,
        reuse_bytes=ReuseBytes(
            **{arm: bytes_moved.reuse_bytes(workload.traffic[arm].total, workload.layers) for arm in ARMS.values()}
        ),
        processes=processes,
        decode_shapes=_decode_shapes(backend, case, workload),
    )


def _decode_shapes(backend: Backend, case: AnyCase, workload: Workload) -> DecodeShapes | MISSING:
    """Launch parameters of each arm's decode kernel, if the backend has several."""
    if not isinstance(case, DecodeCase):
        return MISSING
    shapes = {arm: backend.decode_shape(workload.call(arm, 0).params) for arm in ARMS.values()}
    if None in shapes.values():
        return MISSING
    return DecodeShapes(**{arm: DecodeShape(**shape._asdict()) for arm, shape in shapes.items()})


def _wrong(correctness: Correctness) -> str | None:
    """The error of the first wrong arm, or None."""
    for arm, answer in correctness:
        if answer.anchors == "wrong":
            return f"{arm} arm: the device kept other tokens than the policy selects"
        if not answer.written or not answer.finite:
            return f"{arm} arm: the output contains NaN or infinity, or was not completely written"
        if not oracle.passes(answer):
            return f"{arm} arm: relative error {answer.relative_error:.3g}, allowed {answer.tolerance:.3g}"
    return None


class Setup(NamedTuple):
    """What a case is timed with. launch: what `auto` became; loops: launches of a sample; fixed: see `measure`."""

    launch: str
    mode: Mode
    loops: int
    arms: dict[str, Rotation]
    probes: Probes
    rule: sampling.Rule
    fixed: set[str]


def _setup(
    backend: Backend, case: AnyCase, workload: Workload, buffer: LargeBuffer, fixed: set[str], processes: int
) -> Setup:
    settings, launch = case.measure, backend.launch_mode(case.launch)
    mode = Mode(settings.graphs and backend.name == "cuda", launch == "dependent")
    loops = choose_loops(backend, workload, settings, mode, "inner_loops" in fixed)
    arms = {
        arm: Rotation(backend, lambda i, arm=arm: workload.call(arm, i), loops, workload.period, mode)
        for arm in ARMS.values()
    }
    probes = Probes(backend, workload, buffer, loops, mode)
    return Setup(launch, mode, loops, arms, probes, rule(settings, fixed, processes), fixed)


def _timed(
    backend: Backend,
    checked: Measurement,
    fixed: set[str],
    state: State,
    workload: Workload,
    buffer: LargeBuffer,
) -> Measurement:
    """The record with samples and what follows from them, without an inference cycle."""
    case = checked.case.root
    setup = _setup(backend, case, workload, buffer, fixed, checked.resolved.processes)
    record, samples = _sampled(checked, setup, state)
    if not len(samples):
        nothing = record.model_copy(update={"energy": Energy(value=None, reason="every round was dropped")})
        dropped = f"all {len(samples.dropped)} rounds were dropped: {samples.dropped[-1].reason}"
        return ended(nothing, "noisy", dropped)
    peak = given(record.device.peak_gbps)
    record = record.model_copy(update=_figures(samples, setup.probes, workload, case.measure, peak))
    record = ended(record, *_quality(record, backend.name, setup.probes, machine.gpu_alone(state)))
    replays = {arm: rotation.steady for arm, rotation in setup.arms.items()}
    if backend.name == "cuda":
        steady = _sustained(case.measure, checked.resolved.processes, replays, state)
        record = record.model_copy(update={"statistics": record.statistics.model_copy(update={"sustained": steady})})
    tokens = case.batch if isinstance(case, DecodeCase) else None
    return record.model_copy(update={"energy": energy.of_arms(replays, state, tokens)})


def _sustained(
    settings: Measure, processes: int, replays: Mapping[str, Callable[[], Replays]], state: State
) -> Sustained | Unavailable:
    """This process's blocks of steady work, to be combined with those of the others; or why it takes none."""
    if not settings.sustained_seconds:
        return Unavailable(value=None, reason="measure.sustained_seconds is 0")
    if processes < sustained.FEWEST_PROCESSES:
        return Unavailable(value=None, reason=sustained.too_few(processes))
    taken = sustained.series(replays, settings.sustained_seconds, state)
    return sustained.over_processes([taken], settings.sustained_seconds, settings.confidence)


def _sampled(checked: Measurement, setup: Setup, state: State) -> tuple[Measurement, sampling.Samples]:
    """The record with its raw samples, and these; not yet a figure of them."""
    before = state.snapshot()
    take = sampling.pair(*(rotation.sample for rotation in setup.arms.values()))
    warm_up = sampling.warm_up(take, setup.rule)

    def between(index: int) -> None:
        show(f"  round {index} of at most {setup.rule.reps} ")
        setup.probes.take(index)

    earlier = len(state.rounds())
    samples = sampling.interleave(take, setup.rule, disturbed=state.throttled, between=between)
    rounds = _rounds(samples, state.rounds()[earlier:])
    clocks = Clocks(before=before, after=state.snapshot())
    taken = {
        "resolved": _used(checked.resolved, setup, warm_up, samples),
        "samples": samples.named(
            ARMS, Samples, rounds=rounds, read_ceiling=[PurePass(**one._asdict()) for one in setup.probes.taken]
        ),
        "clocks": clocks,
        "throttling": Throttling(dropped_rounds=len(samples.dropped), power_capped_rounds=_capped(rounds)),
    }
    return checked.model_copy(update=taken), samples


def _rounds(samples: sampling.Samples, read: Sequence[dict[str, Any]]) -> Rounds:
    """When each kept round ended, and what was read then. read: after every round; empty where nothing can be read."""
    series = samples.kept(read)
    found = {name: [one[name] for one in series] for name in (series[0] if series else ())}
    known = {name: values for name, values in found.items() if name in Rounds.model_fields and _any_known(values)}
    return Rounds(seconds=samples.seconds, **known)


def _any_known(values: Sequence[Any]) -> bool:
    """Whether the device reported any of these."""
    return any(value is not None for value in values)


def _capped(rounds: Rounds) -> int | MISSING:
    """Kept rounds that ended under the power cap, where the device reports it."""
    return MISSING if rounds.power_capped is MISSING else sum(map(bool, rounds.power_capped))


def _used(resolved: Resolved, setup: Setup, warm_up: sampling.WarmUp, samples: sampling.Samples) -> Resolved:
    """With what the sampling used."""
    return resolved.model_copy(
        update={
            "inner_loops": setup.loops,
            "reps": len(samples),
            "warmup": warm_up.samples,
            "warm_up": warm_up.facts(),
            "stopped": samples.stopped,
            "graphs": setup.mode.graph,
            "led": list(setup.arms) if resolved.backend == "cuda" else [],
            "launch": setup.launch,
            "fixed": sorted(setup.fixed),
        }
    )


def _figures(
    samples: sampling.Samples, probes: Probes, workload: Workload, settings: Measure, peak: float | None
) -> dict[str, Any]:
    """What follows from the samples: fields of a record."""
    confidence = settings.confidence
    taken, ratios = {arm: samples.of(series) for series, arm in ARMS.items()}, samples.ratios()
    speedup = statistics.median_interval(ratios, confidence)
    controls = {ARMS[series]: control for series, control in samples.controls(confidence).items()}
    moved = {arm: workload.traffic[arm].total for arm in taken}
    copy = float(np.median(probes.bandwidths("copy")))
    efficiency = {
        arm: _efficiency(moved[arm], times, probes, arm, peak, workload.cold, confidence)
        for arm, times in taken.items()
    }
    return {
        "statistics": Statistics(
            **{arm: statistics.arm_statistics(times, settings.truncate) for arm, times in taken.items()},
            speedup=speedup,
            autocorrelation=statistics.autocorrelation(ratios),
            controls=Controls(**controls),
        ),
        "bytes": _bytes(workload, probes, confidence),
        "efficiency": Efficiencies(**efficiency),
        "original_score": bytes_moved.original_score(copy, peak, speedup.value) if peak else None,
    }


def _bytes(workload: Workload, probes: Probes, confidence: float) -> Bytes:
    """The ceilings of the speedup: by bytes, and in time by the pure passes over them."""
    full, elastic = probes.pure_us("full"), probes.pure_us("elastic")
    ratio = statistics.ratio_interval(full, elastic, confidence)
    reachable = Reachable(
        full_us=float(np.median(full)), elastic_us=float(np.median(elastic)), low=ratio.low, high=ratio.high
    )
    by_bytes = bytes_moved.byte_ceilings(workload.traffic)
    return Bytes(**by_bytes._asdict(), reachable_ceiling=ratio.value, reachable=reachable)
