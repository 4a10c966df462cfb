"""Checks the plan of a results folder, the manifest's copy of it, and that each record belongs to its planned case."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from elastickv import records
from elastickv.audit.reading import Folder
from elastickv.judge import folder as results_folder

CASES = ".plan/cases.json"
LIMITS = ("golden", "noise")


class Plan(NamedTuple):
    """The canonical cases by id in order (None: its file cannot be read); limits: `golden` and `noise`, if known.

    file: what lists the cases.
    """

    cases: dict[str, dict[str, Any] | None]
    limits: dict[str, dict[str, float] | None]
    file: Path

    def thresholds(self, stated: dict[str, Any]) -> dict[str, Any]:
        """The plan's thresholds, as in verdicts.json; those `stated` there, where the plan has none."""
        return {**stated, **(self.limits["golden"] or {}), "noise": self.limits["noise"] or stated.get("noise")}


def check(folder: Folder, manifest: dict[str, Any] | None) -> Plan | None:
    """The plan, or None if there is none that can be read. A folder published without a plan has its manifest's."""
    parts = {name: folder.record(f".plan/{name}.json") for name in ("cases", "golden", "noise", "config", "run")}
    cases = {}
    for name in folder.names(".plan/cases/*.json"):
        case = name.removeprefix(".plan/cases/").removesuffix(".json")
        cases[case] = folder.record(name)
        if cases[case]:
            folder.findings.of(name).same("id", cases[case]["id"], case)
    config = parts["config"] if isinstance(parts["config"], dict) else {}
    for part in LIMITS:
        if parts[part] and part in config:
            folder.findings.of(f".plan/{part}.json").same("", parts[part], config[part])
    if manifest:
        _as_configured(folder, manifest)
        _copy(folder, manifest, parts, cases)
        if not folder.has(".plan"):
            parts |= {name: (manifest["config"] or {}).get(name) for name in LIMITS}
            try:
                planned = results_folder.cases_of(folder.path / results_folder.MANIFEST).cases
            except records.RecordError as error:
                folder.findings.of("manifest.json").fault("cases", str(error), "canonical cases")
                return None
            cases = {case["id"]: case for case in manifest["cases"]}
            parts["cases"] = {"cases": planned}
    if not parts["cases"]:
        return None
    planned = {case: cases.get(case) for case in parts["cases"]["cases"]}
    return Plan(planned, {name: parts[name] for name in LIMITS}, results_folder.plan_file(folder.path))


def _as_configured(folder: Folder, manifest: dict[str, Any]) -> None:
    """The manifest's cases are all those of its config, which has the hash that it states, and limits."""
    about, config = folder.findings.of("manifest.json", "fields of the plan"), manifest["config"]
    if not about.require(config is not None, "config", "null", "the resolved config of the run"):
        return
    if manifest.get("config_sha256"):
        digest = hashlib.sha256(records.canonical_json(config).encode()).hexdigest()
        about.same("config_sha256", manifest["config_sha256"], digest)
    for part in LIMITS:
        if part not in config:
            about.note(f"the config states no limits `{part}`: those of verdicts.json are taken")
    if "cases" in config:
        about.same("cases", {case["id"]: case for case in manifest["cases"]}, config["cases"])


def _copy(folder: Folder, manifest: dict[str, Any], parts: dict[str, Any], cases: dict[str, Any]) -> None:
    """The manifest repeats the plan's cases, config and run."""
    about = folder.findings.of("manifest.json", "fields of the plan")
    if parts["cases"]:
        about.same("cases", [case.get("id") for case in manifest["cases"]], parts["cases"]["cases"])
    for index, case in enumerate(manifest["cases"]):
        if cases.get(case.get("id")):
            about.same(f"cases.{index}", case, cases[case["id"]])
    for part in ("run", "config"):
        if parts[part]:
            about.same(part, manifest[part], parts[part])


def record_of(folder: Folder, name: str, plan: Plan | None, finished: bool) -> dict[str, Any] | None:
    """The measurement record of a file: its case has to be the file's and the plan's. None when it cannot be read."""
    record = folder.record(name)
    if record is None:
        return None
    about = folder.findings.of(name)
    case = name.removeprefix("results_").removesuffix(".json")
    about.require(record["case"]["id"] == case, "case.id", record["case"]["id"], case)
    if plan and case not in plan.cases:
        if finished:
            about.fault("case.id", case, f"one of the {len(plan.cases)} cases of the plan")
        else:
            about.note("not in the plan any more: the next run moves it away")
    if plan and plan.cases.get(case):
        about.same("case", record["case"], plan.cases[case])
    return record
