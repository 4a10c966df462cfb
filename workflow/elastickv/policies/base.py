"""What a policy is: which tokens an elastic cache keeps, in which segments and slots, and when a group becomes a slot.

A cache is a list of segments, runs of slots per row (batch, KV head) with one format for keys and one for values.
Segment 0 is the exact one, in `dtype`; new tokens go there. The records here have the fields of their namesakes in
kernels/params.h: kernels get them as tables and know no policy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple


@dataclass(frozen=True)
class Key:
    """A key of a case that a policy reads: an `int`, a `bool`, or one of `choices`.

    default: None where a case has to say it. least, most: a number's limits.
    """

    meaning: str
    kind: type = int
    default: Any = None
    unit: str = ""
    least: int | None = None
    most: int | None = None
    choices: tuple[str, ...] = ()


class Segment(NamedTuple):
    """slots: of a row, for all tokens that the cache may grow to. keys, values: names of formats."""

    name: str
    keys: str
    values: str
    slots: int


class Live(NamedTuple):
    """Which slots of a segment of one row hold a token.

    Slots [0, head), and of the ring of `ring` slots that begins at slot `head` the `length` slots from its slot `first`
    on. The next token goes into the slot behind them.
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
        """The slot of segment 0 that the next token goes into."""
        return self.head + ((self.first + self.length) % self.ring if self.ring else 0)

    def order(self) -> list[int]:
        """The slots, those of the ring in the order in which tokens came."""
        return [*range(self.head), *(self.head + (self.first + i) % self.ring for i in range(self.length))]


class Run(NamedTuple):
    """Slots of one segment, each made of `each` tokens of the full cache, from token `token` on.

    Slot i is slot + i; in a ring (ring > 0) head + (slot + i) % ring.
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
    """`count` tokens of segment 0, from number `token` on, that become one slot of another segment. count 0: none.

    Token i of them lies in slot head + (first + i) % ring of segment 0.
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

    KEYS: what a case says of it, in the order of lists; the first says how much is kept, and figures of a sweep draw
    it against tokens. Every method is pure; `head` is a KV head, `capacity` the number of tokens that the cache may
    grow to (which decides the size of rings).
    """

    NAME: ClassVar[str]
    MEANING: ClassVar[str]
    KEYS: ClassVar[Mapping[str, Key]]

    def __init__(self, values: Mapping[str, Any], dtype: str, keys: str, stored_values: str):
        """values: of every key of KEYS. keys, stored_values: formats of compressed slots."""
        self.dtype, self.key_format, self.value_format = dtype, keys, stored_values
        self.values = {name: values[name] for name in self.KEYS}

    @property
    def anchor(self) -> str | None:
        """Name of the rule that chooses a group's token; None: groups are never made."""
        return self.values.get("anchor")

    @property
    def period(self) -> int:
        """After how many tokens closings repeat. 1: there are none, or every token closes a group."""
        return 1

    @property
    def biased(self) -> bool:
        """Whether slots have a bias."""
        return False

    @property
    def closes_newest(self) -> bool:
        """Whether a group may hold the newest token: it is then closed after that token was stored, not before."""
        return False

    @classmethod
    def fault(cls, values: Mapping[str, Any], case: Mapping[str, Any]) -> tuple[str, str] | None:
        """None, or the key that contradicts others and why. values: of KEYS; case: all keys of the case."""
        return None

    @classmethod
    def told(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Which keys a short name of a case says with their values: those that are not at their default."""
        return tuple(name for name, key in cls.KEYS.items() if values[name] != key.default)

    @abstractmethod
    def segments(self, capacity: int) -> tuple[Segment, ...]:
        """The cache's segments, the exact one first."""

    @abstractmethod
    def live(self, head: int, tokens: int, capacity: int) -> tuple[Live, ...]:
        """The live slots of each segment of a cache that holds `tokens` tokens."""

    @abstractmethod
    def runs(self, head: int, tokens: int, capacity: int) -> tuple[Run, ...]:
        """What a cache of `tokens` tokens is built of; one that grew to them has the same in the same slots."""

    def closing(self, head: int, tokens: int, capacity: int) -> Closing:
        """The group that becomes complete when the cache grows from `tokens` tokens to one more."""
        return Closing()

    def slots(self, head: int, tokens: int) -> tuple[int, ...]:
        """Live slots of each segment."""
        return tuple(live.slots for live in self.live(head, tokens, tokens))
