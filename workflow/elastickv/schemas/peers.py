"""The record of a peer: one attention kernel of another library, or of a user, beside ours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import MISSING, ConfigDict, Field

from elastickv.schemas.base import Count, Model, Positive, Sha256, Text, Time, field, version
from elastickv.schemas.case import AnyDecodeCase
from elastickv.schemas.config import Real
from elastickv.schemas.parts import (
    Answer,
    Arm,
    BuildUsed,
    Control,
    Device,
    Interval,
    MeasuredStatus,
    OnBackend,
    Reason,
    Software,
)
from elastickv.schemas.rules import OBJECT, RIGHT, STRING, has, reason_unless_ok, rules, status, when

Order = Annotated[
    list[Literal["ours", "peer", "ours_again"]],
    field("the order in which a round's samples were taken", unique=True, min_length=3, max_length=3),
]
Times = Annotated[list[Positive], field("time of one launch", "us", min_length=1)]
COMPARED = has("resolved", "bytes", "ours", correctness=OBJECT | RIGHT)
NOT_COMPARED = has(resolved=False, bytes=False, ours=False)


class Settings(Model):
    """Bounds of a comparison."""

    reps: int = field("rounds", "rounds", ge=3)
    max_seconds: Real = field("time of sampling", "seconds", gt=0)


class Library(Model):
    """The library that the peer is of; of a user's file the first distribution that it needs."""

    name: Text
    version: Text | None = field("null where it is not installed, or was not looked for")


class OwnFile(Model):
    """The user's file that the peer was loaded from."""

    path: Text = field("as the config names it, relative to the checkout")
    sha256: Sha256 | None = field("null where it was not read")


class Resolved(Model):
    """What the comparison used."""

    layers: int = field("caches that samples rotate over", ge=1)
    cold: bool = field("whether the rotation flushes the last-level cache")
    launches: int = field("launches of a sample", "launches", ge=1)
    graphs: bool = field("CUDA graphs")
    checked_seeds: list[Count] = field(
        "keys of the generators that filled the inputs of the checks; none of them filled those timed", min_length=1
    )


class Dropped(Model):
    """A round that was disturbed."""

    index: Count = field("its place among all rounds")
    order: Order
    reason: Text
    ours: Positive = field("time of one launch", "us")
    peer: Positive = field("time of one launch", "us")
    ours_again: Positive = field("time of one launch", "us")


class Samples(Model):
    """Raw, in the order taken; sample i of each belongs to round i."""

    order: list[Order]
    ours_us: Times
    peer_us: Times
    ours_again_us: Times
    dropped: list[Dropped]


class Controls(Model):
    """A/A controls, by the arm that is sampled twice in every round."""

    ours: Control


class Comparison(Model):
    """Our kernel and the peer in interleaved rounds."""

    peer: Arm
    ours: Arm
    ratio: Interval = field(
        "median of the rounds' ratios peer / ours with its interval: how many times faster ours is, below 1 slower"
    )
    controls: Controls
    samples: Samples


class Ours(Model):
    """The comparison by how our launches follow each other."""

    plain: Comparison
    dependent: Comparison | None = field(
        "ours by dependent launches, the peer as before; null where the device has none"
    )


class Cache(Model):
    """One cache (full: every token; elastic: the compact cache's slots, gathered for the peer)."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            reason_unless_ok(),
            when(status("ok", "noisy"), COMPARED, NOT_COMPARED),
            when(status("incorrect"), has(correctness=OBJECT)),
        )
    )

    status: MeasuredStatus
    reason: Reason
    correctness: Answer | None = field("the peer's output against float64: the last check's, or the first that failed")
    resolved: Resolved | MISSING = MISSING
    bytes: int | MISSING = field("moved by one launch", "bytes", ge=1, default=MISSING)
    ours: Ours | MISSING = MISSING


class Entry(Model):
    """One case beside the peer."""

    model_config = ConfigDict(json_schema_extra=rules(reason_unless_ok()))

    case: AnyDecodeCase
    status: MeasuredStatus = field("of the full cache")
    reason: Reason
    full: Cache
    elastic: Cache


MEASURED = has(device=OBJECT, build=OBJECT, backend=STRING, library=has(version=STRING))


class Peers(Model):
    """One attention kernel of another library, or of a user, beside ours, on every attention case of a run.

    No figure without a right answer on both sides.
    """

    model_config = ConfigDict(json_schema_extra=rules(reason_unless_ok(), when(status("ok", "noisy"), MEASURED)))

    schema_: Literal["peers/3"] = version("peers/3")
    peer: str = field("its name under peers/libraries, or that of the user's file", pattern="^[a-z][a-z0-9_]*$")
    times: Text = field("what one timed launch of it covers")
    status: MeasuredStatus = field("the best of its cases'")
    reason: Reason
    backend: OnBackend | None
    settings: Settings
    library: Library
    file: OwnFile | None = field("null where the peer is one of the project's")
    device: Device | None
    software: Software
    build: BuildUsed | None
    started: Time
    ended: Time
    cases: Annotated[list[Entry], Field(min_length=1)]


ROOT, TITLE = Peers, "Peer record"
