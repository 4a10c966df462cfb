"""Objects that several records hold: the device, the build, intervals, answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import MISSING, ConfigDict, Field

from elastickv.schemas.base import Count, Model, NonNegative, Open, Positive, Sha256, Text, field, optional
from elastickv.schemas.provenance import Provenance
from elastickv.schemas.rules import NULL, TEXT, has, rules, when

MeasuredStatus = Literal["ok", "incorrect", "noisy", "out_of_memory", "unsupported", "failed"]
OnBackend = Literal["cuda", "cpu"]
Reason = Annotated[str | None, Field(description="one sentence; null if and only if the status is ok")]
Confidence = Annotated[float, Field(ge=0, lt=1)]


class Compiled(Model):
    """An image of the fatbin, or a target of the CPU library."""

    target: Text = field("target: sm_90, compute_90, or a processor")
    compiler: Text
    version: Text
    flags: str


class BuildUsed(Model):
    """The binary that was used, and the origin of its sources."""

    fingerprint: Sha256 = field("sha256 of the comment-free source, flags and compiler versions of the case's kernels")
    sha256: Sha256 = field("sha256 of the binary file")
    compiled: list[Compiled] = field("all images of the fatbin, or all targets of the CPU library", min_length=1)
    provenance: Provenance


class Device(Open):
    """Facts about the device: name, UUID, driver and others that the backend reports."""

    name: Text
    uuid: str | MISSING | None = MISSING
    driver: str | MISSING | None = MISSING
    last_level_cache_bytes: int | MISSING | None = optional("last-level cache", "bytes", ge=1)
    peak_gbps: Positive | MISSING | None = optional(
        "datasheet peak: bus width x memory clock; null if not reported", "10^9 bytes/s"
    )


class Software(Open):
    """Versions of this package and of the packages that it used, by name."""

    __pydantic_extra__: dict[str, str | None] = Field(init=False)
    elastickv: str | None


class Interval(Model):
    """A median with its interval."""

    value: Positive
    low: Positive
    high: Positive
    confidence: Confidence = field("confidence of the interval; a range of few samples has less than requested")
    method: Text
    resamples: Count
    seed: Count


class Control(Model):
    """An arm compared with itself: median of the rounds' ratios of its first to its second time, with interval."""

    ratio: Positive
    low: Positive
    high: Positive
    confidence: Confidence = field("confidence of the interval; a range of few samples has less than requested")
    method: Text
    resamples: Count
    seed: Count


class Rate(Model):
    """A median with its range and the raw samples."""

    value: Positive
    low: Positive
    high: Positive
    samples: list[Positive] = field("raw", min_length=1)


class Arm(Model):
    """Statistics of one arm's samples: time per launch."""

    median_us: Positive = field("median", "us")
    mean_us: Positive = field("mean", "us")
    trimmed_mean_us: Positive = field("mean of the trimmed samples", "us")
    cv: NonNegative = field(
        "coefficient of variation, standard deviation / mean, of all samples; the verdict uses this one"
    )
    cv_trimmed: NonNegative = field("the same for the trimmed samples")
    count: int = field("samples", "samples", ge=1)


class Answer(Model):
    """An output compared with the float64 reference."""

    reference: Literal["float64"]
    max_abs_error: NonNegative | None
    relative_error: NonNegative | None = field("relative L2 error; null if the output is not finite")
    tolerance: Positive = field("largest relative error of a correct answer")
    finite: bool
    written: bool = field("whether every poisoned element was overwritten")
    layers_checked: list[Count] | MISSING = optional("indices of the layers that were checked")
    repeatable: bool | MISSING | None = optional("whether a second launch gives bitwise the same output")
    anchors: Literal["right", "wrong"] | MISSING | None = optional(
        "whether the device kept the tokens that the policy selects; null if none are dropped"
    )


NEEDS_REASON = when({"required": ["value"], "properties": {"value": NULL}}, has("reason", reason=TEXT))


class Reading(Open):
    """A setting that the device reports, or null with the reason."""

    model_config = ConfigDict(json_schema_extra=rules(NEEDS_REASON))


class Setting(Reading):
    """A value, or null with the reason."""

    value: Any


class Unavailable(Model):
    """A null value with the reason."""

    value: None
    reason: Text


class Process(Model):
    """A process that used, or could have used, the GPU."""

    pid: Count
    name: str | None
    memory_bytes: int | None = field("its memory on the GPU", "bytes")
    sm_percent: int | None = field(
        "largest share of a sampling period in which its kernels ran; null if not reported", "percent"
    )


class Others(Reading):
    """Other processes that used, or could have used, the GPU meanwhile; null with the reason if not reported."""

    value: list[Process] | None


class Machine(Model):
    """Settings of the machine by name, and other processes that used it."""

    gpu: dict[str, Setting] | MISSING = optional("settings of the GPU")
    cpu: dict[str, Setting] = field("settings of the CPU")
    others_on_gpu: Others | MISSING = optional("other processes that used, or could have used, the GPU meanwhile")
    meanwhile: str | MISSING | None = optional("on a CPU: other load on its cores during sampling, if any")
