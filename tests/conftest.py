"""Shared by tests that need a separate checkout: copies of this one, and Snakemake run in them."""

from __future__ import annotations

import compileall
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

settings.register_profile("any speed", deadline=None)  # no test depends on how busy the machine is
settings.load_profile("any speed")

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
MADE = {"build", ".venv", ".envs", ".snakemake", ".whl", ".pytest_cache", ".ruff_cache", ".hypothesis"}

FOREVER = 1800  # seconds; of a run that waits for other measurements on this machine, too


def is_made(path: Path) -> bool:
    """Whether a run makes the file of this path in a checkout. (A package of sources is called `build`, too.)"""
    top, *below = path.parts
    return top in MADE or "__pycache__" in below or (top == "results" and below[0] != "reference")


def source_files() -> list[str]:
    """What a clone of this checkout would hold: every file that git does not ignore, relative to its root.

    Of a copy that has no repository: every file but what a run makes.
    """
    if not (ROOT / ".git").exists():
        files = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        return [str(path) for path in files if not is_made(path)]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@dataclass(frozen=True)
class Finished:
    """A command that ended: exit code, all it printed, and the messages of the jobs it ran (or would run)."""

    code: int
    text: str

    @property
    def jobs(self) -> set[str]:
        return set(re.findall(r"^Job \d+: (.*)$", self.text, re.MULTILINE)) - {"all done"}


@dataclass(frozen=True)
class Checkout:
    """A copy of this checkout whose commands import its own package."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """No `.venv` on PATH: the rules have to find their Python themselves."""
        path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if Path(p) != BIN)
        packages = filter(None, [str(self.root / "workflow"), os.environ.get("PYTHONPATH")])
        return plain_environment() | {"PATH": path, "PYTHONPATH": os.pathsep.join(packages)}

    def snakemake(self, *arguments: str) -> Finished:
        """Runs Snakemake to its end, by path, without activating its environment."""
        process = self.start_snakemake(*arguments)
        text, _ = process.communicate(timeout=FOREVER)
        return Finished(process.returncode, text)

    def elastickv(self, *arguments: str) -> Finished:
        """Runs a command of this checkout to its end."""
        command = [sys.executable, "-P", "-m", "elastickv", *arguments]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(command, cwd=self.root, env=self.environment, check=False, timeout=FOREVER, **output)
        return Finished(done.returncode, done.stdout)

    def make(self, *arguments: str) -> Finished:
        """Runs make to its end, with the commands of the environment that runs this test instead of a new one."""
        command = ["make", "--old-file=setup", f"BIN={BIN}", "CORES=2", *arguments]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(command, cwd=self.root, env=self.environment, check=False, timeout=FOREVER, **output)
        return Finished(done.returncode, done.stdout)

    def start_snakemake(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Snakemake under way; stdout carries everything that it prints."""
        return subprocess.Popen(
            [BIN / "snakemake", "--cores", "2", *arguments],
            cwd=self.root,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def copy(self, destination: Path) -> Checkout:
        """A copy with the same time stamps and Snakemake metadata."""
        shutil.copytree(self.root, destination, symlinks=True)
        return Checkout(destination)

    def take_builds(self, build: Path) -> None:
        """Puts what another build folder has made into this one's store, which spares compiling."""
        shutil.copytree(build / ".store", self.root / "build/.store")

    def compile_for(self, target: str) -> None:
        """Has the CPU library compiled for one of the x86 targets alone, in a third of the time."""
        one = f'{{"{target}": X86_TARGETS["{target}"]}}'
        self.edit("workflow/elastickv/build/compilers.py", "return X86_TARGETS if", f"return {one} if")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replaces `old`, which has to be there, in a file."""
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{name} has no {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")


def plain_environment() -> dict[str, str]:
    """This process's, less what would reach a `make` started from here: our switches, what `make test` was given."""
    inherited = ("ELASTICKV_", "MAKE", "MFLAGS")
    given = ("CONFIG", "SET", "CORES", "PROFILE", "PYTHON", "ARGS")  # variables of the Makefile
    return {key: value for key, value in os.environ.items() if not key.startswith(inherited) and key not in given}


def commands_in(folder: Path) -> list[list[str]]:
    """The command lines of processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits for a condition; fails when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A fresh copy of this checkout's sources. Not to be changed: take a `copy` of it."""
    root = tmp_path_factory.mktemp("clone") / "checkout"
    for name in source_files():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    compileall.compile_dir(root / "workflow", quiet=1)  # once, instead of in every copy
    return Checkout(root)


@pytest.fixture(scope="session")
def cpu_build() -> Path:
    """The build folder of this checkout, its CPU library made (or restored from the store)."""
    from elastickv.build import cpu

    cpu.build(Path("build/cpu"))
    return ROOT / "build"


@pytest.fixture(scope="session")
def best_target(cpu_build: Path) -> str:
    """The target of the CPU library that this processor runs."""
    from elastickv.device.cpu import CpuBackend
    from elastickv.errors import MachineError

    library = CpuBackend(cpu_build / "cpu")
    for target in library.targets():
        with contextlib.suppress(MachineError):
            library.use_target(target)
            return target
    pytest.fail("this processor runs no target")


@pytest.fixture(scope="session")
def gpu():
    """The backend of the first GPU, for all tests that do not need the GPU to themselves: loading takes a while."""
    from elastickv import device

    if not device.visible_gpus():
        pytest.skip("no NVIDIA GPU is visible")
    pytest.importorskip("cupy", reason="CuPy is not installed (elastickv env cuda)")
    if not (ROOT / "build/cuda/elastickv.fatbin").is_file():
        pytest.skip("build/cuda/elastickv.fatbin is not built (elastickv build cuda)")
    from elastickv.device.cuda import CudaBackend

    return CudaBackend(ROOT / "build/cuda")


@pytest.fixture
def backend(request):
    """`cuda`, or the CPU with the best target or with that of the parameter. Its memory is freed afterwards."""
    from elastickv.device.cpu import CpuBackend
    from elastickv.errors import MachineError

    target = getattr(request, "param", None)
    if target == "cuda":
        made = request.getfixturevalue("gpu")
    else:
        made = CpuBackend(request.getfixturevalue("cpu_build") / "cpu")
        try:
            made.use_target(target or made.targets()[0])
        except MachineError as error:
            pytest.skip(str(error))
        made.use_threads(3)  # more threads than rows, fewer, and not a divisor: work is cut inside rows
    yield made
    made.synchronize()
    made.free_all()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that want a GPU to themselves come first: others leave a context of this very process on it.

    Then whole files that run Snakemake in copies of this checkout: they take longest, and processes share files.
    """
    long = {item.path for item in items if "clone" in item.fixturenames}
    items.sort(key=lambda item: (item.get_closest_marker("gpu_alone") is None, item.path not in long))
