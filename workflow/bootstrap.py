"""Makes `.venv` from the pinned locks: `python3 workflow/bootstrap.py core dev`. Standard library only: it runs first.

Instant when nothing changed. Killed half-way, the next call starts over: a mark says that an installation is under way,
and the marks of finished ones lie inside the folder that they speak of. Two calls at once wait for each other.
"""

import fcntl
import functools
import glob
import hashlib
import os
import subprocess
import sys
import venv

from elastickv.system import installers, orphans, surroundings  # beside this file; they need no installation

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
UNFINISHED = os.path.join(VENV, ".unfinished")
OLDEST = (3, 11)
# What the path of a checkout cannot hold, and why.
REFUSED_IN_PATHS = {
    ":": "which separates the entries of PATH",
    "{": "which uv and Snakemake replace in paths",
    "}": "which uv and Snakemake replace in paths",
    "$": "which uv replaces in paths",
    "\n": "which ends a line of every script",
}


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
    """Runs an installer; ends with one line when it fails (its own messages stand above)."""
    environment = installers.variables()
    tied = functools.partial(orphans.kill_me_with_my_parent, parent=os.getpid())
    if subprocess.call(command, cwd=ROOT, env=environment, preexec_fn=tied) != 0:
        sys.exit(f"set-up: failed: {' '.join(command)}\nfix: see the message above, then repeat the make command")


def make_venv():
    """An empty `.venv` with uv in it. Not by ensurepip: its own child processes would outlive a killed make.

    The marks of what was finished go first: who is killed while the rest is deleted leaves nothing that looks finished.
    """
    for mark in glob.glob(os.path.join(glob.escape(VENV), ".ready-*")):
        os.remove(mark)
    pip = installers.bundled_pip()
    if pip is None:
        sys.exit("set-up: this Python comes without pip\nfix: install its venv module (Debian: python3-venv)")
    venv.create(VENV, clear=True, symlinks=True)
    touch(UNFINISHED)
    run(PYTHON, pip, "install", "--quiet", "--disable-pip-version-check", uv_pin())


def uv_pin():
    """The core lock's line for uv, which then installs the rest of it."""
    with open(lock_path("core")) as lock:
        return next(line.strip() for line in lock if line.startswith("uv=="))


def install(name):
    """One lock, on top of the core lock; after that one this package (editable).

    Once only: to install it again would take its command from a run in progress for a moment.
    """
    uv = [PYTHON, "-m", "uv", "pip", "install", "--quiet", "--python", PYTHON]
    locks = ["-r", lock_path("core")] + ([] if name == "core" else ["-r", lock_path(name)])
    run(*uv, *locks)
    if name == "core":
        run(*uv, "--no-deps", "--no-build-isolation", "--editable", ".")
        write_path_file()


def write_path_file():
    """The .pth file that puts `workflow/` on sys.path, and has every start of this Python see to its surroundings.

    The path is relative: Python reads .pth files in the locale's encoding, so a checkout's non-ASCII path there would
    end every start. Snakemake's own program needs the second line: nothing of ours runs before it.
    """
    for path in glob.glob(os.path.join(glob.escape(VENV), "lib", "python3*", "site-packages", "__editable__*.pth")):
        with open(path, "w", encoding="ascii") as file:
            file.write(os.path.relpath(os.path.join(ROOT, "workflow"), os.path.dirname(path)) + "\n")
            file.write("import elastickv.system.surroundings; elastickv.system.surroundings.prepare()\n")


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


def check_place(root):
    """Ends with one line where no environment can be made in this folder."""
    refused = next((sign for sign in REFUSED_IN_PATHS if sign in root), None)
    if refused:
        sys.exit(
            f"set-up: {root}: the path holds {refused!r}, {REFUSED_IN_PATHS[refused]}\n"
            "fix: move the checkout, or clone it, to a path without it"
        )
    if not surroundings.takes_files(root):
        sys.exit(f"set-up: {root}: this user cannot write to the checkout\nfix: clone it to a folder of your own")


def main(names):
    """Makes what is missing, one caller at a time."""
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"set-up: Python >= 3.11 is needed, {sys.executable} is {found}\nfix: make PYTHON=python3.11")
    if not missing(names):
        return
    check_place(ROOT)
    orphans.kill_me_with_my_parent()
    surroundings.settle(ROOT)
    os.makedirs(os.path.join(ROOT, ".envs"), exist_ok=True)
    with open(os.path.join(ROOT, ".envs", ".venv.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if missing(names):
            set_up(names)


if __name__ == "__main__":
    main(["core"] + [name for name in sys.argv[1:] if name != "core"])
