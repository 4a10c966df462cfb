"""Every key of a config file: type, default, unit, limits and meaning. docs/matrix.md is generated from this file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import MISSING, AfterValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, create_model

from elastickv import formats, kinds, policies
from elastickv.kinds import LARGEST_INT
from elastickv.policies import Key
from elastickv.schemas.base import Model, field, optional

MOST_SECONDS = 24 * 60 * 60


def tidy(value: float) -> float:
    """Converts an integral float to an integer, so that `max_seconds: 20.0` and `20` are the same."""
    return int(value) if float(value).is_integer() else value


# Serialised unchanged: the serialiser of float would write an integer 20 as 20.0.
Real = Annotated[float, AfterValidator(tidy), PlainSerializer(lambda value: value, when_used="json")]
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$(?!\n)", max_length=100)]
Backend = Literal["auto", "cuda", "cpu"]
Architecture = Literal[61, 70, 75, 80, 86, 89, 90]

# The keys of a case, each defined once.
Workload = Annotated[
    Literal[tuple(kinds.every())],
    field("computation to time: " + "; ".join(f"{name}, {kind.MEANING}" for name, kind in kinds.every().items())),
]
Batch = Annotated[int, field("sequences decoded together", "sequences", ge=1, le=65535)]
Seq = Annotated[int, field("tokens in the full cache", "tokens", ge=1, le=LARGEST_INT)]
Heads = Annotated[int, field("query heads", "heads", ge=1, le=65535)]
KvHeads = Annotated[int, field("key/value heads; a divisor of heads; default: heads", "heads", ge=1, le=65535)]
Dim = Annotated[int, field("elements per head of a key or value", "elements", ge=4, le=65536, multiple_of=4)]
StoredDtype = Annotated[
    Literal[formats.exact()], field("storage format of the full cache, exact slots, query and output")
]
MiddleDtype = Annotated[
    Literal[tuple(formats.every())],
    field(f"storage format of middle slots: {formats.listed(('dtype (the default)', *formats.scaled()))}"),
]
KeyDtype = Annotated[
    Literal[tuple(formats.every())], field("storage format of keys in middle slots, if not cache_dtype")
]
ValueDtype = Annotated[
    Literal[tuple(formats.every())], field("storage format of values in middle slots, if not cache_dtype")
]
Launch = Annotated[
    Literal["auto", "plain", "dependent"], field("how kernels in a graph are launched one after another")
]
PassOrder = Annotated[
    Literal["forward", "alternating"],
    field("elementwise: whether all passes run forward or every second one runs backward"),
]
Seed = Annotated[int, field("seed of the generator that fills the buffers", ge=0, le=2**32 - 1)]
PolicyName = Annotated[Literal[tuple(policies.every())], field("decode: policy of the elastic cache")]


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
        "auto: nvcc where nvcc and the driver support it, otherwise NVRTC", default="auto"
    )
    architectures: list[Architecture] = field(
        "compute capabilities to build an image for", unique=True, min_length=1, default=[61, 70, 75, 80, 86, 89, 90]
    )
    ptx: Architecture | None = field(
        "compute capability of the PTX, which newer GPUs compile; null: no PTX", default=90
    )


# One schema of two types instead of `anyOf`, so that a message names both.
_PROCESSES = {
    "type": ["integer", "string"],
    "minimum": 1,
    "maximum": 100,
    "pattern": "^auto$(?!\n)",
    "$comment": "or auto",
}
Processes = Annotated[Annotated[int, Field(ge=1, le=100)] | Literal["auto"], WithJsonSchema(_PROCESSES)]
AUTO_PROCESSES = {"cuda": 3, "cpu": 1}


class Measure(Model):
    """Duration and precision of a measurement; reps, warmup and inner_loops are upper bounds."""

    reps: int = field("maximum number of rounds", "rounds", default=100, ge=3, le=1_000_000)
    warmup: int = field("maximum number of warm-up rounds", "rounds", default=50, ge=0, le=1_000_000)
    inner_loops: int = field("maximum launches per sample", "launches", default=64, ge=1, le=1_000_000)
    truncate: Real = field("share of the samples to trim at each end", "percent", default=5, ge=0, le=45)
    decode_tokens: int = field("tokens of the inference cycle; 0: no cycle", "tokens", default=64, ge=0, le=1_000_000)
    graphs: bool = field("whether launches are captured in CUDA graphs", default=True)
    precision: Real = field(
        "target half-width of the speedup's interval, relative; sampling stops when the control is as close to 1",
        default=0.005,
        gt=0,
        lt=1,
    )
    max_seconds: Real = field("maximum sampling time", "seconds", default=20, gt=0, le=MOST_SECONDS)
    confidence: Real = field("confidence of the intervals", default=0.99, gt=0.5, lt=1)
    processes: Processes = field(
        "number of processes that measure the case in turn and share max_seconds; the published intervals cover all of "
        "them. auto: 3 on a GPU, 1 on a CPU",
        "processes",
        default="auto",
    )
    sustained_seconds: Real = field(
        "on a GPU with three processes or more: length of each of the four blocks of steady work in a process, "
        "of which one more second is not counted; 0: none",
        "seconds",
        default=2,
        ge=0,
        le=3600,
    )

    def processes_on(self, backend: Literal["cuda", "cpu"]) -> int:
        """How many processes measure a case on this backend."""
        return AUTO_PROCESSES[backend] if self.processes == "auto" else self.processes


class Golden(Model):
    """Thresholds of the verdicts."""

    speedup: Real = field("minimum speedup of a golden case (lower bound of its interval)", "times", default=1.95, gt=0)
    excellent: Real = field(
        "minimum speedup of an excellent case (lower bound of its interval)", "times", default=1.7, gt=0
    )
    cv: Real = field("maximum coefficient of variation of the elastic arm's samples", default=0.05, gt=0)
    memory_efficiency: Real = field("minimum share of the datasheet's peak bandwidth", default=0.70, gt=0)
    roofline: Real = field("minimum share of the read ceiling measured with the case", default=0.80, gt=0)


class Noise(Model):
    """Largest distance of a control (an arm compared with itself) from 1.

    All controls inside the limit: ok. A control disjoint from it: noisy, without a number. Otherwise imprecise: the
    speedup's interval is widened by the controls' deviation from 1. Only the judge reads these limits, so changing them
    repeats no measurement.
    """

    cuda: Real = field("maximum distance of a control's interval from 1, on a GPU", default=0.005, gt=0, lt=1)
    cpu: Real = field("the same on a CPU", default=0.03, gt=0, lt=1)
    widest: Real = field(
        "maximum relative distance of a widened interval's ends from its value; beyond it, the case is noisy",
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
# Key names that policies and workloads must not declare.
_TAKEN = {*_BEFORE, *_AFTER, "schema", "id", "backend", "measure", "formats", "kind"}
_CLASHES = {"policies": OF_POLICIES.keys() & _TAKEN, "workloads": OF_KINDS.keys() & {*_TAKEN, *OF_POLICIES}}
for _who, _names in _CLASHES.items():
    if _names:
        raise ValueError(f"{_who} declare the keys {', '.join(sorted(_names))}, which already exist: rename them")

# All keys of a case except `measure`, in display order: type and default (MISSING: none).
CASE_KEYS = (
    _BEFORE
    | {
        name: ((OF_POLICIES | OF_KINDS)[name], MISSING if key.default is None else key.default)
        for name, key in (policies.every_key() | kinds.every_key()).items()
    }
    | _AFTER
)
CaseKeys = create_model(
    "CaseKeys",
    __base__=Model,
    __doc__="Defaults for keys that a case does not set.",
    **{key: (kind | MISSING if default is MISSING else kind, default) for key, (kind, default) in CASE_KEYS.items()},
)
_KEYS = {key: kind for key, (kind, _) in CASE_KEYS.items()}


class _Filled(Model):
    model_config = ConfigDict(json_schema_extra={"minProperties": 1})


def _selecting(name: str, meaning: str, base: type[Model], kinds: dict[str, Any]) -> type[Model]:
    """A model of the keys of a case, all optional; with the base `_Filled`, at least one is required."""
    keys: dict[str, Any] = {key: (kind | MISSING, MISSING) for key, kind in kinds.items()}
    return create_model(name, __base__=base, __doc__=meaning, **keys)


Case = _selecting(
    "Case", "The keys that a case sets; others take their defaults.", Model, {**_KEYS, "measure": Measure}
)
Pick = _selecting("Pick", "The combinations of a sweep that have all these values.", _Filled, _KEYS)
Axes = _selecting(
    "Axes",
    "Values per key; every combination is a case.",
    _Filled,
    {key: Annotated[list[kind], field(unique=True, min_length=1, max_length=1000)] for key, kind in _KEYS.items()},
)
Added = Annotated[Case, Field(json_schema_extra={"minProperties": 1})]


class Matrix(Model):
    """A sweep: base combined with every combination of the axes."""

    base: Case | MISSING = optional("keys that all cases of the sweep share")
    axes: Axes
    exclude: list[Pick] | MISSING = optional("combinations to leave out")
    include: list[Added] | MISSING = optional(
        "keys to add to the combinations with the given axis values; without any, a separate case"
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


def _hexadecimal(meaning: str, digits: int, what: str = "") -> Any:
    words, pattern = f"{what}{digits} hexadecimal digits, in lower case", rf"^[0-9a-f]{{{digits}}}$(?!\n)"
    return optional(meaning, words=words, pattern=pattern)


class LanguageModel(Model):
    """Settings that both language-model baselines share."""

    enable: bool = field("whether the baseline is measured", default=False)
    model: ModelName = field("smollm2 (included in the environment) or a .gguf file", default="smollm2")
    revision: str | MISSING = _hexadecimal(
        "commit of the model's repository on the hub; default: the newest", 40, "a commit: "
    )
    sha256: str | MISSING = _hexadecimal("expected sha256 of the weights, as in the record", 64)
    decode_tokens: int = field("tokens generated per repetition", "tokens", default=64, ge=1, le=1_000_000)
    context: int = field(
        "maximum length of the text for prefill and perplexity", "tokens", default=1024, ge=2, le=1_000_000
    )
    reps: int = field("maximum number of repetitions", "repetitions", default=5, ge=1, le=10_000)
    max_seconds: Real = field(
        "time after which no repetition after the third starts", "seconds", default=20, gt=0, le=MOST_SECONDS
    )
    threads: int | None = field(
        "CPU threads; null (default): all cores available to the process", "threads", default=None, ge=1, le=4096
    )


class Transformers(LanguageModel):
    """The Transformers baseline."""

    config_sha256: str | MISSING = _hexadecimal(
        "expected sha256 of the configuration and tokenizer files, as in the record", 64
    )
    enable: bool = field("whether the baseline is measured", default=True)
    model: ModelName = field(
        "smollm2 (included in the environment), a hub id, a folder or a .gguf file", default="smollm2"
    )
    caches: list[Literal["dynamic", "static", "fp8", "hqq_int4", "quanto_int4"]] = field(
        "cache implementations of Transformers: the first is used for all figures, the others for a decode rate",
        unique=True,
        min_length=1,
        default=["dynamic", "static", "fp8", "hqq_int4"],
    )


class Gguf(LanguageModel):
    """The llama.cpp baseline; `repo` and `file` name a model on the hub instead of `model`."""

    model: ModelName | MISSING = field("smollm2 (included in the environment) or a .gguf file", default="smollm2")
    repo: ModelName | MISSING = optional("repository on the hub")
    file: ModelName | MISSING = optional("file in that repository")
    n_gpu_layers: int = field(
        "layers to run on a GPU if llama.cpp can use one; -1 (default): all", "layers", default=-1, ge=-1, le=100_000
    )
    kv_type: Literal["f16", "q8_0", "q4_0"] = field("llama.cpp's storage format of keys and values", default="f16")


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
    """Attention kernels of other libraries or your own, timed together with ours on every decode case.

    Off by default: torch is large, and our samples alternate with those of a possibly slow peer.
    """

    enable: bool = field("whether peers are measured", default=False)
    names: list[PeerName] | MISSING = optional(
        "peers to measure: names from workflow/elastickv/peers/libraries/, and paths of your own files "
        "(docs/extending.md), relative to the checkout. Default: all of the former; a peer that cannot run on a "
        "backend has a record with the reason",
        unique=True,
        min_length=1,
    )
    reps: int = field("maximum number of rounds of a comparison", "rounds", default=240, ge=3, le=1_000_000)
    max_seconds: Real = field("maximum sampling time of a comparison", "seconds", default=10, gt=0, le=MOST_SECONDS)


class Baselines(Model):
    """Measurements other than the cases."""

    transformers: Transformers = Transformers()
    gguf: Gguf = Gguf()
    peers: Peers = Peers()


class Root(Model):
    """A config file; every key is optional."""

    results: str = field(
        "folder of this run: results/<name>, another new folder inside the project, or an absolute path",
        words="without braces and control characters",
        min_length=1,
        max_length=1000,
        pattern=r"^[^\u0000-\u001f\u007f{}]*$(?!\n)",
        default="results/local",
    )
    backend: Backend = field("device that runs the kernels", default="auto")
    build: Build = Build()
    measure: Measure = Measure()
    golden: Golden = Golden()
    noise: Noise = Noise()
    defaults: CaseKeys = CaseKeys()
    cases: dict[Id, Case] = field("cases by id", default={})
    matrices: dict[Id, Matrix] = field("sweeps by name", default={})
    baselines: Baselines = Baselines()


ROOT, TITLE = Root, "Elastic KV cache benchmark: a config file"
