"""`elastickv overrides`: converts make's SET to an additional config file for Snakemake."""

from __future__ import annotations

import argparse
import hashlib
import shlex
from pathlib import Path

from elastickv import matrix, records
from elastickv.errors import UsageError
from elastickv.matrix import layers

FOLDER = Path("build/.plan")
NAME = "SET"


def run(args: argparse.Namespace) -> int:
    """Checks the matrix with the overrides, writes these to a file if there are any, and prints its path.

    The file's name depends on its content, so files that a cluster job still reads are never overwritten.
    """
    files = args.configfile or [matrix.CONFIG_DEFAULT]
    found = words(args.set)
    matrix.check_results_writable(matrix.load(files, found, NAME))
    if found:
        text = records.to_json(layers.overrides_tree(files, found))  # JSON is YAML
        path = FOLDER / f"set-{hashlib.sha256(text.encode()).hexdigest()[:12]}.yaml"
        records.write_text(path, text)
        print(path)
    return 0


def words(text: str) -> list[str]:
    """`a.b=1 c='d e'` -> ["a.b=1", "c=d e"], quoted as in a shell. Raises UsageError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{NAME}: {error}: {text}") from error
