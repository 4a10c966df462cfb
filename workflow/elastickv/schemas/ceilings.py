"""The ceilings record: bandwidth of pure read and copy kernels by buffer size."""

from __future__ import annotations

from typing import Literal

from pydantic import MISSING, ConfigDict

from elastickv.schemas.base import Count, Model, Positive, Time, field, optional, version
from elastickv.schemas.parts import BuildUsed, Device, Machine, OnBackend, Rate, Reason, Software
from elastickv.schemas.rules import (
    EMPTY,
    FILLED,
    NUMBER,
    OBJECT,
    STRING,
    all_null,
    has,
    reason_unless_ok,
    rules,
    status,
    when,
)

RATE = "10^9 bytes/s"
NULLABLE_RATES = ("read_gbps", "copy_gbps")
MEASURED = has(
    "points",
    *NULLABLE_RATES,
    points=FILLED,
    backend=STRING,
    device=OBJECT,
    build=OBJECT,
    read_gbps=NUMBER,
    copy_gbps=NUMBER,
)


class Pair(Model):
    """The rates with dependent launches."""

    read_gbps: Rate = field("read", RATE)
    copy_gbps: Rate = field("bytes read and written per second", RATE)


class Point(Model):
    """One buffer size."""

    bytes: int = field("size of the buffer", "bytes", ge=1)
    read_gbps: Rate = field("read", RATE)
    copy_gbps: Rate = field("bytes read and written per second", RATE)
    dependent: Pair | MISSING = optional("the same with dependent launches, if the device supports them")
    layers: Count | MISSING = optional("number of distinct buffers that the launches of a replay visit")
    cold: bool | MISSING = optional("whether these buffers are together several times the last-level cache")


class Ceilings(Model):
    """Bandwidth of pure read and copy kernels on one device, by buffer size."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            reason_unless_ok(), when(status("ok"), MEASURED, has(points=EMPTY, **all_null(*NULLABLE_RATES)))
        )
    )

    schema_: Literal["ceilings/1"] = version("ceilings/1")
    status: Literal["ok", "failed", "out_of_memory"]
    reason: Reason
    backend: OnBackend | None
    device: Device | None
    software: Software
    build: BuildUsed | None
    started: Time
    ended: Time
    read_gbps: Positive | MISSING | None = optional("plateau of large buffers", RATE)
    copy_gbps: Positive | MISSING | None = optional("plateau of large buffers, read and written bytes together", RATE)
    points: list[Point] | MISSING = optional("the curve, by ascending size")
    machine: Machine | MISSING = optional("settings of the machine, and other processes that used it")


ROOT, TITLE = Ceilings, "Ceilings record"
