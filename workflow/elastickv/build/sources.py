"""What it takes to run all of this without a clone: every source file, grouped for readers, and their fingerprint."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastickv.build import fingerprint

PACKAGE, SCHEMAS, LOCKS, CONFIG = Path("workflow/elastickv"), Path("schemas"), Path("envs"), Path("config")
DEFAULT_MATRIX = CONFIG / "config.yaml"
MATRICES = (DEFAULT_MATRIX, CONFIG / "notebook_cpu.yaml")
PACKAGE_SUFFIXES = (".py", ".txt", ".jinja")
KERNEL_SUFFIXES = (*fingerprint.SUFFIXES, ".py")
LOCK_SUFFIXES = (".in", ".txt", ".nodeps")
LONGEST_DESCRIPTION = 200


@dataclass(frozen=True)
class Group:
    """Files that belong together: a title, what they are for, and their paths relative to the checkout."""

    title: str
    text: str
    files: tuple[Path, ...]


def groups(root: Path = Path()) -> list[Group]:
    """Every source file under `root`, in reading order: kernels, the package room by room, schemas, locks, matrices."""
    kernels = fingerprint.KERNELS
    found = [
        Group("Kernels", "What those of both kinds share.", _files(root, kernels, fingerprint.SUFFIXES)),
        Group(
            "CUDA kernels",
            "One translation unit, `elastickv.cu`, includes `kernel.cu` of each kernel; these headers are theirs.",
            _files(root, kernels / "cuda", fingerprint.SUFFIXES),
        ),
        Group(
            "Storage formats",
            "How kernels of both kinds read and write each format; its bytes and NumPy reference are in the package.",
            _files(root, kernels / fingerprint.FORMATS, fingerprint.SUFFIXES),
        ),
        Group(
            "Anchor rules",
            "How both kinds of kernels choose the token that represents a group; the package has the NumPy reference.",
            _files(root, kernels / fingerprint.ANCHORS, fingerprint.SUFFIXES),
        ),
        Group(
            "CPU kernels",
            "The same kernels, `kernel.cpp` of each: vectorised and multi-threaded C++.",
            _files(root, kernels / "cpu", fingerprint.SUFFIXES),
        ),
        *(Group(f"Kernel: {folder.name}", "", _files(root, folder, KERNEL_SUFFIXES)) for folder in _kernels(root)),
        *(_room(root, folder) for folder in _rooms(root)),
        Group("Schemas", "Every record is checked against one when it is read and written.",
              _files(root, SCHEMAS, (".json",))),
        Group("Locks", "The pinned environments; `*.in` has direct requirements.", _files(root, LOCKS, LOCK_SUFFIXES)),
        Group("Matrices", "Which cases are measured: on a GPU the first, without one the second.",
              tuple(path for path in MATRICES if (root / path).exists())),
    ]  # fmt: skip
    return [group for group in found if group.files]


def files(root: Path = Path()) -> list[Path]:
    """Every source file, each once."""
    return [path for group in groups(root) for path in group.files]


def _files(root: Path, folder: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of one folder, sorted, without hidden ones."""
    found = (path for path in (root / folder).glob("*") if path.suffix in suffixes and not path.name.startswith("."))
    return tuple(sorted(path.relative_to(root) for path in found))


def _kernels(root: Path) -> list[Path]:
    """The folders of single kernels."""
    found = {path.parent.relative_to(root) for path in (root / fingerprint.KERNELS).glob("*/kernel.*")}
    return sorted(found)


def _rooms(root: Path) -> list[Path]:
    """The package's folders that hold modules, the package itself first."""
    return sorted({path.parent.relative_to(root) for path in (root / PACKAGE).rglob("*.py")})


def _room(root: Path, folder: Path) -> Group:
    name = ".".join(folder.relative_to(PACKAGE.parent).parts)
    init = folder / "__init__.py"
    text = description(init, (root / init).read_text(encoding="utf-8")) if (root / init).exists() else ""
    return Group(f"Package: {name}", text, _files(root, folder, PACKAGE_SUFFIXES))


def description(path: Path, content: str) -> str:
    """The first sentence or two of a file's header; empty if it has none."""
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(content)) or ""
    elif path.suffix == ".json":
        schema = json.loads(content)
        text = schema.get("description") or schema.get("title") or ""
    elif path.suffix == ".jinja":
        text = re.match(r"(?:\{#(.*?)#\})?", content, re.DOTALL)[1] or ""
    else:
        mark = "#" if path.suffix in (*LOCK_SUFFIXES, ".yaml") else "//"
        lines = re.match(rf"(?:{mark}.*\n)*", content)[0].splitlines()
        text = "\n".join(line.removeprefix(mark).strip() for line in lines)
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    if len(paragraph) > LONGEST_DESCRIPTION:
        paragraph = textwrap.shorten(re.split(r"(?<=\.) ", paragraph)[0], LONGEST_DESCRIPTION, placeholder=" …")
    return paragraph


def sha256(root: Path = Path()) -> str:
    """Fingerprint of all sources: kernels and the default matrix without comments, the rest byte by byte.

    So that a comment in a kernel changes nothing that is made from it, as everywhere (build/fingerprint.py).
    """
    digest = hashlib.sha256()
    for path in files(root):
        digest.update(f"\0{path.as_posix()}\0".encode() + _essence(path, (root / path).read_bytes()))
    return digest.hexdigest()


def _essence(path: Path, content: bytes) -> bytes:
    if path.suffix in fingerprint.SUFFIXES:
        return fingerprint.without_comments(content.decode()).encode()
    return _meaning(content) if path in MATRICES else content


def _meaning(content: bytes) -> bytes:
    """The content of a YAML text, independent of comments and key order; for invalid YAML, its bytes."""
    import yaml

    try:
        parsed: Any = yaml.safe_load(content)
        return json.dumps(parsed, sort_keys=True, default=str).encode()
    except (yaml.YAMLError, UnicodeDecodeError, TypeError):
        return content
