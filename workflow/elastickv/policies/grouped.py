"""grouped: the first and last tokens stay exact; every group of `compress` tokens between them becomes one slot.

Exact are the first `sinks` tokens, the last `window` tokens, and tokens that do not fill a group yet (the open group).
Each closed group is one slot of the middle segment, stored in the formats of `cache_dtype`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from elastickv import anchors
from elastickv.policies.base import Closing, Key, Live, Policy, Run, Segment

EXACT, MIDDLE = 0, 1
SINKS = Key("first tokens, kept exact", default=4, unit="tokens", least=0)
WINDOW = Key("last tokens, kept exact", default=256, unit="tokens", least=0)
ANCHOR = Key(
    "anchor rule: the token that represents a closed group",
    kind=str,
    default="value_norm",
    choices=tuple(anchors.every()),
)
BIAS = Key(
    "added to an anchor's logit: nothing, or ln(compress)",
    kind=str,
    default="none",
    choices=("none", "log_count"),
)
LARGEST = 2**31 - 1


class Grouped(Policy):
    """The policy of this module."""

    NAME = "grouped"
    MEANING = "sinks and a window stay exact, every `compress` tokens between them become one slot"
    KEYS: ClassVar[Mapping[str, Key]] = {
        "compress": Key("tokens per anchor", unit="tokens", least=1),
        "sinks": SINKS,
        "window": WINDOW,
        "anchor": ANCHOR,
        "bias": BIAS,
    }

    @classmethod
    def fault(cls, values: Mapping[str, Any], case: Mapping[str, Any]) -> tuple[str, str] | None:
        total = values["sinks"] + values["window"]
        return ("sinks", f"sinks + window must be at most {LARGEST}, not {total}") if total > LARGEST else None

    @classmethod
    def shown_keys(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        return ("compress",)

    @property
    def biased(self) -> bool:
        return self.values["bias"] != "none"

    @property
    def closes_newest(self) -> bool:
        return self.values["window"] == 0

    @property
    def period(self) -> int:
        return self.values["compress"]

    def _groups(self, tokens: int) -> int:
        return max(0, tokens - self.values["sinks"] - self.values["window"]) // self.values["compress"]

    def _ring(self, capacity: int) -> int:
        """Slots of the ring, which holds the window and a group that is about to be closed."""
        values = self.values
        return max(0, min(values["window"] + values["compress"], capacity - values["sinks"]))

    def _bias(self) -> float:
        return math.log(self.values["compress"]) if self.biased else 0.0

    def segments(self, capacity: int) -> tuple[Segment, ...]:
        sinks = min(self.values["sinks"], capacity)
        return (
            Segment("exact", self.dtype, self.dtype, sinks + self._ring(capacity)),
            Segment("middle", self.key_format, self.value_format, self._groups(capacity)),
        )

    def live(self, head: int, tokens: int, capacity: int) -> tuple[Live, ...]:
        sinks, groups, ring = self.values["sinks"], self._groups(tokens), self._ring(capacity)
        if tokens <= sinks:
            return Live(tokens), Live()
        grouped = groups * self.values["compress"]
        return Live(sinks, grouped % ring, ring, tokens - sinks - grouped), Live(groups)

    def runs(self, head: int, tokens: int, capacity: int) -> tuple[Run, ...]:
        sinks, size, groups = min(self.values["sinks"], tokens), self.values["compress"], self._groups(tokens)
        grouped = groups * size
        return (
            Run(EXACT, 0, sinks, 1, 0),
            Run(EXACT, grouped, tokens - sinks - grouped, 1, sinks + grouped, sinks, self._ring(capacity)),
            Run(MIDDLE, 0, groups, size, sinks, bias=self._bias()),
        )

    def closing(self, head: int, tokens: int, capacity: int) -> Closing:
        sinks, size, groups = self.values["sinks"], self.values["compress"], self._groups(tokens)
        if self._groups(tokens + 1) == groups:
            return Closing()
        ring = self._ring(capacity)
        return Closing(MIDDLE, groups, size, sinks + groups * size, sinks, groups * size % ring, ring, self._bias())
