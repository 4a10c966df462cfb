"""Refuses raw samples that no clock gives: a series without any variation, and one that is a copy of another."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elastickv.audit.finding import About

FEWEST = 5  # different values in a series; clocks have ticks, so that shorter series may be equal by chance
ALIKE = 1e-9  # relative: times multiplied by a factor are a copy too, in whatever order

Series = Mapping[str, Sequence[float]]


def check(about: About, where: str, series: Series) -> None:
    """Each series by itself, and each pair. series: raw samples by name."""
    for name, values in series.items():
        varies = len(values) < FEWEST or min(values) < max(values)
        about.require(varies, f"{where}.{name}", f"{len(values)} equal samples", "samples that vary, as times do")
    unlike(about, where, series)


def unlike(about: About, where: str, series: Series) -> None:
    """No two series are the same times, be it in another order or scale."""
    shapes = {name: _shape(values) for name, values in series.items() if len({*values}) >= FEWEST}
    for one, other in itertools.combinations(shapes, 2):
        same = len(shapes[one]) == len(shapes[other]) and np.allclose(shapes[one], shapes[other], rtol=ALIKE, atol=0)
        about.require(not same, f"{where}.{other}", f"a copy of {one}", "samples of its own")


def of_record(record: dict[str, Any]) -> dict[str, Sequence[float]]:
    """The series of times of a measurement record that has samples, by name."""
    return {name: values for name, values in (record.get("samples") or {}).items() if name.endswith("_us")}


def _shape(values: Sequence[float]) -> np.ndarray:
    return np.sort(np.asarray(values)) / statistics.median(values)
