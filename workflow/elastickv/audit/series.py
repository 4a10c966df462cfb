"""Series of samples as records hold them: of each side `<side>_us`, and `<side>_again_us`, its control in every round.

Records of before both sides had a control have `<reference>_again_us` alone: their ratio is that of one sample each.
Raw samples that no clock gives are refused: a series without any variation, and one that is a copy of another.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elastickv.audit.finding import About

FEWEST = 5  # different values in a series; clocks have ticks, so that shorter series may be equal by chance
ALIKE = 1e-9  # relative: times multiplied by a factor are a copy too, in whatever order

Series = Mapping[str, Sequence[float]]


def of(samples: Mapping[str, Any]) -> dict[str, list[float]]:
    """The series of times among the samples of a record, of a process or beside a peer, by name."""
    return {name: values for name, values in samples.items() if name.endswith("_us")}


def both_again(samples: dict[str, Any], sides: Sequence[str]) -> bool:
    """Whether both sides were sampled twice in every round."""
    return all(f"{side}_again_us" in samples for side in sides)


def of_side(samples: dict[str, Any], side: str, sides: Sequence[str]) -> list[float]:
    """All samples of a side that count for its figures: of each round both, where both sides have two."""
    times = samples[f"{side}_us"]
    if not both_again(samples, sides):
        return times
    return [one for pair in zip(times, samples[f"{side}_again_us"], strict=True) for one in pair]


def ratios(samples: dict[str, Any], above: str, below: str) -> list[float]:
    """Of each round the ratio above / below, of the geometric means of both samples where there are two."""
    names = ["_us"] + (["_again_us"] if both_again(samples, (above, below)) else [])
    columns = [samples[side + name] for name in names for side in (above, below)]
    products = ([row[index] / row[index + 1] for index in range(0, len(row), 2)] for row in zip(*columns, strict=True))
    return [row[0] if len(row) == 1 else math.sqrt(row[0] * row[1]) for row in products]


def controls(samples: dict[str, Any], sides: Sequence[str]) -> dict[str, tuple[list[float], list[float]]]:
    """By side with a control: its samples, and the same once more."""
    return {
        side: (samples[f"{side}_us"], samples[f"{side}_again_us"]) for side in sides if f"{side}_again_us" in samples
    }


def check(about: About, where: str, series: Series) -> None:
    """Each series by itself, and each pair. series: raw samples by name."""
    for name, values in series.items():
        varies = len(values) < FEWEST or min(values) < max(values)
        about.require(varies, f"{where}.{name}", f"{len(values)} equal samples", "samples that vary, as times do")
    unlike(about, where, series)


def unlike(about: About, where: str, series: Series) -> None:
    """No two series are the same times, be it in another order or scale."""
    shapes = {name: _shape(values) for name, values in series.items() if len({*values}) >= FEWEST}
    for (one, first), (other, second) in itertools.combinations(shapes.items(), 2):
        same = len(first) == len(second) and bool(np.all(np.abs(first - second) <= ALIKE * first))
        about.require(not same, f"{where}.{other}", f"a copy of {one}", "samples of its own")


def _shape(values: Sequence[float]) -> np.ndarray:
    return np.sort(np.asarray(values)) / statistics.median(values)
