"""Reads YAML strictly: YAML 1.2 core scalars, string keys, no duplicate keys, no tags, no merge keys, no alias bombs.

PyYAML's loaders follow YAML 1.1 (`4096_8` and `1e3` have other meanings, `yes` is true, `2025-01-01` is a date) and
accept duplicate keys. This module builds plain Python values from PyYAML's events, which include the position of each
value, and limits size, depth and alias expansion.
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
MOST_VALUES = 500_000  # after expanding aliases

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
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


@dataclass
class _Frame:
    """A collection being built. A mapping alternates between expecting a key and expecting its value."""

    value: dict | list
    path: KeyPath
    anchor: str | None
    values_before: int
    key: str | None = None
    skips: bool = False  # the value of the current key is ignored
    height: int = 1  # levels of nesting inside, this one included


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
    builder = _Builder(source, numbered)
    try:
        for event in yaml.parse(text, Loader=_PARSER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        builder.stop(*_syntax_problem(error, text))
    except yaml.reader.ReaderError as error:  # this error has a position but no line
        builder.stop(text.encode()[: error.position].count(b"\n") + 1, f"not YAML: {error.reason}")
    except UnicodeEncodeError:
        raise UsageError(f"{source}: not YAML: contains characters that are not valid Unicode") from None
    return builder.document


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


class _Builder:
    """Turns events into plain values, without recursion, and collects violations of strict YAML."""

    def __init__(self, source: str, numbered: bool):
        self.document = Document(source, None)
        self.documents = 0
        self._numbered = numbered
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int, int]] = {}  # name -> (value, values it holds expanded, its height)
        self._values = 0

    def take(self, event: yaml.Event) -> None:
        """Handles one event. Raises UsageError if continuing could exhaust memory."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.stop(line, "a second YAML document starts here; a config file must hold only one")
            return
        if getattr(event, "tag", None) is not None:
            self._problem(line, f"YAML tag {event.tag!r}: tags are not allowed; write the plain value")
        if isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor, line)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()

    def _problem(self, line: int, text: str, path: KeyPath = ()) -> None:
        place = f"{self.document.source}:{line}" if self._numbered else self.document.source
        self.document.problems.append(": ".join([place, *([dotted(path)] if path else []), text]))

    def stop(self, line: int, text: str) -> NoReturn:
        """Raises UsageError with this problem and all earlier ones."""
        self._problem(line, text)
        raise UsageError(self.document.problems) from None

    def _awaits_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        if self._awaits_key():
            if event.anchor:
                self._anchors[event.anchor] = (event.value, 1, 0)
            self._take_key(event.value, line, merges=event.value == "<<" and event.implicit[0])
            return
        plain = event.implicit[0] or (event.tag is not None and not event.style)
        value = scalar(event.value) if plain else event.value
        refused = ambiguity(event.value) if plain else None
        if refused:
            self._problem(line, refused, self._here())
            self.document.lost.add(self._here())
        self._count(1, line)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1, 0)
        self._place(value, line)

    def _take_key(self, key: str, line: int, merges: bool) -> None:
        frame = self._stack[-1]
        frame.key = key
        path = (*frame.path, key)
        if merges:
            frame.skips = True
            self.document.lost.add(frame.path)  # it may contain anything that is missing there
            self._problem(line, MERGE_KEY, path)
            return
        if key in frame.value:
            first = f" (first on line {self.document.lines.get(path)})" if self._numbered else ""
            self._problem(line, f"duplicate key {dotted(path)}{first}; each key may occur only once")
            self.document.lost.add(path)
        self.document.lines[path] = line

    def _alias(self, name: str, line: int) -> None:
        if self._awaits_key():
            self.stop(line, f"alias *{name} as a key; keys are plain strings")
        if name not in self._anchors:  # PyYAML checks both in its composer, which is not used here
            inside = any(frame.anchor == name for frame in self._stack)
            self.stop(line, f"alias *{name} " + ("contains itself" if inside else "has no anchor above it"))
        value, size, height = self._anchors[name]
        self._count(size, line)
        self._check_depth(height, line)
        self._grow(height)
        self._place(value, line)

    def _open(self, event: yaml.CollectionStartEvent, line: int) -> None:
        if self._awaits_key():
            self.stop(line, "a list or mapping as a key; keys are plain strings")
        self._check_depth(1, line)
        path = self._here()
        self.document.lines.setdefault(path, line)
        value: dict | list = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Frame(value, path, event.anchor, self._values))
        self._count(1, line)

    def _close(self) -> None:
        frame = self._stack.pop()
        if frame.anchor:
            self._anchors[frame.anchor] = (frame.value, self._values - frame.values_before, frame.height)
        self._grow(frame.height)
        self._place(frame.value, None)

    def _grow(self, height: int) -> None:
        """Notes that the current collection contains a value of that height."""
        if self._stack:
            self._stack[-1].height = max(self._stack[-1].height, height + 1)

    def _check_depth(self, height: int, line: int) -> None:
        if len(self._stack) + height > MOST_DEPTH:
            self.stop(line, f"nested deeper than {MOST_DEPTH} levels")

    def _here(self) -> KeyPath:
        """The key path of the next value."""
        if not self._stack:
            return ()
        frame = self._stack[-1]
        return (*frame.path, frame.key if isinstance(frame.value, dict) else len(frame.value))

    def _place(self, value: Any, line: int | None) -> None:
        if line is not None:
            self.document.lines.setdefault(self._here(), line)
        if not self._stack:
            self.document.value = value
            return
        frame = self._stack[-1]
        if isinstance(frame.value, dict):
            if not frame.skips:
                frame.value[frame.key] = value
            frame.key, frame.skips = None, False
        else:
            frame.value.append(value)

    def _count(self, values: int, line: int) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            self.stop(line, f"more than {MOST_VALUES} values after expanding aliases; write a sweep under `matrices`")
