"""Where FlashInfer's worker finds compiler, ninja and libraries: real folders and a real shell, no GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elastickv.models.refusal import one_line
from elastickv.peers import toolchain

NVCC = "#!/bin/sh\necho '#$ _SPACE_= ' >&2\necho '#$ _HERE_={home}/bin' >&2\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A toolkit without development links, as the wheels have it."""
    folder = tmp_path / "toolkit"
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    (folder / "lib" / "libcudart.so.13").touch()
    return folder


def wrapper(tmp_path: Path, home: Path) -> None:
    """An nvcc on PATH in another place than its toolkit."""
    program = tmp_path / "elsewhere" / "nvcc"
    program.parent.mkdir()
    program.write_text(NVCC.format(home=home))
    program.chmod(0o755)


def test_a_wrapped_nvcc_says_itself_where_its_toolkit_is(tmp_path, home, monkeypatch):
    wrapper(tmp_path, home)
    monkeypatch.setenv("PATH", f"{tmp_path / 'elsewhere'}{os.pathsep}{os.environ['PATH']}")
    assert toolchain.cuda_home() == home


def test_libraries_without_a_link_to_link_with_get_one(tmp_path, home):
    driver = tmp_path / "driver" / "libcuda.so.1"
    driver.parent.mkdir()
    driver.touch()
    links = tmp_path / "links"
    for _ in range(2):  # the second time over what the first one left
        assert toolchain.link_flags(home, links, {"libcuda.so.1": driver, "libm.so.6": Path("/m")}) == f"-L{links}"
    assert (links / "libcudart.so").resolve() == home / "lib" / "libcudart.so.13"
    assert (links / "libcuda.so").resolve() == driver


def test_a_whole_toolkit_and_driver_need_no_links(tmp_path, home):
    (home / "lib64").mkdir()
    (home / "lib64" / "libcudart.so").touch()
    assert toolchain.link_flags(home, tmp_path / "links", {"libcuda.so": Path("/usr/lib/libcuda.so")}) is None
    assert not (tmp_path / "links").exists()


def test_the_driver_s_stub_serves_where_there_is_no_driver(tmp_path, home):
    (home / "lib64" / "stubs").mkdir(parents=True)
    (home / "lib64" / "stubs" / "libcuda.so").touch()
    toolchain.link_flags(home, tmp_path / "links", {})
    assert (tmp_path / "links" / "libcuda.so").resolve() == home / "lib64" / "stubs" / "libcuda.so"


def test_a_worker_finds_the_programs_beside_its_interpreter(tmp_path, home, monkeypatch):
    monkeypatch.setattr(toolchain, "_known_to_the_linker", dict)
    monkeypatch.setenv("CUDA_HOME", str(home))
    monkeypatch.setenv("FLASHINFER_EXTRA_LDFLAGS", "-Wl,-s")
    found = toolchain.variables("/some/where/bin/python", tmp_path / "links")
    assert found["PATH"].split(os.pathsep)[0] == "/some/where/bin"
    assert found["CUDA_HOME"] == str(home)
    assert found["FLASHINFER_EXTRA_LDFLAGS"] == f"-Wl,-s -L{tmp_path / 'links'}"


def test_an_error_that_only_announces_its_cause_is_told_with_it():
    error = RuntimeError("Ninja build failed. Ninja output:\n[1/9] c++ ...\nld: cannot find -lcudart\n")
    assert one_line(error) == "RuntimeError: Ninja build failed. Ninja output: ld: cannot find -lcudart"
