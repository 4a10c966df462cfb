"""CUDA images, one per architecture, merged into one fatbin whose contents are verified."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from elastickv import records
from elastickv.build import compilers, fatbin, fingerprint, headers, images, nvrtc, store
from elastickv.errors import MachineError, UsageError
from elastickv.schemas.base import Sha256
from elastickv.schemas.build import CudaBuild, Fingerprints, Image, Kernel
from elastickv.system import programs
from elastickv.system.nvcc import NVRTC_INSTEAD

SOURCE = fingerprint.KERNELS / "cuda" / "elastickv.cu"
INCLUDES = (fingerprint.KERNELS, fingerprint.KERNELS / "cuda", headers.FOLDER)
ARCHITECTURES = (61, 70, 75, 80, 86, 89, 90)
FIX_ENVIRONMENT = "elastickv env cuda"

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


class BuiltImage(Image):
    """What `<image>.json` says of an image: how it was built, and the fingerprints of it and of its parts."""

    fingerprint: Sha256
    fingerprints: Fingerprints


def resources(log: str) -> dict[str, Kernel]:
    """Registers, spilled bytes (stores and loads) and static shared memory per kernel, from ptxas's report."""
    kernels: dict[str, Kernel] = {}
    name, spilled = "", 0
    for line in log.splitlines():
        if entry := _ENTRY.search(line):
            name, spilled = entry[1], 0
        elif spills := _SPILLS.search(line):
            spilled = int(spills[1]) + int(spills[2])
        elif name and (used := _USED.search(line)):
            shared = _SHARED.search(line)
            kernels[name] = Kernel(
                registers=int(used[1]), spill_bytes=spilled, shared_bytes=int(shared[1]) if shared else 0
            )
    return kernels


def _with_nvcc(compiler: compilers.Compiler, made_of: fingerprint.Image, ptx: bool, out: Path) -> str:
    output = ["-ptx", f"-arch={made_of.target}"] if ptx else ["-cubin", f"-arch={made_of.target}", "-Xptxas", "-v"]
    includes = [flag for folder in INCLUDES for flag in ("-I", str(folder))]
    command = [str(compiler.path), *output, *made_of.flags, *includes, "-o", str(out), str(SOURCE)]
    done = programs.run(command, NVRTC_INSTEAD, programs.COMPILE_SECONDS)
    if done.returncode:
        raise MachineError(
            f"{' '.join(command)} failed:\n{programs.errors_of(done.stderr)}", "see the compiler's message above"
        )
    return done.stdout + done.stderr


def _with_nvrtc(compiler: compilers.Compiler, made_of: fingerprint.Image, ptx: bool, out: Path) -> str:
    options = [f"--gpu-architecture={made_of.target}", *made_of.flags, "--ptxas-options=-v"]
    if ptx:
        options = [option for option in options if not option.startswith("--ptxas-options")]
    options += [f"-I{folder}" for folder in INCLUDES]
    image, log = nvrtc.compile_source(compiler.path, SOURCE, options, ptx)
    out.write_bytes(image)
    return log


def build_image(architecture: int, ptx: bool, wanted: str, out: Path) -> BuiltImage:
    """Compiles (or restores) one image to `out`, writes its facts to `<out>.json` and returns them."""
    made_of = fingerprint.cuda_image(architecture, ptx, wanted)

    def make(path: Path) -> Image:
        compiler = compilers.choose(architecture, wanted)
        if compiler.path is None:
            raise MachineError(f"sm_{architecture} needs {compiler.kind} {compiler.version}", FIX_ENVIRONMENT)
        headers.write("cuda", fingerprint.KERNELS)
        compile_with = _with_nvcc if compiler.kind == "nvcc" else _with_nvrtc
        log = compile_with(compiler, made_of, ptx, path)
        try:
            fatbin.check_image(path, architecture, ptx)
        except fatbin.BrokenBinary as error:
            raise MachineError(f"the compiler made a wrong image: {error}", FIX_ENVIRONMENT) from error
        made = store.described(path)
        return Image(
            architecture=made_of.target,
            kind="ptx" if ptx else "elf",
            compiler=compiler.kind,
            compiler_version=compiler.version,
            flags=made_of.flags,
            minimum_driver=compiler.minimum_driver,
            sha256=made.sha256,
            bytes=made.bytes,
            kernels=resources(log),
        )

    binary, facts = store.obtain(made_of.sha256, Image, make)
    parts = fingerprint.by_part("cuda", made_of)
    built = BuiltImage(**dict(facts), fingerprint=made_of.sha256, fingerprints=parts)
    store.put_in_place(binary, out)
    records.write_text(f"{out}.json", records.to_json(records.content(built)))
    return built


def _facts_of(image: Path) -> BuiltImage:
    try:
        return BuiltImage.model_validate(records.parse(Path(f"{image}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise UsageError(f"{image}: not an image that `elastickv build image` made") from None


def _merger() -> list[str]:
    """The program that merges images, and flags that compress them so that every driver can read them.

    LZ4 (`speed`) is what older mergers always use; drivers older than 550 cannot read the newer compression.
    """
    found = shutil.which("fatbinary")
    if not found:
        nvcc = compilers.pinned_nvcc().path or compilers.nvcc().path
        found = str(nvcc.with_name("fatbinary")) if nvcc else None
    if not found:
        raise MachineError("fatbinary, which merges the images, is missing", FIX_ENVIRONMENT)
    offers = programs.run([found, "--help"], FIX_ENVIRONMENT).stdout
    return [found, "--compress-all", *(["--compress-mode=speed"] if "--compress-mode" in offers else [])]


def merge(images: list[Path], out: Path, manifest: Path) -> CudaBuild:
    """Merges images into a compressed fatbin, reads it back, writes the manifest; returns the manifest."""
    facts = {image: _facts_of(image) for image in images}
    wanted = {image: (fact.kind, int(fact.architecture.split("_")[1])) for image, fact in facts.items()}
    parts = [f"--image3=kind={kind},sm={sm},file={image}" for image, (kind, sm) in wanted.items()]
    with records.replacing(out) as merged:
        command = [*_merger(), f"--create={merged}", "-64", *parts]
        done = programs.run(command, FIX_ENVIRONMENT, programs.COMPILE_SECONDS)
        if done.returncode:
            raise MachineError(f"fatbinary failed: {done.stderr[-1000:]}", FIX_ENVIRONMENT)
        try:
            read_back = fatbin.check_fatbin(merged, [*wanted.values()])
        except fatbin.BrokenBinary as error:
            raise MachineError(f"the merged fatbin is wrong: {error}", "rm -r build, then build again") from error
    content = CudaBuild(
        backend="cuda",
        fingerprint=fingerprint.fatbin_of(fact.fingerprint for fact in facts.values()),
        fingerprints=fingerprint.fatbin_of_parts([fact.fingerprints for fact in facts.values()]),
        binary=store.described(out),
        images=[Image(**fact.model_dump(include=Image.model_fields.keys())) for fact in facts.values()],
        read_back=read_back,
    )
    records.save(manifest, content)
    return content


def run_image(args: argparse.Namespace) -> int:
    """`elastickv build image`."""
    (architecture,) = _known("build image: --architecture", [str(args.architecture)])
    facts = build_image(architecture, args.ptx, args.compiler, Path(args.out))
    spilling = sorted(name for name, kernel in facts.kernels.items() if kernel.spill_bytes)
    print(f"{args.out}: {facts.compiler} {facts.compiler_version}, {len(facts.kernels)} kernels")
    if spilling:
        print(f"  spill registers: {', '.join(spilling)}")
    return 0


def run_fatbin(args: argparse.Namespace) -> int:
    """`elastickv build fatbin`."""
    content = merge([Path(image) for image in args.images], Path(args.out), Path(args.manifest))
    print(f"{args.out}: {', '.join(content.read_back.elf + content.read_back.ptx)}")
    return 0


def _known(flag: str, parts: list[str]) -> list[int]:
    """Architectures given to a flag, such as `build cuda: --ptx`. UsageError where one is not among ARCHITECTURES."""
    wrong = [part for part in parts if not part.isdecimal() or int(part) not in ARCHITECTURES]
    if wrong:
        raise UsageError(f"{flag}: {wrong[0]!r}; allowed: {','.join(map(str, ARCHITECTURES))}")
    return [int(part) for part in parts]


def run_all(args: argparse.Namespace) -> int:
    """`elastickv build cuda`: every image, one per core at a time, and the fatbin."""
    folder = Path(args.out)
    (ptx,) = _known("build cuda: --ptx", [str(args.ptx)]) if args.ptx else (None,)
    names = images.names(_known("build cuda: --architectures", args.architectures.split(",")), ptx)

    def one(name: str) -> None:
        architecture, ptx = images.target(name)
        facts = build_image(architecture, ptx, args.compiler, folder / name)
        print(f"{folder / name}: {facts.compiler} {facts.compiler_version}", flush=True)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(one, names))
    fatbin_args = argparse.Namespace(
        images=[str(folder / name) for name in names],
        out=str(folder / "elastickv.fatbin"),
        manifest=str(folder / "manifest.json"),
    )
    return run_fatbin(fatbin_args)
