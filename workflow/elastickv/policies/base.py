"""The interface of policies: which tokens are kept, in which segments and slots, and when a group becomes a slot.

A cache is a list of segments: runs of slots per row (batch, KV head) with one format for keys and one for values.
Segment 0 is the exact segment, in `dtype`; new tokens are appended to it. The dataclasses here have the fields of the
structs of the same name in kernels/params.h: kernels receive them as tables and know nothing about policies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple


@dataclass(frozen=True)
class Key:
    """A key of a case that a policy reads: an `int`, a `bool`, or one of `choices`.

    default: None if a case must set the key. least, most: limits of a number.
    """

    meaning: str
    kind: type = int
    default: Any = None
    unit: str = ""
    least: int | None = None
    most: int | None = None
    choices: tuple[str, ...] = ()


class Segment(NamedTuple):
    """slots: slots per row at the cache's largest size. keys, values: names of the storage formats."""

    name: str
    keys: str
    values: str
    slots: int


class Live(NamedTuple):
    """The live slots of a segment in one row.

    These are slots [0, head) and, in the ring of `ring` slots that begins at slot `head`, `length` slots from ring
    position `first` on. The next token is stored in the slot after them.
    """

    head: int = 0
    first: int = 0
    ring: int = 0
    length: int = 0

    @property
    def slots(self) -> int:
        """How many."""
        return self.head + self.length

    @property
    def next(self) -> int:
        """The slot of segment 0 that stores the next token."""
        return self.head + ((self.first + self.length) % self.ring if self.ring else 0)

    def order(self) -> list[int]:
        """The live slots; slots of the ring are in token order."""
        return [*range(self.head), *(self.head + (self.first + i) % self.ring for i in range(self.length))]


class Run(NamedTuple):
    """Consecutive slots of one segment, each built from `each` tokens of the full cache, starting at token `token`.

    Entry i is in slot `slot + i`; in a ring (ring > 0), in slot `head + (slot + i) % ring`.
    """

    segment: int
    slot: int
    slots: int
    each: int
    token: int
    head: int = 0
    ring: int = 0
    bias: float = 0.0

    def places(self) -> list[int]:
        """The run's slots."""
        places = range(self.slot, self.slot + self.slots)
        return [self.head + place % self.ring for place in places] if self.ring else list(places)


class Closing(NamedTuple):
    """A group: `count` tokens of segment 0 from `token` on that become one slot of another segment. count 0: none.

    Token i of the group is in slot `head + (first + i) % ring` of segment 0.
    """

    segment: int = 0
    slot: int = 0
    count: int = 0
    token: int = 0
    head: int = 0
    first: int = 0
    ring: int = 0
    bias: float = 0.0


class Policy(ABC):
    """A policy with the values of its keys, for one `dtype` and the formats of compressed slots.

    KEYS: its keys in a case, in display order; the first one controls how much is kept and is an axis of a sweep's
    figures. All methods are pure. `head` is a KV head; `capacity` is the largest number of tokens of the cache, which
    determines the size of rings.
    """

    NAME: ClassVar[str]
    MEANING: ClassVar[str]
    KEYS: ClassVar[Mapping[str, Key]]

    def __init__(self, values: Mapping[str, Any], dtype: str, keys: str, stored_values: str):
        """values: the value of every key of KEYS. keys, stored_values: storage formats of compressed slots."""
        self.dtype, self.key_format, self.value_format = dtype, keys, stored_values
        self.values = {name: values[name] for name in self.KEYS}

    @property
    def anchor(self) -> str | None:
        """Name of the anchor rule; None if the policy does not close groups."""
        return self.values.get("anchor")

    @property
    def period(self) -> int:
        """Tokens between two closings. 1: no group is ever closed, or every token closes one."""
        return 1

    @property
    def biased(self) -> bool:
        """Whether slots have a bias."""
        return False

    @property
    def closes_newest(self) -> bool:
        """Whether a group may contain the newest token. If so, it is closed after storing that token, not before."""
        return False

    @classmethod
    def fault(cls, values: Mapping[str, Any], case: Mapping[str, Any]) -> tuple[str, str] | None:
        """(key, reason) for a key that conflicts with others, or None. values: of KEYS; case: all keys of the case."""
        return None

    @classmethod
    def shown_keys(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The keys that a case's short description includes: those that differ from their default."""
        return tuple(name for name, key in cls.KEYS.items() if values[name] != key.default)

    @abstractmethod
    def segments(self, capacity: int) -> tuple[Segment, ...]:
        """The cache's segments, the exact one first."""

    @abstractmethod
    def live(self, head: int, tokens: int, capacity: int) -> tuple[Live, ...]:
        """The live slots of each segment of a cache that holds `tokens` tokens."""

    @abstractmethod
    def runs(self, head: int, tokens: int, capacity: int) -> tuple[Run, ...]:
        """How to build a cache of `tokens` tokens at once; a cache that grew to that size has the same slots."""

    def closing(self, head: int, tokens: int, capacity: int) -> Closing:
        """The group that becomes complete when the cache grows from `tokens` tokens to one more."""
        return Closing()

    def slots(self, head: int, tokens: int) -> tuple[int, ...]:
        """Live slots of each segment."""
        return tuple(live.slots for live in self.live(head, tokens, tokens))
