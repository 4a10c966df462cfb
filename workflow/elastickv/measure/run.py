"""The order of a measurement: check, calibrate, warm up, interleave, judge the samples. Runs inside the worker."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from elastickv import oracle, roofline, sampling, statistics, workloads
from elastickv.backends.base import Backend
from elastickv.device import CpuState, GpuState
from elastickv.measure import cycle
from elastickv.measure.ceilings import LargeBuffer
from elastickv.roofline import Traffic, gbps

SAMPLE_SECONDS = 0.05
FEWEST_GRAPH_LAUNCHES = 20
PROBE_EVERY = 5
CONTROL_LIMIT = {"cuda": 0.005, "cpu": 0.03}
READ, COPY = Traffic(1, 0), Traffic(1, 1)

Progress = Callable[[int, int], None]


class Rotation:
    """One arm's replayable programs: `loops` launches each, together a whole rotation over all layers."""

    def __init__(self, backend: Backend, call: Callable[[int], Any], loops: int, period: int, graph: bool, offset: int):
        self.backend, self.loops, self.next = backend, loops, offset
        windows = max(1, math.ceil(period / loops))
        self.programs = [
            backend.program([call(window * loops + i) for i in range(loops)], graph) for window in range(windows)
        ]

    def sample(self) -> float:
        """Microseconds per launch of the next program."""
        program = self.programs[self.next % len(self.programs)]
        self.next += 1
        return self.backend.seconds(program) * 1e6 / self.loops


def choose_loops(backend: Backend, workload: Any, settings: dict[str, Any], exact: bool) -> int:
    """Launches per sample: `inner_loops`, fewer where a sample would take over 50 ms (a graph holds at least 20)."""
    if exact:
        return settings["inner_loops"]
    graph = settings["graphs"] and backend.name == "cuda"
    trial = FEWEST_GRAPH_LAUNCHES if graph else 1
    slowest = 0.0
    for arm in ("baseline", "elastic"):
        program = backend.program([workload.call(arm, i) for i in range(trial)], graph)
        backend.seconds(program)
        slowest = max(slowest, backend.seconds(program) / trial)
    fitting = min(settings["inner_loops"], int(SAMPLE_SECONDS / slowest))
    return max(fitting, FEWEST_GRAPH_LAUNCHES if graph else 1)


class Probes:
    """Ceilings interleaved with the samples: large read, copy, mixed passes; pure passes over each arm's bytes."""

    def __init__(self, backend: Backend, workload: Any, buffer: LargeBuffer, loops: int, graph: bool):
        self.backend = backend
        self.pure = {
            arm: Rotation(backend, lambda i, arm=arm: workload.pure_call(arm, i), loops, workload.period, graph, 0)
            for arm in ("baseline", "elastic")
        }
        self.mixes = {"read": READ, "copy": COPY, **{f"mix_{arm}": workload.traffic[arm] for arm in self.pure}}
        self.large = {name: buffer.program(mix) for name, mix in self.mixes.items()}
        self.samples: dict[str, list[dict[str, Any]]] = {name: [] for name in (*self.large, "pure")}
        for rotation in self.pure.values():
            rotation.sample()

    def take(self, triple: int) -> None:
        """One round of probes before every fifth triple."""
        if triple % PROBE_EVERY:
            return
        for name, (program, nbytes, launches) in self.large.items():
            if name.startswith("mix") and self.mixes[name].write < self.mixes[name].read / 100:
                continue  # a few bytes of output: the read ceiling is this mix's ceiling
            us = self.backend.seconds(program) * 1e6 / launches
            self.samples[name].append({"triple": triple, "bytes": nbytes, "us": us})
        pure = {f"{arm}_us": rotation.sample() for arm, rotation in self.pure.items()}
        self.samples["pure"].append({"triple": triple, **pure})

    def bandwidths(self, name: str) -> np.ndarray:
        """GB/s of each sample of one large pass."""
        return np.array([gbps(sample["bytes"], sample["us"]) for sample in self.samples[name]])

    def ceiling(self, arm: str) -> np.ndarray:
        """GB/s samples of the ceiling that arm is held against: the read ceiling, or that of its read-write mix."""
        return self.bandwidths(f"mix_{arm}" if self.samples[f"mix_{arm}"] else "read")

    def pure_us(self, arm: str) -> list[float]:
        """Microseconds of each pure pass over an arm's bytes."""
        return [sample[f"{arm}_us"] for sample in self.samples["pure"]]


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
    }


def _quality(record: dict[str, Any], backend: str, probes: Probes) -> tuple[str, str]:
    """Status and reason of finished samples: `ok`, `noisy` or `failed`."""
    control, limit = record["statistics"]["control"], CONTROL_LIMIT[backend]
    highest = max(record["efficiency"][arm]["roofline"] or 0 for arm in ("baseline", "elastic"))
    if backend == "cuda" and highest > roofline.BEYOND_PEAK:
        return "failed", f"roofline {highest:.3f} is above 1.02: the byte count is wrong or the cache was warm"
    ceilings = probes.ceiling("elastic")
    spread = float(np.ptp(ceilings) / np.median(ceilings))
    if highest > roofline.BEYOND_PEAK + spread:
        return "noisy", f"roofline {highest:.3f} is above 1.02 plus the read ceiling's own spread of {spread:.3f}"
    if not (1 - limit <= control["low"] and control["high"] <= 1 + limit):
        interval = f"[{control['low']:.4f}, {control['high']:.4f}]"
        return "noisy", f"the A/A control's interval {interval} is not inside 1 +- {limit:.1%}"
    return "ok", ""


def _reachable(probes: Probes, confidence: float) -> dict[str, Any]:
    interval = statistics.ratio_interval(probes.pure_us("baseline"), probes.pure_us("elastic"), confidence)
    return {
        "baseline_us": float(np.median(probes.pure_us("baseline"))),
        "elastic_us": float(np.median(probes.pure_us("elastic"))),
        **interval,
    }


def _rule(settings: dict[str, Any], exact: set[str]) -> sampling.Rule:
    return sampling.Rule(
        **{key: settings[key] for key in ("reps", "warmup", "precision", "max_seconds", "confidence")},
        exact_reps="reps" in exact,
        exact_warmup="warmup" in exact,
    )


def measure(
    backend: Backend, case: dict[str, Any], exact: set[str], state: GpuState | CpuState, progress: Progress
) -> tuple[dict[str, Any], Any]:
    """Measures one case; returns the measured fields of its record and the workload (None when it could not be made).

    exact: names among reps, warmup, inner_loops that are to be used as given rather than as upper bounds.
    """
    record: dict[str, Any] = {"status": "unsupported", "reason": backend.supports(case) or ""}
    if record["reason"]:
        return record, None
    try:
        buffer = LargeBuffer(backend)
        workload = workloads.create(backend, case)
    except MemoryError as error:
        return {"status": "out_of_memory", "reason": str(error) or "allocation failed"}, None
    record = {"resolved": {"layers": workload.layers, "cold": workload.cold}, "correctness": workload.check()}
    wrong = [arm for arm, entry in record["correctness"].items() if not oracle.passes(entry)]
    wrong += [arm for arm, entry in record["correctness"].items() if entry.get("anchors") == "wrong"]
    if wrong:
        entry = record["correctness"][wrong[0]]
        reason = f"{wrong[0]} arm: relative error {entry['relative_error']} (allowed {entry['tolerance']})"
        if entry.get("anchors") == "wrong":
            reason = f"{wrong[0]} arm: the device kept other tokens than the policy"
        return {**record, "status": "incorrect", "reason": reason}, workload
    record.update(_timed(backend, case, exact, state, workload, buffer, progress))
    record["resolved"].update(layers=workload.layers, cold=workload.cold)
    if case["workload"] == "decode" and case["measure"]["decode_tokens"]:
        record["inference_cycle"] = cycle.measure(backend, workload, case["measure"], record["resolved"]["graphs"])
        wrong = [arm for arm, entry in record["inference_cycle"]["correctness"].items() if not oracle.passes(entry)]
        if wrong:
            kept = ("resolved", "correctness")
            return {
                **{key: record[key] for key in kept},
                "status": "incorrect",
                "reason": f"{wrong[0]} arm: wrong answer at the end of the inference cycle",
            }, workload
    return record, workload


def _timed(
    backend: Backend,
    case: dict[str, Any],
    exact: set[str],
    state: GpuState | CpuState,
    workload: Any,
    buffer: LargeBuffer,
    progress: Progress,
) -> dict[str, Any]:
    settings, peak = case["measure"], backend.facts().get("peak_gbps")
    graph = bool(settings["graphs"]) and backend.name == "cuda"
    loops = choose_loops(backend, workload, settings, "inner_loops" in exact)
    windows = math.ceil(workload.period / loops)
    arms = {
        name: Rotation(backend, lambda i, arm=arm: workload.call(arm, i), loops, workload.period, graph, offset)
        for name, arm, offset in (
            ("baseline", "baseline", 0),
            ("elastic", "elastic", 0),
            ("control", "baseline", windows // 2),
        )
    }
    probes = Probes(backend, workload, buffer, loops, graph)
    rule = _rule(settings, exact)
    before = state.snapshot()
    warmups = sampling.warm_up(lambda arm: arms[arm].sample(), rule)

    def between(triple: int) -> None:
        progress(triple, rule.reps)
        probes.take(triple)

    samples = sampling.interleave(lambda arm: arms[arm].sample(), rule, disturbed=state.throttled, between=between)
    after = state.snapshot()
    if not samples.baseline_us:
        reason = f"all {len(samples.dropped)} triples were dropped: {samples.dropped[-1]['reason']}"
        return {"resolved": {}, "status": "failed", "reason": reason}
    confidence, truncate = settings["confidence"], settings["truncate"]
    control = statistics.ratio_interval(samples.baseline_us, samples.control_us, confidence)
    reachable = _reachable(probes, confidence)
    moved = roofline.byte_ceilings(workload.traffic)
    record: dict[str, Any] = {
        "resolved": {
            "inner_loops": loops,
            "reps": len(samples.baseline_us),
            "warmup": warmups,
            "graphs": graph,
            "launch": "plain",
            "exact": sorted(exact),
        },
        "samples": {
            "order": samples.order,
            "baseline_us": samples.baseline_us,
            "elastic_us": samples.elastic_us,
            "control_us": samples.control_us,
            "read_ceiling": probes.samples["read"],
            "copy_ceiling": probes.samples["copy"],
            "mix_baseline": probes.samples["mix_baseline"],
            "mix_elastic": probes.samples["mix_elastic"],
            "pure": probes.samples["pure"],
            "dropped": samples.dropped,
        },
        "statistics": {
            "baseline": statistics.arm_statistics(samples.baseline_us, truncate),
            "elastic": statistics.arm_statistics(samples.elastic_us, truncate),
            "speedup": statistics.ratio_interval(samples.baseline_us, samples.elastic_us, confidence),
            "control": {"ratio": control.pop("value"), **control},
        },
        "bytes": {**moved, "reachable_ceiling": reachable["value"], "reachable": reachable},
        "efficiency": {
            arm: _efficiency(moved[arm], getattr(samples, f"{arm}_us"), probes, arm, peak, workload.cold, confidence)
            for arm in ("baseline", "elastic")
        },
        "clocks": {"before": before, "after": after},
        "throttling": {"dropped_triples": len(samples.dropped)},
    }
    speedup = record["statistics"]["speedup"]["value"]
    copy = float(np.median(probes.bandwidths("copy")))
    record["original_score"] = roofline.original_score(copy, peak, speedup) if peak else None
    record["status"], record["reason"] = _quality(record, backend.name, probes)
    return record
