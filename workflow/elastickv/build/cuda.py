"""CUDA images, one per architecture, merged into one fatbin whose contents are verified."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from elastickv import records
from elastickv.build import compilers, fatbin, fingerprint, format_headers, images, kernel_list, nvrtc, store
from elastickv.errors import MachineError, UsageError
from elastickv.schemas.build import CudaBuild, Fingerprints, Image, Kernel
from elastickv.system import programs
from elastickv.system.nvcc import NVRTC_INSTEAD

SOURCE = fingerprint.KERNELS / "cuda" / "elastickv.cu"
INCLUDES = (fingerprint.KERNELS, fingerprint.KERNELS / "cuda", format_headers.FOLDER, kernel_list.FOLDER)
ARCHITECTURES = (61, 70, 75, 80, 86, 89, 90)
FIX_ENVIRONMENT = "elastickv env cuda"

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


class BuiltImage(store.StoredImage):
    """The facts about an image, stored in `<image>.json`."""

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
    if not out.is_file():
        raise MachineError(f"{' '.join(command)} reported success but wrote no image", NVRTC_INSTEAD)
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
    stored = store.find(made_of.sha256, store.StoredImage)
    if stored is None:
        compiler = compilers.choose(architecture, wanted)
        if compiler.path is None:
            raise MachineError(f"sm_{architecture} needs {compiler.kind} {compiler.version}", FIX_ENVIRONMENT)
        format_headers.write(fingerprint.KERNELS)
        kernel_list.write("cuda", fingerprint.KERNELS)
        with tempfile.TemporaryDirectory(prefix="elastickv-") as folder:
            image = Path(folder) / out.name
            compile_with = _with_nvcc if compiler.kind == "nvcc" else _with_nvrtc
            log = compile_with(compiler, made_of, ptx, image)
            try:
                fatbin.check_image(image, architecture, ptx)
            except fatbin.BrokenBinary as error:
                raise MachineError(f"the compiler made a wrong image: {error}", FIX_ENVIRONMENT) from error
            store.keep(made_of.sha256, image, _facts(made_of, compiler, ptx, resources(log), image))
        stored = store.find(made_of.sha256, store.StoredImage)
        assert stored is not None
    binary, facts = stored
    built = BuiltImage(**dict(facts), fingerprints=fingerprint.by_part("cuda", made_of))
    store.put_in_place(binary, out)
    records.write_text(f"{out}.json", records.to_json(records.content(built)))
    return built


def _facts(
    made_of: fingerprint.Image, compiler: compilers.Compiler, ptx: bool, kernels: dict[str, Kernel], image: Path
) -> store.StoredImage:
    """The facts that the store keeps with a new image."""
    made = store.described(image)
    return store.StoredImage(
        architecture=made_of.target,
        kind="ptx" if ptx else "elf",
        compiler=compiler.kind,
        compiler_version=compiler.version,
        flags=made_of.flags,
        minimum_driver=compiler.minimum_driver,
        sha256=made.sha256,
        bytes=made.bytes,
        kernels=kernels,
        fingerprint=made_of.sha256,
    )


def _facts_of(image: Path) -> BuiltImage:
    try:
        facts = BuiltImage.model_validate(records.parse(Path(f"{image}.json").read_text(encoding="utf-8")))
        whole = records.sha256_file(image) == facts.sha256
    except (OSError, ValueError):
        whole = False
    if not whole:
        raise UsageError(f"{image}: not an image that `elastickv build image` made (or it was changed)")
    return facts


def _merger() -> str:
    found = shutil.which("fatbinary")
    if not found:
        nvcc = compilers.pinned_nvcc().path or compilers.nvcc().path
        found = str(nvcc.with_name("fatbinary")) if nvcc else None
    if not found:
        raise MachineError("fatbinary, which merges the images, is missing", FIX_ENVIRONMENT)
    return found


def merge(images: list[Path], out: Path, manifest: Path) -> CudaBuild:
    """Merges images into a fatbin, reads it back, writes the manifest; returns the manifest."""
    facts = [_facts_of(image) for image in images]
    wanted = [(fact.kind, int(fact.architecture.split("_")[1])) for fact in facts]
    for image, (kind, architecture) in zip(images, wanted, strict=True):
        fatbin.check_image(image, architecture, kind == "ptx")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="elastickv-") as folder:
        merged = Path(folder) / out.name
        parts = [
            f"--image3=kind={kind},sm={architecture},file={image}"
            for image, (kind, architecture) in zip(images, wanted, strict=True)
        ]
        # Uncompressed: drivers older than the merger cannot read its newest compression.
        command = [_merger(), f"--create={merged}", "-64", "--compress-mode=none", *parts]
        done = programs.run(command, FIX_ENVIRONMENT, programs.COMPILE_SECONDS)
        if done.returncode or not merged.is_file():
            raise MachineError(f"fatbinary failed: {done.stderr[-1000:] or 'it wrote no file'}", FIX_ENVIRONMENT)
        try:
            read_back = fatbin.check_fatbin(merged, wanted)
        except fatbin.BrokenBinary as error:
            raise MachineError(f"the merged fatbin is wrong: {error}", "rm -r build, then build again") from error
        store.put_in_place(merged, out)
    content = CudaBuild(
        backend="cuda",
        fingerprint=fingerprint.fatbin_of(fact.fingerprint for fact in facts).sha256,
        fingerprints=fingerprint.fatbin_of_parts([fact.fingerprints for fact in facts]),
        binary=store.described(out),
        images=[Image(**fact.model_dump(include=Image.model_fields.keys())) for fact in facts],
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
