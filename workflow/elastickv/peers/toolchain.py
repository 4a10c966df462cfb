"""Where FlashInfer finds what it compiles its kernels with: nvcc, ninja, and libraries by the names it links."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from elastickv.build import compilers
from elastickv.system import nvcc, programs

# What FlashInfer links with -l, and the files that an installation without development links has of it.
LINKED = {"libcudart.so": "libcudart.so.1*", "libcuda.so": "libcuda.so.1"}
LIBRARY_FOLDERS = ("lib64", "lib64/stubs", "lib", "targets/x86_64-linux/lib")


def variables(python: str, links: Path) -> dict[str, str]:
    """Environment variables of a worker run by `python`; links: a folder for links to libraries, made where needed."""
    path = os.pathsep.join(
        [str(Path(python).parent), os.environ.get("PATH", os.defpath)]
    )  # ninja is in the same folder
    home = Path(os.environ["CUDA_HOME"]) if os.environ.get("CUDA_HOME") else cuda_home()
    if home is None:
        return {"PATH": path}
    flags = link_flags(home, links, _known_to_the_linker())
    text = " ".join(filter(None, [os.environ.get("FLASHINFER_EXTRA_LDFLAGS"), flags]))
    return {"PATH": path, "CUDA_HOME": str(home)} | ({"FLASHINFER_EXTRA_LDFLAGS": text} if text else {})


def cuda_home() -> Path | None:
    """The toolkit of the nvcc on PATH (by its own word: it may be a link or a wrapper), else of the pinned one.

    Raises MachineError where the nvcc on PATH does not run.
    """
    if nvcc.find():
        return nvcc.toolkit()
    pinned = compilers.pinned_nvcc().path
    return pinned.parents[1] if pinned else None


def link_flags(home: Path, links: Path, known: dict[str, Path]) -> str | None:
    """A flag for a folder of links where neither the toolkit nor the linker has a library by the name that -l asks for.

    known: libraries of the linker's own folders by name.
    """
    for name, versions in LINKED.items():
        if name in known or (home / "lib64" / name).exists():
            continue
        beside = [path for folder in LIBRARY_FOLDERS for path in sorted((home / folder).glob(versions))]
        beside += [home / "lib64" / "stubs" / name] if (home / "lib64" / "stubs" / name).exists() else []
        beside += [path for library, path in known.items() if Path(library).match(versions)]
        if beside:
            links.mkdir(parents=True, exist_ok=True)
            (links / name).unlink(missing_ok=True)
            (links / name).symlink_to(beside[0].resolve())
    return f"-L{links.resolve()}" if links.is_dir() else None


def _known_to_the_linker() -> dict[str, Path]:
    """Shared libraries that the system's linker finds by itself, by name."""
    program = shutil.which("ldconfig", path=os.pathsep.join([os.environ.get("PATH", ""), "/sbin", "/usr/sbin"]))
    if program is None:
        return {}
    text = programs.run([program, "-p"], "repair ldconfig, or set CUDA_HOME").stdout
    return {name: Path(path) for name, path in re.findall(r"^\s*(\S+) \(.*\) => (.+)$", text, re.MULTILINE)}
