"""The doctor's checks on made-up facts: each finds what is wrong, names the fix, and finds nothing when all is well."""

from __future__ import annotations

import errno
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from elastickv import environments, matrix
from elastickv.device import limits
from elastickv.doctor import (
    cases,
    compilers,
    environment,
    gpu,
    hub,
    images,
    interpreter,
    load,
    memory,
    packages,
    peers,
    storage,
)
from elastickv.doctor.finding import Finding
from elastickv.doctor.needs import Needs, of_config
from elastickv.peers.supervisor import Described
from elastickv.system.nvcc import Nvcc
from elastickv.workloads.rotation import footprint

ARCHITECTURES = (61, 70, 75, 80, 86, 89, 90)
NEEDS = Needs("auto", ("cuda", "cpu"), "auto", ARCHITECTURES, 90, ("cuda", "llm"), (), (), "results/local")
ON_CPU = replace(NEEDS, backend="cpu", backends=("cpu",), environments=())
ON_GPU = replace(NEEDS, backend="cuda", backends=("cuda",))
H200 = gpu.Gpu("NVIDIA H200", "GPU-1", (9, 0), 150 * 10**9, 149 * 10**9, 60 << 20, mig=False)
T4 = gpu.Gpu("Tesla T4", "GPU-2", (7, 5), 16 * 10**9, 15 * 10**9, 4 << 20)
INSTALL_DRIVER = f"{packages.install('driver')}, then reboot"


def said(finding: Finding) -> tuple[str, str | None]:
    return finding.level, finding.fix


# what a config needs


def test_needs_are_read_off_the_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = """
cases: {a: {seq: 64, heads: 4, dim: 64, compress: 2}}
matrices: {m: {base: {heads: 4, dim: 64, compress: 2}, axes: {seq: [64, 128]}}}
baselines: {transformers: {model: microsoft/phi-2}, gguf: {enable: false}}
build: {architectures: [90, 80], ptx: null}
"""
    (tmp_path / "m.yaml").write_text(text, encoding="utf-8")
    needs = of_config(matrix.load(["m.yaml"], ["backend=cpu"]), ["m.yaml"], ["backend=cpu"])
    assert (needs.backend, needs.backends, needs.gpu) == ("cpu", ("cpu",), "none")
    assert (needs.architectures, needs.ptx, needs.written) == ((80, 90), None, ("a",))
    assert [(engine, section.model) for engine, section in needs.models] == [("transformers", "microsoft/phi-2")]
    assert needs.make("backend=auto", "results=r") == "make run CONFIG=m.yaml SET='backend=auto results=r'"


@pytest.mark.parametrize(("settings", "count"), [("{model: smollm2", 0), ("{repo: a/b, file: c.gguf", 1)])
def test_only_the_embedded_model_needs_no_look(tmp_path, settings, count):
    text = "cases: {a: {seq: 64, heads: 4, dim: 64, compress: 2}}\n"
    text += f"baselines: {{transformers: {{enable: false}}, gguf: {settings}, enable: true}}}}"
    assert len(needs_of(tmp_path, text).models) == count


def test_the_default_config_is_made_without_variables():
    assert NEEDS.make() == "make run"
    assert NEEDS.make(target="remeasure") == "make remeasure"
    assert replace(NEEDS, overrides=("backend=cuda",)).make("backend=cpu") == "make run SET=backend=cpu"


def test_overrides_are_quoted_for_make_and_within_set():
    needs = replace(NEEDS, files=("a.yaml", "b.yaml"), overrides=("backend=cpu", "results=results/my $run"))
    ran = shlex.split(needs.make("build.ptx=90", "cases.v1.2.seq=64"))
    assert ran[:3] == ["make", "run", "CONFIG=a.yaml b.yaml"]
    given = ran[3].removeprefix("SET=").replace("$$", "$")
    assert shlex.split(given) == ["backend=cpu", "results=results/my $run", "build.ptx=90", "cases.v1.2.seq=64"]
    assert needs.make(target="remeasure").startswith("make remeasure CONFIG='a.yaml b.yaml' SET=")


def test_packages_are_installed_as_this_system_does():
    def only(name):
        return lambda program: f"/usr/bin/{program}" if program == name else None

    assert packages.install("compiler", only("dnf"), root=True) == "dnf install -y gcc-c++"
    assert packages.install("compiler", only("apt-get"), root=False) == "sudo apt-get install -y g++"
    assert packages.install("openmp", only("nothing"), root=True) == "apt-get install -y g++ libomp-dev"


# Python and environments

PYTHON = interpreter.Facts("3.12.1", "/p/python", own=True, venv_current=True)


def test_venv_is_current_and_in_use():
    assert [finding.level for finding in interpreter.checks(PYTHON, NEEDS)] == ["ok", "ok"]
    assert said(interpreter.venv(replace(PYTHON, venv_current=False))) == ("note", "make setup")
    assert said(interpreter.venv(replace(PYTHON, own=False))) == ("note", ".venv/bin/elastickv doctor")


MADE = environments.Mark(Path("python"), None, adopted=False)


@pytest.mark.parametrize(
    ("mark", "current", "found"),
    [(MADE, True, "installed"), (replace(MADE, adopted=True), True, "adopted"), (MADE, False, "changed"),
     (None, False, "installs")],
)  # fmt: skip
def test_environments_are_installed_and_current(mark, current, found):
    finding = environment.environment("llm", mark, current)
    assert said(finding) == (("ok", None) if current else ("note", ".venv/bin/elastickv env llm"))
    assert found in finding.found


# compilers

PINNED = compilers.Facts(None, Nvcc(None), "13.0.88", True, "/usr/bin/g++", "g++ 12", None, None)
NVCC13 = replace(PINNED, nvcc="/cuda/bin/nvcc", on_path=Nvcc("13.0.88", (75, 80, 86, 89, 90, 100)))
NVCC11 = replace(NVCC13, on_path=Nvcc("11.5.119", (61, 70, 75, 80, 86)))
BROKEN = replace(NVCC13, on_path=Nvcc(None, problem="does not run"))
TO_NVRTC, TO_AUTO = (f"make run SET=build.compiler={name}" for name in ("nvrtc", "auto"))
WITH_NVCC = replace(NEEDS, compiler="nvcc")


@pytest.mark.parametrize(
    ("facts", "needs", "level", "fix"),
    [
        (NVCC13, NEEDS, "ok", None),
        (PINNED, NEEDS, "ok", None),
        (replace(PINNED, pinned_made=False), NEEDS, "note", ".venv/bin/elastickv env cuda"),
        (BROKEN, NEEDS, "problem", TO_NVRTC),
        (BROKEN, replace(NEEDS, compiler="nvrtc"), "ok", None),
    ],
)
def test_nvcc_missing_or_broken(facts, needs, level, fix):
    assert [said(finding) for finding in compilers.nvcc(facts, needs)] == [(level, fix)]


@pytest.mark.parametrize(
    ("facts", "needs", "level", "fix", "words"),
    [
        (NVCC13, NEEDS, "ok", None, "cannot target sm_61, sm_70: NVRTC 12.9 will compile those"),
        (NVCC13, WITH_NVCC, "problem", TO_AUTO, "sm_61, sm_70"),
        (NVCC13, replace(WITH_NVCC, architectures=(80, 90)), "ok", None, "supports 80, 90"),
        (NVCC11, NEEDS, "ok", None, "cannot target sm_89, sm_90"),
        (replace(NVCC11, on_path=Nvcc("10.2.89")), NEEDS, "problem", TO_NVRTC, "is too old: C++17"),
        (
            replace(NVCC13, cuda=(12, 4)),
            NEEDS,
            "ok",
            None,
            "newer than the driver's CUDA 12.4: NVRTC 12.9 will compile all",
        ),
        (replace(NVCC13, cuda=(12, 4)), WITH_NVCC, "problem", TO_AUTO, "newer than the driver's CUDA 12.4"),
    ],
)
def test_nvcc_too_old_or_too_new(facts, needs, level, fix, words):
    (finding,) = compilers.nvcc_targets(facts, needs)
    assert said(finding) == (level, fix) and words in finding.found


def test_nvcc_is_no_matter_where_it_is_not_used():
    assert compilers.nvcc(NVCC11, ON_CPU) == compilers.nvcc_targets(NVCC11, ON_CPU) == []
    assert compilers.nvcc_targets(NVCC11, replace(NEEDS, compiler="nvrtc")) == []
    assert compilers.nvcc_targets(PINNED, NEEDS) == []


def test_the_cpp_compiler():
    none = replace(PINNED, host=None, host_version="")
    assert compilers.host(PINNED, NEEDS).level == "ok"
    missing = compilers.host(none, ON_CPU)
    assert said(missing) == ("problem", packages.install("compiler")) and "the CPU kernels" in missing.found
    assert "the CPU kernels and nvcc" in compilers.host(none, NEEDS).found
    assert "llama.cpp" in compilers.host(none, replace(ON_CPU, environments=("gguf",))).found
    assert compilers.host(none, replace(ON_GPU, compiler="nvrtc")).level == "note"


def test_openmp():
    assert [finding.level for finding in compilers.openmp(PINNED, ON_CPU)] == ["ok"]
    (missing,) = compilers.openmp(replace(PINNED, probe_failure="fatal error: omp.h: No such file"), ON_CPU)
    assert said(missing) == ("problem", packages.install("openmp")) and "omp.h" in missing.found
    assert compilers.openmp(replace(PINNED, probe_failure="no omp.h"), ON_GPU) == []


# GPU and driver

WITH_GPU = gpu.Facts(1, 0, None, "580.95.05", (13, 0), (H200,))
NOTHING = gpu.Facts()


@pytest.mark.parametrize(
    ("facts", "words", "fix"),
    [
        (NOTHING, "no NVIDIA GPU and no driver", "make run SET=backend=cpu"),
        (gpu.Facts(on_bus=2), "2 NVIDIA GPUs on the bus, but no driver", INSTALL_DRIVER),
        (gpu.Facts(1, 100), "sees no GPU", "nvidia-smi -L"),
        (gpu.Facts(1, 803), "different versions", "reboot"),
        (gpu.Facts(1, 12345), "error 12345", "reboot"),
        (gpu.Facts(1, 100, hidden=""), "CUDA_VISIBLE_DEVICES= hides every GPU", "unset CUDA_VISIBLE_DEVICES"),
        (gpu.Facts(1, 0, mig_parent=True), "no GPU instance", "sudo nvidia-smi mig -cgi 0 -C"),
    ],
)
def test_no_gpu_or_no_driver(facts, words, fix):
    required, optional, unwanted = (gpu.gpu(facts, needs) for needs in (ON_GPU, NEEDS, ON_CPU))
    assert said(required) == ("problem", fix) and words in required.found
    assert said(optional) == ("note", fix) and "the CPU kernels will be measured" in optional.found
    assert said(unwanted) == ("note", None)


def test_a_gpu_and_its_driver():
    found = gpu.gpu(WITH_GPU, ON_GPU)
    assert found.level == "ok" and "NVIDIA H200 (sm_90, 150 GB)" in found.found
    (driver,) = gpu.driver(WITH_GPU, ON_GPU)
    assert driver.level == "ok" and driver.found == "580.95.05, CUDA 13.0"
    (old,) = gpu.driver(replace(WITH_GPU, driver="470.82", cuda=(11, 4)), ON_GPU)
    assert said(old) == ("problem", INSTALL_DRIVER) and "CuPy needs CUDA 12" in old.found
    assert gpu.driver(NOTHING, ON_GPU) == []


def test_mig():
    assert gpu.mig(WITH_GPU, NEEDS) == []
    (on,) = gpu.mig(replace(WITH_GPU, gpus=(replace(H200, mig=True),)), NEEDS)
    assert said(on) == ("note", "sudo nvidia-smi -mig 0")
    (sliced,) = gpu.mig(replace(WITH_GPU, gpus=(replace(H200, uuid="MIG-7", mig=None),)), NEEDS)
    assert sliced.level == "note"


# the fatbin's images


def built(*names: str) -> tuple[images.Image, ...]:
    """sm80 or ptx90, each with the oldest driver after a slash."""
    parts = [name.split("/") for name in names]
    return tuple(
        images.Image("elf" if kind.startswith("sm") else "ptx", int(kind.lstrip("smptx")), driver)
        for kind, driver in parts
    )


ALL = built("sm61/525", "sm70/525", "sm75/580", "sm80/580", "sm90/580", "ptx90/580")


@pytest.mark.parametrize(
    ("image", "capability", "runs"),
    [
        ("sm80", (8, 0), True),
        ("sm80", (8, 6), True),
        ("sm86", (8, 0), False),
        ("sm80", (9, 0), False),
        ("ptx90", (12, 0), True),
        ("ptx90", (8, 9), False),
        ("sm61", (6, 0), False),
    ],
)
def test_which_image_runs_where(image, capability, runs):
    assert built(f"{image}/525")[0].runs_on(capability) is runs


@pytest.mark.parametrize(
    ("one", "planned", "level", "fix"),
    [
        (H200, ALL, "ok", None),
        (T4, built("sm80/580", "ptx90/580"), "problem", None),
        (replace(H200, capability=(12, 0)), ALL, "ok", None),
        (replace(H200, capability=(5, 2)), ALL, "problem", "make run SET=backend=cpu"),
        (
            replace(H200, capability=(12, 0)),
            built("sm80/580"),
            "problem",
            "make run SET=build.ptx=90",
        ),
    ],
)
def test_the_fatbin_has_an_image_for_this_gpu(one, planned, level, fix):
    needs = replace(NEEDS, architectures=(80,))
    fix = fix or ("make run SET='build.architectures=[75,80]'" if level == "problem" else None)
    found = images.on_gpu(one, images.Facts(planned, planned, (one,), "580.95"), needs)
    assert said(found[0]) == (level, fix)


def test_a_stale_fatbin_is_built_anew_by_the_next_run():
    facts = images.Facts(built("sm80/580"), ALL, (T4,), "580.95")
    assert [said(finding) for finding in images.on_gpu(T4, facts, NEEDS)] == [("note", "make run")]


def test_the_fatbin_itself():
    assert said(images.fatbin(images.Facts(None, ALL))) == ("note", ".venv/bin/elastickv build cuda")
    there = images.fatbin(images.Facts(ALL, ALL))
    assert there.level == "ok" and "sm_61" in there.found and "compute_90" in there.found
    assert images.checks(images.Facts(ALL, ALL, (T4,)), ON_CPU) == []


@pytest.mark.parametrize(
    ("driver", "level", "fix"),
    [
        ("580.95.05", "ok", None),
        ("590", "ok", None),
        ("550.54.14", "problem", f"{images.REBUILD} --compiler nvrtc"),
        ("470.82", "problem", INSTALL_DRIVER),
        (None, "note", None),
    ],
)
def test_the_driver_is_new_enough_for_the_image(driver, level, fix):
    image, found = images.on_gpu(H200, images.Facts(ALL, ALL, (H200,), driver), NEEDS)
    assert image.level == "ok" and said(found) == (level, fix)


# memory


def cases_of(tmp_path, text):
    (tmp_path / "m.yaml").write_text(text, encoding="utf-8")
    return tuple(matrix.load([tmp_path / "m.yaml"]).cases.values())


CASES = """
cases:
  large: {seq: 65536, heads: 32, dim: 128, compress: 4, batch: 8}
  small: {seq: 1024, heads: 16, dim: 64, compress: 2}
  pass:  {workload: elementwise, seq: 1024, heads: 8, dim: 64, compress: 2}
"""
MB = 10**6


def test_a_footprint_is_what_a_layer_allocates(tmp_path):
    large, small, elementwise = cases_of(tmp_path, CASES)
    assert footprint(elementwise) == 7 * (1024 * 8 * 64 * 4 + 4096)
    full = 2 * 16 * (1024 + 64) * 64 * 2
    assert full < footprint(small) < 2 * full
    assert footprint(large) > 8e9


def test_the_footprint_agrees_with_what_a_measurement_says_it_needs(tmp_path):
    from elastickv.device.cpu import CpuBackend
    from elastickv.workloads.decode import DecodeWorkload

    class Small(CpuBackend):
        """A CPU with next to no memory; the workload's own arithmetic runs."""

        def __init__(self):
            pass

        def facts(self):
            return {"last_level_cache_bytes": 1 << 20}

        def memory_budget(self):
            return 65 << 20

    large, _, _ = cases_of(tmp_path, CASES)
    with pytest.raises(MemoryError, match=f"one layer needs {footprint(large) / 1e9:.2f} GB"):
        DecodeWorkload(Small(), large)


def test_cases_that_do_not_fit(tmp_path):
    needs = replace(ON_CPU, cases=cases_of(tmp_path, CASES), written=("large", "small", "pass"))
    (finding,) = memory.cases(memory.Facts("cpu", "this machine", 8000 * MB, 32 << 20), needs)
    assert finding.level == "problem" and finding.found.startswith("large needs ")
    seq = int(re.fullmatch(r"make run SET=cases.large.seq=(\d+)", finding.fix)[1])
    shorter = replace(needs, cases=cases_of(tmp_path, CASES.replace("65536", str(seq))))
    (finding,) = memory.cases(memory.Facts("cpu", "this machine", 8000 * MB, 1 << 20), shorter)
    assert finding.level == "note"  # it fits once, but no second one that would make it cold
    (finding,) = memory.cases(memory.Facts("cpu", "this machine", 16000 * MB, 1 << 20), shorter)
    assert finding.level == "ok"


def test_a_sweep_that_does_not_fit_names_a_few_and_counts_the_rest(tmp_path):
    axes = "matrices: {m: {base: {heads: 32, dim: 128}, axes: {seq: [1048576], compress: [1, 2, 3, 4, 5, 6, 7]}}}"
    needs = replace(ON_CPU, cases=cases_of(tmp_path, axes))
    *named, rest = memory.cases(memory.Facts("cpu", "this machine", 8000 * MB, 32 << 20), needs)
    assert all(one.level == "problem" and one.fix.startswith("in the sweep, replace seq: ") for one in named)
    assert len(named) == memory.MOST_NAMED and rest.found == "2 more cases do not fit"


def test_too_little_memory_for_cold_caches_is_a_note(tmp_path):
    needs = replace(ON_CPU, cases=cases_of(tmp_path, CASES)[1:])
    facts = memory.Facts("cpu", "this machine", 1500 * MB, 1 << 30)
    (finding,) = memory.cases(facts, needs)
    assert finding.level == "note" and "keep caches cold in small" in finding.found
    assert memory.cases(replace(facts, last_level_cache=1 << 20), needs)[0].level == "ok"


def test_memory_is_that_of_the_device_that_measures():
    assert [one.place for one in memory.gather(NEEDS, WITH_GPU)] == ["NVIDIA H200"]
    assert memory.gather(NEEDS, WITH_GPU)[0].free == H200.free
    assert memory.gather(NEEDS, replace(WITH_GPU, gpus=(replace(H200, free=None),)))[0].free == H200.total
    assert [one.backend for one in memory.gather(ON_CPU, WITH_GPU)] == ["cpu"]
    assert memory.gather(ON_GPU, NOTHING) == []


# disk


def at(name: str, path: str, fault: int | None = None, free: float = 100e9, device: int = 1) -> storage.Place:
    return storage.Place(name, path, path, fault, int(free), device)


PLACES = (
    at("results", "results/local"),
    at("build", "build"),
    at("environments", ".envs"),
    at("temporary files", "/tmp"),
)


@pytest.mark.parametrize(
    ("place", "level", "fix"),
    [
        (PLACES[0], "ok", None),
        (at("results", "/r", errno.EACCES), "problem", 'sudo chown -R "$(id -u):$(id -g)" /r'),
        (at("results", "/r", errno.EROFS), "problem", "make run SET=results=results/mine"),
        (at("build", "build", errno.EPERM), "problem", 'sudo chown -R "$(id -u):$(id -g)" build'),
        (at("temporary files", "/tmp", errno.ENOSPC), "problem", "mkdir -p .tmp && TMPDIR=$PWD/.tmp make run"),
    ],
)
def test_folders_can_be_written_to(place, level, fix):
    assert said(storage.writable(place, NEEDS)) == (level, fix)


def test_a_read_only_checkout_is_cloned():
    assert "git clone" in storage.writable(at("build", "build", errno.EROFS), NEEDS).fix


def test_there_is_room_for_what_a_run_adds():
    (enough,) = storage.room(storage.Facts(PLACES, ("cuda", "llm")), NEEDS)
    assert enough.level == "ok" and "9." in enough.found
    little = tuple(replace(place, free=2 * 10**9) for place in PLACES)
    (short,) = storage.room(storage.Facts(little, ("cuda", "llm")), NEEDS)
    assert said(short) == ("problem", "du -xh -d2 results/local | sort -h")
    assert storage.room(storage.Facts(little, ()), NEEDS)[0].level == "ok"  # everything is made already


def test_each_file_system_is_judged_for_what_lies_on_it():
    places = (*PLACES[:2], replace(PLACES[2], device=2, free=10**9), PLACES[3])
    first, second = storage.room(storage.Facts(places, ("cuda", "llm")), NEEDS)
    assert (first.level, second.level) == ("ok", "problem") and "for environments," in second.found


def test_a_place_that_is_there_and_one_that_is_not(tmp_path):
    found = storage.place("results", tmp_path / "a/b")
    assert (found.existing, found.fault) == (str(tmp_path), None) and found.free > 0
    (tmp_path / "file").write_text("")
    assert storage.place("results", tmp_path / "file").fault == errno.ENOTDIR


# load

QUIET = load.Facts(4, 0.1, {}, None, {}, {}, None)


def test_a_busy_cpu():
    assert load.cpu(QUIET, NEEDS).level == "ok"
    busy = load.cpu(replace(QUIET, cores_busy=2.4, on_cpu={7: "python", 8: "cc1plus"}), NEEDS)
    assert said(busy) == ("note", "tail --pid=7 -f /dev/null; make remeasure")
    assert "2.4 of 4 cores" in busy.found and "python (7), cc1plus (8)" in busy.found
    assert said(load.cpu(replace(QUIET, cores_busy=2.4), NEEDS)) == ("note", "wait, then make remeasure")


def test_a_busy_gpu():
    assert load.gpu(QUIET, NEEDS) == []
    assert [one.level for one in load.gpu(replace(QUIET, gpu_percent=0), NEEDS)] == ["ok"]
    (held,) = load.gpu(replace(QUIET, gpu_percent=0, on_gpu={9: "train"}), NEEDS)
    assert said(held) == ("note", "tail --pid=9 -f /dev/null; make remeasure") and "train (9)" in held.found
    assert load.gpu(replace(QUIET, gpu_percent=98), ON_CPU) == []


def test_another_measurement_and_another_run():
    assert said(load.measuring("cpu", 12)) == ("note", "tail --pid=12 -f /dev/null")
    assert load.run(QUIET).level == "ok"
    assert said(load.run(replace(QUIET, runner=31))) == ("note", "tail --pid=31 -f /dev/null")


# peers

TORCH = Described("one call", ("torch",), versions={"torch": "2.13.0"})
OWN = replace(TORCH, path="./my file.py")
PEERS_CONFIG = """
backend: cpu
cases: {a: {seq: 64, heads: 4, dim: 64, compress: 2}, b: {seq: 64, heads: 4, dim: 64, compress: 4}}
baselines: {transformers: {enable: false}, peers: {enable: true, names: [torch_math]}}
"""


@pytest.mark.parametrize(
    ("found", "words", "level", "fix"),
    [
        (TORCH, "torch 2.13.0", "ok", None),
        (replace(TORCH, refused={"a": "too long"}), "torch 2.13.0; supports 1 of 2 cases", "ok", None),
        (replace(TORCH, refused={"a": "too long", "b": "-"}), "supports no case here: too long", "note", None),
        (replace(TORCH, needs=("x", "torch")), "x is not installed in the environment peers", "problem", "add x"),
        (replace(TORCH, needs=("x",), refused={"a": "on GPUs", "b": "-"}), "supports no case here: on GPUs",
         "note", None),
        (replace(TORCH, wrong=("failed", "killed")), "killed", "problem",
         "rm -r .envs/peers && .venv/bin/elastickv env peers"),
        (replace(OWN, wrong=("failed", "NameError: x")), "NameError: x", "problem",
         "PYTHONPATH=workflow .envs/peers/bin/python './my file.py'"),
    ],
)  # fmt: skip
def test_a_peer_loads_takes_cases_and_finds_what_it_needs(tmp_path, found, words, level, fix):
    facts = peers.Facts({"one": found}, {"x": "add x"}, ".envs/peers/bin/python")
    finding = peers.checks(facts, needs_of(tmp_path, PEERS_CONFIG))
    assert finding == [Finding("peer one", level, words, fix)]


def test_peers_are_looked_at_where_they_are_enabled_and_their_environment_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setitem(environments.NEEDED, "peers", ("no_such_module_of_ours",))
    needs = needs_of(tmp_path, PEERS_CONFIG)
    found = peers.checks(peers.gather(needs, gpu.Facts()), needs)
    assert [said(finding) for finding in found] == [("note", ".venv/bin/elastickv env peers")]
    needs = needs_of(tmp_path, PEERS_CONFIG.replace("enable: true", "enable: false"))
    assert peers.checks(peers.gather(needs, gpu.Facts()), needs) == []


# cases that no kernel can run


def needs_of(tmp_path, text: str) -> Needs:
    (tmp_path / "m.yaml").write_text(text, encoding="utf-8")
    return of_config(matrix.load([tmp_path / "m.yaml"]), [str(tmp_path / "m.yaml")], [])


@pytest.mark.parametrize(("dim", "nearest"), [(32, 64), (112, 96), (120, 128), (512, 256)])
def test_a_dim_without_kernels_is_a_problem(tmp_path, dim, nearest):
    shape = f"seq: 64, heads: 4, dim: {dim}, compress: 2"
    needs = needs_of(tmp_path, f"cases: {{a: {{{shape}}}, pass: {{workload: elementwise, {shape}}}}}")
    (found,) = cases.checks(cases.Facts("cuda"), needs)
    assert found.level == "problem" and f"a is unsupported: dim {dim} has no decode kernel" in found.found
    assert found.found.endswith("64, 80, 96, 128, 256") and found.fix.endswith(f"SET=cases.a.dim={nearest}")


def test_cases_with_kernels_are_ok(tmp_path):
    shapes = ", ".join(f"d{dim}: {{seq: 64, heads: 4, dim: {dim}, compress: 2}}" for dim in limits.DECODE_DIMS)
    for facts in (cases.Facts("cpu"), cases.Facts("cuda", 75)):
        assert [said(one) for one in cases.checks(facts, needs_of(tmp_path, f"cases: {{{shapes}}}"))] == [("ok", None)]


def test_what_a_case_needs_of_the_gpu_is_held_against_it(tmp_path):
    text = "cases: {a: {seq: 64, heads: 4, dim: 64, compress: 2, launch: dependent}}"
    needs = needs_of(tmp_path, text)
    levels = {name: cases.checks(facts, needs)[0].level for name, facts in DEVICES.items()}
    assert levels == {"H200": "ok", "T4": "problem", "CPU": "problem"}
    needs = needs_of(tmp_path, "cases: {a: {seq: 1, heads: 64, batch: 1024, dim: 64, compress: 1}}")
    levels = {name: cases.checks(facts, needs)[0].level for name, facts in DEVICES.items()}
    assert levels == {"H200": "problem", "T4": "problem", "CPU": "ok"}
    assert cases.checks(DEVICES["H200"], needs)[0].fix.endswith("SET=cases.a.batch=1023")


def test_cases_of_a_sweep_are_named_with_what_to_change(tmp_path):
    base = "{base: {heads: 4, seq: 64, dim: 100}, axes: {compress: [1, 2, 3, 4, 5, 6, 7]}}"
    found = cases.checks(cases.Facts("cpu"), needs_of(tmp_path, f"matrices: {{m: {base}}}"))
    assert [one.level for one in found] == ["problem"] * 5 + ["note"]
    assert found[0].fix == "in the sweep, replace dim: 100 by 96" and "2 more cases" in found[-1].found


def test_the_device_that_measures_is_the_one_of_the_run():
    seen = gpu.Facts(gpus=(T4,))
    assert cases.gather(NEEDS, seen) == cases.gather(ON_GPU, seen) == cases.Facts("cuda", 75)
    assert cases.gather(ON_CPU, seen) == cases.gather(NEEDS, gpu.Facts()) == cases.Facts("cpu")
    assert cases.gather(ON_GPU, gpu.Facts()) == cases.Facts("cuda")


DEVICES = {"H200": cases.Facts("cuda", 90), "T4": cases.Facts("cuda", 75), "CPU": cases.Facts("cpu")}


# language models

GGUF = hub.supervisor.ENGINES["gguf"]
INSTEAD = "make run SET=baselines.gguf.model=smollm2"


@pytest.mark.parametrize(
    ("answer", "level", "fix"),
    [
        ({"found": "available on the hub"}, "ok", None),
        ({"status": "failed", "reason": "a/b: cut off"}, "problem", INSTEAD),
        ({"status": "failed", "reason": "a/b: set HF_TOKEN"}, "problem", "export HF_TOKEN=<a token that may read a/b>"),
        ({"status": "failed", "reason": f"a/b: {hub.fetching.UNREACHABLE}"}, "note", INSTEAD),
        (None, "note", ".venv/bin/elastickv env gguf"),
    ],
)
def test_a_named_model(answer, level, fix):
    assert said(hub.model(hub.Model(GGUF, "a/b", answer), NEEDS)) == (level, fix)


@pytest.mark.parametrize("name", ["./nowhere", "nowhere.gguf", "/nowhere/at/all", "not/there"])
def test_a_model_file_that_is_not_there_is_a_problem(name):
    needs = replace(NEEDS, models=(("gguf", GGUF.settings(model=name)),))
    (found,) = hub.checks(hub.gather(needs, None), needs)
    assert found.level == "problem" and found.found.startswith(name)
