"""`libelastickv.so`: the CPU kernels, by the system's C++ compiler."""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from pathlib import Path

from elastickv import records
from elastickv.build import compilers, fingerprint, headers, store
from elastickv.errors import MachineError
from elastickv.schemas.build import Binary, CpuBuild
from elastickv.system import programs

INCLUDES = (fingerprint.KERNELS, fingerprint.KERNELS / "cpu", headers.FOLDER)
LIBRARY = "libelastickv.so"
NOTHING_UNDEFINED = "-Wl,-z,defs"  # a C compiler, which links no C++ runtime, fails here instead of when it is loaded
FIX = "a C++17 compiler with OpenMP (apt-get install g++, and CXX=g++ or no CXX at all)"
OF_A_FILE = re.compile(r"^\S+\.(cpp|hpp|h):\d+:\d+: (fatal )?error: ", re.MULTILINE)


def _call(out: Path, *arguments: str) -> None:
    """Calls the C++ compiler for one file. Raises MachineError unless that is there then."""
    includes = [flag for folder in INCLUDES for flag in ("-I", str(folder))]
    command = [*compilers.host().command, *fingerprint.CPU_FLAGS, *includes, *arguments, "-o", str(out)]
    done = programs.run(command, FIX, programs.COMPILE_SECONDS)
    if done.returncode:
        changed = (
            "correct the file that the compiler names; if you changed none: " if OF_A_FILE.search(done.stderr) else ""
        )
        raise MachineError(f"{' '.join(command)} failed:\n{programs.errors_of(done.stderr)}", changed + FIX)
    if not out.is_file():
        raise MachineError(f"{' '.join(command)} reported success but wrote no {out.name}", FIX)


def compile_objects(folder: Path) -> dict[str, Path]:
    """Compiles all kernels for each target (see kernels/cpu/elastickv.cpp): an object file in `folder` by target."""
    headers.write("cpu", fingerprint.KERNELS)
    source, objects = fingerprint.KERNELS / "cpu/elastickv.cpp", {}
    for name, flags in compilers.cpu_targets().items():
        renamed = (f"-Delastickv=elastickv_{name}", f"-DELASTICKV_TABLE=elastickv_table_{name}")
        objects[name] = (folder / LIBRARY).with_suffix(f".{name}.o")
        _call(objects[name], *flags, *renamed, "-c", str(source))
    return objects


def compile_library(out: Path) -> None:
    """Compiles the kernels for each target and links them with the code that chooses one."""
    with tempfile.TemporaryDirectory(prefix="elastickv-") as scratch:
        library, objects = Path(scratch) / LIBRARY, compile_objects(Path(scratch))
        names = " ".join(f"X({name})" for name in objects)
        parts = [str(fingerprint.KERNELS / "cpu/dispatch.cpp"), *map(str, objects.values())]
        _call(library, "-shared", NOTHING_UNDEFINED, f"-DELASTICKV_TARGETS={names}", *parts)
        shutil.copyfile(library, out)


def build(folder: Path) -> CpuBuild:
    """Builds (or restores) the library and its manifest in `folder`; returns the manifest."""
    made_of, library = fingerprint.cpu(), folder / LIBRARY

    def make(path: Path) -> Binary:
        compile_library(path)
        return store.described(path)

    store.put_in_place(store.obtain(made_of.sha256, Binary, make)[0], library)
    manifest = CpuBuild(
        backend="cpu",
        fingerprint=made_of.sha256,
        fingerprints=fingerprint.by_part("cpu", made_of),
        binary=store.described(library),
        compiler=made_of.compiler,
        compiler_version=made_of.compiler_version,
        flags=made_of.flags,
        targets=made_of.targets,
        kernels=[*headers.sources("cpu", fingerprint.KERNELS)],
    )
    records.save(folder / "manifest.json", manifest)
    return manifest


def run(args: argparse.Namespace) -> int:
    """`elastickv build cpu`."""
    manifest = build(Path(args.out))
    print(f"{manifest.binary.path}: {manifest.compiler_version}, fingerprint {manifest.fingerprint[:12]}")
    return 0
