"""Foreign programs: a variable CXX of every kind, an nvcc that hangs, and what ends them. Real programs, no GPU."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from conftest import wait_until

from elastickv.build import compilers, cpu
from elastickv.cli import main
from elastickv.doctor import compilers as doctor
from elastickv.doctor import gpu, needs
from elastickv.environments import compiled
from elastickv.errors import MachineError
from elastickv.peers import toolchain
from elastickv.system import host_compiler, programs

GXX = shutil.which("g++")
needs_gxx = pytest.mark.skipif(GXX is None, reason="needs g++ on PATH")
NEEDS = needs.Needs("auto", ("cuda",), "auto", (80, 90), 90, (), (), (), "results/x")
ON_CPU = replace(NEEDS, backends=("cpu",))
SLEEP = "exec sleep 1000"


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "ANSWER_SECONDS", 0.5)


# What ends a program


def test_a_program_that_hangs_is_stopped_with_all_that_it_started(tmp_path):
    hanging = program(tmp_path / "hangs", f"echo $$ > {tmp_path}/pid; sleep 1000 & sleep 1000; echo never")
    with pytest.raises(MachineError, match=r"hangs --version` did not end within 0\.5 s and was stopped\nfix: mend it"):
        programs.run([str(hanging), "--version"], "mend it", 0.5)
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not psutil.pid_exists(pid))
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(one.info["cmdline"])]


@pytest.mark.parametrize(
    ("content", "mode", "reason"), [(None, 0, "No such file or directory"), ("#!/bin/sh\n", 0o644, "Permission denied")]
)
def test_a_program_that_cannot_be_started_is_named_with_the_reason_and_the_fix(tmp_path, content, mode, reason):
    path = tmp_path / "program"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(MachineError) as caught:
        programs.run([str(path)], "mend it")
    assert str(caught.value) == f"{path} cannot be started: {reason}\nfix: mend it"


def test_a_program_waits_for_no_input_and_its_output_need_not_be_text(tmp_path):
    done = programs.run([str(program(tmp_path / "reads", r"cat; printf '\377'; exit 3"))], "mend it")
    assert (done.returncode, done.stdout) == (3, "\ufffd")


# CXX


def test_no_variable_is_the_first_compiler_on_path(tmp_path, monkeypatch):
    for name in ("clang++", "g++"):
        program(tmp_path / name, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    for value in ("", "  "):
        monkeypatch.setenv("CXX", value)
        assert host_compiler.find() == (str(tmp_path / "g++"),)


@needs_gxx
@pytest.mark.parametrize("said", ["env {gxx} -O1", "'{tmp}/with blank/g++' -O1"])
def test_a_variable_with_arguments_or_blanks_is_a_compiler(tmp_path, monkeypatch, said):
    program(tmp_path / "with blank" / "g++", f'exec {GXX} "$@"')
    monkeypatch.setenv("CXX", said.format(gxx=GXX, tmp=tmp_path))
    compiler = compilers.host()
    (tmp_path / "one.cpp").write_text("int one() { return 1; }\n")
    cpu._call(tmp_path / "one.o", "-c", str(tmp_path / "one.cpp"))
    assert (tmp_path / "one.o").is_file()
    assert compiler.kind.endswith("-O1") == ("-O1" in said)
    assert doctor.host(doctor.gather(ON_CPU, gpu.Facts()), ON_CPU).level == "ok"


UNUSABLE = {
    "missing": ("no-such-compiler", "CXX is 'no-such-compiler', but there is no program no-such-compiler on PATH"),
    "not executable": ("{tmp}/plain", "plain is not an executable file"),
    "an open quote": ("'g++ -O1", "which is not a command: No closing quotation"),
    "fails": ("{tmp}/fails", "fails is not a working C++ compiler: broken installation"),
    "does nothing": ("true", "is not a working C++ compiler: it does not preprocess C++"),
    "not a program": ("{tmp}/garbage", "garbage cannot be started: Exec format error"),
    "hangs": ("{tmp}/hangs", "did not end within 0.5 s and was stopped"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_variable_that_names_no_compiler_is_refused_with_the_fix(tmp_path, monkeypatch, impatient, capsys, name):
    said, stated = UNUSABLE[name]
    program(tmp_path / "fails", "echo broken installation >&2; exit 1")
    program(tmp_path / "hangs", SLEEP)
    (tmp_path / "plain").write_text("")
    program(tmp_path / "garbage", "").write_bytes(b"\0\1\2")
    monkeypatch.setenv("CXX", said.format(tmp=tmp_path))
    assert main(["build", "cpu", "--out", str(tmp_path / "out")]) == 3
    printed = capsys.readouterr().err
    assert stated in printed and printed.endswith(f"\nfix: {host_compiler.CHANGE}\n"), printed
    facts = doctor.gather(ON_CPU, gpu.Facts())
    finding = doctor.host(facts, ON_CPU)
    assert finding.level == "problem" and stated in finding.found and finding.fix == host_compiler.CHANGE
    assert facts.probe_failure is None and doctor.openmp(facts, ON_CPU) == []  # nothing is compiled with it


def test_llama_cpp_is_not_compiled_with_a_variable_that_names_no_program(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    with pytest.raises(MachineError, match=r"llama\.cpp is compiled .*: CXX is 'no-such-compiler -m64'"):
        compiled.compiler()


@needs_gxx
def test_a_compiler_that_writes_nothing_is_not_taken_for_a_full_disk(tmp_path, monkeypatch, capsys):
    """It answers questions, and compiles nothing."""
    script = f'case "$*" in *--version*|*-E*) exec {GXX} "$@";; esac'
    monkeypatch.setenv("CXX", str(program(tmp_path / "half", script)))
    assert main(["build", "cpu", "--out", str(tmp_path / "out")]) == 3
    stated = capsys.readouterr().err
    assert "reported success but wrote no libelastickv." in stated and "df -h" not in stated
    assert doctor.gather(ON_CPU, gpu.Facts()).probe_failure == "the compiler reported success but wrote no file"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc on PATH")
def test_a_compiler_that_links_no_runtime_of_cpp_is_found_before_the_library_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "gcc")
    source = tmp_path / "throws.cpp"
    source.write_text("int checked(int n) { if (n < 1) throw n; return n; }\n")
    with pytest.raises(MachineError, match=r"undefined reference[^$]*fix: a C\+\+17 compiler"):
        cpu._call(tmp_path / "throws.so", "-shared", cpu.NOTHING_UNDEFINED, str(source))
    facts = doctor.gather(ON_CPU, gpu.Facts())
    assert "undefined" in facts.probe_failure
    assert [finding.level for finding in doctor.openmp(facts, ON_CPU)] == ["problem"]


@needs_gxx
def test_an_error_in_a_file_is_not_laid_on_the_compiler_and_the_first_of_many_is_shown(tmp_path):
    source = tmp_path / "kernel.cpp"
    source.write_text("int first = no_such_thing;\n" + "int other = nor_this;\n" * 200)
    with pytest.raises(
        MachineError, match=r"fix: correct the file that the compiler names; if you changed none: "
    ) as it:
        cpu._call(tmp_path / "kernel.o", "-c", str(source))
    assert f"{source}:1:13: error: " in str(it.value) and len(str(it.value)) < 5000


@pytest.mark.parametrize(("before", "after"), [(9000, 9000), (0, 0)])
def test_long_messages_are_shown_from_their_first_error_on(before, after):
    shown = programs.errors_of("w" * before + "\nkernel.cu(7): error: first\n" + "n" * after)
    assert "kernel.cu(7): error: first" in shown and len(shown) <= programs.MOST_SHOWN
    assert programs.errors_of("w" * 9000 + "the end").endswith("the end")


# nvcc


@pytest.fixture
def hanging_nvcc(tmp_path, monkeypatch, impatient) -> Path:
    found = program(tmp_path / "bin" / "nvcc", f"echo >> {tmp_path}/requested; {SLEEP}")
    monkeypatch.setenv("PATH", f"{found.parent}{os.pathsep}{os.environ['PATH']}")
    return found


def test_an_nvcc_that_hangs_is_asked_once_and_is_one_problem_of_doctor(hanging_nvcc, tmp_path):
    facts = doctor.gather(NEEDS, gpu.Facts())
    (finding,) = doctor.nvcc(facts, NEEDS)
    assert finding.level == "problem"
    assert finding.found == f"`{hanging_nvcc} --version` did not end within 0.5 s and was stopped"
    assert doctor.nvcc_targets(facts, NEEDS) == []
    with pytest.raises(MachineError, match=r"did not end within .*\nfix: set build\.compiler to nvrtc"):
        compilers.choose(80, "auto")
    assert (tmp_path / "requested").read_text() == "\n"


def test_an_nvcc_that_hangs_ends_a_build_with_one_message(hanging_nvcc, tmp_path, capsys):
    assert main(["build", "image", "--architecture", "80", "--out", str(tmp_path / "out")]) == 3
    stated = capsys.readouterr().err
    assert stated.count("did not end within 0.5 s") == 1 and stated.endswith("fix: set build.compiler to nvrtc\n")
    with pytest.raises(MachineError, match="did not end within"):
        toolchain.cuda_home()
