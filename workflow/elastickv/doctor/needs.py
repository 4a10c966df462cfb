"""What a config needs of a machine: a pure reading of it, which every check is held against."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from pydantic import MISSING

from elastickv import matrix
from elastickv.matrix import layers
from elastickv.pipeline import plan
from elastickv.schemas import config as keys
from elastickv.schemas.case import AnyCase

ELASTICKV = ".venv/bin/elastickv"


@dataclass(frozen=True)
class Model:
    """A language model that a baseline names: `repo` and `file` of a hub, or (`local`) a path on this machine."""

    engine: str
    name: str
    file: str
    local: bool


@dataclass(frozen=True)
class Needs:
    """The config in the words of the checks.

    backend: auto, cuda or cpu. backends: kernels to build. environments: names of the heavy ones that rules will use.
    cases: canonical; `written` are the ids of those that no sweep makes. models: those that do not come with an
    environment. peers: their settings, where they are enabled. files, overrides: how the config was given.
    """

    backend: str
    backends: tuple[str, ...]
    compiler: str
    architectures: tuple[int, ...]
    ptx: int | None
    environments: tuple[str, ...]
    cases: tuple[AnyCase, ...]
    models: tuple[Model, ...]
    results: str
    written: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    peers: keys.Peers | None = None

    @property
    def gpu(self) -> str:
        """`required`, `optional` (auto: the CPU takes over) or `none`."""
        return {"cuda": "required", "auto": "optional", "cpu": "none"}[self.backend]

    def make(self, *overrides: str, target: str = "run") -> str:
        """The make command that runs this config with more overrides, such as `build.compiler=nvrtc`."""
        said = {text.partition("=")[0]: text for text in (*self.overrides, *overrides)}
        variables = {"CONFIG": " ".join(self.files), "SET": " ".join(_word(text) for text in said.values())}
        given = [f"{name}={shlex.quote(text.replace('$', '$$'))}" for name, text in variables.items() if text]
        return " ".join(["make", target, *given])


def _word(override: str) -> str:
    """`KEY=VALUE` as a word of SET, which is quoted as in a shell."""
    return shlex.quote(override) if re.search(r"[\s'\"\\]", override) else override


def of_config(config: matrix.Config, files: list[str], overrides: list[str]) -> Needs:
    """What a valid config needs."""
    resolved = plan.resolve(config)
    models = (_model(engine, getattr(config.baselines, engine)) for engine in resolved.baselines)
    return Needs(
        backend=config.backend,
        backends=resolved.backends,
        compiler=config.build.compiler,
        architectures=tuple(config.build.architectures),
        ptx=config.build.ptx,
        environments=plan.needed_environments(resolved),
        cases=tuple(config.cases.values()),
        models=tuple(model for model in models if model),
        results=config.results,
        written=_written(files or [matrix.CONFIG_DEFAULT], overrides),
        files=tuple(files),
        overrides=tuple(overrides),
        peers=config.baselines.peers if resolved.peers else None,
    )


def _written(files: list[str], overrides: list[str]) -> tuple[str, ...]:
    tree = layers.merge(list(files), overrides).tree
    return tuple(tree.get("cases") or ())


def _model(engine: str, settings: keys.LanguageModel) -> Model | None:
    """The model that settings name as `models.fetching.fetch` takes them; None for the embedded one."""
    from elastickv.models import fetching

    if isinstance(settings, keys.Gguf) and settings.repo is not MISSING:
        return Model(engine, settings.repo, settings.file, local=False)
    name = settings.model
    if name == fetching.EMBEDDED:
        return None
    # Without repo and file, llama.cpp takes a file of this machine alone.
    return Model(engine, name, "config.json", local=engine == "gguf" or fetching.is_local(name))
