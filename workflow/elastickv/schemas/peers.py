"""The record of a peer: an attention kernel of another library or of a user, compared with ours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import MISSING, ConfigDict, Field

from elastickv.schemas.base import Count, Model, Positive, Sha256, Text, Time, field, optional, version
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
    list[Literal["ours", "peer", "ours_again", "peer_again"]],
    field("order in which the samples of a round were taken", unique=True, min_length=4, max_length=4),
]
Times = Annotated[list[Positive], field("time of one launch", "us", min_length=1)]
COMPARED = has("resolved", "bytes", "ours", correctness=OBJECT | RIGHT)
NOT_COMPARED = has(resolved=False, bytes=False, ours=False)


class Settings(Model):
    """Bounds of a comparison."""

    reps: int = field("rounds", "rounds", ge=3)
    max_seconds: Real = field("maximum sampling time", "seconds", gt=0)


class Library(Model):
    """The library of the peer; for a user's file, the first distribution that it needs."""

    name: Text
    version: Text | None = field("installed version; null if not installed or not checked")


class OwnFile(Model):
    """The user's file that the peer was loaded from."""

    path: Text = field("path as in the config, relative to the checkout")
    sha256: Sha256 | None = field("sha256 of the file; null if it was not read")


class Resolved(Model):
    """The parameters that the comparison used."""

    layers: int = field("number of caches that samples rotate over", ge=1)
    cold: bool = field("whether the rotation flushes the last-level cache")
    launches: int = field("launches per sample", "launches", ge=1)
    graphs: bool = field("CUDA graphs")
    checked_seeds: list[Count] = field(
        "seeds of the checked inputs, which all differ from the seed of the timed ones", min_length=1
    )


class Dropped(Model):
    """A round that was dropped because of a disturbance."""

    index: Count = field("index among all rounds")
    order: Order
    reason: Text
    ours: Positive = field("time of one launch", "us")
    peer: Positive = field("time of one launch", "us")
    ours_again: Positive = field("time of one launch", "us")
    peer_again: Positive = field("time of one launch", "us")


class Samples(Model):
    """Raw samples in the order taken; sample i of each arm belongs to round i."""

    order: list[Order]
    ours_us: Times
    peer_us: Times
    ours_again_us: Times
    peer_again_us: Times
    dropped: list[Dropped]


class Controls(Model):
    """A/A controls of both sides, which are sampled twice in every round."""

    ours: Control
    peer: Control


class Comparison(Model):
    """Our kernel and the peer in interleaved rounds."""

    peer: Arm
    ours: Arm
    ratio: Interval = field(
        "median of the rounds' ratios peer / ours, of geometric means of both samples; above 1, ours is faster"
    )
    controls: Controls
    samples: Samples


class Ours(Model):
    """The comparison by launch mode of our kernel."""

    plain: Comparison
    dependent: Comparison | None = field(
        "ours with dependent launches, the peer unchanged; null if the device does not support them"
    )


class Cache(Model):
    """The comparison on one cache (full: every token; elastic: the compact cache's slots, gathered for the peer)."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            reason_unless_ok(),
            when(status("ok", "noisy"), COMPARED, NOT_COMPARED),
            when(status("incorrect"), has(correctness=OBJECT)),
        )
    )

    status: MeasuredStatus
    reason: Reason
    correctness: Answer | None = field(
        "the peer's output compared with float64: the first check that failed, else the last"
    )
    resolved: Resolved | MISSING = MISSING
    bytes: int | MISSING = optional("bytes moved by one launch", "bytes", ge=1)
    ours: Ours | MISSING = MISSING


class Entry(Model):
    """The comparison of one case with the peer."""

    model_config = ConfigDict(json_schema_extra=rules(reason_unless_ok()))

    case: AnyDecodeCase
    status: MeasuredStatus = field("status of the full cache")
    reason: Reason
    full: Cache
    elastic: Cache


MEASURED = has(device=OBJECT, build=OBJECT, backend=STRING, library=has(version=STRING))


class Peers(Model):
    """An attention kernel of another library or of a user, compared with ours on every attention case of a run.

    There are figures only if both answers are correct.
    """

    model_config = ConfigDict(json_schema_extra=rules(reason_unless_ok(), when(status("ok", "noisy"), MEASURED)))

    schema_: Literal["peers/3"] = version("peers/3")
    peer: str = field("name under peers/libraries, or of the user's file", pattern="^[a-z][a-z0-9_]*$")
    times: Text = field("what one timed launch of the peer covers")
    status: MeasuredStatus = field("best status of its cases")
    reason: Reason
    backend: OnBackend | None
    settings: Settings
    library: Library
    file: OwnFile | None = field("the user's file; null for a peer of the project")
    device: Device | None
    software: Software
    build: BuildUsed | None
    started: Time
    ended: Time
    cases: Annotated[list[Entry], Field(min_length=1)]


ROOT, TITLE = Peers, "Peer record"
