"""The plan of a config: the files that Snakemake makes, and small plan files whose content determines what is rerun.

A plan file is written only if its content changes, so edits of comments, key order and other cases rerun nothing.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastickv import environments, matrix, records
from elastickv.build import images, provenance, sources
from elastickv.matrix import peers as names
from elastickv.schemas.base import Model
from elastickv.schemas.cases import Cases

BUILD = Path("build")
BUILD_PLAN = BUILD / ".plan"
ENVIRONMENT_PLAN = Path(".envs/.plan")
BASELINES = {"transformers": "llm", "gguf": "gguf"}  # the environment of each
PEERS_ENVIRONMENT = "peers"


@dataclass(frozen=True)
class Plan:
    """The final outputs of one config that the DAG needs.

    `results` is the results folder; `cases` their ids in order; `backends` the ones to build, "cuda" and "cpu";
    `images` the CUDA image files, such as `sm_80.cubin`; `baselines` the enabled ones, of BASELINES; `peers` the names
    of the peers compared on `peer_cases`, `peer_files` those that are files of the user (all empty if peers are off or
    no case is attention).
    """

    results: Path
    backend: str
    cases: tuple[str, ...]
    backends: tuple[str, ...]
    images: tuple[str, ...]
    compiler: str
    baselines: tuple[str, ...]
    peers: tuple[str, ...] = ()
    peer_files: tuple[str, ...] = ()
    peer_cases: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder of this config's plan files."""
        return self.results / ".plan"

    @property
    def records(self) -> list[Path]:
        """The measurement records, in the order of the cases."""
        return [self.results / f"results_{case}.json" for case in self.cases]

    @property
    def peer_records(self) -> list[Path]:
        """The record of each peer."""
        return [self.results / f"peers_{name}.json" for name in self.peers]


def resolve(config: matrix.Config) -> Plan:
    """The plan of a config: the same on every machine, so that a head node without a GPU plans for nodes that have one.

    `auto` builds both backends.
    """
    requested = {config.backend} | {case.backend for case in config.cases.values()}
    backends = ("cuda", "cpu") if "auto" in requested else tuple(name for name in ("cuda", "cpu") if name in requested)
    peers = config.baselines.peers
    attention = tuple(name for name, case in config.cases.items() if case.kind.CACHE)
    beside_peers = attention if peers.enable else ()
    named = peers.names if beside_peers else ()
    return Plan(
        results=Path(config.results),
        backend=config.backend,
        cases=tuple(config.cases),
        backends=backends,
        images=images.names(config.build.architectures, config.build.ptx) if "cuda" in backends else (),
        compiler=config.build.compiler,
        baselines=tuple(name for name in BASELINES if getattr(config.baselines, name).enable),
        peers=tuple(map(names.name_of, named)),
        peer_files=tuple(filter(names.is_path, named)),
        peer_cases=beside_peers,
    )


def contents(config: matrix.Config, plan: Plan) -> dict[Path, str]:
    """Path and content of every plan file. Queries the compilers' versions for the fingerprints."""
    return results_contents(config, plan) | _build_contents(plan)


def results_contents(config: matrix.Config, plan: Plan) -> dict[Path, str]:
    """Path and content of a results folder's plan files: what measuring, judging and reporting depend on."""
    files = {plan.folder / "cases" / f"{name}.json": _line(_content(case)) for name, case in config.cases.items()}
    files[plan.folder / "cases.json"] = _line(_content(Cases(cases=list(plan.cases), sweeps=config.sweeps)))
    files[plan.folder / "golden.json"] = _line(_content(config.golden))
    files[plan.folder / "noise.json"] = _line(_content(config.noise))
    # Only where there is none: a run that has something to do states itself there (`state_run`).
    run = plan.folder / "run.json"
    files[run] = _read(run) or _line(records.content(provenance.here()))
    files[plan.folder / "notebook.json"] = _line({"schema": "notebook/1", "sources": sources.sha256()})
    files[plan.folder / "config.json"] = _line(_resolved(config))
    for name in (*plan.baselines, *(["peers"] if plan.peers else [])):
        settings = _content(getattr(config.baselines, name), without="enable")
        files[plan.folder / f"{name}.json"] = _line(settings | {"backend": config.backend})
    return files


def _resolved(config: matrix.Config) -> dict[str, Any]:
    """What a config came to. Where its files lie is no part of it."""
    return {
        "results": config.results,
        "backend": config.backend,
        **{name: _content(getattr(config, name)) for name in ("build", "measure", "golden", "noise", "baselines")},
        "cases": {name: _content(case) for name, case in config.cases.items()},
    }


def _content(model: Model, without: str = "") -> dict[str, Any]:
    """The JSON of a section of the config or of a case."""
    return model.model_dump(mode="json", exclude={without})


def _build_contents(plan: Plan) -> dict[Path, str]:
    from elastickv.build import fingerprint

    files = {}
    planned = {image: fingerprint.planned(image, plan.compiler) for image in plan.images}
    for image, content in planned.items():
        files[BUILD_PLAN / f"image_{Path(image).stem}.json"] = _line(content)
    if "cuda" in plan.backends:
        files[BUILD_PLAN / "fatbin.json"] = _line(planned)
    if "cpu" in plan.backends:
        files[BUILD_PLAN / "cpu.json"] = _line(fingerprint.cpu().content())
    for name in needed_environments(plan):
        files[ENVIRONMENT_PLAN / f"{name}.json"] = _line({"lock_sha256": environments.lock_sha256(name)})
    return files


def needed_environments(plan: Plan) -> tuple[str, ...]:
    """The environments under .envs/ that the plan needs, by lock name."""
    cuda = ("cuda",) if "cuda" in plan.backends else ()
    peers = (PEERS_ENVIRONMENT,) if plan.peers else ()
    return cuda + tuple(BASELINES[name] for name in plan.baselines) + peers


def _line(content: Any) -> str:
    return records.canonical_json(content) + "\n"


def changes(files: dict[Path, str], folder: Path) -> tuple[list[Path], list[Path]]:
    """The plan files to write, and the stale ones under `folder` (a results folder's plan) to delete."""
    present = {*folder.glob("*.json"), *folder.glob("cases/*.json")}
    return [path for path, text in files.items() if _read(path) != text], sorted(present - files.keys())


def write(files: dict[Path, str], changed: list[Path], obsolete: list[Path]) -> None:
    """Writes the changed plan files, each atomically, and deletes the obsolete ones."""
    for path in changed:
        records.write_text(path, files[path])
        if is_made_by_hand(path):
            moment = environments.ready_file(path.stem).stat().st_mtime - 1
            os.utime(path, (moment, moment))  # not to be made again
    for path in obsolete:
        path.unlink(missing_ok=True)  # `elastickv plan` takes no lock: another one may have deleted it


def is_made_by_hand(path: Path) -> bool:
    """Whether a plan file that is to be written is of an environment that was made, or adopted, without it."""
    return path.parent == ENVIRONMENT_PLAN and environments.is_current(path.stem)


def unfinish(plan: Plan, changing: Iterable[Path] | None = None) -> None:
    """Deletes the manifest of a finished run, before anything that it lists changes; the next run writes it last.

    A manifest therefore always matches the files that it lists; a results folder without one is an unfinished run.
    changing: plan files about to change; a manifest knows nothing of the notebook's. None: jobs are about to run.
    """
    if changing is None or any(path.is_relative_to(plan.folder) and path.name != "notebook.json" for path in changing):
        (plan.results / "manifest.json").unlink(missing_ok=True)


def state_run(plan: Plan) -> None:
    """Writes commit, sources and command of the run that is about to change a results folder, for its manifest."""
    records.write_text(plan.folder / "run.json", _line(records.content(provenance.here())))


def retire(plan: Plan) -> list[Path]:
    """Moves records that the plan no longer has out of the results folder, to `.retired/`; returns where they went."""
    wanted = {path.name for path in plan.records}
    found = [path for path in plan.results.glob("results_*.json") if path.name not in wanted]
    disabled = [plan.results / f"{name}_baseline.json" for name in BASELINES if name not in plan.baselines]
    disabled += sorted(set(plan.results.glob("peers_*.json")) - set(plan.peer_records))
    found += [path for path in disabled if path.exists()]
    retired = plan.results / ".retired"
    if found:
        retired.mkdir(exist_ok=True)
    return [path.replace(retired / path.name) for path in found]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def run(args: argparse.Namespace) -> int:
    """`elastickv plan`: what the steps of a results folder read, for running them by hand, one command each."""
    config = matrix.load(args.configfile or [matrix.CONFIG_DEFAULT], args.config)
    resolved = resolve(config)
    matrix.check_results_writable(config)
    files = results_contents(config, resolved)
    changed, obsolete = changes(files, resolved.folder)
    unfinish(resolved, [*changed, *obsolete])
    write(files, changed, obsolete)
    state_run(resolved)
    retire(resolved)
    print(f"{resolved.folder}: {len(resolved.cases)} cases")
    return 0
