"""Finds and reads the records of a results folder; a record that violates its schema is a fault."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.audit.finding import Findings
from elastickv.system import readable

# Path in the results folder -> schema (None: any JSON object).
SCHEMAS = {
    r"results_.+\.json": "measurement",
    r"ceilings\.json": "ceilings",
    r"(transformers|gguf)_baseline\.json": "baseline",
    r"peers_.+\.json": "peers",
    r"verdicts\.json": "verdict",
    r"social_media_content\.json": "social",
    r"manifest\.json": "manifest",
    r"\.plan/cases\.json": "cases",
    r"\.plan/golden\.json": "golden",
    r"\.plan/noise\.json": "noise",
    r"\.plan/run\.json": "provenance",
    r"\.plan/config\.json": None,
    r"\.plan/cases/.+\.json": "case",
}
MARKS = {".plan", ".records", ".logs", ".retired", "figures", "summary.csv", "report.md", "social_media_content.txt"}


def is_record(name: str) -> bool:
    """Whether a path in a results folder is that of a record."""
    return any(re.fullmatch(pattern, name) for pattern in SCHEMAS)


def is_results_folder(names: list[str]) -> bool:
    """Whether any of the names in a folder belongs to the output of a run."""
    return any(name in MARKS or is_record(name) for name in names)


class Folder:
    """A results folder; each record is read once, and what cannot be read is a fault, once."""

    def __init__(self, path: Path, findings: Findings):
        self.path, self.findings = path, findings
        self._readable: dict[str, bool] = {}
        self._records: dict[str, Any] = {}

    def has(self, name: str) -> bool:
        """Whether a path exists in the folder, readable or not."""
        return os.path.lexists(self.path / name)

    def names(self, pattern: str) -> list[str]:
        """Paths that match the pattern, relative to the folder, sorted; temporary and hidden files left out."""
        found = (path for path in self.path.glob(pattern) if not path.name.startswith("."))
        return sorted(path.relative_to(self.path).as_posix() for path in found)

    def can_read(self, name: str, listed: str = "") -> bool:
        """Whether a file can be read. listed: where the manifest lists it."""
        if name not in self._readable:
            found = readable.obstacle(self.path / name)
            self._readable[name] = found is None
            if found:
                missing = f"the file that manifest.json lists ({listed})" if listed and found == "nothing" else ""
                self.findings.of(name).fault("(file)", found, missing or "a file that can be read")
        return self._readable[name]

    def text(self, name: str) -> str | None:
        """A text file; None if it does not exist, and if it cannot be read."""
        try:
            return (self.path / name).read_text(encoding="utf-8") if self.has(name) and self.can_read(name) else None
        except ValueError as error:
            self.findings.of(name).fault("(file)", str(error), "a UTF-8 text")
            return None

    def record(self, name: str) -> Any:
        """The record at a path of the folder; None if it does not exist, and if it cannot be read or is not valid."""
        if name not in self._records:
            self._records[name] = self._load(name) if self.has(name) and self.can_read(name) else None
        return self._records[name]

    def _load(self, name: str) -> Any:
        self.findings.checked["records"] += 1
        path, about = self.path / name, self.findings.of(name)
        schema = next(schema for pattern, schema in SCHEMAS.items() if re.fullmatch(pattern, name))
        try:
            return records.read(path, schema)
        except records.OtherVersion as error:
            about.fault("schema", str(error).removeprefix(f"{path}: "), records.version(schema))
        except records.RecordError as error:
            reason = str(error).removeprefix(f"{path}: ")
            where, _, what = reason.removeprefix(f"not a valid {schema} record: ").partition(": ")
            if reason.startswith("not a valid "):
                about.fault(where, what, f"what schemas/{schema}.schema.json allows")
            else:
                about.fault("(file)", reason, f"a {schema or 'JSON'} record")
        return None
