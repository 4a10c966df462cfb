"""Series of samples as records hold them: of each side `<side>_us`, and `<side>_again_us`, its control in every round.

Records of before both sides had a control have `<reference>_again_us` alone: their ratio is that of one sample each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


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
