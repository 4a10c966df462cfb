"""The pinned environments under `.envs/`: made from `envs/<name>.txt`, remade when the lock changes, safe to kill.

A lock `envs/<name>.txt` is installed whole. For environments with torch the requirements of `envs/<name>.in` are
installed with the lock as constraints, so that a machine with a CPU build of torch at hand is spared CUDA packages;
requirements in `envs/<name>.nodeps` are added without what they depend on, and those of `envs/<name>.gpu.in` where a
GPU is visible (optional: code that needs them reports missing ones). llama.cpp, which has no wheels, is compiled.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from elastickv import device, records
from elastickv.environments import compiled
from elastickv.errors import MachineError, UsageError
from elastickv.system import installers, programs

LOCKS = Path("envs")
ENVIRONMENTS = Path(".envs")

# What an environment is for: modules that its interpreter must find.
NEEDED = {
    "cuda": ("cupy",),
    "llm": ("torch", "transformers"),
    "gguf": ("llama_cpp", "huggingface_hub", "gguf"),
    "peers": ("torch", "scipy", "psutil"),
    "core": ("snakemake",),
    "dev": ("pytest",),
}
WITH_TORCH = ("llm", "peers")

# Printed before the download starts, for environments that may fetch more than 500 MB.
NOTICES = {
    name: "torch with its CUDA packages: about 2,500 MB from a package index, 200 MB if a CPU build is available"
    for name in WITH_TORCH
}
GPU_NOTICES = {
    "peers": "FlashInfer, NVBench and what they need: about 220 MB more (FlashInfer compiles when first used)"
}

COMPILED = "gguf"  # the environment whose package comes as source
COMPILING = "compiling llama.cpp: about five minutes on two cores, more for a GPU (kept for the next time)"


def requirement_lines(file: Path) -> list[str]:
    """The requirements of a file, without comments and blank lines; [] when there is no such file."""
    if not file.exists():
        return []
    lines = (line.split(" #")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def lock_sha256(name: str) -> str:
    """Hash of everything that decides what `name` holds; comments and blank lines do not."""
    kinds = ("txt", "nodeps", *(["in"] if name in WITH_TORCH else []))
    content = {kind: requirement_lines(LOCKS / f"{name}.{kind}") for kind in kinds}
    if _of_gpus(name):
        content["gpu"] = _of_gpus(name)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _of_gpus(name: str) -> list[str]:
    return requirement_lines(LOCKS / f"{name}.gpu.in")


@dataclass(frozen=True)
class Mark:
    """The marker of a finished environment.

    adopted: it is another interpreter's, used by hand; of_gpus: it has what only a machine with a GPU has a use for.
    """

    python: Path
    lock_sha256: str | None
    adopted: bool
    of_gpus: bool = False

    def to_json(self) -> records.Json:
        """Its form in the file."""
        return {"schema": "environment/1", **asdict(self), "python": str(self.python)}


def ready_file(name: str) -> Path:
    """The path of the marker of a finished environment."""
    return ENVIRONMENTS / name / "ready"


def mark(name: str) -> Mark | None:
    """The mark of a finished environment whose Python is still there."""
    try:
        found = json.loads(ready_file(name).read_text(encoding="utf-8"))
        python = Path(found["python"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    made = Mark(python, found.get("lock_sha256"), bool(found.get("adopted")), bool(found.get("of_gpus")))
    return made if python.exists() else None


def is_current(name: str) -> bool:
    """Whether environment `name` was made, or adopted by hand, and its lock has not changed since."""
    found = mark(name)
    return found is not None and found.lock_sha256 == lock_sha256(name)


def finds(python: str, modules: tuple[str, ...]) -> bool:
    """Whether `python` finds all `modules` (without importing them)."""
    check = f"import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in {modules!r}))"
    try:
        return programs.run([python, "-c", check], "make the environment again").returncode == 0
    except MachineError:
        return False


def interpreter(name: str) -> Path:
    """The Python that runs workers of environment `name`: the made or adopted one, else this one if it will do."""
    found = mark(name)
    if found:
        return found.python
    if finds(sys.executable, NEEDED.get(name, ())):
        return Path(sys.executable)
    raise MachineError(f"environment {name} is missing", f"elastickv env {name}")


def site_packages(name: str) -> Path | None:
    """The folder of an installed environment's packages, or None if it does not exist (or was adopted)."""
    made = mark(name)
    if made is None or made.adopted:
        return None
    found = sorted((ENVIRONMENTS / name / "lib").glob("python3*/site-packages"))
    return found[0].resolve() if found else None


def _uv() -> list[str]:
    beside = Path(sys.executable).with_name("uv")
    program = str(beside) if beside.exists() else shutil.which("uv")
    if not program:
        raise MachineError("uv, which installs the environments, is missing", "make setup (or: pip install uv)")
    return [program]


def adding(name: str, package: str) -> str:
    """The command that installs a package in environment `name`, in the version of its lock file if it is there."""
    uv, python = (shown(Path(program)) for program in (*_uv(), interpreter(name)))
    return f"{uv} pip install --python {python} --constraints {LOCKS / name}.txt {package}"  # the folder has no pip


def shown(path: Path) -> str:
    """A path for use in commands: relative if it is below the current folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _call(command: list[str], name: str) -> None:
    done = subprocess.run(command, env=installers.variables(), check=False)
    if done.returncode:
        raise MachineError(
            f"environment {name} could not be installed: {' '.join(command)} ended with {done.returncode}",
            f"see the message above (no network?), then: elastickv env {name}"
            f" (or, to use what this machine has: elastickv env {name} --adopt)",
        )


def _compiled(name: str, install: list[str], python: Path) -> list[str]:
    """Options by which uv finds the wheel of what environment `name` compiles, which is built first when needed."""
    if name != COMPILED:
        return []
    lock = LOCKS / f"{name}.txt"
    pin = next(line for line in requirement_lines(lock) if line.startswith(f"{compiled.PACKAGE}=="))

    def build(options: tuple[str, ...], folder: Path) -> None:
        print(f"elastickv: environment {name}: {COMPILING}", file=sys.stderr, flush=True)
        _call([*install, "--constraints", str(lock), "pip"], name)  # uv makes wheels only of sources already here
        pip = [str(python), "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", str(folder)]
        _call([*pip, "--config-settings", f"cmake.args={';'.join(options)}", pin], name)

    return ["--find-links", str(compiled.wheels(pin, build)), "--only-binary", compiled.PACKAGE]


def _install(name: str, folder: Path) -> Path:
    """Makes the environment in `folder` (wiped first: an unfinished one is worth nothing); returns its Python."""
    if name == COMPILED:
        compiled.compiler()  # fails early if there is none
    if name in NOTICES:
        print(f"elastickv: environment {name}: {NOTICES[name]}", file=sys.stderr, flush=True)
    _clear(name)
    uv, python = _uv(), folder.resolve() / "bin" / "python"
    _call([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], name)
    install = [*uv, "pip", "install", "--quiet", "--python", str(python)]
    install += _compiled(name, install, python)
    if name in WITH_TORCH:
        wanted = requirement_lines(LOCKS / f"{name}.in")
        _call([*install, "--constraints", str(LOCKS / f"{name}.txt"), *wanted], name)
    else:
        _call([*install, "--requirements", str(LOCKS / f"{name}.txt")], name)
    without = requirement_lines(LOCKS / f"{name}.nodeps")
    if without:
        _call([*install, "--no-deps", *without], name)
    return python


def _clear(name: str) -> None:
    """Deletes an environment, its mark first: half of one must not look finished."""
    ready_file(name).unlink(missing_ok=True)
    shutil.rmtree(ENVIRONMENTS / name, ignore_errors=True)


def _lacks_of_gpus(name: str) -> bool:
    """Whether this machine has a GPU, and there is something to add for it."""
    return bool(_of_gpus(name) and device.visible_gpus())


def _add_optional(name: str, python: Path) -> None:
    """What only a machine with a GPU has a use for. Goes on without it."""
    install = [*_uv(), "pip", "install", "--quiet", "--python", str(python)]
    install += ["--constraints", str(LOCKS / f"{name}.txt")]
    print(f"elastickv: environment {name}: {GPU_NOTICES[name]}", file=sys.stderr, flush=True)
    try:
        _call([*install, *_of_gpus(name)], name)
    except MachineError as error:
        print(
            f"elastickv: continuing without {', '.join(_of_gpus(name))}: {error.problem}", file=sys.stderr, flush=True
        )


def make(name: str, adopt: bool = False) -> Path:
    """Makes (or adopts) environment `name` unless it is ready and its lock unchanged; returns its Python."""
    import filelock

    if not LOCKS.is_dir():
        raise UsageError(f"{LOCKS}: no such folder: run this in the root of a checkout, which holds the locks")
    known = sorted(path.stem for path in LOCKS.glob("*.txt"))
    if name not in known:
        raise UsageError(f"env: {name}: no lock envs/{name}.txt; allowed: {', '.join(known)}")
    ENVIRONMENTS.mkdir(exist_ok=True)
    with filelock.FileLock(ENVIRONMENTS / f".{name}.lock"):
        found = mark(name)
        if found and found.lock_sha256 == lock_sha256(name) and found.adopted == adopt:
            if _lacks_of_gpus(name) and not found.of_gpus and not adopt:  # it was made where there was none
                _add_optional(name, found.python)
                _write(name, replace(found, of_gpus=True))
            return found.python
        made = _adopted(name) if adopt else _install(name, ENVIRONMENTS / name)
        of_gpus = not adopt and _lacks_of_gpus(name)
        if of_gpus:
            _add_optional(name, made)
        _write(name, Mark(made, lock_sha256(name), adopt, of_gpus))
        return made


def _adopted(name: str) -> Path:
    """This interpreter, if it finds what the environment is for. Raises MachineError."""
    modules = NEEDED.get(name, ())
    if not finds(sys.executable, modules):
        raise MachineError(
            f"{sys.executable} cannot be adopted as environment {name}: it lacks one of {', '.join(modules)}",
            f"install it there, or: elastickv env {name}",
        )
    _clear(name)
    return Path(sys.executable)


def _write(name: str, made: Mark) -> None:
    records.write_text(ready_file(name), records.to_json(made.to_json()))


def run(args: argparse.Namespace) -> int:
    """`elastickv env NAME [--adopt]`."""
    print(f"environment {args.name}: {make(args.name, args.adopt)}")
    return 0
