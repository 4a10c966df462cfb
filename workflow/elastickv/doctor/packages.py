"""Commands that install missing packages with the system's package manager."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

MANAGERS = {"apt-get": "apt-get install -y {}", "dnf": "dnf install -y {}", "zypper": "zypper install -y {}"}
# Package names by package manager.
NAMES = {
    "compiler": {"apt-get": "g++", "dnf": "gcc-c++", "zypper": "gcc-c++"},
    "openmp": {"apt-get": "g++ libomp-dev", "dnf": "gcc-c++ libomp-devel", "zypper": "gcc-c++ libomp-devel"},
    "driver": {"apt-get": "nvidia-driver-580", "dnf": "nvidia-driver", "zypper": "nvidia-open"},
}


def install(thing: str, which: Callable[[str], str | None] = shutil.which, root: bool | None = None) -> str:
    """The command that installs `thing` (a key of NAMES) with this system's package manager (default: apt-get)."""
    root = os.geteuid() == 0 if root is None else root
    manager = next((name for name in MANAGERS if which(name)), "apt-get")
    command = MANAGERS[manager].format(NAMES[thing][manager])
    return command if root else f"sudo {command}"
