"""Workloads are found by their files; a workload that its file describes completely is measured and checked by that."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Checkout

from elastickv import kinds
from elastickv.build import fingerprint, headers
from elastickv.cache import oracle
from elastickv.device.cpu import CpuBackend
from elastickv.errors import UsageError
from elastickv.kinds import Buffer, Declared, Traffic
from elastickv.system import kernel_files
from elastickv.workloads.declared import DeclaredWorkload

EXAMPLE = ROOT / "docs/extending/kernel/files"
SHAPE = (4, 64, 16)  # heads, seq, dim


class Halves(Declared):
    """exp(q . k) v of four dims each, by the kernel elementwise: of all tokens, and of the first half of them."""

    MEANING = TITLE = "a pass over all tokens, and over half of them"
    KERNELS = ("elementwise",)

    def buffers(self, case: Any) -> dict[str, Buffer]:
        inputs = dict.fromkeys(("q", "k", "v"), Buffer(SHAPE))
        return inputs | {"full_out": Buffer(SHAPE), "elastic_out": Buffer(self.shape("elastic"))}

    def traffic(self, case: Any) -> dict[str, Traffic]:
        sizes = {arm: Buffer(self.shape(arm)).nbytes for arm in ("full", "elastic")}
        return {arm: Traffic(3 * size, size) for arm, size in sizes.items()}

    def launch(self, arm: str, case: Any, at: Mapping[str, int]) -> tuple[str, dict[str, Any]]:
        heads, seq, dim = self.shape(arm)
        vectors = {name: at[name] for name in ("q", "k", "v")}
        numbers = {"heads": heads, "seq": seq, "dim": dim, "compress": 1, "scale": dim**-0.5}
        return "elementwise", vectors | numbers | {"out": at[f"{arm}_out"]}

    def reference(self, arm: str, case: Any, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        heads = self.shape(arm)[0]
        q, k, v = (arrays[name][:heads] for name in ("q", "k", "v"))
        return oracle.elementwise(q, k, v, np.zeros_like(q), 1)

    def shape(self, arm: str) -> tuple[int, ...]:
        return SHAPE if arm == "full" else (SHAPE[0] // 2, *SHAPE[1:])


def workload(backend: CpuBackend, kind: Declared) -> DeclaredWorkload:
    case = SimpleNamespace(kind=kind, workload=kind.name, dtype="fp32", seed=3)
    return DeclaredWorkload(backend, case)


@pytest.fixture
def backend(cpu_build) -> CpuBackend:
    return CpuBackend(cpu_build / "cpu")


def test_both_arms_of_a_declared_workload_are_checked_on_the_first_and_the_last_set(backend):
    made = workload(backend, Halves("halves"))
    answers = made.check()
    assert all(oracle.passes(answer) for answer in answers.values())
    assert made.layers > 1
    assert answers["elastic"].layers_checked == [0, made.layers - 1]
    saved = made.tensors()
    assert saved["full_out"].shape == SHAPE and not np.array_equal(saved["q"], saved["k"])
    assert made.traffic["elastic"].total * 2 == made.traffic["full"].total
    for arm in ("full", "elastic"):
        backend.launch(made.pure_call(arm, 1))


def test_a_wrong_answer_and_one_that_is_not_written_are_found(backend):
    class Wrong(Halves):
        def reference(self, arm, case, arrays):
            return super().reference(arm, case, arrays) * (1.001 if arm == "full" else 1)

    class Short(Halves):
        def launch(self, arm, case, at):
            kernel, fields = super().launch(arm, case, at)
            return kernel, fields | {"heads": 1}

    wrong, short = (workload(backend, kind("halves")).check() for kind in (Wrong, Short))
    assert [oracle.passes(answer) for answer in wrong.values()] == [False, True]
    assert [answer.written for answer in short.values()] == [False, False]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"traffic": lambda self, case: dict.fromkeys(("full", "elastic"), Traffic(1 << 20, 64))}, "bytes to read"),
        ({"traffic": lambda self, case: dict.fromkeys(("full", "elastic"), Traffic(64, 1 << 20))}, "bytes to write"),
        ({"buffers": lambda self, case: {"q": Buffer(SHAPE), "full_out": Buffer(SHAPE)}}, "no buffer elastic_out"),
    ],
)
def test_bytes_and_buffers_that_do_not_agree_are_refused(backend, changes, said):
    with pytest.raises(UsageError, match=f"workload halves: .*{said}"):
        workload(backend, type("Changed", (Halves,), changes)("halves"))


def test_a_launch_of_a_kernel_that_the_fingerprint_would_not_know_is_refused(backend):
    made = workload(backend, type("Other", (Halves,), {"KERNELS": ("compress",)})("halves"))
    with pytest.raises(UsageError, match="launches elementwise, which its KERNELS do not name"):
        made.call("full", 0)


def test_a_reference_of_another_shape_is_refused(backend):
    made = workload(backend, type("Flat", (Halves,), {"reference": lambda *_: np.zeros(3)})("halves"))
    with pytest.raises(UsageError, match=r"the reference of arm full is \[3\], full_out is \[4, 64, 16\]"):
        made.check()


@pytest.fixture
def kernels(tmp_path, monkeypatch) -> Path:
    """A copy of the kernels in which files can be added; nothing of it is cached."""
    copy = shutil.copytree(ROOT / "kernels", tmp_path / "kernels")
    monkeypatch.setattr(kernel_files, "KERNELS", copy)
    caches = (kernel_files.module, kinds.every, kinds.every_key)
    for each in caches:
        each.cache_clear()
    yield copy
    monkeypatch.undo()
    for each in caches:
        each.cache_clear()


def test_every_workload_of_the_folder_is_there_caches_first(kernels):
    there = [*kinds.every()]
    assert there[:2] == ["decode", "elementwise"]
    shutil.copytree(EXAMPLE / "kernels", kernels, dirs_exist_ok=True)
    kinds.every.cache_clear()
    assert [*kinds.every()] == ["decode", *sorted([*there[1:], "softmax"])]
    assert kinds.of("softmax").kernels == ("fill", "softmax", "stream")


@pytest.mark.parametrize("backend_name", ["cuda", "cpu"])
def test_adding_a_workload_changes_no_fingerprint_of_another_and_its_files_count_for_it(kernels, backend_name):
    def hashes() -> dict[str, str]:
        for each in (kernel_files.module, kinds.every):
            each.cache_clear()
        return {name: fingerprint.workload_sha256(backend_name, name, kernels) for name in fingerprint.launched()}

    before = hashes()
    shutil.copytree(EXAMPLE / "kernels", kernels, dirs_exist_ok=True)
    assert "softmax" in headers.sources(backend_name, kernels)
    added = hashes()
    assert {name: added[name] for name in before} == before
    changes = [
        ("workload.py", "12_032", "12_000"),
        ("launch.py", "= 256", "= 128"),
        ("params.h", "int rows;", "int lines;"),
    ]
    for file, text, new in changes:
        path = kernels / "softmax" / file
        content = path.read_text(encoding="utf-8")
        assert text in content
        path.write_text(content.replace(text, new), encoding="utf-8")
        assert {name for name, found in hashes().items() if found != added[name]} == {"softmax"}
        remark = "// a remark\n" if path.suffix == ".h" else "# a remark\n"
        path.write_text(remark + content, encoding="utf-8")
        assert hashes() == added
        path.write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("folder", "text", "said"),
    [
        ("sort", "x = 1\n", r"sort/workload\.py: 0 subclasses of Declared"),
        ("sort", "import nowhere\n", r"sort/workload\.py cannot be loaded: ModuleNotFoundError"),
        (
            "sort",
            "from elastickv.kinds import Declared\nclass Sort(Declared):\n    KERNELS = ('sort',)\n",
            r"sort/workload\.py: Sort lacks buffers, launch, reference, traffic",
        ),
        (
            "ceilings",
            "from elastickv.kinds import Kind\nclass Sort(Kind):\n    KERNELS = ('sort',)\n",
            "cannot be named ceilings",
        ),
    ],
)
def test_a_file_that_declares_no_workload_is_refused_by_its_name(kernels, folder, text, said):
    (kernels / folder).mkdir()
    (kernels / folder / "workload.py").write_text(text)
    kinds.every.cache_clear()
    with pytest.raises(UsageError, match=said):
        kinds.every()


def test_the_example_is_a_case_in_a_checkout_that_has_its_files(clone: Checkout, tmp_path):
    checkout = clone.copy(tmp_path / "checkout")
    shutil.copytree(EXAMPLE, checkout.root, dirs_exist_ok=True)
    listed = checkout.elastickv("cases", "--configfile", "docs/extending/kernel/matrix.yaml")
    assert listed.code == 0, listed.text
    assert "softmax_odd" in listed.text and "37" in listed.text
    flags = ("bench", "--workload=softmax", "--compress=2", "--backend=cpu")
    refused = checkout.elastickv(*flags, "--seq=20000")
    assert (refused.code, "must be at most 12032 for workload softmax, is 20000" in refused.text) == (2, True)
    refused = checkout.elastickv(*flags, "--seq=64", "--inference")
    assert (refused.code, "softmax, which has no inference cycle" in refused.text) == (2, True)
    refused = checkout.elastickv(*flags, "--seq=64", "--heads=4")
    assert (refused.code, "does not apply to workload softmax" in refused.text) == (2, True)
