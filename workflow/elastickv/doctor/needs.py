"""What a config needs from a machine: derived from the config alone, and used by every check."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from pydantic import MISSING

from elastickv import matrix
from elastickv.matrix import layers
from elastickv.models.fetching import EMBEDDED
from elastickv.pipeline import plan
from elastickv.schemas import config as keys
from elastickv.schemas.case import AnyCase

ELASTICKV = ".venv/bin/elastickv"


@dataclass(frozen=True)
class Needs:
    """The requirements of a config.

    backend: auto, cuda or cpu. backends: kernels to build. environments: names under .envs/ that rules will use.
    cases: canonical; `written`: ids of the cases that do not come from a sweep. models: the sections of baselines
    whose model is not the embedded one, by engine. peers: their settings, if enabled. files, overrides: the config
    files and overrides that the user gave.
    """

    backend: str
    backends: tuple[str, ...]
    compiler: str
    architectures: tuple[int, ...]
    ptx: int | None
    environments: tuple[str, ...]
    cases: tuple[AnyCase, ...]
    models: tuple[tuple[str, keys.LanguageModel], ...]
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
        """The make command that runs this config with additional overrides, such as `build.compiler=nvrtc`."""
        found = {text.partition("=")[0]: text for text in (*self.overrides, *overrides)}
        variables = {"CONFIG": " ".join(self.files), "SET": " ".join(_word(text) for text in found.values())}
        given = [f"{name}={shlex.quote(text.replace('$', '$$'))}" for name, text in variables.items() if text]
        return " ".join(["make", target, *given])

    def change(self, case: AnyCase, key: str, value: object) -> str:
        """How to give a case another value: the make command, or what to change in the sweep that it comes from."""
        if case.id in self.written:
            return self.make(f"cases.{case.id}.{key}={value}")
        return f"in the sweep, replace {key}: {getattr(case, key)} by {value}"


def _word(override: str) -> str:
    """`KEY=VALUE` quoted for SET, which follows shell quoting."""
    return shlex.quote(override) if re.search(r"[\s'\"\\]", override) else override


def of_config(config: matrix.Config, files: list[str], overrides: list[str]) -> Needs:
    """The requirements of a valid config."""
    resolved = plan.resolve(config)
    sections = ((engine, getattr(config.baselines, engine)) for engine in resolved.baselines)
    return Needs(
        backend=config.backend,
        backends=resolved.backends,
        compiler=config.build.compiler,
        architectures=tuple(config.build.architectures),
        ptx=config.build.ptx,
        environments=plan.needed_environments(resolved),
        cases=tuple(config.cases.values()),
        models=tuple((engine, section) for engine, section in sections if not _embedded(section)),
        results=config.results,
        written=_written(files or [matrix.CONFIG_DEFAULT], overrides),
        files=tuple(files),
        overrides=tuple(overrides),
        peers=config.baselines.peers if resolved.peers else None,
    )


def _written(files: list[str], overrides: list[str]) -> tuple[str, ...]:
    tree = layers.merge(list(files), overrides).tree
    return tuple(tree.get("cases") or ())


def _embedded(section: keys.LanguageModel) -> bool:
    from_hub = isinstance(section, keys.Gguf) and section.repo is not MISSING
    return not from_hub and section.model == EMBEDDED
