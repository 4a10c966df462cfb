"""Series of samples as records hold them: of each side `<side>_us`, and `<side>_again_us`, its control in every round.

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


def of_side(samples: dict[str, Any], side: str) -> list[float]:
    """All samples of a side, both of each round: those that its figures are made of."""
    return [one for pair in zip(*_pair(samples, side), strict=True) for one in pair]


def ratios(samples: dict[str, Any], above: str, below: str) -> list[float]:
    """Of each round the ratio above / below, of the geometric means of both samples."""
    rounds = zip(*_pair(samples, above), *_pair(samples, below), strict=True)
    return [math.sqrt(one / other * (again / other_again)) for one, again, other, other_again in rounds]


def controls(samples: dict[str, Any], sides: Sequence[str]) -> dict[str, tuple[list[float], list[float]]]:
    """By side: its samples, and the same once more."""
    return {side: _pair(samples, side) for side in sides}


def _pair(samples: dict[str, Any], side: str) -> tuple[list[float], list[float]]:
    return samples[f"{side}_us"], samples[f"{side}_again_us"]


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
