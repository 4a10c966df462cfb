"""The start of a Snakemake run: read the config strictly, take the checkout's lock, write the plan."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastickv import matrix, orphans, plan
from elastickv.errors import ElastickvError
from elastickv.runlock import RunLock

CONFIG_DEFAULT = Path("config/config.yaml")


@dataclass(frozen=True)
class Run:
    """One invocation of Snakemake. Holding it holds the lock (in the main process of a real run)."""

    plan: plan.Plan
    lock: RunLock | None

    def retire(self) -> None:
        """Takes records of removed cases out of the results folder."""
        for path in plan.retire(self.plan):
            print(f"elastickv: no longer in the matrix, moved to {path}", file=sys.stderr)


def begin(workflow: Any) -> Run:
    """What the Snakefile does first. Ends the process with the message alone when the config is bad or a run is on.

    Jobs that Snakemake starts on other nodes parse the Snakefile again: they find the plan written and take no lock.
    """
    orphans.die_with_parent()
    orphans.adopt_children()
    _own_python_first()
    try:
        config = matrix.load(workflow.configfiles or [CONFIG_DEFAULT], workflow.config_settings.config)
        resolved = plan.resolve(config)
        if not workflow.is_main_process:
            return Run(resolved, None)
        executes = workflow.executor_plugin is not None and not workflow.dryrun
        return Run(resolved, _write_plan(config, resolved, executes))
    except ElastickvError as error:
        print(f"elastickv: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error


def _own_python_first() -> None:
    """Rules run `python`: make it this one, also where snakemake was called by its path without activation."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _write_plan(config: matrix.Config, resolved: plan.Plan, executes: bool) -> RunLock:
    """Writes the plan under the lock. A dry run beside a real one is fine as long as it would change no plan file."""
    lock = RunLock()
    acquired = lock.try_acquire()
    if executes and not acquired:
        raise lock.refuse()
    files = plan.contents(config, resolved)
    changed, obsolete = plan.changes(files, resolved.folder)
    if (changed or obsolete) and not acquired:
        raise lock.refuse()
    plan.write(files, changed, obsolete)
    if not executes:
        lock.release()
    return lock
