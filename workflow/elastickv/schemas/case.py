"""A canonical case: everything that decides one measurement, every key said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import MISSING, Field, RootModel, TypeAdapter

from elastickv.schemas import config as keys
from elastickv.schemas.base import Model, version


class _Case(Model):
    schema_: Literal["case/1"] = version("case/1")
    id: keys.Id
    workload: str
    backend: keys.Backend = Field(description="auto: the measuring process resolves it and records what it took")


class DecodeCase(_Case):
    """Attention of one new token over a full and a compact cache."""

    workload: Literal["decode"]
    batch: keys.Batch
    seq: keys.Seq
    heads: keys.Heads
    kv_heads: keys.KvHeads
    dim: keys.Dim
    dtype: keys.StoredDtype
    cache_dtype: keys.MiddleDtype
    key_dtype: keys.KeyDtype | MISSING = MISSING
    value_dtype: keys.ValueDtype | MISSING = MISSING
    compress: keys.Compress
    sinks: keys.Sinks
    window: keys.Window
    anchor: keys.Anchor
    bias: keys.Bias
    launch: keys.Launch
    seed: keys.Seed
    measure: keys.Measure

    @property
    def formats(self) -> tuple[str, ...]:
        """Names of the storage formats that its kernels read and write."""
        return (self.dtype, self.key_format, self.value_format)

    @property
    def key_format(self) -> str:
        """Name of the format of middle slots' keys."""
        return self.cache_dtype if self.key_dtype is MISSING else self.key_dtype

    @property
    def value_format(self) -> str:
        """Name of the format of middle slots' values."""
        return self.cache_dtype if self.value_dtype is MISSING else self.value_dtype

    @property
    def stored_as(self) -> str:
        """How middle slots are stored, in a word: `int8`, or `int8/int4` where keys and values differ."""
        key, value = self.key_format, self.value_format
        return key if key == value else f"{key}/{value}"


class ElementwiseCase(_Case):
    """The original kernel's pass over queries, keys and values."""

    workload: Literal["elementwise"]
    seq: keys.Seq
    heads: keys.Heads
    dim: keys.Dim
    dtype: Literal["fp32"]
    compress: keys.Compress
    launch: keys.Launch
    pass_order: keys.PassOrder
    seed: keys.Seed
    measure: keys.Measure

    @property
    def formats(self) -> tuple[str, ...]:
        """The storage format of its buffers."""
        return (self.dtype,)


AnyCase = Annotated[DecodeCase | ElementwiseCase, Field(discriminator="workload")]
_ANY: TypeAdapter[DecodeCase | ElementwiseCase] = TypeAdapter(AnyCase, config={"defer_build": True})


class Case(RootModel[AnyCase]):
    """A canonical case: everything that decides one measurement."""


def case_of(content: Mapping[str, Any]) -> AnyCase:
    """The typed case of canonical JSON, which was checked against the schema where it was read."""
    return _ANY.validate_python(content)


WORKLOADS: dict[str, type[DecodeCase | ElementwiseCase]] = {"decode": DecodeCase, "elementwise": ElementwiseCase}
HEAD = tuple(_Case.model_fields)


def own_keys(workload: str) -> tuple[str, ...]:
    """The keys that apply to a workload, in the order that a canonical case lists them."""
    return tuple(key for key in WORKLOADS[workload].model_fields if key not in (*HEAD, "measure"))


ROOT, TITLE = Case, "A canonical case"
