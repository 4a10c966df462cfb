"""What `compare` judges of two measurement records: values by process, by name of the metric. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from elastickv.judge import changes, noise
from elastickv.judge.changes import Change, Group, Side, Spread
from elastickv.schemas.base import given
from elastickv.schemas.measurement import Measurement, PerArm, Run
from elastickv.schemas.parts import Interval

ARMS = ("full", "elastic")
TIMES = (*ARMS, *(f"{arm} cycle" for arm in ARMS))
RATIOS = ("speedup", "cycle speedup")


def same_gpu(old: Measurement, new: Measurement) -> bool:
    """Whether both records are of one GPU under one power limit. A CPU's runs differ too much for times: never."""
    sides = [(given(record.device.uuid), _power_limit(record)) for record in (old, new)]
    return None not in sides[0] and sides[0] == sides[1]


def _power_limit(record: Measurement) -> float | None:
    machine = given(record.machine)
    settings = given(machine.gpu) if machine else None
    return settings["power_limit_w"].value if settings and "power_limit_w" in settings else None


def changes_of(old: Measurement, new: Measurement) -> dict[str, Change]:
    """The metrics that both records have: ratios always, times of one GPU alone."""
    names = (*TIMES, *RATIOS) if same_gpu(old, new) else RATIOS
    was, now = sides_of(old), sides_of(new)
    kinds = dict.fromkeys(TIMES, "time") | dict.fromkeys(RATIOS, "ratio")
    return {name: Change(was[name], now[name], kinds[name]) for name in names if name in was and name in now}


def spreads(records: Sequence[Measurement]) -> dict[Group, Spread]:
    """The spread between processes of every device among the records, times and ratios apart."""
    return changes.pooled([side for record in records for side in sides_of(record).values()])


def sides_of(record: Measurement) -> dict[str, Side]:
    """Every metric of a record with statistics: times (us), per launch and per step of the cycle, and speedups."""
    several = given(record.processes)
    runs = [run for run in several.runs if run.speedup] if several else []
    device = f"{given(record.device.uuid) or record.device.name} {_power_limit(record)}"
    group = {kind: Group(record.resolved.backend, device, kind) for kind in ("time", "ratio")}
    # How far a control is from 1, the judge adds to an imprecise record's interval; here to each value's error.
    bias = math.log(noise.deviation(noise.controls_of(record).values())) if record.status == "imprecise" else 0.0
    bias /= _quantile(record.statistics.speedup.confidence)

    def side(kind: str, values: Sequence[float], within: float) -> Side:
        shared = bias * math.sqrt(len(values))  # more processes do not make a bias smaller
        return Side(tuple(map(math.log, values)), math.hypot(within, shared), group[kind])

    found = {}
    for arm in ARMS:
        statistics = getattr(record.statistics, arm)
        values = [_median_us(run, arm) for run in runs] or [statistics.median_us]
        # 1.25 sd / sqrt(n): the standard error of the median of a normal distribution.
        found[arm] = side("time", values, 1.25 * statistics.cv / math.sqrt(statistics.count))
    found["speedup"] = _ratio(side, [run.speedup for run in runs] or [record.statistics.speedup])
    cycle = given(record.inference_cycle)
    if cycle:
        samples = given(cycle.samples)
        for arm in ARMS:
            seconds = np.array(getattr(samples, f"{arm}_seconds") if samples else [1.0])
            error = 1.25 * np.std(seconds) / np.mean(seconds) / math.sqrt(len(seconds))
            rates = [getattr(each, arm) for each in _cycle_rates(runs) or [cycle.layer_steps_per_second]]
            found[f"{arm} cycle"] = side("time", [1e6 / rate for rate in rates], float(error))
        found["cycle speedup"] = _ratio(side, _cycles(runs) or [cycle.speedup])
    return found


def _median_us(run: Run, arm: str) -> float:
    """Of all samples of an arm in one process."""
    return float(np.median([*getattr(run, f"{arm}_us"), *getattr(run, f"{arm}_again_us")]))


def _cycle_rates(runs: Sequence[Run]) -> list[PerArm]:
    return [run.layer_steps_per_second for run in runs if run.layer_steps_per_second]


def _cycles(runs: Sequence[Run]) -> list[Interval]:
    return [run.cycle_speedup for run in runs if run.cycle_speedup]


def _ratio(side, intervals: Sequence[Interval]) -> Side:
    errors = [math.log(one.high / one.low) / 2 / _quantile(one.confidence) for one in intervals]
    return side("ratio", [one.value for one in intervals], float(np.sqrt(np.mean(np.square(errors)))))


def _quantile(confidence: float) -> float:
    """Standard errors in half an interval of this confidence."""
    return float(ndtri((1 + max(confidence, 0.5)) / 2))
