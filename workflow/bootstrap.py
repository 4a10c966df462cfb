"""Makes `.venv` from the pinned locks: `python3 workflow/bootstrap.py core dev`. Standard library only: it runs first.

Instant when nothing changed. Killed half-way, the next call starts over: a mark says that an installation is under way,
and the marks of finished ones lie inside the folder that they speak of. Two calls at once wait for each other.
"""

import fcntl
import functools
import glob
import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
import venv

from elastickv import orphans  # beside this file; needs no installation

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
UNFINISHED = os.path.join(VENV, ".unfinished")
OLDEST = (3, 11)


def lock_path(name):
    """The pinned lock of an environment."""
    return os.path.join(ROOT, "envs", name + ".txt")


def mark_of(name):
    """The file that says `.venv` holds this lock: its name hashes the lock, the core lock, this file and the place."""
    digest = hashlib.sha256(f"{ROOT} {sys.version_info[:2]}".encode())
    for path in (lock_path("core"), lock_path(name), os.path.join(ROOT, "pyproject.toml"), os.path.abspath(__file__)):
        with open(path, "rb") as file:
            digest.update(b"\0" + file.read())
    return os.path.join(VENV, f".ready-{name}-{digest.hexdigest()[:16]}")


def missing(names):
    """Which of the locks `.venv` does not hold; all of them when an installation was cut off."""
    return [name for name in names if os.path.exists(UNFINISHED) or not os.path.exists(mark_of(name))]


def run(*command):
    """Runs an installer; ends with one line when it fails (its own messages stand above). uv sees pip's local files."""
    environment = dict(os.environ, UV_FIND_LINKS=os.environ.get("PIP_FIND_LINKS", ""))
    tied = functools.partial(orphans.kill_me_with_my_parent, parent=os.getpid())
    if subprocess.call(command, cwd=ROOT, env=environment, preexec_fn=tied) != 0:
        sys.exit(f"set-up: failed: {' '.join(command)}\nfix: see the message above, then repeat the make command")


def bundled_pip():
    """The pip that comes with this Python, as a wheel that can be run where it lies (Debian keeps it elsewhere)."""
    folders = [sysconfig.get_config_var("WHEEL_PKG_DIR") or "", "/usr/share/python-wheels"]
    if importlib.util.find_spec("ensurepip") is not None:
        folders.append(os.path.join(os.path.dirname(importlib.util.find_spec("ensurepip").origin), "_bundled"))
    wheels = [wheel for folder in folders for wheel in glob.glob(os.path.join(folder, "pip-*.whl"))]
    if not wheels:
        sys.exit("set-up: this Python comes without pip\nfix: install its venv module (Debian: python3-venv)")
    return wheels[-1]


def make_venv():
    """An empty `.venv` with uv in it. Not by ensurepip: its own child processes would outlive a killed make.

    The marks of what was finished go first: who is killed while the rest is deleted leaves nothing that looks finished.
    """
    for mark in glob.glob(os.path.join(glob.escape(VENV), ".ready-*")):
        os.remove(mark)
    pip = os.path.join(bundled_pip(), "pip")
    venv.create(VENV, clear=True, symlinks=True)
    touch(UNFINISHED)
    run(PYTHON, pip, "install", "--quiet", "--disable-pip-version-check", uv_pin())


def uv_pin():
    """The core lock's line for uv, which then installs the rest of it."""
    with open(lock_path("core")) as lock:
        return next(line.strip() for line in lock if line.startswith("uv=="))


def install(name):
    """One lock, on top of the core lock; after that one this package (editable), so that `snakemake` is its own.

    Once only: to install it again would take both commands from a run in progress for a moment.
    """
    uv = [PYTHON, "-m", "uv", "pip", "install", "--quiet", "--python", PYTHON]
    locks = ["-r", lock_path("core")] + ([] if name == "core" else ["-r", lock_path(name)])
    run(*uv, *locks)
    if name == "core":
        run(*uv, "--no-deps", "--no-build-isolation", "--editable", ROOT)


def touch(path):
    """An empty file."""
    with open(path, "w"):
        pass


def set_up(names):
    """Installs what is missing; a changed core lock or a cut-off installation starts from an empty `.venv`."""
    if "core" in missing(["core"]):
        print("set-up: making .venv", file=sys.stderr)
        make_venv()
    touch(UNFINISHED)
    for name in (name for name in names if not os.path.exists(mark_of(name))):
        print(f"set-up: installing envs/{name}.txt", file=sys.stderr)
        install(name)
        touch(mark_of(name))
    os.remove(UNFINISHED)


def main(names):
    """Makes what is missing, one caller at a time."""
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"set-up: Python >= 3.11 is needed, {sys.executable} is {found}\nfix: make PYTHON=python3.11")
    if not missing(names):
        return
    orphans.die_with_parent()
    os.makedirs(os.path.join(ROOT, ".envs"), exist_ok=True)
    with open(os.path.join(ROOT, ".envs", ".venv.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if missing(names):
            set_up(names)


if __name__ == "__main__":
    main(["core"] + [name for name in sys.argv[1:] if name != "core"])
