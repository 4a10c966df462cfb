"""A real SLURM on this machine: munged, slurmctld and two slurmd, children of the test; no systemd, no accounting.

The binaries are those that tests/slurm/install.sh unpacked. Both nodes are this machine under two names and ports. Each
has one GPU, /dev/null under another name, which SLURM counts, hands out and names in CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
from conftest import ROOT, wait_until

from elastickv.system import orphans

UNPACKED = ROOT / "build/slurm/root"
INSTALL = ROOT / "tests/slurm/install.sh"
NODES = ("node1", "node2")
CPUS, MEMORY_MB = 4, 64_000  # what SLURM counts with, not what the machine has
START_SECONDS, END_SECONDS = 60, 5

CONFIGURATION = """
ClusterName=elastickv
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
KillWait=2
GresTypes=gpu
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} {size}
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} {size}
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster. `environment` is what its commands need (sbatch, squeue, scancel, scontrol)."""

    folder: Path
    environment: dict[str, str]

    def command(self, *command: str) -> str:
        """What one of SLURM's commands prints; it has to succeed."""
        done = subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
        return done.stdout

    def idle(self) -> bool:
        """Whether both nodes are up and free."""
        done = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%N %t"],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return sorted(done.stdout.split("\n")) == ["", *(f"{node} idle" for node in NODES)]


def install() -> str | None:
    """Unpacks SLURM unless it is there; None, or why it cannot be had here."""
    if sys.platform != "linux":
        return "SLURM's daemons run on Linux"
    done = subprocess.run(["sh", str(INSTALL)], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else None


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _environment(folder: Path, base: dict[str, str]) -> dict[str, str]:
    libraries = sorted({str(path.parent) for path in UNPACKED.glob("usr/lib/**/*.so*")})
    programs = [*map(str, (folder / "bin", UNPACKED / "usr/bin", UNPACKED / "usr/sbin")), base["PATH"], "/usr/sbin"]
    return {key: value for key, value in base.items() if not key.startswith("SLURM_")} | {
        "PATH": os.pathsep.join(programs),
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "SLURM_CONF": str(folder / "slurm.conf"),
    }


def _configure(folder: Path) -> None:
    gpus = [folder / f"nvidia{number}" for number, _ in enumerate(NODES)]
    for path in gpus:
        path.symlink_to("/dev/null")  # SLURM needs a device, and takes its number from the name
    configuration = CONFIGURATION.format(
        host=socket.gethostname().split(".")[0],
        user=getpass.getuser(),
        ports=_free_ports(3),
        folder=folder,
        plugins=next(UNPACKED.glob("usr/lib/*/slurm-wlm")),
        nodes=NODES,
        size=f"CPUs={CPUS} RealMemory={MEMORY_MB} Gres=gpu:1 State=UNKNOWN",
    )
    (folder / "slurm.conf").write_text(configuration, encoding="ascii")
    gres = [f"NodeName={node} Name=gpu File={path}\n" for node, path in zip(NODES, gpus, strict=True)]
    (folder / "gres.conf").write_text("".join(gres), encoding="ascii")
    # Snakemake's job step drops SLURM_CONF from the environment of its srun: elsewhere the file is in /etc/slurm.
    srun = folder / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {UNPACKED}/usr/bin/srun "$@"\n', encoding="utf-8")
    srun.chmod(0o755)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    for name in ("state", *NODES):
        (folder / name).mkdir()


def _daemons(folder: Path) -> list[list[str]]:
    munge = [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "key-file", "log-file", "pid-file")]
    step = UNPACKED / "usr/sbin/slurmstepd"
    return [
        ["munged", "--foreground", "--force", *munge, f"--seed-file={folder}/munge.seed"],
        ["slurmctld", "-D", "-c"],
        *(["slurmd", "-D", "-N", node, "-d", str(step)] for node in NODES),
    ]


def _of_cluster(environment: dict[str, str]) -> list[psutil.Process]:
    """Every process that belongs to a cluster: its daemons, their step managers and the jobs."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get("SLURM_CONF") == environment["SLURM_CONF"] and process.pid != os.getpid():
                found.append(process)
    return found


def _end(cluster: Cluster, daemons: list[subprocess.Popen[bytes]]) -> None:
    """Asks the daemons to end, which reap their own children; then kills what is left."""
    for daemon in daemons:
        daemon.terminate()
    for daemon in daemons:
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(END_SECONDS)
    for process in _of_cluster(cluster.environment):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for daemon in daemons:
        daemon.wait()
    wait_until(lambda: _of_cluster(cluster.environment) == [])


def _start(command: list[str], cluster: Cluster, log: IO[bytes]) -> subprocess.Popen[bytes]:
    program = shutil.which(command[0], path=cluster.environment["PATH"])
    assert program, f"{command[0]} is not among what tests/slurm/install.sh unpacked"
    return subprocess.Popen(
        [program, *command[1:]],
        env=cluster.environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        preexec_fn=orphans.kill_me_with_my_parent,  # noqa: PLW1509 (no other thread starts processes here)
    )


def logs(cluster: Cluster) -> str:
    """The ends of the daemons' logs."""
    tails = [f"== {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in cluster.folder.glob("*.log")]
    return "\n".join(sorted(tails))


@contextmanager
def running(base: dict[str, str]) -> Iterator[Cluster]:
    """A cluster whose nodes are up, its commands and jobs in environment `base`.

    At the end nothing of it is left, whatever happened meanwhile.
    """
    folder = Path(tempfile.mkdtemp(prefix="elastickv-slurm-"))  # not pytest's: a socket's path has to be short
    cluster = Cluster(folder, _environment(folder, base))
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        _configure(folder)
        with (folder / "daemons.log").open("wb") as log:
            daemons += [_start(command, cluster, log) for command in _daemons(folder)]
        try:
            wait_until(cluster.idle, START_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"SLURM did not start:\n{logs(cluster)}") from error
        yield cluster
    finally:
        _end(cluster, daemons)
        shutil.rmtree(folder, ignore_errors=True)
