"""What only the CPU library has: threads, targets, an exp of its own. `test_kernels.py` compares its answers."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from kernel_caches import POISON, Caches, case_of

from elastickv.build import compilers, cpu
from elastickv.device.base import Call
from elastickv.device.cpu import CpuBackend
from elastickv.device.params import ElementwiseParams, StreamParams
from elastickv.errors import MachineError

KERNEL_SOURCES = Path(__file__).resolve().parents[1] / "kernels"


EACH = pytest.mark.parametrize("backend", list(compilers.cpu_targets()), indirect=True)


@EACH
@pytest.mark.parametrize("threads", [1, 2, 5, 16])
def test_work_is_cut_between_any_number_of_threads(backend, threads):
    backend.use_threads(threads)
    for rows in (1, 2, 7):
        case = case_of(seq=233, heads=rows * 2, kv_heads=rows, dtype="fp32", cache_dtype="int8")
        caches = Caches(backend, case)
        caches.compress()
        caches.check_both()


@EACH
def test_elementwise_exp_reaches_both_ends_of_its_range(backend):
    """exp of every size: relative error of each value, then zero, infinity and NaN."""
    logits = np.concatenate([np.linspace(-87, 88.7, 4 * 500), [-200, -1e30, 89, 1e30, np.nan, 0, 88.72, -87.3]])
    logits = logits.astype(np.float32)
    seq = len(logits)
    q = np.zeros((1, seq, 4), np.float32)
    q[0, :, 2] = logits
    ones = np.ones_like(q)
    addresses = [backend.allocate(q.nbytes) for _ in range(5)]
    for address, array in zip(addresses, (q, ones, ones, ones), strict=False):
        backend.write(address, array)
    backend.launch(Call("elementwise", ElementwiseParams(*addresses, 1, seq, 4, 1, 1.0, 0)))
    answer = backend.read(addresses[4], q.shape, np.float32)[0, :, 1]
    with np.errstate(over="ignore", under="ignore"):
        exact = np.exp(logits.astype(np.float64))
        rounded = exact.astype(np.float32)
    normal = np.isfinite(rounded) & (exact > np.finfo(np.float32).tiny)
    assert (np.abs(answer[normal] - exact[normal]) <= 2.5e-7 * exact[normal]).all()
    np.testing.assert_array_equal(answer[~normal], rounded[~normal])


@EACH
@pytest.mark.parametrize(
    ("read", "write"), [(0, 4096), (16, 0), (16, 16), (100_000, 16), (4112, 800_000), (1 << 20, 1 << 20)]
)
def test_stream_reads_all_and_writes_all(backend, read, write):
    data = np.arange(max(read, 4) // 4, dtype=np.uint32) * np.uint32(2654435761)
    source, target, sink = backend.allocate(data.nbytes), backend.allocate(write + 64), backend.allocate(4)
    backend.write(source, data)
    backend.fill_bytes(target, write, POISON)
    backend.launch(Call("stream", StreamParams(source, read, target, write, sink)))
    total = int(data[: read // 4].astype(np.uint64).sum()) & 0xFFFFFFFF
    assert backend.read(sink, (1,), np.uint32)[0] == total
    assert backend.read(target + write, (64,), np.uint8).max() == 0
    data[0] += 1  # what is read decides what is written: nothing is elided
    first = backend.read(target, (write,), np.uint8)
    backend.write(source, data)
    backend.fill_bytes(target, write, 0x55)
    backend.launch(Call("stream", StreamParams(source, read, target, write, sink)))
    again = backend.read(target, (write,), np.uint8)
    assert read == 0 or backend.read(sink, (1,), np.uint32)[0] == (total + 1) & 0xFFFFFFFF
    assert not ((first == POISON) & (again == 0x55)).any()


def test_a_kernel_that_the_library_lacks_is_named(cpu_build):
    backend = CpuBackend(cpu_build / "cpu")
    with pytest.raises(MachineError, match="no kernel sort"):
        backend.launch(Call("sort", StreamParams()))


def test_the_best_target_that_runs_is_in_use_and_an_unknown_one_is_refused(cpu_build):
    backend = CpuBackend(cpu_build / "cpu")
    assert backend.targets() == list(compilers.cpu_targets())
    in_use = backend.facts()["compiled_for"]
    runnable = []
    for target in backend.targets():
        with contextlib.suppress(MachineError):
            backend.use_target(target)
            runnable.append(backend.facts()["compiled_for"])
    assert runnable[0] == in_use
    with pytest.raises(MachineError, match="vax"):
        backend.use_target("vax")


@pytest.mark.slow  # it compiles
def test_targets_share_no_function_that_the_linker_could_take_from_another(tmp_path):
    """A function of the standard library, kept once for all targets, might need what this processor lacks."""
    if not shutil.which("nm"):
        pytest.skip("nm is not installed")
    for target, compiled in cpu.compile_objects(tmp_path).items():
        listing = subprocess.run(["nm", compiled], capture_output=True, text=True, check=True).stdout
        symbols = [line.split()[-2:] for line in listing.splitlines()]
        weak = {name for kind, name in symbols if kind in "WVu" and "DW.ref" not in name}
        assert weak
        assert {name for name in weak if f"elastickv_{target}" not in name} == set()
