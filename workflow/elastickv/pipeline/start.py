"""The start of a Snakemake run: read the config strictly, take the checkout's lock, write the plan."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from elastickv import matrix
from elastickv.build import provenance
from elastickv.device import driver
from elastickv.errors import UsageError
from elastickv.measure import demand
from elastickv.measure.demand import Demand
from elastickv.pipeline import message_alone, plan, runlock
from elastickv.schemas import generate
from elastickv.system import orphans


@dataclass(frozen=True)
class Run:
    """One invocation of Snakemake. demands: resources for measuring each case; gpus: number of GPUs of this machine.

    peers_demand: resources for measuring all peers. The lock is None in processes that Snakemake starts for jobs on
    other machines, and in a dry run, which does not write the plan: `unwritten` are the plan files that a run would
    write, made from `requested`, a file with the config (empty otherwise).
    """

    plan: plan.Plan
    demands: Mapping[str, Demand]
    lock: filelock.BaseFileLock | None
    gpus: int = 1
    peers_demand: Demand = demand.NONE
    unwritten: tuple[Path, ...] = ()
    requested: Path = Path()

    def threads(self, requested: Demand, cores: int) -> int:
        """Threads of a rule that measures: all cores, so that no other rule runs at the same time.

        With several GPUs, its share of the cores: as many such rules run at a time as there are GPUs.
        """
        return max(1, cores // self.gpus) if requested.gpu else cores

    def start(self) -> None:
        """Called before jobs run: fails if another run is active, and moves records of removed cases away."""
        with message_alone():
            if self.lock is not None and not runlock.take(self.lock):
                raise runlock.refusal()
        plan.unfinish(self.plan)
        plan.state_run(self.plan)
        for path in plan.retire(self.plan):
            print(f"elastickv: record of a case that is no longer in the matrix, moved to {path}", file=sys.stderr)


def begin(workflow: Any) -> Run:
    """The first step of the Snakefile. Ends the process with only the message if the config is invalid.

    The lock is taken while the plan is written and kept. Whether jobs will run is not known before `Run.start`, so
    commands that only read (`--summary`) run without it next to an active run, if they would change no plan file.
    """
    if workflow.is_main_process:
        generate.renew()  # schemas name the formats and policies that there are, and are among the sources
        provenance.announce()
        orphans.die_with_parent()  # jobs on other machines inherit the name of a parent that is none of theirs
    orphans.adopt_children()
    _own_python_first()
    with message_alone():
        _check_folder(Path(workflow.basedir))
        config = _config(workflow)
        resolved = plan.resolve(config)
        demands = {name: demand.of_case(case) for name, case in config.cases.items()}
        beside = [config.cases[name] for name in resolved.peer_cases]
        peers = demand.of_peers(beside, len(resolved.peers), config.baselines.peers.max_seconds)
        gpus = _gpus_at_a_time(workflow)
        if not workflow.is_main_process:
            return Run(resolved, demands, None, gpus, peers)
        matrix.check_results_writable(config)
        if workflow.output_settings.dryrun:
            requested = workflow.snakemake_tmp_dir / "config.json"
            return Run(resolved, demands, None, gpus, peers, _unwritten(config, resolved, requested), requested)
        lock = filelock.FileLock(runlock.LOCK)
        runlock.take(lock)
        _write_plan(config, resolved, lock)
        return Run(resolved, demands, lock, gpus, peers)


def _check_folder(checkout: Path) -> None:
    """Raises UsageError where Snakemake works in another folder than the checkout, to which all paths are relative."""
    here = Path.cwd()
    if not here.samefile(checkout):
        raise UsageError(
            f"snakemake works in {here}, but its rules name files of the checkout {checkout}: run it there, without"
            f" --directory: cd {shlex.quote(str(checkout))} (for results elsewhere: --config results=/absolute/path)"
        )


def _config(workflow: Any) -> matrix.Config:
    """The config of the command line. Snakemake read its files too, by laxer rules; here they are read strictly."""
    here = Path.cwd()  # files in it have their short names in messages
    files = [file.relative_to(here) if file.is_relative_to(here) else file for file in _config_files(workflow)]
    return matrix.load(files or [matrix.CONFIG_DEFAULT], dict(workflow.config_settings.config))


def _config_files(workflow: Any) -> list[Path]:
    """The files of `--configfile`, in order. Of a flag that is given twice Snakemake keeps the last; here each counts.

    Also in the jobs that Snakemake starts on other machines: their command line is made from its settings.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", action="append", type=Path, default=[])
    given = parser.parse_known_args()[0].configfile
    settings = workflow.config_settings
    if len(given) > 1:
        kept = given[-1][-1]  # --directory may have changed the folder since; what Snakemake kept is absolute
        folder = Path() if kept.is_absolute() else settings.configfiles[-1].parents[len(kept.parts) - 1]
        settings.configfiles = [(folder / file).absolute() for files in given for file in files]
    return list(settings.configfiles)


def _gpus_at_a_time(workflow: Any) -> int:
    """How many GPUs jobs may use at a time: `--resources gpu=N`, else as many as the machine seems to have.

    Without a limit Snakemake would ignore the resource; which GPU a job gets is the lease's to say (device.lease).
    """
    if "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", driver.expected_gpus())
    return max(1, int(workflow.global_resources["gpu"].value))


def _unwritten(config: matrix.Config, resolved: plan.Plan, requested: Path) -> tuple[Path, ...]:
    """The plan files that a run would write; the config goes to `requested`, newer than all of them.

    So a job that makes them of it is due, and all that depends on them. Only what keeps an environment made by hand
    from being made again is written.
    """
    files = plan.contents(config, resolved)
    changed, _ = plan.changes(files, resolved.folder)
    by_hand = [path for path in changed if plan.is_made_by_hand(path)]
    plan.write(files, by_hand, [])
    requested.write_text(files[resolved.folder / "config.json"], encoding="utf-8")
    return tuple(path for path in changed if path not in by_hand)


def _write_plan(config: matrix.Config, resolved: plan.Plan, lock: filelock.BaseFileLock) -> None:
    files = plan.contents(config, resolved)
    changed, obsolete = plan.changes(files, resolved.folder)
    if (changed or obsolete) and not lock.is_locked:
        raise runlock.refusal()
    plan.unfinish(resolved, [*changed, *obsolete])
    plan.write(files, changed, obsolete)


def _own_python_first() -> None:
    """Rules run `python`: make it this one, also where snakemake was called by its path without activation."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
