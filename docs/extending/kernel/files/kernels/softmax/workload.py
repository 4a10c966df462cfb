"""The workload `softmax`: the step of attention between scores and values, over all tokens and over the slots kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from elastickv.kinds import Buffer, Declared, Fault, Key, Traffic

if TYPE_CHECKING:
    import numpy as np

MOST_COLUMNS = 12_032  # a row fits in a block's 48 KiB of shared memory, with a few bytes left


class Softmax(Declared):
    """Softmax of each row of fp32 scores: `seq` in the full arm, one in `compress` of those in the elastic arm."""

    MEANING = "softmax of rows of attention scores"
    TITLE = "softmax of scores"
    KERNELS = ("softmax",)
    TAKES = ("seq", "compress")
    KEYS: ClassVar[dict[str, Key]] = {
        "rows": Key("rows of scores: query heads of all sequences", unit="rows", default=256, least=1)
    }

    def faults(self, case: Mapping[str, Any]) -> Iterator[Fault]:
        if case["seq"] > MOST_COLUMNS:
            yield "seq", f"must be at most {MOST_COLUMNS} for workload softmax, is {case['seq']}"

    def buffers(self, case: Any) -> dict[str, Buffer]:
        shapes = {arm: Buffer((case.rows, self.columns(arm, case))) for arm in ("full", "elastic")}
        scores = {f"{arm}_scores": buffer for arm, buffer in shapes.items()}
        return scores | {f"{arm}_out": buffer for arm, buffer in shapes.items()}

    def traffic(self, case: Any) -> dict[str, Traffic]:
        sizes = {arm: case.rows * self.columns(arm, case) * 4 for arm in ("full", "elastic")}
        return {arm: Traffic(read=size, write=size) for arm, size in sizes.items()}

    def launch(self, arm: str, case: Any, at: Mapping[str, int]) -> tuple[str, dict[str, Any]]:
        shape = {"rows": case.rows, "columns": self.columns(arm, case)}
        return "softmax", {"scores": at[f"{arm}_scores"], "out": at[f"{arm}_out"], **shape}

    def reference(self, arm: str, case: Any, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        import numpy as np

        scores = arrays[f"{arm}_scores"].astype(np.float64)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    @staticmethod
    def columns(arm: str, case: Any) -> int:
        """Scores of a row."""
        return case.seq if arm == "full" else -(-case.seq // case.compress)
