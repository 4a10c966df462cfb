"""The validated config: files and overrides merged, checked, defaults filled in, every case resolved."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import MISSING

from elastickv.errors import UsageError
from elastickv.matrix import cases, layers, peers, results, structure, sweep
from elastickv.matrix.layers import Layers, touches
from elastickv.matrix.sweep import Row
from elastickv.matrix.wording import KeyPath, dotted, shown
from elastickv.schemas import config as keys
from elastickv.schemas.case import AnyCase, case_of

CONFIG_DEFAULT = "config/config.yaml"
BENCH = "bench"
BENCH_SHAPE = {"seq": 1024, "heads": 16, "dim": 64, "compress": 2}  # `elastickv bench` without flags
DEFAULT = keys.Root()


@dataclass(frozen=True)
class Config:
    """A valid config with defaults filled in. cases: by id, in the order written.

    sweeps: the case ids of each entry of `matrices`, by its name. sources: the config files; results_origin: the file
    and line that name the results folder, for messages.
    """

    results: str
    backend: str
    build: keys.Build
    measure: keys.Measure
    golden: keys.Golden
    noise: keys.Noise
    baselines: keys.Baselines
    cases: dict[str, AnyCase]
    sweeps: dict[str, list[str]] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    results_origin: str = "config"


def load(
    files: list[Path | str], overrides: dict[str, Any] | list[str] | None = None, flag: str = layers.OVERRIDES
) -> Config:
    """Reads, merges and validates config files (later ones take precedence), then applies overrides.

    overrides: nested or dotted keys, as Snakemake passes them, or `KEY=VALUE` texts.
    flag: their name in messages. Raises UsageError with every problem found.
    """
    merged = layers.merge(list(files), overrides, flag)
    problems, concerned = structure.problems(merged)
    tree = merged.tree
    rows = _rows(merged, concerned, problems)
    measure = keys.Measure(**_section(tree, "measure", concerned))
    backend = tree.get("backend", DEFAULT.backend)
    resolved = _resolve(merged, rows, measure, backend, concerned, problems)
    if not rows and not problems:
        problems.append(merged.problem((), "cases and matrices are both empty: nothing to measure"))
    folder = tree.get("results", DEFAULT.results)
    if ("results",) not in concerned:
        problems += [merged.problem(("results",), text) for text in results.faults(folder)]
    problems += _gguf_problems(merged, concerned)
    problems += _peer_problems(merged, concerned)
    if problems:
        raise UsageError(problems)
    return Config(
        results=results.tidy(folder),
        backend=backend,
        build=_build(tree.get("build", {})),
        measure=measure,
        golden=keys.Golden(**tree.get("golden", {})),
        noise=keys.Noise(**tree.get("noise", {})),
        baselines=_baselines(tree.get("baselines", {})),
        cases={case_id: case_of(content) for case_id, content in resolved.items()},
        sweeps=_sweeps(rows),
        sources=list(merged.sources),
        results_origin=merged.origin(("results",)),
    )


def case_from_flags(flags: dict[str, Any]) -> AnyCase:
    """A case from `elastickv bench` flags, validated like a case of the matrix. Raises UsageError.

    flags: case keys, `id`, `backend` and `measure`; absent shape keys take the original program's defaults.
    """
    given = {"measure": {}} | {key: value for key, value in flags.items() if key not in ("id", "backend")}
    faults = list(structure.faults(given, keys.Case))
    backend = flags.get("backend", DEFAULT.backend)
    if backend not in ("auto", "cuda", "cpu"):
        faults.append((("backend",), f"must be one of auto, cuda, cpu, not {shown(backend)}"))
    content: dict[str, Any] = {}
    if not faults:
        case_id = flags.get("id", BENCH)
        content, faults = cases.resolve(case_id, given, BENCH_SHAPE, keys.Measure(), backend)
    if faults:
        messages = [f"{BENCH}: --{path[-1]}: {text}" if path else f"{BENCH}: {text}" for path, text in faults]
        raise UsageError(list(dict.fromkeys(messages)))  # one value may violate several rules of the schema
    return case_of(content)


def check_results_writable(config: Config) -> None:
    """Raises UsageError unless the results folder exists or can be created, and is writable. Creates nothing."""
    results.check_writable(config.results, config.results_origin)


def _build(given: dict[str, Any]) -> keys.Build:
    """Complete build settings; architectures are sorted, so that reordering them rebuilds nothing."""
    settings = keys.Build(**given)
    return settings.model_copy(update={"architectures": sorted(settings.architectures)})


def _section(tree: dict[str, Any], name: str, concerned: set[KeyPath]) -> dict[str, Any]:
    """A section's keys without those that have structural faults."""
    section = tree.get(name, {})
    if not isinstance(section, dict):
        return {}
    return {key: value for key, value in section.items() if (name, key) not in concerned}


def _rows(merged: Layers, concerned: set[KeyPath], problems: list[str]) -> list[Row]:
    """Every structurally valid case. Duplicate ids are added to `problems`."""
    tree = merged.tree
    written = tree.get("cases") or {}
    rows = [
        Row(case_id, given, ("cases", case_id))
        for case_id, given in (written.items() if isinstance(written, dict) else ())
        if not touches(("cases", case_id), concerned)
    ]
    sweeps = tree.get("matrices") or {}
    for name, content in sweeps.items() if isinstance(sweeps, dict) else ():
        path = ("matrices", name)
        if touches(path, concerned):
            continue
        expanded, faults = sweep.expand(name, content, _section(tree, "defaults", concerned))
        problems += [merged.problem((*path, *place), text) for place, text in faults]
        rows += [row._replace(path=(*path, *row.path)) for row in expanded]
        problems += _id_problems(merged, path, expanded)
    seen: dict[str, KeyPath] = {}
    for row in rows:
        if row.id in seen:
            first = dotted(seen[row.id])
            problems.append(merged.problem(row.path, f"{first} has the same id {row.id}; ids must be unique"))
        seen.setdefault(row.id, row.path)
    return rows


def _sweeps(rows: list[Row]) -> dict[str, list[str]]:
    """Maps the name of each sweep to the ids of its cases."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.path[0] == "matrices":
            found.setdefault(row.path[1], []).append(row.id)
    return found


def _id_problems(merged: Layers, path: KeyPath, expanded: list[Row]) -> list[str]:
    """One problem for each place in the sweep at `path` whose case names are not valid ids."""
    ids: dict[KeyPath, list[str]] = {}
    for row in expanded:
        ids.setdefault((*path, *row.path), []).append(row.id)
    found = ((place, structure.sweep_id_problem(made)) for place, made in ids.items())
    return [merged.problem(place, text) for place, text in found if text]


def _resolve(
    merged: Layers,
    rows: list[Row],
    measure: keys.Measure,
    backend: str,
    concerned: set[KeyPath],
    problems: list[str],
) -> dict[str, dict[str, Any]]:
    """The content of the canonical cases by id. Conflicts between their keys are added to `problems`."""
    resolved: dict[str, dict[str, Any]] = {}
    common = _section(merged.tree, "defaults", concerned)
    defaults_broken = any(path[:1] == ("defaults",) for path in concerned)
    found: dict[KeyPath, list[str]] = {}  # all combinations of a sweep share places: one message per place
    for case_id, given, path in rows:
        case, faults = cases.resolve(case_id, given, common, measure, backend)
        for place, text in faults:
            if not place and defaults_broken:
                continue  # the missing key may be a default that was rejected
            if place[:1] == ("measure",) and "measure" not in common | given:
                found[place] = [text]  # reported once for all cases
            else:
                found.setdefault((*path, *place), []).append(f"{case_id}: {text}" if path[0] == "matrices" else text)
        resolved[case_id] = case
    for place, texts in found.items():
        alike = f" (and {len(texts) - 1} more like it)" if len(texts) > 1 and place[0] == "matrices" else ""
        problems += [merged.problem(place, text + alike) for text in (texts[:1] if alike else texts)]
    return resolved


def _gguf_problems(merged: Layers, concerned: set[KeyPath]) -> list[str]:
    """`baselines.gguf` names either `model`, or `repo` with `file`."""
    place = ("baselines", "gguf")
    if touches(place, concerned):
        return []
    gguf = merged.tree.get("baselines", {}).get("gguf", {})
    messages = []
    if ("repo" in gguf) != ("file" in gguf):
        messages.append("repo and file must be given together")
    if "repo" in gguf and "model" in gguf:
        messages.append("give either model, or repo and file, not both")
    return [merged.problem(place, text) for text in messages]


def _peer_problems(merged: Layers, concerned: set[KeyPath]) -> list[str]:
    """One problem for each entry of `baselines.peers.names` that is not a peer."""
    place = ("baselines", "peers", "names")
    if touches(place, concerned):
        return []
    names = merged.tree.get("baselines", {}).get("peers", {}).get("names", [])
    return [merged.problem((*place, index), text) for index, text in peers.faults(names)]


def _baselines(given: dict[str, Any]) -> keys.Baselines:
    """Complete settings of every baseline. If `repo` names the model of gguf, `model` is absent."""
    settings = keys.Baselines(**given)
    gguf = settings.gguf
    if gguf.repo is not MISSING:
        gguf = gguf.model_copy(update={"model": MISSING})
    return settings.model_copy(update={"gguf": gguf, "peers": peers.completed(settings.peers)})
