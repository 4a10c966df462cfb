"""Every key of a config file: its type, default, unit, limits and meaning. docs/matrix.md is made from this file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import MISSING, AfterValidator, ConfigDict, Field, PlainSerializer, create_model

from elastickv import formats, kinds, policies
from elastickv.kinds import LARGEST_INT
from elastickv.policies import Key
from elastickv.schemas.base import Model, field

MOST_SECONDS = 24 * 60 * 60


def tidy(value: float) -> float:
    """An integral float becomes an integer, so that `max_seconds: 20.0` and `20` are the same."""
    return int(value) if float(value).is_integer() else value


# Written as it is, an integer among them as one: a float's serializer would write 20.0 again.
Real = Annotated[float, AfterValidator(tidy), PlainSerializer(lambda value: value, when_used="json")]
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$(?!\n)", max_length=100)]
Backend = Literal["auto", "cuda", "cpu"]
Architecture = Literal[61, 70, 75, 80, 86, 89, 90]

# What one case is: each key of it once, whoever uses it.
Workload = Annotated[
    Literal[tuple(kinds.every())],
    field("what is timed: " + "; ".join(f"{name}, {kind.MEANING}" for name, kind in kinds.every().items())),
]
Batch = Annotated[int, field("sequences decoded together", "sequences", ge=1, le=65535)]
Seq = Annotated[int, field("tokens the full cache holds", "tokens", ge=1, le=LARGEST_INT)]
Heads = Annotated[int, field("query heads", "heads", ge=1, le=65535)]
KvHeads = Annotated[int, field("key/value heads; divides heads; default: heads", "heads", ge=1, le=65535)]
Dim = Annotated[int, field("elements of one head's key or value", "elements", ge=4, le=65536, multiple_of=4)]
StoredDtype = Annotated[Literal[formats.exact()], field("full cache, exact slots, query and output")]
MiddleDtype = Annotated[
    Literal[tuple(formats.every())],
    field(f"middle slots: {formats.listed(('dtype (the default)', *formats.scaled()))}"),
]
KeyDtype = Annotated[Literal[tuple(formats.every())], field("keys of middle slots, where not as cache_dtype")]
ValueDtype = Annotated[Literal[tuple(formats.every())], field("values of middle slots, where not as cache_dtype")]
Launch = Annotated[Literal["auto", "plain", "dependent"], field("how kernels follow each other in a graph")]
PassOrder = Annotated[
    Literal["forward", "alternating"],
    field("elementwise: every pass from the first group to the last, or every second one the other way round"),
]
Seed = Annotated[int, field("key of the generator that fills the buffers", ge=0, le=2**32 - 1)]
PolicyName = Annotated[Literal[tuple(policies.every())], field("decode: what the elastic cache keeps")]


def kind_of(key: Key) -> Any:
    """The type of a policy's or a workload's key, with its meaning, unit and limits."""
    if key.choices:
        return Annotated[Literal[key.choices], field(key.meaning, key.unit)]
    if key.kind is bool:
        return Annotated[bool, field(key.meaning, key.unit)]
    most = LARGEST_INT if key.most is None else key.most
    limits = {"le": most} | ({} if key.least is None else {"ge": key.least})
    return Annotated[int, field(key.meaning, key.unit, **limits)]


OF_POLICIES = {name: kind_of(key) for name, key in policies.every_key().items()}
OF_KINDS = {name: kind_of(key) for name, key in kinds.every_key().items()}


class Build(Model):
    """How the GPU binary is compiled."""

    compiler: Literal["auto", "nvcc", "nvrtc"] = field(
        "auto: nvcc where the driver and nvcc allow, NVRTC for the rest", default="auto"
    )
    architectures: list[Architecture] = field(
        "compute capabilities, one image each", unique=True, min_length=1, default=[61, 70, 75, 80, 86, 89, 90]
    )
    ptx: Architecture | None = field("architecture of the PTX for newer GPUs; null: none", default=90)


class Measure(Model):
    """How long and how exactly a case is measured; reps, warmup and inner_loops are upper bounds."""

    reps: int = field("triples, at most", "triples", default=100, ge=3, le=1_000_000)
    warmup: int = field("warm-up triples, at most", "triples", default=50, ge=0, le=1_000_000)
    inner_loops: int = field("launches in a sample, at most", "launches", default=64, ge=1, le=1_000_000)
    truncate: Real = field("share of the samples cut off each end", "percent", default=5, ge=0, le=45)
    decode_tokens: int = field("tokens of the inference cycle; 0: no cycle", "tokens", default=64, ge=0, le=1_000_000)
    graphs: bool = field("whether launches are captured in CUDA graphs", default=True)
    precision: Real = field(
        "relative half-width of the speedup's interval at which a case stops, once its control is as near to 1",
        default=0.005,
        gt=0,
        lt=1,
    )
    max_seconds: Real = field("time of sampling, at most", "seconds", default=20, gt=0, le=MOST_SECONDS)
    confidence: Real = field("confidence of the intervals", default=0.99, gt=0.5, lt=1)
    processes: int = field(
        "processes that each measure the case in whole, one after another; the published interval holds all of them",
        "processes",
        default=1,
        ge=1,
        le=100,
    )


class Golden(Model):
    """What the verdicts compare with."""

    speedup: Real = field("speedup of a golden case: its interval's low bound", "times", default=1.95, gt=0)
    excellent: Real = field("speedup of an excellent case: its interval's low bound", "times", default=1.7, gt=0)
    cv: Real = field("coefficient of variation of the elastic arm's samples, at most", default=0.05, gt=0)
    memory_efficiency: Real = field("share of the datasheet's peak bandwidth, at least", default=0.70, gt=0)
    roofline: Real = field("share of the read ceiling measured beside the case, at least", default=0.80, gt=0)


class Noise(Model):
    """How far from 1 a control (the same kernel against itself) may be.

    All controls inside: ok. One altogether outside: noisy, no number. Else imprecise: the speedup's interval is widened
    by as much as the controls stray from 1. These are read by the judge alone: a change times nothing again.
    """

    cuda: Real = field("largest distance of a control's interval from 1, on a GPU", default=0.005, gt=0, lt=1)
    cpu: Real = field("the same on a CPU", default=0.03, gt=0, lt=1)
    widest: Real = field(
        "largest distance of a widened interval's ends from its value, as a share of it; beyond it is noisy",
        default=0.25,
        gt=0,
        lt=1,
    )


_BEFORE: dict[str, tuple[Any, Any]] = {
    "workload": (Workload, "decode"),
    "batch": (Batch, 1),
    "seq": (Seq, MISSING),
    "heads": (Heads, MISSING),
    "kv_heads": (KvHeads, MISSING),
    "dim": (Dim, MISSING),
    "dtype": (StoredDtype, "fp16"),
    "cache_dtype": (MiddleDtype, MISSING),
    "key_dtype": (KeyDtype, MISSING),
    "value_dtype": (ValueDtype, MISSING),
    "policy": (PolicyName, policies.DEFAULT),
}
_AFTER: dict[str, tuple[Any, Any]] = {
    "launch": (Launch, "auto"),
    "pass_order": (PassOrder, "forward"),
    "seed": (Seed, 0),
}
# Names that no policy and no workload may give to a key of its own.
_TAKEN = {*_BEFORE, *_AFTER, "schema", "id", "backend", "measure", "formats", "kind"}
_CLASHES = {"policies": OF_POLICIES.keys() & _TAKEN, "workloads": OF_KINDS.keys() & {*_TAKEN, *OF_POLICIES}}
for _who, _names in _CLASHES.items():
    if _names:
        raise ValueError(f"{_who} declare the keys {', '.join(sorted(_names))}, which others have: name them otherwise")

# Every key of a case but `measure`, in the order of lists: its type, and its default (MISSING: none).
CASE_KEYS = (
    _BEFORE
    | {
        name: (OF_POLICIES[name], MISSING if key.default is None else key.default)
        for name, key in policies.every_key().items()
    }
    | {
        name: (OF_KINDS[name], MISSING if key.default is None else key.default)
        for name, key in kinds.every_key().items()
    }
    | _AFTER
)
CaseKeys = create_model(
    "CaseKeys",
    __base__=Model,
    __doc__="What a case does not say itself.",
    **{key: (kind | MISSING if default is MISSING else kind, default) for key, (kind, default) in CASE_KEYS.items()},
)
_KEYS = {key: kind for key, (kind, _) in CASE_KEYS.items()}


class _Filled(Model):
    model_config = ConfigDict(json_schema_extra={"minProperties": 1})


def _selecting(name: str, meaning: str, base: type[Model], kinds: dict[str, Any]) -> type[Model]:
    """A model of the keys of a case, each of them optional; of the base `_Filled` at least one."""
    keys: dict[str, Any] = {key: (kind | MISSING, MISSING) for key, kind in kinds.items()}
    return create_model(name, __base__=base, __doc__=meaning, **keys)


Case = _selecting("Case", "What a case says itself; defaults say the rest.", Model, {**_KEYS, "measure": Measure})
Pick = _selecting("Pick", "The combinations of a sweep that have all these values.", _Filled, _KEYS)
Axes = _selecting(
    "Axes",
    "Every combination of these values is a case.",
    _Filled,
    {key: Annotated[list[kind], field(unique=True, min_length=1, max_length=1000)] for key, kind in _KEYS.items()},
)
Added = Annotated[Case, Field(json_schema_extra={"minProperties": 1})]


class Matrix(Model):
    """A sweep: base with every combination of axes."""

    base: Case | MISSING = field("keys that are the same for all its cases", default=MISSING)
    axes: Axes
    exclude: list[Pick] | MISSING = field("combinations to leave out", default=MISSING)
    include: list[Added] | MISSING = field(
        "keys to add to the combinations that have its axes' values; a case of its own where none has", default=MISSING
    )


ModelName = Annotated[
    str,
    field(
        words="without control characters, not starting with a space",
        min_length=1,
        max_length=500,
        pattern=r"^[^\u0000-\u0020\u007f][^\u0000-\u001f\u007f]*$(?!\n)",
    ),
]


class LanguageModel(Model):
    """What the baselines of both engines are told."""

    enable: bool = field("whether the baseline is measured", default=False)
    model: ModelName = field("smollm2 (comes with the environment) or a .gguf file", default="smollm2")
    revision: str | MISSING = field(
        "the commit of the hub's repository to take the model from; without it the newest",
        words="a commit: 40 hexadecimal digits, in lower case",
        pattern=r"^[0-9a-f]{40}$(?!\n)",
        default=MISSING,
    )
    sha256: str | MISSING = field(
        "what the weights must hash to, as the record states it",
        words="64 hexadecimal digits, in lower case",
        pattern=r"^[0-9a-f]{64}$(?!\n)",
        default=MISSING,
    )
    decode_tokens: int = field("tokens generated in a repetition", "tokens", default=64, ge=1, le=1_000_000)
    context: int = field("text for prefill and perplexity, at most", "tokens", default=1024, ge=2, le=1_000_000)
    reps: int = field("repetitions, at most", "repetitions", default=5, ge=1, le=10_000)
    max_seconds: Real = field(
        "time after which no repetition beyond the third begins", "seconds", default=20, gt=0, le=MOST_SECONDS
    )
    threads: int | None = field(
        "CPU threads; null (the default): all cores this process may use", "threads", default=None, ge=1, le=4096
    )


class Transformers(LanguageModel):
    """The Transformers baseline."""

    config_sha256: str | MISSING = field(
        "what configuration and tokenizer beside safetensors must hash to, as the record states it",
        words="64 hexadecimal digits, in lower case",
        pattern=r"^[0-9a-f]{64}$(?!\n)",
        default=MISSING,
    )
    enable: bool = field("whether the baseline is measured", default=True)
    model: ModelName = field(
        "smollm2 (comes with the environment), a hub id, a folder or a .gguf file", default="smollm2"
    )
    caches: list[Literal["dynamic", "static", "fp8", "hqq_int4", "quanto_int4"]] = field(
        "cache implementations of Transformers: the first for all figures, the others for a decode rate each",
        unique=True,
        min_length=1,
        default=["dynamic", "static", "fp8", "hqq_int4"],
    )


class Gguf(LanguageModel):
    """The llama.cpp baseline; `repo` and `file` name a model of the hub in place of `model`."""

    model: ModelName | MISSING = field("smollm2 (comes with the environment) or a .gguf file", default="smollm2")
    repo: ModelName | MISSING = field("repository of the hub", default=MISSING)
    file: ModelName | MISSING = field("file of that repository", default=MISSING)
    n_gpu_layers: int = field(
        "layers that run on a GPU where llama.cpp can use one; -1 (the default): all",
        "layers",
        default=-1,
        ge=-1,
        le=100_000,
    )
    kv_type: Literal["f16", "q8_0", "q4_0"] = field("how llama.cpp stores keys and values", default="f16")


PeerName = Annotated[
    str,
    field(
        words="names of peers and paths of Python files, without braces and control characters",
        min_length=1,
        max_length=500,
        pattern=r"^[^\u0000-\u001f\u007f{}]*$(?!\n)",
    ),
]


class Peers(Model):
    """Attention kernels of other libraries, and your own, timed beside ours on every case of the workload decode.

    Off unless enabled: torch is large, and beside a slow peer every sample of ours waits for one of the peer's.
    """

    enable: bool = field("whether they are measured", default=False)
    names: list[PeerName] | MISSING = field(
        "which: names of workflow/elastickv/peers/libraries/, and paths of files of your own "
        "(docs/extending.md), relative to the checkout. Without it all of the former: those that do not run on a "
        "backend say so in their record",
        unique=True,
        min_length=1,
        default=MISSING,
    )
    reps: int = field("triples of a comparison, at most", "triples", default=240, ge=3, le=1_000_000)
    max_seconds: Real = field("time of sampling of a comparison, at most", "seconds", default=10, gt=0, le=MOST_SECONDS)


class Baselines(Model):
    """What is measured beside the cases."""

    transformers: Transformers = Transformers()
    gguf: Gguf = Gguf()
    peers: Peers = Peers()


class Root(Model):
    """A config file; every key is optional."""

    results: str = field(
        "folder of this run: inside the project, but no place of its own (results/<name>), or an absolute path",
        words="without braces and control characters",
        min_length=1,
        max_length=1000,
        pattern=r"^[^\u0000-\u001f\u007f{}]*$(?!\n)",
        default="results/local",
    )
    backend: Backend = field("where kernels run", default="auto")
    build: Build = Build()
    measure: Measure = Measure()
    golden: Golden = Golden()
    noise: Noise = Noise()
    defaults: CaseKeys = CaseKeys()
    cases: dict[Id, Case] = field("cases by their id", default={})
    matrices: dict[Id, Matrix] = field("sweeps by their name", default={})
    baselines: Baselines = Baselines()


ROOT, TITLE = Root, "Elastic KV cache benchmark: a config file"
