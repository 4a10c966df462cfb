"""head_budget: some KV heads keep every token, the others only sinks and a window (DuoAttention, Xiao et al., 2024).

Which heads need all tokens depends on the model. Here they are the first heads, which has the same cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from elastickv.policies.base import Key, Live, Policy, Run, Segment
from elastickv.policies.grouped import SINKS, WINDOW

EXACT = 0


class HeadBudget(Policy):
    """The policy of this module. All slots are exact; their number differs between KV heads."""

    NAME = "head_budget"
    MEANING = "the first `full_heads` KV heads keep every token, the others sinks and a window"
    KEYS: ClassVar[Mapping[str, Key]] = {
        "full_heads": Key("KV heads that keep every token", unit="heads", least=0),
        "sinks": SINKS,
        "window": WINDOW,
    }

    @classmethod
    def fault(cls, values: Mapping[str, Any], case: Mapping[str, Any]) -> tuple[str, str] | None:
        if values["full_heads"] > case["kv_heads"]:
            return "full_heads", f"must be at most kv_heads ({case['kv_heads']}), not {values['full_heads']}"
        if values["window"] < 1 and values["full_heads"] < case["kv_heads"]:
            return (
                "window",
                "must be at least 1 for policy head_budget: a head without a window would not see its newest token",
            )
        return None

    def _full(self, head: int) -> bool:
        return head < self.values["full_heads"]

    def segments(self, capacity: int) -> tuple[Segment, ...]:
        few = min(capacity, self.values["sinks"] + self.values["window"])
        return (Segment("exact", self.dtype, self.dtype, capacity if self.values["full_heads"] else few),)

    def live(self, head: int, tokens: int, capacity: int) -> tuple[Live, ...]:
        sinks, window = self.values["sinks"], self.values["window"]
        if self._full(head) or tokens <= sinks:
            return (Live(tokens),)
        ring, first = min(window, capacity - sinks), max(0, tokens - sinks - window)
        return (Live(sinks, first % ring, ring, tokens - sinks - first),)

    def runs(self, head: int, tokens: int, capacity: int) -> tuple[Run, ...]:
        if self._full(head):
            return (Run(EXACT, 0, tokens, 1, 0),)
        sinks, window = min(self.values["sinks"], tokens), self.values["window"]
        first = max(0, tokens - sinks - window)
        ring = max(1, min(window, capacity - sinks))
        return Run(EXACT, 0, sinks, 1, 0), Run(EXACT, first, tokens - sinks - first, 1, sinks + first, sinks, ring)
