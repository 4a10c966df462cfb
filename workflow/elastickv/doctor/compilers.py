"""Compilers: nvcc and the configured architectures, the system's C++ compiler, OpenMP."""

from __future__ import annotations

import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from elastickv.build import compilers
from elastickv.build.cpu import NOTHING_UNDEFINED
from elastickv.doctor import gpu as gpus
from elastickv.doctor import packages
from elastickv.doctor.finding import Finding, note, ok, problem
from elastickv.doctor.needs import ELASTICKV, Needs
from elastickv.errors import MachineError
from elastickv.system import host_compiler, programs
from elastickv.system import nvcc as nvcc_search

OLDEST_WITH_CPP17 = 11
PROBE_SECONDS = 60
# A test program with everything that the CPU kernels need: C++17, its runtime, OpenMP and the build's flags.
PROBE = """#include <omp.h>
int threads() { if constexpr (sizeof(long) > 4) return omp_get_max_threads(); return 1; }
int checked() { if (threads() < 1) throw 1; return threads(); }
"""
PROBE_FLAGS = ("-x", "c++", "-std=c++17", "-fopenmp", "-fPIC", "-shared", NOTHING_UNDEFINED)


@dataclass(frozen=True)
class Facts:
    """nvcc: path of the nvcc on PATH; on_path: what it reports. pinned*: the pinned nvcc's version and whether its
    environment exists. host*: the C++ compiler's command (None if there is none) and version; host_problem: what is
    wrong with it or with the variable CXX, and the fix. probe_failure: why the test program does not compile (None if
    it does, or if the compiler does not work at all). cuda: CUDA version of the driver, None without a driver.
    """

    nvcc: str | None
    on_path: nvcc_search.Nvcc
    pinned_version: str
    pinned_made: bool
    host: str | None
    host_version: str
    probe_failure: str | None
    cuda: tuple[int, int] | None
    host_problem: tuple[str, str] | None = None


def gather(needs: Needs, gpu: gpus.Facts) -> Facts:
    """Looks for compilers on PATH and compiles a test program."""
    nvcc = nvcc_search.find()
    pinned = compilers.pinned_nvcc()
    command, version, host_problem = _host()
    return Facts(
        nvcc and str(nvcc),
        nvcc_search.ask(nvcc) if nvcc else nvcc_search.Nvcc(None),
        pinned.version,
        pinned.path is not None,
        shlex.join(command) if command else None,
        version,
        _probe(command) if command and host_problem is None else None,
        gpu.cuda,
        host_problem,
    )


def _host() -> tuple[host_compiler.Command | None, str, tuple[str, str] | None]:
    """The C++ compiler's command and version, and (problem, fix) if it is unusable."""
    command = None
    try:
        command = host_compiler.find()
        return command, host_compiler.version(command), None
    except MachineError as error:
        return command, "", (error.problem, error.fix) if command or host_compiler.chosen() else None


def _probe(command: host_compiler.Command) -> str | None:
    """Why the test program does not compile; None if it does."""
    with tempfile.TemporaryDirectory(prefix="elastickv-") as folder:
        source, made = Path(folder, "probe.cpp"), Path(folder, "probe.so")
        source.write_text(PROBE, encoding="utf-8")
        try:
            done = programs.run([*command, *PROBE_FLAGS, "-o", str(made), str(source)], "", PROBE_SECONDS)
        except MachineError as error:
            return error.problem
        if done.returncode == 0:
            return None if made.is_file() else "the compiler reported success but wrote no file"
    text = done.stdout + done.stderr
    lines = [
        line for line in text.splitlines() if re.search("error|undefined", line, re.IGNORECASE)
    ] or text.splitlines()
    return (lines or ["the compiler failed without a message"])[0].strip()


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    return [*nvcc(facts, needs), *nvcc_targets(facts, needs), host(facts, needs), *openmp(facts, needs)]


def nvcc(facts: Facts, needs: Needs) -> list[Finding]:
    """The nvcc that will be used: the one on PATH, otherwise the pinned one."""
    check = "nvcc"
    if "cuda" not in needs.backends:
        return []
    if needs.compiler == "nvrtc":
        return [ok(check, "not used: build.compiler is nvrtc")]
    if facts.on_path.problem:
        return [problem(check, facts.on_path.problem, needs.make("build.compiler=nvrtc"))]
    if facts.nvcc:
        return [ok(check, f"{facts.on_path.version} ({facts.nvcc})")]
    message = f"not on PATH; version {facts.pinned_version}, pinned in .envs/cuda, will be used"
    if facts.pinned_made:
        return [ok(check, message)]
    return [note(check, f"{message}; the next run installs it", f"{ELASTICKV} env cuda")]


def nvcc_targets(facts: Facts, needs: Needs) -> list[Finding]:
    """Whether the nvcc on PATH supports every architecture, C++17 and the driver."""
    version, targets, _ = facts.on_path
    if "cuda" not in needs.backends or needs.compiler == "nvrtc" or version is None:
        return []
    check, major = "nvcc's architectures", int(version.split(".")[0])
    if major < OLDEST_WITH_CPP17:
        fix = needs.make("build.compiler=nvrtc")
        return [problem(check, f"nvcc {version} is too old: C++17 needs CUDA {OLDEST_WITH_CPP17}", fix)]
    wanted = [*needs.architectures, *([needs.ptx] if needs.ptx else [])]
    beyond = sorted({arch for arch in wanted if arch not in targets})
    newer_than_driver = facts.cuda is not None and major > facts.cuda[0]
    if newer_than_driver:
        driver = ".".join(map(str, facts.cuda))
        message = f"nvcc {version} is newer than the driver's CUDA {driver}"
    elif beyond:
        message = f"nvcc {version} cannot target {', '.join(f'sm_{arch}' for arch in beyond)}"
    else:
        return [ok(check, f"supports {', '.join(map(str, needs.architectures))}")]
    if needs.compiler == "nvcc":
        return [problem(check, message, needs.make("build.compiler=auto"))]
    return [ok(check, f"{message}: NVRTC 12.9 will compile {'all' if newer_than_driver else 'those'}")]


def host(facts: Facts, needs: Needs) -> Finding:
    """Whether there is a C++ compiler, which the CPU kernels, llama.cpp and nvcc need."""
    check = "C++ compiler"
    if facts.host and facts.host_problem is None:
        return ok(check, f"{facts.host_version} ({facts.host})")
    found, fix = facts.host_problem or ("none found ($CXX, g++, clang++)", packages.install("compiler"))
    builders = [
        *(["the CPU kernels"] if "cpu" in needs.backends else []),
        *(["nvcc"] if "cuda" in needs.backends and needs.compiler != "nvrtc" else []),
        *(["llama.cpp"] if "gguf" in needs.environments else []),
    ]
    if builders:
        return problem(check, f"{found}; needed by {' and '.join(builders)}", fix)
    return note(check, f"{found}; this config does not need one", fix)


def openmp(facts: Facts, needs: Needs) -> list[Finding]:
    """Whether the C++ compiler can compile and link C++17 with OpenMP."""
    if facts.host is None or facts.host_problem or "cpu" not in needs.backends:
        return []
    if facts.probe_failure is None:
        return [ok("OpenMP", "a C++17 test program with OpenMP compiles and links")]
    found = f"a C++17 test program with OpenMP does not compile: {facts.probe_failure}"
    return [problem("OpenMP", found, packages.install("openmp"))]
