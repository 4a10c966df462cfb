"""The interface of anchor rules, which choose the token that represents a group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Anchor:
    """An anchor rule.

    name: that of the file, used in config files. number: its id in the kernels. order: its place in lists.
    score: (keys, values) of groups, float32 [rows, groups, size, dim] as the full cache stores them -> float64 [rows,
    groups, size]. The token with the largest score is kept; ties go to the earliest, and NaN counts as largest (as in
    numpy.argmax). None: the slot holds the means of the group's keys and values, and its token is the group's first.

    A device's choice is correct if its score is within `tolerance` (relative) of the group's largest.
    """

    name: str
    meaning: str
    number: int
    order: int
    score: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    tolerance: float = 1e-6

    def choose(self, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Index of the token that represents each group, int [rows, groups]. Input shapes as for `score`."""
        import numpy as np

        return np.zeros(keys.shape[:2], np.int64) if self.score is None else np.argmax(self.score(keys, values), axis=2)

    def right(self, keys: np.ndarray, values: np.ndarray, chosen: np.ndarray) -> bool:
        """Whether the tokens `chosen` (int [rows, groups]) are correct choices for the groups."""
        import numpy as np

        best = self.choose(keys, values)
        if self.score is None:
            return bool(np.array_equal(best, chosen))
        score = self.score(keys, values)
        of_best, of_chosen = (np.take_along_axis(score, index[:, :, None], axis=2)[:, :, 0] for index in (best, chosen))
        with np.errstate(invalid="ignore"):
            near = of_chosen >= of_best - self.tolerance * np.abs(of_best)
        return bool((near | (best == chosen)).all())


def squared_norms(vectors: np.ndarray) -> np.ndarray:
    """Sums of squares in float64, where the squares of float32 are exact: [..., dim] -> [...]."""
    import numpy as np

    return np.einsum("...d,...d->...", vectors, vectors, dtype=np.float64, casting="safe")


def positions(vectors: np.ndarray) -> np.ndarray:
    """The position of each token within its group, as a score: float64 [rows, groups, size]."""
    import numpy as np

    return np.broadcast_to(np.arange(vectors.shape[2], dtype=np.float64), vectors.shape[:3])
