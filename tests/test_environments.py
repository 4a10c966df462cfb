"""Environments: made from locks, remade when the lock changes, adopted on request, unfinished ones never trusted."""

import json
import sys

import pytest

from elastickv import environments
from elastickv.environments import compiled
from elastickv.errors import MachineError, UsageError


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "tiny.txt").write_text("# a comment\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(workshop) -> dict:
    return json.loads((workshop / ".envs" / "tiny" / "ready").read_text())


def test_made_once_and_again_only_when_the_lock_changes(workshop, monkeypatch):
    installs = []

    def install(name, folder):
        installs.append(name)
        folder.mkdir(parents=True, exist_ok=True)
        return sys.executable

    monkeypatch.setattr(environments, "_install", install)
    environments.make("tiny")
    environments.make("tiny")
    (workshop / "envs" / "tiny.txt").write_text("\n# another comment\n")
    environments.make("tiny")
    assert installs == ["tiny"]
    (workshop / "envs" / "tiny.txt").write_text("numpy==1.0\n")
    environments.make("tiny")
    assert installs == ["tiny", "tiny"]
    assert made(workshop)["adopted"] is False


def test_an_unfinished_environment_is_wiped_and_made_anew(workshop):
    leftover = workshop / ".envs" / "tiny" / "half"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("killed here")
    python = environments.make("tiny")
    assert python.exists()
    assert not leftover.exists()
    assert environments.interpreter("tiny") == python


def test_an_environment_whose_deletion_was_cut_off_is_not_current(workshop, monkeypatch):
    environments.make("tiny", adopt=True)
    assert environments.is_current("tiny")

    def killed(folder, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environments.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            environments.make("tiny")
    assert not environments.is_current("tiny")


def test_a_failed_install_says_how_to_go_on(workshop):
    (workshop / "envs" / "tiny.txt").write_text("no-such-package-of-ours==999\n")
    with pytest.raises(MachineError, match="elastickv env tiny"):
        environments.make("tiny")
    assert not (workshop / ".envs" / "tiny" / "ready").exists()


def test_adopting_takes_this_interpreter_and_checks_it(workshop, monkeypatch):
    assert environments.make("tiny", adopt=True).samefile(sys.executable)
    assert made(workshop)["adopted"] is True
    monkeypatch.setitem(environments.NEEDED, "tiny", ("no_such_module_of_ours",))
    (workshop / ".envs" / "tiny" / "ready").unlink()
    with pytest.raises(MachineError, match="no_such_module_of_ours"):
        environments.make("tiny", adopt=True)


def test_an_unknown_name_lists_the_known_ones(workshop):
    with pytest.raises(UsageError, match="allowed: tiny"):
        environments.make("huge")


def program(folder, name, says=""):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A folder that is all of PATH, on a machine without a GPU, and a store of wheels."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled.device, "visible_gpus", list)
    return tmp_path / "bin"


def test_an_environment_that_is_compiled_needs_a_compiler(workshop, tools):
    (workshop / "envs" / "gguf.txt").write_text("llama-cpp-python==0.3.36\n")
    with pytest.raises(MachineError, match=r"no C\+\+ compiler") as caught:
        environments.make("gguf")
    assert "apt-get install g++" in caught.value.fix


def test_a_gpu_is_compiled_for_where_the_cuda_toolkit_is_whole(tools, monkeypatch):
    monkeypatch.setattr(compiled.device, "visible_gpus", lambda: ["GPU-0"])
    program(tools, "nvcc")
    without = compiled.options()
    assert not set(compiled.FOR_CUDA) & set(without)
    (tools.parent / "include").mkdir()
    (tools.parent / "include" / "cublas_v2.h").touch()
    assert compiled.options() == without + compiled.FOR_CUDA


def test_processor_extensions_are_switched_on_one_by_one_and_amx_never(monkeypatch):
    monkeypatch.setattr(compiled.host, "is_x86", lambda: True)
    flags = frozenset({"sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "amx_tile", "amx_int8"})
    monkeypatch.setattr(compiled.host, "processor_flags", lambda: flags)
    chosen = compiled.options()
    assert {"-DGGML_NATIVE=OFF", "-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_AVX512=OFF"} <= set(chosen)
    assert not any("AMX" in option for option in chosen)
    monkeypatch.setattr(compiled.host, "is_x86", lambda: False)
    assert compiled.options() == compiled.OPTIONS


def test_a_wheel_is_built_once_for_each_compiler_and_a_failed_build_leaves_none(tools):
    program(tools, "g++", "12")
    built = []

    def build(options, folder):
        built.append(options)
        (folder / "half").touch()
        if len(built) == 1:
            raise MachineError("cut off", "repeat")
        (folder / "llama-0-py3-none-any.whl").touch()

    with pytest.raises(MachineError, match="cut off"):
        compiled.wheels("llama==0", build)
    first = compiled.wheels("llama==0", build)
    assert compiled.wheels("llama==0", build) == first
    assert built == [compiled.options()] * 2
    assert [path.name for path in first.glob("*.whl")] == ["llama-0-py3-none-any.whl"]
    program(tools, "g++", "13")
    assert compiled.wheels("llama==0", build) != first
    assert compiled.wheels("llama==1", build) != first
    assert len(built) == 4


def test_what_is_missing_is_added_by_uv_in_the_version_of_the_lock(workshop, monkeypatch):
    monkeypatch.setattr(environments, "_uv", lambda: [str(workshop / "bin/uv")])
    monkeypatch.setattr(environments, "interpreter", lambda name: workshop / f".envs/{name}/bin/python")
    added = "bin/uv pip install --python .envs/tiny/bin/python --constraints envs/tiny.txt other"
    assert environments.adding("tiny", "other") == added


def test_without_any_interpreter_the_fix_is_named(workshop, monkeypatch):
    monkeypatch.setitem(environments.NEEDED, "tiny", ("no_such_module_of_ours",))
    with pytest.raises(MachineError, match="elastickv env tiny"):
        environments.interpreter("tiny")
