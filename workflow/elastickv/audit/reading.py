"""Finds and reads the records of a results folder; a record that violates its schema is a fault."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.audit.finding import Findings
from elastickv.system import readable

# Name in the results folder -> schema.
NAMED = {
    "ceilings.json": "ceilings",
    "transformers_baseline.json": "baseline",
    "gguf_baseline.json": "baseline",
    "verdicts.json": "verdict",
    "social_media_content.json": "social",
    "manifest.json": "manifest",
    ".plan/cases.json": "cases",
    ".plan/golden.json": "golden",
    ".plan/noise.json": "noise",
    ".plan/run.json": "provenance",
}
PATTERNS = {
    re.compile(r"results_.+\.json"): "measurement",
    re.compile(r"peers_.+\.json"): "peers",
    re.compile(r"\.plan/cases/.+\.json"): "case",
}
STORE = ".records"
CONFIG = ".plan/config.json"
STORED = ("measurement", "baseline", "peers")  # the schemas of the store's records
MARKS = (".plan", ".records", ".logs", ".retired", "figures", "summary.csv", "report.md", "social_media_content.txt")


FOLDERS = (".plan", ".plan/cases", STORE, "figures")
# Leftovers of killed processes and logs: nothing that is published depends on them.
UNCHECKED = re.compile(r"\.(logs|retired)(/.*)?|(.*/)?\.[^/]*\.part")


def is_results_folder(names: list[str]) -> bool:
    """Whether any of the names in a folder belongs to the output of a run."""
    return any(name in names for name in (*NAMED, *MARKS)) or any(re.fullmatch(r"results_.*\.json", n) for n in names)


def schema_of(name: str) -> str | None:
    """The schema of the record with this path in a results folder; None if it is not a record."""
    return NAMED.get(name) or next((schema for pattern, schema in PATTERNS.items() if pattern.fullmatch(name)), None)


@cache
def _stored() -> dict[str, str]:
    """The schemas of the store's records by the name and version in a record's field `schema`."""
    return {records.schema(name)["properties"]["schema"]["const"]: name for name in STORED}


class Folder:
    """A results folder; each record is read once, and unreadable ones are added to `findings`.

    unreadable: unreadable paths with reasons, determined when the folder is opened. Reading one of them returns None
    without another fault.
    """

    def __init__(self, path: Path, findings: Findings):
        self.path, self.findings = path, findings
        self.unreadable = dict(readable.obstacles(path))
        for name in FOLDERS:
            if (path / name).is_file():
                self.unreadable[name] = "a file"
        self._read: dict[str, Any] = {}

    def report_unreadable(self, listed: set[str] | None) -> None:
        """Adds a fault for each unreadable path, or a note if nothing refers to the path.

        listed: the files that the manifest lists; None without a readable manifest.
        """
        for name, why in self.unreadable.items():
            if UNCHECKED.fullmatch(name) or not self._matters(name, listed):
                self.findings.notes.append(f"{name}: {why}: not checked")
            else:
                kind = "a folder" if name in FOLDERS or why.startswith("a folder that") else "a file"
                self.findings.of(name).fault("(file)", why, f"{kind} that can be read")

    def _matters(self, name: str, listed: set[str] | None) -> bool:
        """Whether a path is, or contains, output of a run."""
        if listed is None or name.startswith(".") or name in FOLDERS or schema_of(name):
            return True
        return any(path == name or path.startswith(f"{name}/") for path in listed)

    def has(self, name: str) -> bool:
        """Whether a path exists in the folder, readable or not."""
        return name in self.unreadable or os.path.lexists(self.path / name)

    def names(self, *patterns: str) -> list[str]:
        """Paths that match the patterns, relative to the folder, sorted; temporary and hidden files left out."""
        found = {path for pattern in patterns for path in self.path.glob(pattern) if not path.name.startswith(".")}
        return sorted(path.relative_to(self.path).as_posix() for path in found)

    def record(self, name: str) -> Any:
        """The record at a path of the folder; None (and a fault, once) when it cannot be read or breaks its schema."""
        if name not in self._read:
            self._read[name] = self._load(name, schema_of(name))
        return self._read[name]

    def stored(self, name: str) -> tuple[str, Any]:
        """Schema and content of a record of the store; its field `schema` names its schema."""
        if name in self.unreadable:
            return "", None
        try:
            content = records.parse((self.path / name).read_text(encoding="utf-8"))
            schema = _stored().get(content.get("schema")) if isinstance(content, dict) else None
        except (OSError, ValueError):
            schema = "measurement"
        return (schema, self._load(name, schema)) if schema else ("", self._unknown(name, content))

    def _unknown(self, name: str, content: Any) -> None:
        stated = content.get("schema") if isinstance(content, dict) else type(content).__name__
        self.findings.of(name).fault("schema", stated, f"one of {', '.join(_stored())}")

    def _load(self, name: str, schema: str | None) -> Any:
        if name in self.unreadable:
            return None
        self.findings.checked["records"] += 1
        path = self.path / name
        try:
            return records.read(path, schema)
        except records.OtherVersion as error:
            self.findings.of(name).fault("schema", str(error).removeprefix(f"{path}: "), records.version(schema))
        except records.RecordError as error:
            reason = str(error).removeprefix(f"{path}: ")
            where, _, what = reason.removeprefix(f"not a valid {schema} record: ").partition(": ")
            if reason.startswith("not a valid "):
                self.findings.of(name).fault(where, what, f"what schemas/{schema}.schema.json allows")
            else:
                self.findings.of(name).fault("(file)", reason, f"a {schema} record")
        return None

    def config(self) -> dict[str, Any] | None:
        """The plan's config; None where there is none, and (with a fault, once) when it is no JSON object."""
        if CONFIG not in self._read and self.has(CONFIG) and CONFIG not in self.unreadable:
            try:
                content = records.parse((self.path / CONFIG).read_text(encoding="utf-8"))
                self._read[CONFIG] = content if isinstance(content, dict) else None
                problem = "no object"
            except (OSError, ValueError) as error:
                self._read[CONFIG], problem = None, str(error)
            if self._read[CONFIG] is None:
                self.findings.of(CONFIG).fault("(file)", problem, "a JSON object")
        return self._read.get(CONFIG)

    def text(self, name: str) -> str | None:
        """A text file; None (and a fault) when it cannot be read."""
        if name in self.unreadable:
            return None
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            self.findings.of(name).fault("(file)", readable.reason(error), "a UTF-8 text")
            return None
