"""Lays config files and `--config` overrides over each other, remembering where each value was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from elastickv.errors import UsageError
from elastickv.matrix.wording import KeyPath, dotted, kind

if TYPE_CHECKING:  # PyYAML is loaded only when there is YAML to read: workers need no more than canonical JSON
    from elastickv.matrix.strict_yaml import Document

OVERRIDES = "--config"


class Layers:
    """The merged config: later layers win key by key; lists and scalars are replaced whole.

    tree: the merged plain value. problem(): one message that names file, line and key path.
    """

    def __init__(self) -> None:
        self.tree: Any = {}
        self.sources: list[str] = []
        self._origins: dict[KeyPath, tuple[str, int | None]] = {}

    def add(self, document: Document) -> None:
        """Puts a document on top."""
        self.sources.append(document.source)
        self.tree = self._merge(self.tree, document.value, (), document)

    def origin(self, path: KeyPath) -> str:
        """`file:line` of the value at `path`, or of the nearest thing around it that was written somewhere."""
        for length in range(len(path), -1, -1):
            if path[:length] in self._origins:
                source, line = self._origins[path[:length]]
                return f"{source}:{line}" if line else source
        return ", ".join(self.sources) or "config"

    def problem(self, path: KeyPath, text: str) -> str:
        """A message about the value at `path`."""
        return f"{self.origin(path)}: {dotted(path)}: {text}" if path else f"{self.origin(path)}: {text}"

    def _merge(self, below: Any, above: Any, path: KeyPath, document: Document) -> Any:
        if not (isinstance(above, dict) and isinstance(below, dict) and path in self._origins):
            self._origins[path] = (document.source, document.lines.get(path))
        if not isinstance(above, dict):
            if isinstance(above, list):
                self._note_items(above, path, document)
            return above
        merged = dict(below) if isinstance(below, dict) else {}
        for key, value in above.items():
            merged[key] = self._merge(merged.get(key), value, (*path, key), document)
        return merged

    def _note_items(self, value: Any, path: KeyPath, document: Document) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in items:
            self._origins[(*path, key)] = (document.source, document.lines.get((*path, key)))
            self._note_items(item, (*path, key), document)


def merge(files: list[Path | str], overrides: dict[str, Any] | None) -> Layers:
    """Reads and merges files, then overrides (see `parse_overrides`). Raises UsageError with the problems of all."""
    from elastickv.matrix import strict_yaml

    layers, problems, documents = Layers(), [], []
    try:
        overrides = parse_overrides(overrides or {})
    except UsageError as error:
        problems += error.problems
    for file in files:
        try:
            document = strict_yaml.read_file(file)
        except UsageError as error:
            problems += error.problems
            continue
        if isinstance(document.value, dict):
            documents.append(document)
        else:
            where = f"{document.source}:{document.lines.get((), 1)}"
            if document.value is None:
                problems.append(f"{where}: is empty; a config is a mapping of keys to values")
            else:
                problems.append(f"{where}: a mapping of keys to values is needed, this is {kind(document.value)}")
    if problems:
        raise UsageError(problems)
    for document in documents:
        layers.add(document)
    for key, value in overrides.items():
        nested = value
        for part in reversed(_override_path(str(key), layers.tree)):
            nested = {part: nested}
        layers.add(strict_yaml.Document(OVERRIDES, nested))
    return layers


def overrides_from_flags(flags: list[str]) -> dict[str, str]:
    """`["backend=cpu", "measure.reps=5"]` -> {"backend": "cpu", "measure.reps": "5"}. Raises UsageError."""
    problems, overrides = [], {}
    for flag in flags:
        key, equals, text = flag.partition("=")
        if not equals or not key.strip():
            problems.append(f"{OVERRIDES} {flag}: must be KEY=VALUE, for example measure.reps=50")
            continue
        overrides[key.strip()] = text
    if problems:
        raise UsageError(problems)
    return overrides


def parse_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    """Override values with their text read as YAML (Snakemake hands over nested values as text). Raises UsageError."""
    problems, parsed = [], {}
    for key, value in overrides.items():
        try:
            parsed[str(key)] = _parse_override(value, f"{OVERRIDES} {key}", top=True)
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageError(problems)
    return parsed


def _parse_override(value: Any, source: str, top: bool = False) -> Any:
    from elastickv.matrix import strict_yaml

    if isinstance(value, dict):
        return {str(key): _parse_override(item, source) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_parse_override(item, source) for item in value]
    if not isinstance(value, str):
        return value
    if top and value.strip():
        return strict_yaml.parse(value, source).value
    return strict_yaml.scalar(value)


def _override_path(key: str, tree: Any) -> KeyPath:
    """Splits `cases.a.b.window` at dots; ids may hold dots, so the longest key that exists wins at each level."""
    parts, path = key.split("."), []
    while parts:
        known = tree if isinstance(tree, dict) else {}
        length = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in known), 1)
        path.append(".".join(parts[:length]))
        tree = known.get(path[-1])
        parts = parts[length:]
    return tuple(path)
