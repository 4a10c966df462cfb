"""Merges config files and overrides, and remembers where each value was written."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elastickv.errors import UsageError
from elastickv.matrix.wording import KeyPath, dotted, kind, shown

if TYPE_CHECKING:  # PyYAML is imported only when needed: workers read only canonical JSON
    from elastickv.matrix.strict_yaml import Document

OVERRIDES = "--config"


class Layers:
    """The merged config: later layers take precedence key by key; lists and scalars are replaced as a whole.

    tree: the merged plain value. problem(): a message with file, line and key path. problems: what could not be read;
    lost: the key paths whose value is therefore unknown, () for a whole file.
    """

    def __init__(self) -> None:
        self.tree: Any = {}
        self.sources: list[str] = []
        self.problems: list[str] = []
        self.lost: set[KeyPath] = set()
        self._origins: dict[KeyPath, tuple[str, int | None]] = {}

    def add(self, document: Document) -> None:
        """Merges a document as the topmost layer."""
        self.sources.append(document.source)
        self.problems += document.problems
        self.lost |= document.lost
        self.tree = self._merge(self.tree, document.value, (), document)

    def lose(self, path: KeyPath, problems: list[str]) -> None:
        """Records why a layer's value at `path` is unknown."""
        self.problems += problems
        self.lost.add(path)

    def origin(self, path: KeyPath) -> str:
        """`file:line` of the value at `path`, or of its nearest enclosing value that was written in a file."""
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


def touches(path: KeyPath, places: Set[KeyPath]) -> bool:
    """Whether one of `places` is equal to, above or below `path`."""
    return any(place[: len(path)] == path or path[: len(place)] == place for place in places)


def merge(
    files: list[Path | str], overrides: dict[str, Any] | list[str] | None = None, flag: str = OVERRIDES
) -> Layers:
    """Reads and merges files, then overrides: values by nested or dotted key, or texts `KEY=VALUE`.

    flag: the name of the overrides in messages. Unreadable parts are left out: see `problems` and `lost` of the result.
    """
    layers = Layers()
    for file in files:
        try:
            layers.add(_read_mapping(file))
        except UsageError as error:
            layers.lose((), error.problems)
    if isinstance(overrides, list):
        overrides, problems = overrides_from_flags(overrides, flag)
        layers.problems += problems
    for key, value in (overrides or {}).items():
        path = _override_path(str(key), layers.tree)
        try:
            layers.add(_override(path, value, flag, key))
        except UsageError as error:
            layers.lose(path, error.problems)
    return layers


def _read_mapping(file: Path | str) -> Document:
    from elastickv.matrix import strict_yaml

    document = strict_yaml.read_file(file)
    if isinstance(document.value, dict):
        return document
    needed = "is empty; a config must be a mapping of keys to values"
    if document.value is not None:
        needed = f"must be a mapping of keys to values, not {kind(document.value)}"
    raise UsageError([*document.problems, f"{document.source}:{document.lines.get((), 1)}: {needed}"])


def overrides_tree(files: list[Path | str], flags: list[str]) -> dict[str, Any]:
    """Valid overrides `KEY=VALUE`, nested as in a config file. files: show which ids contain dots."""
    below, overrides = merge(files).tree, Layers()
    for key, text in overrides_from_flags(flags)[0].items():
        overrides.add(_override(_override_path(key, below), text, OVERRIDES, key))
    return overrides.tree


def overrides_from_flags(flags: list[str], flag: str = OVERRIDES) -> tuple[dict[str, str], list[str]]:
    """`["backend=cpu", "measure.reps=5"]` -> {"backend": "cpu", "measure.reps": "5"}, and problems of invalid ones."""
    problems, overrides = [], {}
    for entry in flags:
        key, equals, text = entry.partition("=")
        if not equals or not key.strip():
            problems.append(f"{flag} {entry}: must be KEY=VALUE, for example measure.reps=50")
            continue
        overrides[key.strip()] = text
    return overrides, problems


def _override(path: KeyPath, value: Any, flag: str, key: str) -> Document:
    """An override as a document: text is read as YAML, also inside nested values (Snakemake passes these as text).

    Raises UsageError. Messages have no line numbers, since the value is a single line.
    """
    from elastickv.matrix import strict_yaml

    source = f"{flag} {key}"
    document = strict_yaml.Document(source, None)
    if isinstance(value, str) and value.strip():
        try:
            document = strict_yaml.parse(value, source, numbered="\n" in value.strip())
        except UsageError as error:
            raise UsageError([f"{problem}; the value is {shown(value)}" for problem in error.problems]) from None
    else:
        document.value = _read_scalars(value, path, document)
    nested = document.value
    for part in reversed(path):
        nested = {part: nested}
    lost = {(*path, *place) for place in document.lost}
    return strict_yaml.Document(flag, nested, problems=document.problems, lost=lost)


def _read_scalars(value: Any, path: KeyPath, document: Document) -> Any:
    """A value with its texts read as plain scalars. Rejected texts are added to the document's problems."""
    from elastickv.matrix import strict_yaml

    if isinstance(value, dict):
        return {str(key): _read_scalars(item, (*path, str(key)), document) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_read_scalars(item, (*path, index), document) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    if refused := strict_yaml.ambiguity(value):
        document.problems.append(f"{OVERRIDES}: {dotted(path)}: {refused}")
    return strict_yaml.scalar(value)


def _override_path(key: str, tree: Any) -> KeyPath:
    """Splits `cases.a.b.window` at dots. Ids may contain dots: at each level the longest existing key is taken."""
    parts, path = key.split("."), []
    while parts:
        known = tree if isinstance(tree, dict) else {}
        length = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in known), 1)
        path.append(".".join(parts[:length]))
        tree = known.get(path[-1])
        parts = parts[length:]
    return tuple(path)
