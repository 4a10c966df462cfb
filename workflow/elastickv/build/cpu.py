"""`libelastickv.so`: the CPU kernels, by the system's C++ compiler."""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

from elastickv import records
from elastickv.build import compilers, fingerprint, format_headers, store
from elastickv.errors import MachineError
from elastickv.schemas.build import Binary, CpuBuild
from elastickv.system import programs

LIBRARY = "libelastickv.so"
NOTHING_UNDEFINED = "-Wl,-z,defs"  # a C compiler, which links no C++ runtime, fails here instead of when it is loaded
FIX = "a C++17 compiler with OpenMP (apt-get install g++, and CXX=g++ or no CXX at all)"


def _call(out: Path, *arguments: str) -> None:
    """Calls the C++ compiler for one file. Raises MachineError unless that is there then."""
    flags = [*fingerprint.CPU_FLAGS, "-I", str(fingerprint.KERNELS), "-I", str(format_headers.FOLDER)]
    command = [*compilers.host().command, *flags, *arguments, "-o", str(out)]
    done = programs.run(command, FIX, programs.COMPILE_SECONDS)
    if done.returncode:
        raise MachineError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}", FIX)
    if not out.is_file():
        raise MachineError(f"{' '.join(command)} reported success but wrote no {out.name}", FIX)


def compile_library(out: Path) -> None:
    """Compiles all kernels for each target, and the choice among them (kernels/cpu/elastickv.cpp says how)."""
    format_headers.write(fingerprint.KERNELS)
    source, targets = fingerprint.KERNELS / "cpu", compilers.cpu_targets()
    objects = {name: out.with_suffix(f".{name}.o") for name in targets}
    for name, flags in targets.items():
        renamed = (f"-Delastickv=elastickv_{name}", f"-DELASTICKV_TABLE=elastickv_table_{name}")
        _call(objects[name], *flags, *renamed, "-c", str(source / "elastickv.cpp"))
    names = " ".join(f"X({name})" for name in targets)
    parts = [str(source / "dispatch.cpp"), *map(str, objects.values())]
    _call(out, "-shared", NOTHING_UNDEFINED, f"-DELASTICKV_TARGETS={names}", *parts)


def _kernels() -> list[str]:
    """Names of the kernels: one file each beside the translation unit that includes them."""
    unit = (fingerprint.KERNELS / "cpu" / "elastickv.cpp").read_text(encoding="utf-8")
    return sorted(re.findall(r'#include "(\w+)\.cpp"', unit))


def build(folder: Path) -> CpuBuild:
    """Builds (or restores) the library and its manifest in `folder`; returns the manifest."""
    made_of = fingerprint.cpu()
    stored = store.find(made_of.sha256, store.StoredLibrary)
    if stored is None:
        with tempfile.TemporaryDirectory(prefix="elastickv-") as scratch:
            library = Path(scratch) / LIBRARY
            compile_library(library)
            made = store.described(library)
            facts = store.StoredLibrary(kernels=_kernels(), sha256=made.sha256, bytes=made.bytes)
            store.keep(made_of.sha256, library, facts)
        stored = store.find(made_of.sha256, store.StoredLibrary)
        assert stored is not None
    binary, facts = stored
    store.put_in_place(binary, folder / LIBRARY)
    manifest = CpuBuild(
        backend="cpu",
        fingerprint=made_of.sha256,
        fingerprints=fingerprint.by_part("cpu", made_of),
        binary=Binary(path=str(folder / LIBRARY), sha256=facts.sha256, bytes=facts.bytes),
        compiler=made_of.compiler,
        compiler_version=made_of.compiler_version,
        flags=made_of.flags,
        targets=made_of.targets,
        kernels=facts.kernels,
    )
    records.save(folder / "manifest.json", manifest)
    return manifest


def run(args: argparse.Namespace) -> int:
    """`elastickv build cpu`."""
    manifest = build(Path(args.out))
    print(f"{manifest.binary.path}: {manifest.compiler_version}, fingerprint {manifest.fingerprint[:12]}")
    return 0
