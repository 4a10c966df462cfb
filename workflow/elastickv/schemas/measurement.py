"""The measurement record: one case, its elastic cache compared with its full cache."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import MISSING, ConfigDict, Field

from elastickv.schemas.base import Count, Model, NonNegative, Open, Positive, Text, Time, field, optional, version
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
    Unavailable,
)
from elastickv.schemas.rules import (
    EMPTY,
    FILLED,
    NULL,
    NUMBER,
    OBJECT,
    RIGHT,
    TEXT,
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
SERIES = ("full_us", "elastic_us", "full_again_us", "elastic_again_us")
Share = Annotated[float, Field(ge=0, le=1)]
FIGURES = ("statistics", "efficiency", "inference_cycle", "original_score")


class WarmUp(Model):
    """The end of the warm-up."""

    stationary: bool | None = field("whether the last samples of both arms were stationary; null: too few samples")
    ended: Literal["stationary", "warmup", "max_seconds"] = field(
        "why it ended: stationary samples, or the bound that was reached first"
    )
    test: Text


class DecodeShape(Model):
    """Launch parameters of one arm's decode kernel on a GPU."""

    kernel: Text
    splits: Count = field("blocks that split one row and tile of query heads", "blocks")
    warps: Count = field("warps per block", "warps")
    staged: bool | MISSING = optional("whether each warp prefetches its second unit to shared memory")


class DecodeShapes(Open):
    """Launch parameters of both arms' decode kernels on a GPU."""

    __pydantic_extra__: dict[str, DecodeShape] = Field(init=False)
    full: DecodeShape
    elastic: DecodeShape


class Forced(Model):
    """Launch parameters of decode that flags of `bench` set instead of the launch rules."""

    loop: Literal["cores"] | MISSING = MISSING
    warps: Count | MISSING = MISSING
    splits: Count | MISSING = MISSING
    stage: Literal["never", "always"] | MISSING = MISSING


class ReuseBytes(Model):
    """Bytes that an arm moves between two visits of the same cache, at the least."""

    full: Count = field(unit="bytes")
    elastic: Count = field(unit="bytes")


class Resolved(Open):
    """The values that replaced `auto`, and the parameters that the measurement used."""

    backend: OnBackend
    launch: Literal["plain", "dependent"] | MISSING = MISSING
    layers: Count | MISSING = optional("L: number of caches that the samples rotate over")
    cold: bool | MISSING = optional(
        "whether at least 4 times the last-level cache is read between two visits of a cache"
    )
    reuse_bytes: ReuseBytes | MISSING = optional("shortest reuse distance of each arm: (L - 1) x its bytes")
    graphs: bool | MISSING = optional("CUDA graphs")
    inner_loops: Count | MISSING = optional("launches per sample; on a GPU a multiple of L", "launches")
    reps: Count | MISSING = optional("rounds", "rounds")
    warmup: Count | MISSING = optional("warm-up samples per arm", "samples")
    processes: Count | MISSING = optional(
        "processes that measured the case one after another, which its intervals cover", "processes"
    )
    fixed: list[Literal["reps", "warmup", "inner_loops"]] | MISSING = optional(
        "counts that were used exactly instead of as upper bounds"
    )
    warm_up: WarmUp | MISSING = optional("end of the warm-up")
    decode_shapes: DecodeShapes | MISSING = optional("launch parameters of both arms' decode kernels on a GPU")
    forced: Forced | MISSING = optional("launch parameters of decode that flags of `bench` set")
    led: list[ArmName] | MISSING = optional(
        "arms whose samples are each preceded by an untimed replay of the same arm", unique=True
    )
    stopped: Literal["precision", "reps", "max_seconds"] | MISSING = optional(
        "why sampling ended: the target precision, or a bound"
    )


class Correctness(Model):
    """The answers of both arms."""

    full: Answer
    elastic: Answer


class PurePass(Open):
    """One sample of a pure pass, taken between rounds."""

    bytes: int = field("bytes read and written", "bytes", ge=1)
    us: Positive = field("time of one launch", "us")
    kind: Text | MISSING = MISSING


class Dropped(Open):
    """A round that was dropped because of a disturbance."""

    index: Count = field("index among all rounds")
    reason: Text


class Rounds(Model):
    """Each kept round: when it ended, and what the device reported then; a list that would be all null is absent."""

    seconds: list[NonNegative] = field("end of the round, since the first round began", "s")
    sm_mhz: list[Count | None] | MISSING = optional("clock of the multiprocessors", "MHz")
    memory_mhz: list[Count | None] | MISSING = optional("clock of the memory", "MHz")
    power_w: list[NonNegative | None] | MISSING = optional("power; null after rounds at which it was not read", "W")
    power_capped: list[bool | None] | MISSING = optional("whether the power cap held the clocks down")


class Samples(Model):
    """Raw samples in the order taken; sample i of each series belongs to round i."""

    order: list[
        Annotated[
            list[Literal["full", "elastic", "full_again", "elastic_again"]],
            field(unique=True, min_length=4, max_length=4),
        ]
    ] = field("order of the samples in each round")
    full_us: Times
    elastic_us: Times
    full_again_us: Times
    elastic_again_us: Times
    read_ceiling: list[PurePass] = field("pure passes interleaved with the rounds: read, copy and the arms' own bytes")
    dropped: list[Dropped]
    rounds: Rounds


class Controls(Model):
    """A/A controls by arm; both arms are sampled twice in every round."""

    full: Control
    elastic: Control


class Block(Model):
    """Steady work of one arm, without the first second."""

    arm: ArmName
    launches: int = field("launches that were timed", "launches", ge=1)
    seconds: Positive = field("their time in all", "s")
    busy: Share = field("share of this time in which the device worked")
    sm_mhz: NonNegative | None = field("clock of the multiprocessors at its end; null: not reported", "MHz")
    power_w: NonNegative | None = field("power at its end; null: not reported", "W")


class Sustained(Model):
    """Both arms in steady work: in every process a block of full, elastic, elastic and full."""

    model_config = ConfigDict(json_schema_extra=rules(when(has(speedup=NULL), has(reason=TEXT), has(reason=NULL))))

    speedup: Interval | None = field("full / elastic in total time per launch, over the processes", "times")
    reason: str | None = field("why there is no speedup, or null")
    seconds: Positive = field("measure.sustained_seconds: a block takes at least as long", "s")
    runs: list[Annotated[list[Block], field(min_length=4, max_length=4)]] = field("of each process", min_length=1)


class Statistics(Model):
    """Statistics of the samples."""

    full: Arm
    elastic: Arm
    speedup: Interval = field(
        "median of the rounds' ratios full / elastic, of geometric means of an arm's samples; of several processes, "
        "the mean of these (of their logarithms)",
        "times",
    )
    sustained: Sustained | Unavailable | MISSING = optional("the speedup of steady work, on a GPU; absent on a CPU")
    controls: Controls
    autocorrelation: float = field(
        "lag-1 rank autocorrelation of the ratios; above 0.5, the interval may cover less than its confidence",
        ge=-1,
        le=1,
    )


class Reachable(Model):
    """Times of the pure passes that reachable_ceiling is computed from, and its interval."""

    full_us: Positive = field("time of one launch", "us")
    elastic_us: Positive = field("time of one launch", "us")
    low: Positive
    high: Positive


class Bytes(Model):
    """Bytes moved by one launch, and the speedups that they allow."""

    full: int = field("bytes of the full arm", "bytes", ge=1)
    elastic: int = field("bytes of the elastic arm", "bytes", ge=1)
    ceiling: Positive = field("full / elastic: the largest speedup that the bytes allow", "times")
    ceiling_slots: Positive | MISSING = optional("the part of the ceiling from fewer slots", "times")
    ceiling_bits: Positive | MISSING = optional("the part of the ceiling from smaller slots", "times")
    reachable_ceiling: Positive | MISSING | None = optional(
        "the ratio of the times of pure passes over the same bytes, launched the same way", "times"
    )
    reachable: Reachable | MISSING | None = MISSING


class Efficiency(Model):
    """Shares of the datasheet peak (memory) and of the read ceiling of the same process (roofline), never clipped.

    Null if not applicable. pure_*: shares of a pure pass over the same bytes, launched the same way.
    """

    memory: NonNegative | None
    memory_low: NonNegative | None
    memory_high: NonNegative | None
    roofline: NonNegative | None
    roofline_low: NonNegative | None
    roofline_high: NonNegative | None
    peak_gbps: NonNegative | None = field("datasheet peak", "10^9 bytes/s")
    ceiling_gbps: NonNegative | None = field("read ceiling of this process", "10^9 bytes/s")
    achieved_gbps: NonNegative = field("bytes / time", "10^9 bytes/s")
    pure_memory: NonNegative | None
    pure_roofline: NonNegative | None
    reason: str | MISSING | None = optional("why a value is null")


class Efficiencies(Model):
    """Efficiency of both arms."""

    full: Efficiency
    elastic: Efficiency


class PerArm(Model):
    """A positive value per arm."""

    full: Positive
    elastic: Positive


class CycleSamples(Open):
    """Raw times of the inference cycle."""

    full_seconds: Seconds
    elastic_seconds: Seconds
    full_append_seconds: Seconds | MISSING = MISSING
    elastic_append_seconds: Seconds | MISSING = MISSING


class InferenceCycle(Model):
    """Appending, closing groups and attention, token by token, over all layers."""

    layer_steps_per_second: PerArm = field("steps of one attention layer per second (not tokens per second)", "1/s")
    speedup: Interval
    decode_tokens: int = field("tokens per cycle", "tokens", ge=1)
    layers: int = field("caches that each token visits", ge=1)
    correctness: Correctness | None
    append_us: PerArm | MISSING = optional(
        "time per layer step of appending a token's key and value and of its share of closing groups", "us"
    )
    tokens_per_sample: int = field("tokens per sample", "tokens", ge=1)
    samples: CycleSamples | MISSING = MISSING


class Busy(Model):
    """A process that used much CPU time."""

    pid: Count
    name: str
    cores: float = field("its load", "cores")


class Load(Open):
    """Load in cores since the previous reading."""

    seconds: float
    others_cores: float
    own_cores: float
    stolen_cores: float
    busiest: list[Busy] = field("the busiest other processes, on any core")


class Snapshot(Open):
    """Readings at one moment; null if the device does not report them."""

    __pydantic_extra__: dict[str, float | None] = Field(init=False)
    power_w: float | MISSING | None = optional("power", "W")
    energy_j: float | MISSING | None = optional("energy since the driver was loaded", "J")
    load: Load | Unavailable | MISSING = MISSING


class Clocks(Open):
    """Before and after the samples: clocks (MHz), temperature (C), power (W), energy counter (J), load (cores)."""

    model_config = ConfigDict(json_schema_extra=rules(NEEDS_REASON) | {"dependentRequired": {"before": ["after"]}})

    before: Snapshot | MISSING = MISSING
    after: Snapshot | MISSING = MISSING


class Range(Open):
    """Range over all readings."""

    low: float
    median: float
    high: float


class Quota(Open):
    """How often and how long a CPU quota throttled the process."""

    periods: float
    seconds: float


class Throttling(Reading):
    """Readings after every round, and the number of rounds that were dropped because of them."""

    dropped_rounds: Count | MISSING = optional("number of disturbed rounds", "rounds")
    power_capped_rounds: Count | MISSING = optional(
        "number of kept rounds that ended under the power cap, which is no disturbance", "rounds"
    )
    readings: Count | MISSING = MISSING
    reasons: dict[str, Count] | Unavailable | MISSING = optional("number of readings by throttle reason")
    ranges: dict[str, Range | Unavailable] | MISSING = MISSING
    quota: Quota | Unavailable | MISSING = MISSING


class ReadingPerArm(Reading):
    """A value per arm, or null with the reason."""

    full: NonNegative | MISSING = MISSING
    elastic: NonNegative | MISSING = MISSING


class Drawn(Reading):
    """What the device drew while only one arm ran, or null with the reason."""

    model_config = ConfigDict(
        json_schema_extra=rules(NEEDS_REASON) | {"dependentRequired": {"joules_per_launch": ["busy"]}}
    )

    value: MISSING | None = MISSING
    reason: Text | MISSING = MISSING
    joules_per_launch: NonNegative | MISSING = optional("energy of a launch: watts x seconds / launches", "J")
    watts: NonNegative | MISSING = optional("power between two movements of the energy counter", "W")
    seconds: NonNegative | MISSING = optional("time of these launches", "s")
    launches: Count | MISSING = MISSING
    busy: Share | MISSING = optional("share of the time in which the device worked")


class ReadingsOfArms(Open):
    """A reading per arm, taken while only that arm ran."""

    __pydantic_extra__: dict[str, Drawn] = Field(init=False)
    full: Drawn
    elastic: Drawn


_WATTS = has("watts", watts=NUMBER)
_OF_BOTH = has(
    "arms",
    joules_per_token=has("full", "elastic", elastic={"exclusiveMinimum": 0}),
    arms=has(full=_WATTS, elastic=_WATTS),
)


class Energy(Open):
    """joules: of the whole measurement, including set-up and checks. Values per arm: taken after the samples."""

    model_config = ConfigDict(
        json_schema_extra=rules(NEEDS_REASON, when(has("joules_per_token", joules_per_token=has("full")), _OF_BOTH))
    )

    joules: NonNegative | MISSING = optional("energy of the whole measurement", "J")
    joules_per_launch: ReadingPerArm | MISSING = optional("energy per launch", "J")
    joules_per_token: ReadingPerArm | MISSING = optional(
        "decode: energy per token of one sequence in one attention layer", "J"
    )
    arms: ReadingsOfArms | MISSING = MISSING


class Spread(Model):
    """Smallest and largest speedup of the runs."""

    low: Positive
    high: Positive


class Run(Model):
    """The measurement of one of several processes."""

    status: Literal["ok", "noisy"]
    reason: str | None
    speedup: Interval | None
    controls: Controls | None
    cycle_speedup: Interval | None
    layer_steps_per_second: PerArm | None = field(
        "steps of one attention layer per second in the inference cycle", "1/s"
    )
    cv: NonNegative = field("coefficient of variation of all samples of the elastic arm")
    full_us: Times
    elastic_us: Times
    full_again_us: Times
    elastic_again_us: Times


class Processes(Model):
    """The same case, measured by several processes independently.

    The record is that of run `published`, with speedups of all runs.
    """

    published: Count = field("index of the run whose samples and figures are in the record")
    spread: Spread
    cv: NonNegative = field("the largest coefficient of variation of the runs: the verdict uses this one")
    runs: list[Run] = field("one run per process", min_length=2)


ALL_DROPPED = has("status", "samples", status=one_of("noisy")) | {
    "properties": {
        "status": one_of("noisy"),
        "samples": has(*SERIES, "dropped", dropped=FILLED, **dict.fromkeys(SERIES, EMPTY)) | OBJECT,
    }
}
_ANSWER = {"properties": RIGHT["properties"] | {"max_abs_error": NUMBER}}
USED = ("backend", "launch", "layers", "cold", "reuse_bytes", "graphs", "inner_loops", "reps", "warmup", "processes")
ON_GPU = has("resolved", resolved=has("backend", backend=one_of("cuda")))
TIMED = has(
    *("correctness", "samples", *FIGURES, "bytes", "clocks", "throttling", "power", "energy"),
    resolved=OBJECT | has(*USED, "stopped"),
    device=OBJECT,
    build=OBJECT,
    correctness=OBJECT | has(full=_ANSWER, elastic=_ANSWER),
    samples=OBJECT | has(**dict.fromkeys(SERIES, FILLED)),
    statistics=OBJECT,
    efficiency=OBJECT,
    bytes=has(
        "ceiling_slots", "ceiling_bits", "reachable_ceiling", "reachable", reachable_ceiling=NUMBER, reachable=OBJECT
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
    """One case: its elastic cache compared with its full cache.

    The status determines which fields may exist: statistics require that all answers were correct and timed.
    """

    model_config = ConfigDict(
        json_schema_extra=rules(
            reason_unless_ok(),
            when(status("ok", "noisy") | {"not": ALL_DROPPED}, TIMED),
            when(ON_GPU, has(statistics=has("sustained"))),
            when(status("incorrect"), INCORRECT),
            when(status("failed", "out_of_memory", "unsupported"), has(**all_null(*FIGURES))),
            when(ALL_DROPPED, NOTHING_LEFT),
            when(status("incorrect", "failed", "out_of_memory", "unsupported"), has(processes=NULL)),
        )
    )

    schema_: Literal["measurement/2"] = version("measurement/2")
    case: Case = field("the canonical case")
    resolved: Resolved = field("parameters that the measurement used; only the backend if it failed earlier")
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
    original_score: NonNegative | MISSING | None = optional(
        "min(1, 0.5 * copy ceiling / peak + 0.5 * speedup), for comparison only"
    )
    clocks: Clocks | MISSING = MISSING
    throttling: Throttling | MISSING = MISSING
    power: Reading | MISSING = MISSING
    energy: Energy | MISSING = MISSING
    machine: Machine | MISSING = optional("settings of the machine, and other processes that used it")
    processes: Processes | MISSING | None = optional("measurements of several processes; null or absent: one process")


ROOT, TITLE = Measurement, "Measurement record"
