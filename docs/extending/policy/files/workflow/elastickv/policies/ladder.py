"""ladder: KV heads keep less from head to head. Each makes slots of twice as many tokens as the one before.

Its slots, rings and groups are those of the policy grouped, of another size for each head. A group's token is the one
in its middle: the rule is anchors/centre.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from elastickv.policies.base import Closing, Key, Live, Policy, Run, Segment
from elastickv.policies.grouped import SINKS, WINDOW, Grouped


class Ladder(Policy):
    """See the module."""

    NAME = "ladder"
    MEANING = "each KV head makes slots of twice as many tokens as the one before, from `finest` to `coarsest`"
    KEYS: ClassVar[Mapping[str, Key]] = {
        "coarsest": Key("tokens of a slot of the last KV heads", unit="tokens", least=1, most=1 << 20),
        "finest": Key("tokens of a slot of the first KV head", default=1, unit="tokens", least=1, most=1 << 20),
        "sinks": SINKS,
        "window": WINDOW,
    }

    @classmethod
    def fault(cls, values: Mapping[str, Any], case: Mapping[str, Any]) -> tuple[str, str] | None:
        steps, rest = divmod(values["coarsest"], values["finest"])
        if rest or steps & (steps - 1):
            return "coarsest", f"must be finest ({values['finest']}) doubled any number of times"
        return None

    @property
    def anchor(self) -> str:
        return "centre"

    @property
    def closes_newest(self) -> bool:
        return self.values["window"] == 0

    @property
    def period(self) -> int:
        return self.values["coarsest"]

    def _of_size(self, size: int) -> Grouped:
        values = self.values | {"compress": size, "anchor": self.anchor, "bias": "none"}
        return Grouped(values, self.dtype, self.key_format, self.value_format)

    def _of(self, head: int) -> Grouped:
        return self._of_size(min(self.values["finest"] << min(head, 20), self.values["coarsest"]))

    def segments(self, capacity: int) -> tuple[Segment, ...]:
        exact, _ = self._of_size(self.values["coarsest"]).segments(capacity)  # has the largest ring
        _, middle = self._of_size(self.values["finest"]).segments(capacity)  # has the most groups
        return exact, middle

    def live(self, head: int, tokens: int, capacity: int) -> tuple[Live, ...]:
        return self._of(head).live(head, tokens, capacity)

    def runs(self, head: int, tokens: int, capacity: int) -> tuple[Run, ...]:
        return self._of(head).runs(head, tokens, capacity)

    def closing(self, head: int, tokens: int, capacity: int) -> Closing:
        return self._of(head).closing(head, tokens, capacity)
