"""The measurement record: one case, its elastic cache against its full one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import MISSING, ConfigDict, Field

from elastickv.schemas.base import Count, Model, NonNegative, Open, Positive, Text, Time, field, version
from elastickv.schemas.case import Case
from elastickv.schemas.parts import (
    NEEDS_REASON,
    Answer,
    Arm,
    BuildUsed,
    Control,
    Device,
    Interval,
    Machine,
    MeasuredStatus,
    OnBackend,
    Reading,
    Reason,
    Software,
    Untold,
)
from elastickv.schemas.rules import (
    EMPTY,
    FILLED,
    NULL,
    NUMBER,
    OBJECT,
    RIGHT,
    all_null,
    has,
    one_of,
    reason_unless_ok,
    rules,
    status,
    when,
)

ArmName = Literal["full", "elastic"]
Times = Annotated[list[Positive], Field(description="time of one launch", json_schema_extra={"unit": "us"})]
Seconds = Annotated[list[Positive], field("time of a sample", "s", min_length=1)]
SERIES = ("full_us", "elastic_us", "full_again_us")
FIGURES = ("statistics", "efficiency", "inference_cycle", "original_score")


class WarmUp(Model):
    """How the warm-up ended."""

    stationary: bool | None = field("whether both arms passed the test at the end; null: too few samples for it")
    ended: Literal["stationary", "warmup", "max_seconds"] = field("the test, or the bound that came first")
    test: Text


class DecodeShape(Model):
    """How one arm's decode was launched on a GPU."""

    kernel: Text
    splits: Count = field("blocks that share a row and a tile of query heads", "blocks")
    warps: Count = field("warps of a block", "warps")
    staged: bool | MISSING = field("whether a warp's second unit waits in shared memory", default=MISSING)


class DecodeShapes(Open):
    """How each arm's decode was launched on a GPU."""

    __pydantic_extra__: dict[str, DecodeShape] = Field(init=False)
    full: DecodeShape
    elastic: DecodeShape


class Forced(Model):
    """Choices of decode's launch that flags of `bench` made in place of its rules."""

    loop: Literal["cores"] | MISSING = MISSING
    warps: Count | MISSING = MISSING
    splits: Count | MISSING = MISSING
    stage: Literal["never", "always"] | MISSING = MISSING


class Resolved(Open):
    """What `auto` became and what the measurement used."""

    backend: OnBackend
    launch: Literal["plain", "dependent"] | MISSING = MISSING
    layers: Count | MISSING = field("L: how many caches the samples rotate over", default=MISSING)
    cold: bool | MISSING = field("whether they are several times the last-level cache", default=MISSING)
    graphs: bool | MISSING = field("CUDA graphs", default=MISSING)
    inner_loops: Count | MISSING = field("launches of a sample", "launches", default=MISSING)
    reps: Count | MISSING = field("rounds", "rounds", default=MISSING)
    warmup: Count | MISSING = field("warm-up samples of each arm", "samples", default=MISSING)
    fixed: list[Literal["reps", "warmup", "inner_loops"]] | MISSING = field(
        "counts that were taken as given, not as bounds", default=MISSING
    )
    warm_up: WarmUp | MISSING = field("how the warm-up ended", default=MISSING)
    decode_shapes: DecodeShapes | MISSING = field("how each arm's decode was launched on a GPU", default=MISSING)
    forced: Forced | MISSING = field("choices of decode's launch that flags of `bench` made", default=MISSING)
    led: list[ArmName] | MISSING = field(
        "arms whose samples follow an untimed replay of their own", unique=True, default=MISSING
    )
    stopped: Literal["precision", "reps", "max_seconds"] | MISSING = field(
        "what ended the sampling: the intervals are narrow, or a bound", default=MISSING
    )


class Correctness(Model):
    """The answers of both arms."""

    full: Answer
    elastic: Answer


class PurePass(Open):
    """One sample of a pure pass beside the rounds."""

    bytes: int = field("read and written", "bytes", ge=1)
    us: Positive = field("time of one launch", "us")
    kind: Text | MISSING = MISSING


class Dropped(Open):
    """A round that was disturbed."""

    index: Count = field("its place among all rounds")
    reason: Text


class Samples(Model):
    """Raw, in the order taken; sample i of each arm belongs to round i."""

    order: list[
        Annotated[list[Literal["full", "elastic", "full_again"]], field(unique=True, min_length=3, max_length=3)]
    ] = field("the order of each round")
    full_us: Times
    elastic_us: Times
    full_again_us: Times
    read_ceiling: list[PurePass] = field("pure passes interleaved with the rounds: read, copy and the arms' own bytes")
    dropped: list[Dropped]


class Controls(Model):
    """A/A controls, by the arm that is sampled twice in every round."""

    full: Control


class Statistics(Model):
    """What follows from the samples."""

    full: Arm
    elastic: Arm
    speedup: Interval = field("median of the rounds' ratios full / elastic", "times")
    controls: Controls
    autocorrelation: float = field(
        "of the ratios, their ranks, lag 1; above 0.5 the interval may hold the truth less often than it says",
        ge=-1,
        le=1,
    )


class Reachable(Model):
    """Times of the pure passes behind reachable_ceiling, and its interval."""

    full_us: Positive = field("time of one launch", "us")
    elastic_us: Positive = field("time of one launch", "us")
    low: Positive
    high: Positive


class Bytes(Model):
    """What one launch moves, and the speedups that it allows."""

    full: int = field("of the full arm", "bytes", ge=1)
    elastic: int = field("of the elastic arm", "bytes", ge=1)
    ceiling: Positive = field("full / elastic: the largest speedup the bytes allow", "times")
    ceiling_slots: Positive | MISSING = field("what it would be from fewer slots alone", "times", default=MISSING)
    ceiling_bits: Positive | MISSING = field("the rest, of smaller slots", "times", default=MISSING)
    reachable_ceiling: Positive | MISSING | None = field(
        "the same ratio in time, of pure passes launched the same way", "times", default=MISSING
    )
    reachable: Reachable | MISSING | None = MISSING


class Efficiency(Model):
    """Shares of the datasheet peak (memory) and of the read ceiling of the same process (roofline), never clipped.

    Null where not applicable. pure_*: what a pure pass over the same bytes, launched the same way, reaches.
    """

    memory: NonNegative | None
    memory_low: NonNegative | MISSING | None = MISSING
    memory_high: NonNegative | MISSING | None = MISSING
    roofline: NonNegative | None
    roofline_low: NonNegative | MISSING | None = MISSING
    roofline_high: NonNegative | MISSING | None = MISSING
    peak_gbps: NonNegative | None = field("datasheet peak", "10^9 bytes/s")
    ceiling_gbps: NonNegative | None = field("read ceiling of this process", "10^9 bytes/s")
    achieved_gbps: NonNegative = field("bytes / time", "10^9 bytes/s")
    pure_memory: NonNegative | MISSING | None = MISSING
    pure_roofline: NonNegative | MISSING | None = MISSING
    reason: str | MISSING | None = field("why a value is null", default=MISSING)


class Efficiencies(Model):
    """Of both arms."""

    full: Efficiency
    elastic: Efficiency


class PerArm(Model):
    """A positive figure of each arm."""

    full: Positive
    elastic: Positive


class CycleSamples(Open):
    """Raw times of the inference cycle."""

    full_seconds: Seconds
    elastic_seconds: Seconds
    full_append_seconds: Seconds | MISSING = MISSING
    elastic_append_seconds: Seconds | MISSING = MISSING


class InferenceCycle(Model):
    """Appending, closing groups and attending, token by token, over all layers."""

    layer_steps_per_second: PerArm = field("one attention layer's rate, never tokens per second", "1/s")
    speedup: Interval
    decode_tokens: int = field("tokens of a cycle", "tokens", ge=1)
    layers: int = field("caches that each token visits", ge=1)
    correctness: Correctness | None
    append_us: PerArm | MISSING = field(
        "of a layer step: appending a token's key and value and, as often as groups fill, closing one",
        "us",
        default=MISSING,
    )
    tokens_per_sample: int = field("tokens that a sample's seconds are of", "tokens", ge=1)
    samples: CycleSamples | MISSING = MISSING


class Busy(Model):
    """A process that took much of the CPU."""

    pid: Count
    name: str
    cores: float = field("its load", "cores")


class Load(Open):
    """In cores, since the reading before."""

    seconds: float
    others_cores: float
    own_cores: float
    stolen_cores: float
    busiest: list[Busy] = field("the other processes that took most, on whatever core")


class Snapshot(Open):
    """Readings at one moment; null where the device does not tell."""

    __pydantic_extra__: dict[str, float | None] = Field(init=False)
    power_w: float | MISSING | None = field("power", "W", default=MISSING)
    energy_j: float | MISSING | None = field("energy since the driver was loaded", "J", default=MISSING)
    load: Load | Untold | MISSING = MISSING


class Clocks(Open):
    """Before and after the samples: clocks (MHz), temperature (C), power (W), energy counter (J), load (cores)."""

    model_config = ConfigDict(json_schema_extra=rules(NEEDS_REASON) | {"dependentRequired": {"before": ["after"]}})

    before: Snapshot | MISSING = MISSING
    after: Snapshot | MISSING = MISSING


class Range(Open):
    """Over the readings."""

    low: float
    median: float
    high: float


class Quota(Open):
    """How often, and how long, a CPU quota stopped the process."""

    periods: float
    seconds: float


class Throttling(Open):
    """What was read after every round, and how many rounds were dropped for it."""

    model_config = ConfigDict(json_schema_extra=rules(NEEDS_REASON))

    dropped_rounds: Count | MISSING = field("rounds that were disturbed", "rounds", default=MISSING)
    readings: Count | MISSING = MISSING
    reasons: dict[str, Count] | Untold | MISSING = field("how often each was seen", default=MISSING)
    ranges: dict[str, Range | Untold] | MISSING = MISSING
    quota: Quota | Untold | MISSING = MISSING


class ReadingPerArm(Reading):
    """A figure of each arm, or a null value with the reason."""

    full: NonNegative | MISSING = MISSING
    elastic: NonNegative | MISSING = MISSING


class ReadingsOfArms(Open):
    """What was read of each arm alone."""

    __pydantic_extra__: dict[str, Reading] = Field(init=False)
    full: Reading
    elastic: Reading


_WATTS = has("watts", watts=NUMBER)
_OF_BOTH = has(
    "arms",
    joules_per_token=has("full", "elastic", elastic={"exclusiveMinimum": 0}),
    arms=has(full=_WATTS, elastic=_WATTS),
)


class Energy(Open):
    """joules: of the whole measurement, setting up and checking included. By arm, after the samples, each alone."""

    model_config = ConfigDict(
        json_schema_extra=rules(NEEDS_REASON, when(has("joules_per_token", joules_per_token=has("full")), _OF_BOTH))
    )

    joules: NonNegative | MISSING = field("of the whole measurement", "J", default=MISSING)
    joules_per_launch: ReadingPerArm | MISSING = field("of one launch", "J", default=MISSING)
    joules_per_token: ReadingPerArm | MISSING = field(
        "decode: one token of one sequence in one attention layer", "J", default=MISSING
    )
    arms: ReadingsOfArms | MISSING = MISSING


class Spread(Model):
    """Smallest and largest of the runs' speedups."""

    low: Positive
    high: Positive


class Run(Model):
    """What one of several processes measured."""

    status: Literal["ok", "noisy"]
    reason: str | None
    speedup: Interval | None
    controls: Controls | None
    cycle_speedup: Interval | None
    full_us: Times
    elastic_us: Times
    full_again_us: Times


class Processes(Model):
    """The same case measured by several processes, each in whole.

    The record is that of run `published`, its speedups widened to hold all of them.
    """

    published: Count = field("index of the run whose samples and figures the record holds")
    spread: Spread
    runs: list[Run] = field("one for each process", min_length=2)


ALL_DROPPED = has("status", "samples", status=one_of("noisy")) | {
    "properties": {
        "status": one_of("noisy"),
        "samples": has(*SERIES, "dropped", dropped=FILLED, **dict.fromkeys(SERIES, EMPTY)) | OBJECT,
    }
}
_ANSWER = {"properties": RIGHT["properties"] | {"max_abs_error": NUMBER}}
TIMED = has(
    *("correctness", "samples", *FIGURES, "bytes", "clocks", "throttling", "power", "energy"),
    resolved=OBJECT | {"required": ["backend", "launch", "layers", "cold", "inner_loops", "reps", "warmup", "graphs"]},
    device=OBJECT,
    build=OBJECT,
    correctness=OBJECT | has(full=_ANSWER, elastic=_ANSWER),
    samples=OBJECT | has(**dict.fromkeys(SERIES, FILLED)),
    statistics=OBJECT,
    efficiency=OBJECT,
    bytes=has(
        "ceiling_slots",
        "ceiling_bits",
        "reachable_ceiling",
        "reachable",
        reachable_ceiling=NUMBER,
        reachable=OBJECT,
    ),
)
INCORRECT = has(
    "correctness",
    correctness=OBJECT,
    device=OBJECT,
    build=OBJECT,
    **all_null("samples", "efficiency", "inference_cycle", "original_score"),
) | {"not": {"required": ["statistics"]}}
NOTHING_LEFT = has(
    *("correctness", "clocks", "throttling"),
    **dict.fromkeys(("resolved", "device", "build", "correctness"), OBJECT),
    **all_null(*FIGURES, "bytes", "processes"),
)


class Measurement(Model):
    """One case: its elastic cache against its full one.

    The status decides which fields may exist: statistics only where every answer was right and something was timed.
    """

    model_config = ConfigDict(
        json_schema_extra=rules(
            reason_unless_ok(),
            when(status("ok", "noisy") | {"not": ALL_DROPPED}, TIMED),
            when(status("incorrect"), INCORRECT),
            when(status("failed", "out_of_memory", "unsupported"), has(**all_null(*FIGURES))),
            when(ALL_DROPPED, NOTHING_LEFT),
            when(status("incorrect", "failed", "out_of_memory", "unsupported"), has(processes=NULL)),
        )
    )

    schema_: Literal["measurement/2"] = version("measurement/2")
    case: Case = field("the canonical case")
    resolved: Resolved = field("what the measurement used; the backend alone when it never got that far")
    status: MeasuredStatus
    reason: Reason
    device: Device | None
    software: Software
    build: BuildUsed | None
    started: Time
    ended: Time
    correctness: Correctness | MISSING | None = MISSING
    samples: Samples | MISSING | None = MISSING
    statistics: Statistics | MISSING | None = MISSING
    bytes: Bytes | MISSING | None = MISSING
    efficiency: Efficiencies | MISSING | None = MISSING
    inference_cycle: InferenceCycle | MISSING | None = MISSING
    original_score: NonNegative | MISSING | None = field(
        "min(1, 0.5 * copy ceiling / peak + 0.5 * speedup), for comparison only", default=MISSING
    )
    clocks: Clocks | MISSING = MISSING
    throttling: Throttling | MISSING = MISSING
    power: Reading | MISSING = MISSING
    energy: Energy | MISSING = MISSING
    machine: Machine | MISSING = field("how the machine was set and who else used it", default=MISSING)
    processes: Processes | MISSING | None = field("null or absent: one process", default=MISSING)


ROOT, TITLE = Measurement, "Measurement record"
