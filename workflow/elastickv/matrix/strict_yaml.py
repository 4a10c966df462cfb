"""Reads YAML strictly: YAML 1.2 core scalars, string keys, no duplicate keys, no tags, no merge keys, no alias bombs.

PyYAML's loaders follow YAML 1.1 (`4096_8` and `1e3` have other meanings, `yes` is true, `2025-01-01` is a date) and
accept duplicate keys. This module builds plain Python values from PyYAML's nodes, which know their positions, and
limits size, depth and alias expansion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from elastickv.errors import UsageError
from elastickv.matrix.wording import KeyPath, dotted

MOST_BYTES = 2 * 1024 * 1024
MOST_DEPTH = 32
MOST_VALUES = 200_000  # after expanding aliases

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # which gives no scalar a type
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"([-+]?)0+([0-9]+)")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LONGEST_NUMBER = 400  # characters; Python refuses to print integers of more than 4,300 digits
MERGE_KEY = (
    "merge keys are not allowed (YAML 1.2 has none); write the keys out, move shared keys to `defaults`, "
    "or use an alias for a whole value, as in `b: *a`"
)


@dataclass
class Document:
    """One parsed YAML text: its value, and the line (from 1) of each key path.

    problems: violations of strict YAML in a text that still has a value; lost: key paths with several written values,
    of which the document holds one. A document with problems must be used only to find more problems.
    """

    source: str
    value: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    lost: set[KeyPath] = field(default_factory=set)


def scalar(text: str) -> Any:  # noqa: PLR0911 (one return for each kind of scalar)
    """The value of a plain (unquoted) scalar by YAML 1.2 core rules: None, bool, int, float or the text itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEXADECIMAL.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def ambiguity(text: str) -> str | None:
    """Why a plain scalar is rejected as ambiguous, and what to write instead; None if it is not ambiguous.

    A leading zero means octal in YAML 1.1 and nothing in YAML 1.2: `0100` is 64 or 100.
    """
    found = _LEADING_ZERO.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    if found is None:
        return None
    sign, digits = found.groups()
    octal = "" if sign or len(digits) == 1 or re.search("[89]", digits) else f", 0o{digits} for {int(digits, 8)}"
    return (
        f"{text} has a leading zero, which some YAML readers read as an octal number and others ignore; "
        f'write {sign}{digits}{octal}, or "{text}" in quotes for text'
    )


def read_file(path: Path | str) -> Document:
    """Reads one YAML file. Raises UsageError if it is missing, unreadable, too large or not YAML."""
    source = str(path)
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{source}: cannot be read: {reason}") from error
    if len(content) > MOST_BYTES:
        raise UsageError(f"{source}: larger than {MOST_BYTES // 1024**2} MiB, the size limit of a config file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(
            f"{source}:{line}: not UTF-8 text (byte 0x{content[error.start]:02x}); save it as UTF-8"
        ) from None
    return parse(text, source)


def parse(text: str, source: str, numbered: bool = True) -> Document:
    """Parses YAML text. source: its name in messages. The value of a text without a document is None.

    numbered: whether messages include line numbers. Raises UsageError with all problems so far if parsing must stop.
    """
    reader = _Reader(source, numbered)
    try:
        reader.check_events(text)
        root = yaml.compose(text, Loader=_LOADER)
        if root is not None:
            reader.document.lines[()] = root.start_mark.line + 1
            reader.document.value = reader.value(root, ())
    except yaml.MarkedYAMLError as error:
        reader.stop(*_syntax_problem(error, text))
    except yaml.reader.ReaderError as error:  # this error has a position but no line
        reader.stop(text.encode()[: error.position].count(b"\n") + 1, f"not YAML: {error.reason}")
    except UnicodeEncodeError:
        raise UsageError(f"{source}: not YAML: contains characters that are not valid Unicode") from None
    return reader.document


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str]:
    """Line and message of a syntax error. An error at the end of the text is reported for its last line."""
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    line = min(mark.line + 1, max(len(lines), 1)) if mark else 1
    written = lines[line - 1] if lines else ""
    indentation = written[: len(written) - len(written.lstrip())]
    hint = "; a tab cannot indent YAML, use spaces" if "\t" in indentation or "'\\t'" in str(error.problem) else ""
    what = ": ".join(part for part in (error.context, error.problem) if part)
    return line, f"YAML syntax error: {what}{hint}"


class _Reader:
    """Turns nodes into plain values and collects violations of strict YAML."""

    def __init__(self, source: str, numbered: bool):
        self.document = Document(source, None)
        self._numbered = numbered
        self._values = 0
        self._inside: list[yaml.Node] = []  # the collections being read, the outermost first

    def check_events(self, text: str) -> None:
        """Rejects tags and a second document. Stops at deep nesting, which could exhaust `yaml.compose`'s stack."""
        documents = depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                self.stop(line, "a second YAML document starts here; a config file must hold only one")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            self._check_depth(depth, line)
            if getattr(event, "tag", None) is not None:
                self._problem(line, f"YAML tag {event.tag!r}: tags are not allowed; write the plain value")

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """The plain value of a node. Raises UsageError if continuing could exhaust memory."""
        line = node.start_mark.line + 1
        self.document.lines.setdefault(path, line)
        self._values += 1
        if self._values > MOST_VALUES:
            self.stop(line, f"more than {MOST_VALUES} values after expanding aliases; write a sweep under `matrices`")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path, line)
        if node in self._inside:
            self.stop(line, f"{dotted(path)}: an alias contains itself")
        self._inside.append(node)
        self._check_depth(len(self._inside), line)
        if isinstance(node, yaml.SequenceNode):
            value = [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        else:
            value = self._mapping(node, path)
        self._inside.pop()
        return value

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath, line: int) -> Any:
        if node.style:  # quoted, or a block of text
            return node.value
        if refused := ambiguity(node.value):
            self._problem(line, refused, path)
            self.document.lost.add(path)
        return scalar(node.value)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.stop(line, "a list or mapping as a key; keys are plain strings")
            key, place = key_node.value, (*path, key_node.value)
            if key == "<<" and not key_node.style:
                self.document.lost.add(path)  # it may contain anything that is missing there
                self._problem(line, MERGE_KEY, place)
                continue
            if key in value:
                first = f" (first on line {self.document.lines.get(place)})" if self._numbered else ""
                self._problem(line, f"duplicate key {dotted(place)}{first}; each key may occur only once")
                self.document.lost.add(place)
            self.document.lines[place] = line
            value[key] = self.value(value_node, place)
        return value

    def _check_depth(self, depth: int, line: int) -> None:
        if depth > MOST_DEPTH:
            self.stop(line, f"nested deeper than {MOST_DEPTH} levels")

    def _problem(self, line: int, text: str, path: KeyPath = ()) -> None:
        place = f"{self.document.source}:{line}" if self._numbered else self.document.source
        self.document.problems.append(": ".join([place, *([dotted(path)] if path else []), text]))

    def stop(self, line: int, text: str) -> NoReturn:
        """Raises UsageError with this problem and all earlier ones."""
        self._problem(line, text)
        raise UsageError(self.document.problems) from None
