"""The two sides of `elastickv ab`: a path or a git revision becomes a folder with built kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from elastickv.build import store
from elastickv.errors import MachineError, UsageError
from elastickv.system import programs

PACKAGE = Path("workflow/elastickv")
SECONDS = 600  # longest time of a git command


@contextmanager
def folder_of(name: str, scratch: Path) -> Iterator[Path]:
    """The checkout that `name` is: a folder, or a revision of the repository here, checked out below `scratch`.

    A checked-out revision is removed at the end. Raises UsageError where it is neither.
    """
    if (Path(name) / PACKAGE).is_dir():
        yield Path(name).resolve()
        return
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if commit.returncode:
        raise UsageError(f"{name}: neither a checkout with {PACKAGE} nor a git revision of {Path.cwd()}")
    made = _git("worktree", "add", "--detach", str(scratch), commit.stdout.strip())
    try:
        if made.returncode:
            raise MachineError(f"git worktree add: {made.stderr.strip()}", "git worktree prune, or name a folder")
        if not (scratch / PACKAGE).is_dir():
            raise UsageError(f"{name}: this revision has no {PACKAGE}")
        _share_store(scratch)
        yield scratch.resolve()
    finally:
        _git("worktree", "remove", "--force", str(scratch))


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return programs.run(["git", *arguments], "install git, e.g. apt-get install git, or name folders", SECONDS)


def _share_store(checkout: Path) -> None:
    """Builds of the checkout go to the store here, so that a revision is built once."""
    shared = store.STORE.absolute()
    shared.mkdir(parents=True, exist_ok=True)
    (checkout / store.STORE.parent).mkdir(exist_ok=True)
    (checkout / store.STORE).symlink_to(shared)


def build(checkout: Path, backend: str) -> None:
    """Builds a checkout's kernels by its own code into `build/ab`. Raises MachineError."""
    command = [sys.executable, "-m", "elastickv", "build", backend, "--out", f"build/ab/{backend}"]
    variables = os.environ | {"PYTHONPATH": str(checkout / "workflow")}
    done = subprocess.run(command, cwd=checkout, env=variables, stdout=sys.stderr, check=False)
    if done.returncode:
        raise MachineError(f"the kernels of {checkout} cannot be built", f"cd {checkout} && elastickv build {backend}")
