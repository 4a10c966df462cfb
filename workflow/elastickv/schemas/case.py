"""A canonical case: everything that determines one measurement, with every key written out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import MISSING, Discriminator, Field, RootModel, Tag, TypeAdapter, create_model

from elastickv import kinds, policies
from elastickv.errors import UsageError
from elastickv.policies import Policy
from elastickv.schemas import config as keys
from elastickv.schemas.base import Model, version


class _Case(Model):
    schema_: Literal["case/1"] = version("case/1")
    id: keys.Id
    workload: str
    backend: keys.Backend = Field(description="auto: the measuring process chooses the backend and records it")

    @property
    def kind(self) -> kinds.Kind:
        """The declaration of its workload."""
        return kinds.of(self.workload)


class DecodeCase(_Case):
    """Attention of one new token over a full and a compact cache. A case also has the keys of its policy."""

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
        """The format of middle slots as text: `int8`, or `int8/int4` if keys and values differ."""
        key, value = self.key_format, self.value_format
        return key if key == value else f"{key}/{value}"

    @property
    def rule(self) -> str | None:
        """Name of the anchor rule that its kernels apply."""
        return policy_of(self).anchor


class _Unnamed(DecodeCase):
    """A case that does not name its policy, which is then the default one."""

    policy: ClassVar[str] = policies.DEFAULT


def policy_of(case: DecodeCase) -> Policy:
    """The case's policy, with the values of its keys."""
    made = policies.of(case.policy)
    return made({key: getattr(case, key) for key in made.KEYS}, case.dtype, case.key_format, case.value_format)


def _of_policy(name: str) -> type[DecodeCase]:
    """The model of a case with this policy."""
    made = policies.of(name)
    base, tag = (_Unnamed, {}) if name == policies.DEFAULT else (DecodeCase, {"policy": Literal[name]})
    fields = tag | {key: keys.OF_POLICIES[key] for key in made.KEYS}
    title = "".join(part.capitalize() for part in name.split("_"))
    meaning = f"Attention of one new token over a full cache and one of policy {name}: {made.MEANING}."
    return create_model(f"{title}Case", __base__=base, __doc__=meaning, __module__=__name__, **fields)


class _ByPolicy:
    """Selects the model of a decode case by `key`; `implied`: the policy of a case without that key."""

    __name__ = key = "policy"
    implied = policies.DEFAULT

    def __call__(self, case: Any) -> str:
        """The policy of a case as a model or as JSON."""
        return case.get(self.key, self.implied) if isinstance(case, Mapping) else getattr(case, self.key)


AnyDecodeCase = Annotated[
    Union[tuple(Annotated[_of_policy(name), Tag(name)] for name in policies.every())],  # noqa: UP007
    Discriminator(_ByPolicy()),
]


class OtherCase(_Case):
    """A case of a workload other than attention over caches. It also has the keys of its workload."""

    dtype: str
    launch: keys.Launch
    seed: keys.Seed
    measure: keys.Measure

    @property
    def formats(self) -> tuple[str, ...]:
        """The storage format of its buffers."""
        return (self.dtype,)

    @property
    def rule(self) -> None:
        """None: the workload has no groups."""
        return None


def _of_kind(name: str) -> type[OtherCase]:
    """The model of the cases of this workload."""
    kind = kinds.of(name)
    unknown = [key for key in kind.TAKES if key not in keys.CASE_KEYS]
    if unknown:
        raise UsageError(f"workload {name}: TAKES {unknown[0]}, which is not a key of a case: declare it in KEYS")
    fields = {"workload": Literal[name], "dtype": Literal[kind.DTYPE]}
    fields |= {key: keys.CASE_KEYS[key][0] for key in (*kind.TAKES, *kind.KEYS)}
    title = "".join(part.capitalize() for part in name.split("_"))
    return create_model(
        f"{title}Case", __base__=OtherCase, __doc__=f"Workload {name}: {kind.MEANING}.", __module__=__name__, **fields
    )


# The model of each workload's cases; for decode, without the keys of a policy.
MODELS: dict[str, type[DecodeCase | OtherCase]] = {
    name: DecodeCase if kind.CACHE else _of_kind(name) for name, kind in kinds.every().items()
}
_OTHERS = tuple(model for model in MODELS.values() if model is not DecodeCase)
AnyCase = Annotated[Union[(AnyDecodeCase, *_OTHERS)], Field(discriminator="workload")]
_ANY: TypeAdapter[DecodeCase | OtherCase] = TypeAdapter(AnyCase, config={"defer_build": True})


class Case(RootModel[AnyCase]):
    """A canonical case: everything that determines one measurement."""


def case_of(content: Mapping[str, Any]) -> AnyCase:
    """The typed case of canonical JSON that has already been validated against the schema."""
    return _ANY.validate_python(content)


HEAD = tuple(_Case.model_fields)


def own_keys(workload: str, policy: str = policies.DEFAULT) -> tuple[str, ...]:
    """The keys that apply to a workload, in display order; for caches, including `policy` and the policy's keys."""
    own = {*MODELS[workload].model_fields} - {*HEAD}
    if kinds.of(workload).CACHE:
        own |= {"policy", *policies.of(policy).KEYS}
    return tuple(key for key in keys.CASE_KEYS if key in own)


ROOT, TITLE = Case, "A canonical case"
