"""What the code of a commit says of results that it would make: `against.py` runs this file with that code.

It is a program. Its argument is the folder that holds the commit, whose package is the `elastickv` that it imports, so
it uses only names that commits have in common. stdin: {"command", "builds": [{"compiled", "case"}]}; stdout: JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]
MACHINES = ("x86_64", "aarch64", "arm64", "AMD64")  # the record of a CPU build does not state its machine


class Unknown(Exception):
    """What this commit's code cannot say."""


def answer(request: Json) -> Json:
    """The hash of the sources, and by name: {"value"}, or {"unknown": why} or {"refused": why}."""
    from elastickv.build import sources

    return {
        "sources": sources.sha256(),
        "notebook": _found(_notebook),
        "config": _found(_config, request["command"]),
        "fingerprints": [_found(_fingerprints, build["compiled"], build["case"]) for build in request["builds"]],
    }


def _found(compute: Callable[..., Any], *given: Any) -> Json:
    from elastickv.errors import ElastickvError

    try:
        return {"value": compute(*given)}
    except (Unknown, AttributeError, ImportError, TypeError) as error:  # an older commit, with other functions
        return {"unknown": str(error)}
    except (ElastickvError, LookupError, ValueError) as error:
        return {"refused": f"{type(error).__name__}: {error}"}


def _notebook() -> str:
    from elastickv.report import notebook

    return hashlib.sha256(notebook.notebook(Path()).encode()).hexdigest()


def _config(command: list[str]) -> Json:
    """The resolved config of a recorded command, as the plan would have it."""
    from elastickv import matrix
    from elastickv.pipeline import plan

    files, overrides = _words(command)
    for file in files:
        inside = Path(file).resolve().is_relative_to(Path().resolve())
        if not (inside and Path(file).is_file()):
            raise Unknown(f"the commit has no file {file}, which the recorded command names")
    config = matrix.load(files or [matrix.CONFIG_DEFAULT], overrides)
    planned = plan.resolve(config)
    return json.loads(plan.results_contents(config, planned)[planned.folder / "config.json"])


def _words(command: list[str]) -> tuple[list[str], list[str]]:
    """Config files and overrides that a command names: of make by its variables, else by flags."""
    if command[0] not in ("make", "snakemake", "elastickv"):
        raise Unknown(f"the recorded command reads no config: {' '.join(command)}")
    files, overrides, flags = [], [], command[1:]
    if command[0] == "make":
        variables = dict(word.split("=", 1) for word in flags if "=" in word)
        files, overrides = (shlex.split(variables.get(name, "")) for name in ("CONFIG", "SET"))
        flags = shlex.split(variables.get("ARGS", ""))
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    several = {"action": "extend", "nargs": "*", "default": []}
    parser.add_argument("--configfile", "--configfiles", **several)
    parser.add_argument("--config", "-C", **several)
    given = parser.parse_known_args(flags)[0]
    return [*files, *given.configfile], [*overrides, *given.config]


def _fingerprints(compiled: list[Json], case: Json | None) -> list[str]:
    """The fingerprints that a build by these compilers can have, of one case's kernels; case None: those of ceilings.

    compiled: images of a fatbin, or targets of the CPU library, as in a record's `build`.
    """
    from elastickv.build import fingerprint
    from elastickv.schemas.case import case_of

    if not hasattr(fingerprint, "by_part"):
        raise Unknown("the commit computes them in another way")
    typed = case_of(case) if case else None
    of = (typed.workload, typed.formats, typed.rule) if typed else ("ceilings",)
    if all(part["target"].startswith(("sm_", "compute_")) for part in compiled):
        source = fingerprint.source_sha256("cuda")
        images = [
            fingerprint.Image(part["target"], source, tuple(part["flags"].split()), part["compiler"], part["version"])
            for part in compiled
        ]
        parts = [fingerprint.by_part("cuda", image) for image in images]
        return [fingerprint.fatbin_of_parts(parts).of(*of)]
    if any(part["target"] == "native" for part in compiled):
        raise Unknown("a library made for one processor alone has a fingerprint of that processor")
    shared = fingerprint.CPU_FLAGS
    targets = {part["target"]: tuple(part["flags"].split()[len(shared) :]) for part in compiled}
    first, source = compiled[0], fingerprint.source_sha256("cpu")
    made_of = (source, shared, targets, first["compiler"], first["version"])
    libraries = [fingerprint.Library(*made_of, machine) for machine in MACHINES]
    return [fingerprint.by_part("cpu", library).of(*of) for library in libraries]


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    print(json.dumps(answer(json.load(sys.stdin))))
