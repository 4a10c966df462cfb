"""The order of a measurement: check, calibrate, warm up, interleave, judge the samples. Runs inside the worker."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from elastickv import workloads
from elastickv.cache import bytes_moved, oracle
from elastickv.cache.bytes_moved import Traffic, gbps
from elastickv.device import State
from elastickv.device.base import Backend, Call, Mode
from elastickv.device.nvml import untold
from elastickv.measure import cycle, energy, machine, sampling, statistics
from elastickv.measure.ceilings import LargeBuffer
from elastickv.schemas.case import case_of
from elastickv.schemas.parts import Answer
from elastickv.workloads.base import Workload

SAMPLE_SECONDS = 0.05
FEWEST_GRAPH_LAUNCHES = 20
PROBE_EVERY = 5
CONTROL_LIMIT = {"cuda": 0.005, "cpu": 0.03}
READ, COPY = Traffic(1, 0), Traffic(1, 1)
ARMS = {"reference": "full", "candidate": "elastic"}  # what the sampler calls the arms of a case, and what we do

Progress = Callable[[int, int], None]


class Rotation:
    """One arm's replayable programs of `loops` launches each; together they visit all layers, as every sample does.

    Were a sample a part of them, two samples would compare different layers' memory, not only the arms.
    """

    def __init__(self, backend: Backend, call: Callable[[int], Call], loops: int, period: int, mode: Mode):
        self.backend = backend
        windows = max(1, math.ceil(period / loops))
        self.launches = windows * loops
        self.programs = [
            backend.program([call(window * loops + i) for i in range(loops)], mode) for window in range(windows)
        ]

    def sample(self) -> float:
        """Microseconds per launch of one whole rotation. On a GPU it runs once before, untimed, so that every sample
        begins alike, whichever arm was sampled before."""
        return self.backend.seconds(*self.programs, lead=self.programs) * 1e6 / self.launches

    def replay(self) -> int:
        """Runs one whole rotation, without a lead; how many launches that is."""
        self.backend.seconds(*self.programs)
        return self.launches


def choose_loops(backend: Backend, workload: Workload, settings: dict[str, Any], mode: Mode, fixed: bool) -> int:
    """Launches per program: `inner_loops`, fewer where one would take over 50 ms (a graph holds at least 20).

    Unless given exactly, programs share a rotation evenly.
    """
    if fixed:
        return settings["inner_loops"]
    trial = FEWEST_GRAPH_LAUNCHES if mode.graph else 1
    slowest = 0.0
    for arm in ARMS.values():
        program = backend.program([workload.call(arm, i) for i in range(trial)], mode)
        backend.seconds(program)
        slowest = max(slowest, backend.seconds(program) / trial)
    fitting = max(1, min(settings["inner_loops"], int(SAMPLE_SECONDS / slowest)))
    if fitting < workload.period:
        fitting = math.ceil(workload.period / math.ceil(workload.period / fitting))
    return max(fitting, FEWEST_GRAPH_LAUNCHES if mode.graph else 1)


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
        self.taken: list[dict[str, Any]] = []
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
            self.taken.append({"kind": name, "round": index, "bytes": nbytes, "us": us})
        for arm, rotation in self.pure.items():
            entry = {"kind": f"pure_{arm}", "round": index, "bytes": self._bytes[arm], "us": rotation.sample()}
            self.taken.append(entry)

    def bandwidths(self, kind: str) -> np.ndarray:
        """GB/s of each sample of one kind of pass."""
        return np.array([gbps(sample["bytes"], sample["us"]) for sample in self.taken if sample["kind"] == kind])

    def ceiling(self, arm: str) -> np.ndarray:
        """GB/s samples of the ceiling that arm is held against: that of its read-write mix, or the read ceiling."""
        mixed = self.bandwidths(f"mix_{arm}")
        return mixed if len(mixed) else self.bandwidths("read")

    def pure_us(self, arm: str) -> list[float]:
        """Microseconds of each pure pass over an arm's bytes."""
        return [sample["us"] for sample in self.taken if sample["kind"] == f"pure_{arm}"]


def _efficiency(
    moved: int, samples_us: list[float], probes: Probes, arm: str, peak: float | None, cold: bool, confidence: float
) -> dict[str, Any]:
    """Achieved bandwidth against the datasheet peak and the ceiling of the same process. Never clipped."""
    time = statistics.median_interval(samples_us, confidence)
    ceiling = float(np.median(probes.ceiling(arm)))
    pure = gbps(moved, float(np.median(probes.pure_us(arm))))

    def over(limit: float | None, microseconds: float) -> float | None:
        return gbps(moved, microseconds) / limit if limit and cold else None

    return {
        "achieved_gbps": gbps(moved, time["value"]),
        "peak_gbps": peak,
        "ceiling_gbps": ceiling,
        "memory": over(peak, time["value"]),
        "memory_low": over(peak, time["high"]),
        "memory_high": over(peak, time["low"]),
        "roofline": over(ceiling, time["value"]),
        "roofline_low": over(ceiling, time["high"]),
        "roofline_high": over(ceiling, time["low"]),
        "pure_memory": pure / peak if peak and cold else None,
        "pure_roofline": pure / ceiling if cold else None,
        "reason": None if cold else "the rotation does not flush the last-level cache, so the cache is not cold",
    }


def _quality(record: dict[str, Any], backend: str, probes: Probes, alone: bool) -> tuple[str, str | None]:
    """Status and reason of finished samples: `ok`, `noisy` or `failed`. alone: nobody else computed on the GPU."""
    control, limit = record["statistics"]["controls"]["full"], CONTROL_LIMIT[backend]
    highest = max(record["efficiency"][arm]["roofline"] or 0 for arm in ARMS.values())
    if backend == "cuda" and highest > bytes_moved.BEYOND_PEAK and alone:
        return "failed", f"roofline {highest:.3f} is above 1.02: the byte count is wrong or the cache was warm"
    ceilings = probes.ceiling("elastic")
    spread = float(np.ptp(ceilings) / np.median(ceilings))
    if highest > bytes_moved.BEYOND_PEAK + spread:
        return "noisy", f"roofline {highest:.3f} is above 1.02 plus the read ceiling's own spread of {spread:.3f}"
    few = _too_few(record)
    if few:
        return "noisy", few
    if not (1 - limit <= control["low"] and control["high"] <= 1 + limit):
        interval = f"[{control['low']:.4f}, {control['high']:.4f}]"
        return "noisy", f"the A/A control's interval {interval} is not inside 1 +- {limit:.1%}"
    return "ok", None


def _too_few(record: dict[str, Any]) -> str | None:
    """Why the rounds are too few for an interval that holds, or None when they are not."""
    count, dropped = len(record["samples"]["full_us"]), len(record["samples"]["dropped"])
    if count >= sampling.FEWEST_FOR_INTERVAL:
        return None
    bound = record["resolved"]["stopped"]
    left = f" ({dropped} more dropped)" if dropped else ""
    return (
        f"{bound} ended the sampling after {count} rounds{left}, too few for an interval, which takes "
        f"{sampling.FEWEST_FOR_INTERVAL}: raise measure.{bound}"
    )


def _reachable(probes: Probes, confidence: float) -> dict[str, Any]:
    interval = statistics.ratio_interval(probes.pure_us("full"), probes.pure_us("elastic"), confidence)
    return {
        "full_us": float(np.median(probes.pure_us("full"))),
        "elastic_us": float(np.median(probes.pure_us("elastic"))),
        **{key: interval[key] for key in ("value", "low", "high")},
    }


def _rule(settings: dict[str, Any], fixed: set[str], backend: str) -> sampling.Rule:
    return sampling.Rule(
        **{key: settings[key] for key in ("reps", "warmup", "precision", "max_seconds", "confidence")},
        control=CONTROL_LIMIT[backend],
        fixed_reps="reps" in fixed,
        fixed_warmup="warmup" in fixed,
    )


def measure(
    backend: Backend, case: dict[str, Any], fixed: set[str], state: State, progress: Progress
) -> tuple[dict[str, Any], Workload | None]:
    """Measures one case; returns the measured fields of its record and the workload (None when it could not be made).

    fixed: names among reps, warmup, inner_loops that are to be used as given rather than as upper bounds.
    """
    record: dict[str, Any] = {"status": "unsupported", "reason": backend.supports(case_of(case)) or ""}
    if record["reason"]:
        return record, None
    try:
        buffer = LargeBuffer(backend)
        workload = workloads.create(backend, case_of(case))
    except MemoryError as error:
        return {"status": "out_of_memory", "reason": str(error) or "allocation failed"}, None
    resolved = {"layers": workload.layers, "cold": workload.cold, **_decode_shapes(backend, case, workload)}
    correctness = {arm: answer.model_dump(mode="json") for arm, answer in workload.check().items()}
    record = {"resolved": resolved, "correctness": correctness}
    wrong = _wrong(correctness)
    if wrong:
        return {**record, "status": "incorrect", "reason": wrong}, workload
    record.update(_timed(backend, case, fixed, state, workload, buffer, progress))
    record["resolved"].update(resolved)
    if record.get("statistics") and case["workload"] == "decode" and case["measure"]["decode_tokens"]:
        record["inference_cycle"] = cycle.measure(
            backend,
            workload,
            case["measure"],
            Mode(record["resolved"]["graphs"], record["resolved"]["launch"] == "dependent"),
        )
        wrong = _wrong(record["inference_cycle"]["correctness"])
        if wrong:
            fields = {"resolved": record["resolved"], "correctness": correctness, "status": "incorrect"}
            return {**fields, "reason": f"at the end of the inference cycle: {wrong}"}, workload
    if record["status"] == "failed":
        record = {key: record[key] for key in ("resolved", "correctness", "status", "reason")}
    return record, workload


def _decode_shapes(backend: Backend, case: dict[str, Any], workload: Workload) -> dict[str, Any]:
    """How each arm's decode is launched, where the backend has a choice."""
    if case["workload"] != "decode":
        return {}
    shapes = {arm: backend.decode_shape(workload.call(arm, 0).params) for arm in ARMS.values()}
    if None in shapes.values():
        return {}
    return {"decode_shapes": {arm: shape._asdict() for arm, shape in shapes.items()}}


def _wrong(correctness: dict[str, dict[str, Any]]) -> str | None:
    """What is wrong with the first arm that is, or None."""
    for arm, entry in correctness.items():
        if entry["anchors"] == "wrong":
            return f"{arm} arm: the device kept other tokens than the policy"
        if not entry["written"] or not entry["finite"]:
            return f"{arm} arm: the output holds NaN or infinity, or was not written everywhere"
        if not oracle.passes(Answer(**entry)):
            return f"{arm} arm: relative error {entry['relative_error']:.3g}, allowed {entry['tolerance']:.3g}"
    return None


def _timed(
    backend: Backend,
    case: dict[str, Any],
    fixed: set[str],
    state: State,
    workload: Workload,
    buffer: LargeBuffer,
    progress: Progress,
) -> dict[str, Any]:
    settings, peak = case["measure"], backend.facts().get("peak_gbps")
    launch = backend.launch_mode(case["launch"])
    mode = Mode(bool(settings["graphs"]) and backend.name == "cuda", launch == "dependent")
    loops = choose_loops(backend, workload, settings, mode, "inner_loops" in fixed)
    arms = {
        arm: Rotation(backend, lambda i, arm=arm: workload.call(arm, i), loops, workload.period, mode)
        for arm in ARMS.values()
    }
    probes = Probes(backend, workload, buffer, loops, mode)
    rule = _rule(settings, fixed, backend.name)
    before = state.snapshot()
    take = sampling.pair(*(rotation.sample for rotation in arms.values()))
    warm_up = sampling.warm_up(take, rule)

    def between(index: int) -> None:
        progress(index, rule.reps)
        probes.take(index)

    samples = sampling.interleave(take, rule, disturbed=state.throttled, between=between)
    record: dict[str, Any] = {
        "resolved": {
            "inner_loops": loops,
            "reps": len(samples),
            "warmup": warm_up.samples,
            "warm_up": warm_up.facts(),
            "stopped": samples.stopped,
            "graphs": mode.graph,
            "led": list(arms) if backend.name == "cuda" else [],
            "launch": launch,
            "fixed": sorted(fixed),
        },
        "samples": {**samples.named(ARMS), "read_ceiling": probes.taken},
        "clocks": {"before": before, "after": state.snapshot()},
        "throttling": {"dropped_rounds": len(samples.dropped)},
    }
    if not len(samples):
        reason = f"all {len(samples.dropped)} rounds were dropped: {samples.dropped[-1]['reason']}"
        return {**record, "status": "noisy", "reason": reason, "energy": untold("no round was left")}
    record.update(_figures(samples, probes, workload, settings, peak))
    record["status"], record["reason"] = _quality(record, backend.name, probes, machine.gpu_alone(state))
    replays = {arm: rotation.replay for arm, rotation in arms.items()}
    record["energy"] = energy.of_arms(replays, state, case["batch"] if case["workload"] == "decode" else None)
    return record


def _figures(
    samples: sampling.Samples, probes: Probes, workload: Workload, settings: dict[str, Any], peak: float | None
) -> dict[str, Any]:
    """What follows from the samples: `statistics`, `bytes`, `efficiency` and `original_score` of a record."""
    confidence, truncate = settings["confidence"], settings["truncate"]
    taken = {arm: samples.us[series] for series, arm in ARMS.items()}
    speedup = statistics.ratio_interval(taken["full"], taken["elastic"], confidence)
    reachable = _reachable(probes, confidence)
    moved = bytes_moved.byte_ceilings(workload.traffic)._asdict()
    copy = float(np.median(probes.bandwidths("copy")))
    return {
        "statistics": {
            **{arm: statistics.arm_statistics(times, truncate) for arm, times in taken.items()},
            "speedup": speedup,
            "autocorrelation": statistics.autocorrelation(statistics.ratios(taken["full"], taken["elastic"])),
            "controls": {ARMS[series]: control for series, control in samples.controls(confidence).items()},
        },
        "bytes": {**moved, "reachable_ceiling": reachable.pop("value"), "reachable": reachable},
        "efficiency": {
            arm: _efficiency(moved[arm], times, probes, arm, peak, workload.cold, confidence)
            for arm, times in taken.items()
        },
        "original_score": bytes_moved.original_score(copy, peak, speedup["value"]) if peak else None,
    }
