"""Which records a results folder holds, and reading them: what does not fit its schema is a fault."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.verify.finding import Findings

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
    ".plan/run.json": "provenance",
}
PATTERNS = {
    re.compile(r"results_.+\.json"): "measurement",
    re.compile(r"peers_.+\.json"): "peers",
    re.compile(r"\.plan/cases/.+\.json"): "case",
}
STORE = ".records"
CONFIG = ".plan/config.json"
STORED = {"measurement/2": "measurement", "baseline/1": "baseline", "peers/2": "peers"}
MARKS = (".plan", ".records", ".logs", ".retired", "figures", "summary.csv", "report.md", "social_media_content.txt")


def is_results_folder(folder: Path) -> bool:
    """Whether anything in a folder is what a run leaves."""
    return any((folder / name).exists() for name in (*NAMED, *MARKS)) or any(folder.glob("results_*.json"))


def schema_of(name: str) -> str | None:
    """The schema of the record with this path in a results folder; None for what is no record."""
    return NAMED.get(name) or next((schema for pattern, schema in PATTERNS.items() if pattern.fullmatch(name)), None)


class Folder:
    """A results folder, each record read once. `findings` gets what cannot be read."""

    def __init__(self, path: Path, findings: Findings):
        self.path, self.findings = path, findings
        self._read: dict[str, Any] = {}

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

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
        """Schema and content of a record of the store: what it is stands in its own field `schema`."""
        try:
            said = records.parse((self.path / name).read_text(encoding="utf-8"))
            schema = STORED.get(said.get("schema")) if isinstance(said, dict) else None
        except (OSError, ValueError):
            schema = "measurement"
        return (schema, self._load(name, schema)) if schema else ("", self._unknown(name, said))

    def _unknown(self, name: str, said: Any) -> None:
        told = said.get("schema") if isinstance(said, dict) else type(said).__name__
        self.findings.of(name).fault("schema", told, f"one of {', '.join(STORED)}")

    def _load(self, name: str, schema: str | None) -> Any:
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
        if CONFIG not in self._read and self.has(CONFIG):
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
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            self.findings.of(name).fault("(file)", str(error), "a UTF-8 text")
            return None
