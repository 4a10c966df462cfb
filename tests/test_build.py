"""Builds: fingerprints ignore comments, images are what they claim, stores heal, manifests say what is inside."""

import dataclasses
import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from elastickv import anchors, formats, records
from elastickv.build import binary, compilers, cpu, cuda, fatbin, fingerprint, headers, store
from elastickv.cli import main
from elastickv.device import launches, limits
from elastickv.device.params import Cache, CompressParams, DecodeParams
from elastickv.errors import MachineError, UsageError
from elastickv.schemas.build import Build, Kernel, ReadBack

KERNEL = 'extern "C" __global__ void scale(float* x) { x[threadIdx.x] *= 2.0f; }\n'


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A folder with one small CUDA kernel where the real ones would be; builds and store go there too."""
    kernels = tmp_path / "kernels"
    (kernels / "cuda").mkdir(parents=True)
    (kernels / "params.h").write_text("#pragma once\n")
    (kernels / "cuda" / "elastickv.cu").write_text('#include "params.h"\n' + KERNEL)
    root = Path(__file__).resolve().parents[1]
    (tmp_path / "envs").symlink_to(root / "envs")
    (tmp_path / ".envs").symlink_to(root / ".envs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def needs_nvcc() -> None:
    if compilers.nvcc().path is None:
        pytest.skip("needs nvcc: on PATH, or `elastickv env cuda`")


def test_comments_and_white_space_change_no_fingerprint_but_code_does(workshop):
    source = workshop / "kernels" / "cuda" / "elastickv.cu"
    before = fingerprint.source_sha256("cuda")
    source.write_text("// a comment\n" + source.read_text().replace(" { ", "  {  /* inside */  ") + "\n\n")
    assert fingerprint.source_sha256("cuda") == before
    source.write_text(source.read_text().replace("2.0f", "3.0f"))
    assert fingerprint.source_sha256("cuda") != before


def test_comment_marks_inside_strings_are_code():
    kept = fingerprint.without_comments('const char* a = "// not a comment"; // gone')
    assert kept == 'const char* a = "// not a comment";'
    assert fingerprint.without_comments('x = "/*"; y(); z = "*/";') == 'x = "/*"; y(); z = "*/";'


@pytest.fixture
def kernels(tmp_path) -> Path:
    """A copy of the real kernels, to change."""
    return shutil.copytree(ROOT / "kernels", tmp_path / "kernels")


def of_workloads(kernels: Path) -> dict[tuple[str, str], str]:
    """The hash of what every workload's kernels are made of, on every backend."""
    names = [(backend, workload) for backend in ("cuda", "cpu") for workload in fingerprint.launched()]
    return {name: fingerprint.workload_sha256(*name, kernels) for name in names}


def changed(kernels: Path, file: str, text: str, new: str) -> set[tuple[str, str]]:
    """Backend and workload of the hashes that change with the first `text` of a file."""
    before, path = of_workloads(kernels), kernels / file
    content = path.read_text(encoding="utf-8")
    assert text in content
    path.write_text(content.replace(text, new, 1), encoding="utf-8")
    after = of_workloads(kernels)
    return {name for name in before if before[name] != after[name]}


ONCE, ADDED = "#pragma once\n", "#pragma once\nstatic_assert(sizeof(int) == 4);\n"
STRUCT = "struct ElementwiseParams {\n"
BOTH = ("cuda", "cpu")
OF_CPU = {("cpu", name) for name in fingerprint.launched()}
OF_CUDA = {("cuda", name) for name in fingerprint.launched()}


@pytest.mark.parametrize(
    ("file", "text", "new", "expected"),
    [
        ("decode_tensor/kernel.cu", "__global__", "__global__ /* loud */", set()),
        ("decode_tensor/kernel.cu", "__global__", "__global__ volatile", {("cuda", "decode")}),
        ("cuda/convert.cuh", ONCE, ADDED, OF_CUDA),
        ("cpu/attention.hpp", ONCE, ADDED, {("cpu", "decode")}),
        ("format.h", "return 0.0f", "return 1.0f", OF_CPU | OF_CUDA),
        ("anchor.h", "enum Anchor {", "enum Anchor : int {", {("cpu", "decode"), ("cuda", "decode")}),
        ("params.h", "READ_AHEAD = 4096", "READ_AHEAD = 8192", OF_CPU | OF_CUDA),
        ("params.h", STRUCT, STRUCT + "  int x;\n", {(backend, "elementwise") for backend in BOTH}),
    ],
)
def test_a_change_counts_for_the_workloads_whose_kernels_hold_it(kernels, file, text, new, expected):
    assert changed(kernels, file, text, new) == expected


@pytest.mark.parametrize(("backend", "suffix"), [("cuda", "cu"), ("cpu", "cpp")])
def test_another_kernel_counts_for_none_that_is_there(kernels, backend, suffix):
    before, whole = of_workloads(kernels), fingerprint.source_sha256(backend, kernels)
    (kernels / "added").mkdir()
    (kernels / "added" / f"kernel.{suffix}").write_text('#include "params.h"\nvoid added(AddedParams p);\n')
    block = "struct AddedParams {\n  int count;\n};\n\nstruct StreamParams {"
    assert changed(kernels, "params.h", "struct StreamParams {", block) == set()
    assert of_workloads(kernels) == before
    assert fingerprint.source_sha256(backend, kernels) != whole
    assert f'#include "added/kernel.{suffix}"' in headers.of_kernels(backend, kernels)


def test_a_kernel_is_found_by_its_folder_whose_name_has_to_be_one(kernels):
    assert "decode_tensor" in headers.sources("cuda", kernels)
    assert "decode_tensor" not in headers.sources("cpu", kernels)
    (kernels / "fill").rename(kernels / "fill-2")
    with pytest.raises(UsageError, match="fill-2: the folder of a kernel must be named"):
        headers.sources("cuda", kernels)


@pytest.mark.parametrize(
    ("parts", "name", "used", "others"),
    [
        (formats, "int8", (("fp16", "int8"), None), [(("fp16", "fp16"), None), (("bf16", "int4"), None)]),
        (anchors, "last", (("fp16",), "last"), [(("fp16",), None), (("fp16",), "value_norm")]),
    ],
    ids=["format", "rule"],
)
def test_a_format_or_rule_counts_for_its_cases_and_adding_one_for_none(kernels, monkeypatch, parts, name, used, others):
    monkeypatch.chdir(kernels.parent)
    whole, before = fingerprint.source_sha256("cpu"), fingerprint.by_part("cpu", fingerprint.cpu())
    header, again = kernels / parts.__name__.rpartition(".")[2] / f"{name}.h", f"{name}_again"
    shutil.copy(header, header.with_name(f"{again}.h"))
    with_it = parts.every() | {again: dataclasses.replace(parts.of(name), name=again, number=99)}
    monkeypatch.setattr(parts, "every", lambda: with_it)
    after = fingerprint.by_part("cpu", fingerprint.cpu())
    assert fingerprint.source_sha256("cpu") != whole
    assert all(after.of("decode", *each) == before.of("decode", *each) for each in (used, *others))
    header.write_text(header.read_text(encoding="utf-8").replace(ONCE, ADDED), encoding="utf-8")
    changed = fingerprint.by_part("cpu", fingerprint.cpu())
    assert changed.of("decode", *used) != before.of("decode", *used)
    assert all(changed.of("decode", *each) == before.of("decode", *each) for each in others)


@pytest.mark.parametrize("name", ["formats/int4.h", "anchors/mean.h"])
def test_a_format_or_rule_without_a_header_is_named_before_anything_is_compiled(kernels, monkeypatch, name):
    monkeypatch.chdir(kernels.parent)
    (kernels / name).unlink()
    with pytest.raises(UsageError, match=f"kernels/{name} is missing"):
        headers.write("cuda", fingerprint.KERNELS)


def test_every_kernel_is_of_a_workload():
    """A kernel that no workload names would be changed without measuring anything again."""
    named = {name for names in fingerprint.launched().values() for name in names}
    for backend in BOTH:
        assert headers.sources(backend, fingerprint.KERNELS).keys() <= named


def entry_points(capability: int) -> set[str]:
    """The names of all CUDA kernels that are compiled for an architecture."""
    headers.write("cuda", fingerprint.KERNELS)
    flags = [f"-D__CUDA_ARCH__={capability}0", "-D__CUDACC__", *(f"-I{folder}" for folder in cuda.INCLUDES)]
    command = ["g++", "-E", "-P", "-x", "c++", *flags, cuda.SOURCE]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return set(re.findall(r'extern "C" __global__ (?:__launch_bounds__\([^{;]*?\) )?void (\w+)\(', text))


def launched_for(capability: int) -> set[str]:
    """The names that launches take on an architecture: with every dtype, format of the middle, dim and group."""
    gpu, decode, compress = launches.Gpu(132, capability), *map(launches.of_kernel, ("decode", "compress"))
    found = headers.sources("cuda", fingerprint.KERNELS).keys() - {"compress", "decode", "decode_any", "decode_tensor"}
    for dtype, dim, group in itertools.product(formats.exact(), limits.DECODE_DIMS, (1, 4)):
        for keys, values in itertools.product((dtype, *formats.scaled()), repeat=2):
            exact, k, v = (formats.of(name).number for name in (dtype, keys, values))
            cache = Cache(rows=4, kv_heads=4, dim=dim, dtype=exact, segment_count=2)
            cache.segments[0].k_format = cache.segments[0].v_format = exact
            cache.segments[1].k_format, cache.segments[1].v_format = k, v
            params = DecodeParams(cache=cache, group=group)
            params.touched[:2] = 260, 1000
            found.add(decode.launch(params, gpu).name)
            found.add(compress.launch(CompressParams(cache=cache), gpu).name)
    return found


@pytest.mark.parametrize("capability", [61, 75, 80, 90])
def test_every_kernel_that_is_compiled_is_launched_for_some_case_and_none_is_missing(capability):
    assert entry_points(capability) == launched_for(capability)


def test_fatbin_of_two_compilers_is_read_back_and_stated(workshop):
    needs_nvcc()
    if compilers.nvrtc().path is None:
        pytest.skip("needs NVRTC 12.9: `elastickv env cuda`")
    out = workshop / "build" / "cuda"
    images = [(61, False), (80, False), (90, False), (90, True)]
    names = [f"compute_{a}.ptx" if ptx else f"sm_{a}.cubin" for a, ptx in images]
    for (architecture, ptx), name in zip(images, names, strict=True):
        cuda.build_image(architecture, ptx, "auto", out / name)
    manifest = cuda.merge([out / name for name in names], out / "elastickv.fatbin", out / "manifest.json")
    compressed = (out / "elastickv.fatbin").stat().st_size
    assert compressed < sum(image.bytes for image in manifest.images)
    assert all((out / name).stat().st_nlink == 2 for name in names), "an image is a name of the store's file, no copy"
    assert manifest.read_back == ReadBack(elf=["sm_61", "sm_80", "sm_90"], ptx=["compute_90"])
    by_name = {image.architecture + image.kind: image for image in manifest.images}
    assert by_name["sm_61elf"].compiler == "nvrtc"
    assert by_name["sm_61elf"].minimum_driver == "525"
    assert by_name["sm_90elf"].kernels["scale"].registers > 0
    assert manifest == records.load(out / "manifest.json", Build).root
    assert manifest.binary.sha256 == records.sha256_file(out / "elastickv.fatbin")
    assert fingerprint.of_these_sources(manifest)
    (workshop / "kernels" / "params.h").write_text("#pragma once\nstruct Added { int x; };\n")
    assert not fingerprint.of_these_sources(manifest)


def test_an_image_for_another_architecture_is_refused(workshop):
    needs_nvcc()
    out = workshop / "build"
    cuda.build_image(80, False, "nvcc", out / "sm_80.cubin")
    with pytest.raises(fatbin.BrokenBinary, match="sm_80, not sm_90"):
        fatbin.check_image(out / "sm_80.cubin", 90, ptx=False)
    with pytest.raises(UsageError, match=r"other\.cubin: not an image"):
        cuda.merge([out / "other.cubin"], out / "e.fatbin", out / "manifest.json")
    assert not (out / "e.fatbin").exists()


def test_a_damaged_store_entry_is_built_again(workshop):
    needs_nvcc()
    facts = cuda.build_image(80, False, "nvcc", workshop / "a.cubin")
    (store.STORE / facts.fingerprint / "binary").write_bytes(b"damaged")
    again = cuda.build_image(80, False, "nvcc", workshop / "b.cubin")
    assert again.sha256 == facts.sha256 == records.sha256_file(workshop / "b.cubin")


def test_source_that_does_not_compile_is_one_message_with_the_compilers_words(workshop):
    needs_nvcc()
    (workshop / "kernels" / "cuda" / "elastickv.cu").write_text("this is not CUDA\n")
    with pytest.raises(MachineError, match=r"elastickv\.cu"):
        cuda.build_image(80, False, "nvcc", workshop / "a.cubin")


@pytest.mark.parametrize(
    "command",
    [
        ["cuda", "--architectures", "75", "--ptx", "12"],
        ["image", "--architecture", "12", "--out", "x.cubin"],
        ["image", "--architecture", "100", "--ptx", "--out", "x.ptx"],
    ],
    ids=" ".join,
)
def test_an_architecture_that_no_compiler_here_knows_is_bad_usage(workshop, capsys, command):
    """Not something that the machine lacks: no environment would help."""
    before = sorted(workshop.rglob("*"))
    assert main(["build", *command]) == 2
    stated = capsys.readouterr().err
    assert f"build {command[0]}: --" in stated and "allowed: 61,70,75,80,86,89,90" in stated
    assert sorted(workshop.rglob("*")) == before


def test_nvcc_alone_cannot_build_what_it_no_longer_targets(workshop):
    needs_nvcc()
    if compilers.nvcc().major < 13:
        pytest.skip("this nvcc still targets sm_61")
    with pytest.raises(MachineError, match="cannot target sm_61"):
        compilers.choose(61, "nvcc")


def test_ptxas_report_is_read_per_kernel():
    log = """ptxas info    : Compiling entry function 'a' for 'sm_80'
    8 bytes stack frame, 12 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem, 360 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_80'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 6 registers, 328 bytes cmem[0]"""
    assert cuda.resources(log) == {
        "a": Kernel(registers=40, spill_bytes=16, shared_bytes=1024),
        "b": Kernel(registers=6, spill_bytes=0, shared_bytes=0),
    }


def test_a_missing_compiler_names_the_fix(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(MachineError, match=r"apt-get install g\+\+"):
        compilers.host()


def test_cpu_library_is_restored_from_the_store(cpu_build, monkeypatch):
    monkeypatch.setattr(cpu, "compile_library", lambda out: pytest.fail("compiled again"))
    manifest = cpu.build(cpu_build / "cpu")
    assert manifest.backend == "cpu"
    assert "decode" in manifest.kernels


@pytest.mark.parametrize("requested", [("softmax", ()), ("decode", ("fp16", "fp8_e5m2"))])
def test_a_build_that_is_older_than_what_a_case_asks_for_is_named_with_its_fix(cpu_build, requested):
    with pytest.raises(MachineError, match=f"a build without {[requested[0], *requested[1]][-1]}") as stated:
        binary.facts(str(cpu_build), "cpu", *requested)
    assert "elastickv build cpu" in str(stated.value)
