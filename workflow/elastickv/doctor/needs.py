"""What a config needs of a machine: a pure reading of it, which every check is held against."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from pydantic import MISSING

from elastickv import matrix
from elastickv.matrix import layers
from elastickv.pipeline import plan
from elastickv.schemas import config as keys
from elastickv.schemas.case import AnyCase

ELASTICKV, SNAKEMAKE = ".venv/bin/elastickv", ".venv/bin/snakemake"


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
    environment. files, overrides: how the config was given.
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

    @property
    def gpu(self) -> str:
        """`required`, `optional` (auto: the CPU takes over) or `none`."""
        return {"cuda": "required", "auto": "optional", "cpu": "none"}[self.backend]

    def make(self, *overrides: str, target: str = "run") -> str:
        """The command that runs this config with more overrides, such as `backend=cpu` or `build.compiler=nvrtc`.

        `make run CONFIG=config/sweep.yaml SET=backend=cpu` where they are of top-level keys, else Snakemake by its path
        (`build={compiler: nvrtc}`, which `python -m snakemake` takes too).
        """
        said = {text.partition("=")[0]: text for text in (*self.overrides, *overrides)}
        if not any("." in key or " " in text for key, text in said.items()):
            words = ["make", target, *([f"CONFIG={shlex.quote(' '.join(self.files))}"] if self.files else [])]
            return " ".join([*words, *([f"SET={shlex.quote(' '.join(said.values()))}"] if said else [])])
        again = "ELASTICKV_FRESH=1 " if target == "remeasure" else ""
        files = ["--configfile", *map(shlex.quote, self.files)] if self.files else []
        forced = ["--forcerun", "measure", "ceilings"] if target == "remeasure" else []
        entries = [shlex.quote(entry) for entry in self._entries(said)]
        return again + " ".join([SNAKEMAKE, *forced, *files, "--config", *entries])

    def _entries(self, said: dict[str, str]) -> list[str]:
        """Overrides by top-level key, what lies below it as one mapping: `build={compiler: auto, ptx: 90}`."""
        tree: dict[str, Any] = {}
        for key, text in said.items():
            *above, last = self._path(key)
            branch = tree
            for part in above:
                branch = branch.setdefault(part, {})
            branch[last] = text.partition("=")[2]
        return [f"{key}={_flow(value)}" for key, value in tree.items()]

    def _path(self, key: str) -> list[str]:
        """The parts of a dotted key; a case's id may hold dots itself."""
        parts = key.split(".")
        for end in range(len(parts), 2, -1):
            if parts[0] == "cases" and ".".join(parts[1:end]) in self.written:
                return ["cases", ".".join(parts[1:end]), *parts[end:]]
        return parts


def _flow(value: Any) -> str:
    """A value as it was written, or a mapping of such as one line of YAML."""
    if isinstance(value, str):
        return value
    return "{" + ", ".join(f"{key}: {_flow(below)}" for key, below in value.items()) + "}"


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
