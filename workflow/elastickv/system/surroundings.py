"""Prepares the user's environment for a run's programs: cache folders and UTF-8. Standard library only.

Containers and clusters start commands as users whose home cannot be written to (`HOME=/`, uid 65534), and with locales
that are not installed. Caches then go into the checkout, and Python is started again in its UTF-8 mode.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

CHECKOUT = Path(__file__).absolute().parents[3]
IN_CHECKOUT = Path(".envs/.cache")
# Variable: where its program writes when the variable is not set, in the user's home.
CACHES = {
    "XDG_CACHE_HOME": ".cache",  # uv, Snakemake, Hugging Face, compiled wheels
    "MPLCONFIGDIR": ".config/matplotlib",
    "CUPY_CACHE_DIR": ".cupy/kernel_cache",
    "CUDA_CACHE_PATH": ".nv/ComputeCache",
    "TRITON_CACHE_DIR": ".triton/cache",
    "FLASHINFER_WORKSPACE_BASE": "",
    "IPYTHONDIR": ".ipython",
    "JUPYTER_CONFIG_DIR": ".jupyter",
    "JUPYTER_DATA_DIR": ".local/share/jupyter",
}


def takes_files(folder: Path | str) -> bool:
    """Whether this user can write to a folder, or create it if it does not exist."""
    existing = Path(folder).absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def home(environment: MutableMapping[str, str] = os.environ) -> Path:
    """The user's home; `/` for a user without an entry in the password database and without HOME."""
    try:
        return Path(environment.get("HOME") or Path.home())
    except RuntimeError:
        return Path("/")


def usual(variable: str, environment: MutableMapping[str, str] = os.environ) -> Path:
    """Where the program that reads `variable` of CACHES would write."""
    return Path(environment.get(variable) or home(environment) / CACHES[variable])


def settle(checkout: Path | str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Redirects each cache that is not writable to the checkout; models that exist already stay in use."""
    models = usual("XDG_CACHE_HOME", environment) / "huggingface"
    for variable, name in CACHES.items():
        if not takes_files(usual(variable, environment)):
            environment[variable] = str(Path(checkout).absolute() / IN_CHECKOUT / (name or "home"))
            if variable == "XDG_CACHE_HOME" and models.is_dir():
                environment.setdefault("HF_HOME", str(models))
    if not environment.get("HOME"):
        environment["HOME"] = str(home(environment))


def speak_utf8() -> None:
    """Starts this process again in Python's UTF-8 mode, unless file names are in UTF-8 already."""
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def prepare() -> None:
    """What every start of the Python in `.venv` does first."""
    speak_utf8()
    settle(CHECKOUT)
