"""Disk: free space for environments, builds and records, and write access to their folders."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from elastickv import environments
from elastickv.doctor.finding import Finding, note, ok, problem
from elastickv.doctor.needs import Needs
from elastickv.system import surroundings

# Size of each installed environment (GB, rounded up); llm and peers include torch's CUDA packages.
ENVIRONMENT_GB = {"cuda": 1.1, "llm": 7.5, "peers": 7.5, "gguf": 1.0}
OTHER_GB = 1.0
BUILD_GB = {"cuda": 0.3, "cpu": 0.01}
RESULTS_GB, RECORD_GB = 0.05, 0.0005  # figures and reports; one record and its copy in the record store
SCRATCH_GB = 0.2  # temporary files of compilers and workers


@dataclass(frozen=True)
class Place:
    """A folder that a run writes to. existing: the folder or its nearest existing parent. fault: the errno of a failed
    write, None if writing works. free: bytes left on its file system.
    """

    name: str
    path: str
    existing: str
    fault: int | None
    free: int
    device: int


@dataclass(frozen=True)
class Facts:
    """The folders of a run, the environments still to be installed, and the cache folders of the programs it calls."""

    places: tuple[Place, ...]
    to_make: tuple[str, ...]
    caches: tuple[Path, ...] = ()


def gather(needs: Needs, gpu: object) -> Facts:
    """Writes an unnamed file to each folder (or its nearest existing parent) and reads the free space."""
    folders = {
        "results": Path(needs.results),
        "build": Path("build"),
        "environments": Path(".envs"),
        "temporary files": Path(tempfile.gettempdir()),
    }
    to_make = tuple(name for name in needs.environments if not environments.is_current(name))
    caches = tuple(surroundings.usual(variable) for variable in surroundings.CACHES)
    return Facts(tuple(place(name, path) for name, path in folders.items()), to_make, caches)


def place(name: str, path: Path) -> Place:
    """The facts about one folder."""
    existing = path.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    fault = None
    try:
        with tempfile.TemporaryFile(dir=existing):  # permission bits are not reliable: root, read-only file systems
            pass
    except OSError as error:
        fault = error.errno or errno.EIO
    return Place(name, str(path), str(existing), fault, shutil.disk_usage(existing).free, existing.stat().st_dev)


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    return [*(writable(one, needs) for one in facts.places), caches(facts.caches), *room(facts, needs)]


def caches(folders: tuple[Path, ...]) -> Finding:
    """Whether every cache folder is writable: the usual one, or a fallback inside the checkout."""
    here = [folder for folder in folders if folder.is_relative_to(surroundings.IN_CHECKOUT.absolute())]
    closed = [folder for folder in folders if not surroundings.takes_files(folder)]
    if closed:
        found = f"this user cannot write to {', '.join(map(str, closed))}"
        return problem("writing caches", found, f"export HOME={shlex.quote(str(Path('.envs/home').absolute()))}")
    if here:
        return note(
            "writing caches", f"this user cannot write to the usual folders; {surroundings.IN_CHECKOUT} is used instead"
        )
    return ok("writing caches", str(folders[0]))


def writable(one: Place, needs: Needs) -> Finding:
    """Whether a folder is writable."""
    check = f"writing {one.name}"
    if one.fault is None:
        return ok(check, one.path)
    found = f"{one.existing}: {os.strerror(one.fault)}"
    if one.fault in (errno.EACCES, errno.EPERM):
        return problem(check, found, f'sudo chown -R "$(id -u):$(id -g)" {one.existing}')
    elsewhere = {
        "results": needs.make("results=results/mine"),
        "temporary files": f"mkdir -p .tmp && TMPDIR=$PWD/.tmp {needs.make()}",
    }
    return problem(check, found, elsewhere.get(one.name, "git clone . ~/elastickv && cd ~/elastickv && make run"))


def needed_gb(facts: Facts, needs: Needs) -> dict[str, float]:
    """GB that a run will still add to each folder."""
    return {
        "results": RESULTS_GB + RECORD_GB * len(needs.cases),
        "build": sum(BUILD_GB[backend] for backend in needs.backends),
        "environments": sum(ENVIRONMENT_GB.get(name, OTHER_GB) for name in facts.to_make),
        "temporary files": SCRATCH_GB,
    }


def room(facts: Facts, needs: Needs) -> list[Finding]:
    """Whether each file system has enough space for everything that a run adds."""
    wanted, findings = needed_gb(facts, needs), []
    for device in dict.fromkeys(one.device for one in facts.places):
        shared = [one for one in facts.places if one.device == device]
        names = ", ".join(one.name for one in shared)
        total, free = sum(wanted[one.name] for one in shared), min(one.free for one in shared) / 1e9
        text = f"{free:.1f} GB free for {names}, which need at most {total:.1f} GB more"
        fix = f"du -xh -d2 {shared[0].existing} | sort -h"
        enough = free >= total
        findings.append(ok("disk space", text) if enough else problem("disk space", text, fix))
    return findings
