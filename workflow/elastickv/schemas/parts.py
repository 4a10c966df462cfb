"""Objects that several records hold: the device, the build, intervals, answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import MISSING, ConfigDict, Field

from elastickv.schemas.base import Count, Model, NonNegative, Open, Positive, Sha256, Text, field
from elastickv.schemas.provenance import Provenance
from elastickv.schemas.rules import NULL, TEXT, has, rules, when

MeasuredStatus = Literal["ok", "incorrect", "noisy", "out_of_memory", "unsupported", "failed"]
OnBackend = Literal["cuda", "cpu"]
Reason = Annotated[str | None, Field(description="one sentence; null exactly when ok")]
Confidence = Annotated[float, Field(ge=0, lt=1)]


class Compiled(Model):
    """An image of the fatbin, or a target of the CPU library."""

    target: Text = field("sm_90, compute_90, or the processor")
    compiler: Text
    version: Text
    flags: str


class BuildUsed(Model):
    """The binary used, and where its sources come from."""

    fingerprint: Sha256 = field(
        "sha256 of what the kernels of the case are made of: comment-free source, flags and compiler versions"
    )
    sha256: Sha256 = field("of the binary's bytes")
    compiled: list[Compiled] = field("every image of the fatbin, or every target of the CPU library", min_length=1)
    provenance: Provenance


class Device(Open):
    """Facts of the backend: name, UUID, driver and what else it tells."""

    name: Text
    uuid: str | MISSING | None = MISSING
    driver: str | MISSING | None = MISSING
    last_level_cache_bytes: int | MISSING | None = field("last-level cache", "bytes", ge=1, default=MISSING)
    peak_gbps: Positive | MISSING | None = field(
        "datasheet peak: bus width x memory clock; null where the device does not tell", "10^9 bytes/s", default=MISSING
    )


class Software(Open):
    """Versions of this package and of what it used, by name."""

    __pydantic_extra__: dict[str, str | None] = Field(init=False)
    elastickv: str | None


class Interval(Model):
    """A median with its interval."""

    value: Positive
    low: Positive
    high: Positive
    confidence: Confidence = field("that the interval has: of a range of few samples it is less than was asked for")
    method: Text
    resamples: Count
    seed: Count


class Control(Model):
    """An arm against itself: median of the rounds' ratios of its times to its times again, with its interval."""

    ratio: Positive
    low: Positive
    high: Positive
    confidence: Confidence = field("that the interval has: of a range of few samples it is less than was asked for")
    method: Text
    resamples: Count
    seed: Count


class Rate(Model):
    """A median with its range, and the raw samples that it is of."""

    value: Positive
    low: Positive
    high: Positive
    samples: list[Positive] = field("raw", min_length=1)


class Arm(Model):
    """The samples of one arm: time of one launch."""

    median_us: Positive = field("median", "us")
    mean_us: Positive = field("mean", "us")
    trimmed_mean_us: Positive = field("mean without the shortest and the longest samples", "us")
    cv: NonNegative = field("coefficient of variation, standard deviation / mean, of all samples")
    cv_trimmed: NonNegative = field("the same of the trimmed samples: that which the verdict judges")
    count: int = field("samples", "samples", ge=1)


class Answer(Model):
    """An output against float64."""

    reference: Literal["float64"]
    max_abs_error: NonNegative | None
    relative_error: NonNegative | None = field("L2; null when the output is not finite")
    tolerance: Positive = field("largest relative error of a right answer")
    finite: bool
    written: bool = field("no poisoned element is left")
    layers_checked: list[Count] | MISSING = field("indices of the layers", default=MISSING)
    repeatable: bool | MISSING | None = field("whether a second launch gives the same bits", default=MISSING)
    anchors: Literal["right", "wrong"] | MISSING | None = field(
        "whether the device kept the tokens that the policy keeps; null where nothing is dropped", default=MISSING
    )


NEEDS_REASON = when({"required": ["value"], "properties": {"value": NULL}}, has("reason", reason=TEXT))


class Reading(Open):
    """What the device reports; else a null value with the reason."""

    model_config = ConfigDict(json_schema_extra=rules(NEEDS_REASON))


class Told(Open):
    """A value, or null with the reason."""

    model_config = ConfigDict(json_schema_extra=rules(NEEDS_REASON))

    value: Any


class Untold(Model):
    """A null value with the reason."""

    value: None
    reason: Text


class Process(Model):
    """A process that computed, or could have, on the GPU."""

    pid: Count
    name: str | None
    memory_bytes: int | None = field("its memory on the GPU", "bytes")
    sm_percent: int | None = field(
        "largest share of a sampling period in which its kernels ran; null where the driver does not tell",
        "percent",
    )


class Others(Open):
    """Processes that computed, or could have, on the GPU meanwhile; null with the reason where the driver is silent."""

    model_config = ConfigDict(json_schema_extra=rules(NEEDS_REASON))

    value: list[Process] | None


class Machine(Model):
    """How the machine was set and who else used it: settings by name."""

    gpu: dict[str, Told] | MISSING = field("settings of the GPU", default=MISSING)
    cpu: dict[str, Told] = field("settings of the CPU")
    others_on_gpu: Others | MISSING = field(
        "processes that computed, or could have, on the GPU meanwhile", default=MISSING
    )
    meanwhile: str | MISSING | None = field(
        "on a CPU: what else kept its cores busy while samples were taken, if anything did", default=MISSING
    )
