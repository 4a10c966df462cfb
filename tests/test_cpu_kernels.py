"""The CPU kernels against the NumPy reference (bit for bit) and the float64 oracle (within its tolerances)."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from kernel_caches import GROWING, POISON, SHAPES, Caches, case_of, check_elementwise, grow

from elastickv import formats
from elastickv.build import compilers, cpu
from elastickv.cache import numerics
from elastickv.device.base import Call
from elastickv.device.cpu import CpuBackend
from elastickv.device.params import ElementwiseParams, FillParams, StreamParams
from elastickv.errors import MachineError

KERNEL_SOURCES = Path(__file__).resolve().parents[1] / "kernels"


@pytest.fixture(params=list(compilers.cpu_targets()))
def backend(cpu_build, request):
    backend = CpuBackend(cpu_build / "cpu")
    try:
        backend.use_target(request.param)
    except MachineError as error:
        pytest.skip(str(error))
    backend.use_threads(3)  # more threads than rows, fewer, and not a divisor: work is cut inside rows
    yield backend
    backend.free_all()


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
def test_compress_and_decode_agree_with_the_reference(backend, changes):
    case = case_of(**changes)
    caches = Caches(backend, case)
    caches.compress()
    caches.check_elastic(case.seq)
    caches.check_decode("elastic", case.seq)
    caches.check_decode("full", case.seq)


@pytest.mark.parametrize("threads", [1, 2, 5, 16])
def test_work_is_cut_between_any_number_of_threads(backend, threads):
    backend.use_threads(threads)
    for rows in (1, 2, 7):
        case = case_of(seq=233, heads=rows * 2, kv_heads=rows, dtype="fp32", cache_dtype="int8")
        caches = Caches(backend, case)
        caches.compress()
        caches.check_elastic(case.seq)
        caches.check_decode("elastic", case.seq)
        caches.check_decode("full", case.seq)


@pytest.mark.parametrize("together", [True, False], ids=["a decode appends", "a launch of its own appends"])
@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("start", [1, 60])
def test_one_captured_step_replays_while_the_cache_grows(backend, name, start, together):
    """The ring wraps and groups close under a graph that was captured once."""
    grow(backend, {"batch": 2, "kv_heads": 3, "heads": 6, **GROWING[name]}, start, steps=45, together=together)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("count", [1, 63, 64, 1000, 100_003])
def test_fill_writes_the_seeded_values_and_nothing_else(backend, dtype, count):
    width = formats.of(dtype).vector_bytes(1)
    address = backend.allocate((count + 64) * width)
    backend.fill_bytes(address, (count + 64) * width, 0xAB)
    backend.launch(Call("fill", FillParams(address, count, formats.of(dtype).number, 123, 456, 0)))
    expected = formats.of(dtype).encode(numerics.seeded_values(count, 123, 456))
    np.testing.assert_array_equal(backend.read(address, (count,), formats.of(dtype).words), expected)
    assert (backend.read(address + count * width, (64 * width,), np.uint8) == 0xAB).all()


def test_equal_launches_give_equal_bits(backend):
    case = case_of(heads=10, kv_heads=5, seq=777, cache_dtype="int8", dtype="fp32")
    caches = Caches(backend, case)
    caches.compress()
    first = caches.decode()
    assert all(np.array_equal(first, caches.decode()) for _ in range(20))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("which", ["k", "v"])
def test_a_nan_reaches_the_output_of_its_row_and_no_other(backend, dtype, which):
    case = case_of(dtype=dtype, heads=8, kv_heads=4, seq=200)
    caches = Caches(backend, case)
    getattr(caches, which)[2, 150, 9] = np.nan
    caches.write_full()
    answer = caches.decode("full")
    assert np.isnan(answer[2] if which == "k" else answer[2, :, 9]).all()
    assert np.isfinite(np.delete(answer, 2, axis=0)).all()


@pytest.mark.parametrize("cache_dtype", formats.scaled())
def test_a_nan_survives_quantisation(backend, cache_dtype):
    caches = Caches(backend, case_of(cache_dtype=cache_dtype, anchor="first"))
    caches.k[1, 8, 9] = np.nan
    caches.write_full()
    caches.compress()
    answer = caches.decode()
    assert np.isnan(answer[1]).all()
    assert np.isfinite(np.delete(answer, 1, axis=0)).all()


@pytest.mark.parametrize("cache_dtype", formats.scaled())
def test_quantisation_of_zeros_ties_and_extremes(backend, cache_dtype):
    case = case_of(dtype="fp32", cache_dtype=cache_dtype, compress=1, window=0, sinks=0, seq=5, kv_heads=1, heads=1)
    caches = Caches(backend, case)
    largest = formats.of(cache_dtype).largest
    caches.k[0, 0] = 0
    caches.k[0, 1] = (np.arange(64) % (2 * largest + 1) - largest) / 2  # halves: ties to even
    caches.k[0, 1, 0] = largest
    caches.k[0, 2] = 1e30  # beyond the largest scale
    caches.k[0, 3] = 1e-30  # below the smallest
    caches.write_full()
    caches.compress()
    caches.check_elastic(5)


def test_large_logits_do_not_overflow(backend):
    case = case_of(dtype="fp32", heads=8, kv_heads=2, seq=300)
    caches = Caches(backend, case)
    caches.k *= 1000
    caches.write_full()
    caches.check_decode("full", 300)


def test_ties_of_the_norm_go_to_the_earliest_and_a_nan_is_the_largest(backend):
    caches = Caches(backend, case_of(compress=4))
    caches.v[:, 4:20] = caches.v[:, 4:5]
    caches.v[1, 9, 0] = caches.v[1, 10, 0] = np.nan
    caches.write_full()
    caches.compress()
    kept = caches.layer.read_kept(0, 4, 101)  # behind 4 sinks
    assert kept[0, 4:8].tolist() == [4, 8, 12, 16]
    assert kept[1, 4:8].tolist() == [4, 9, 12, 16]


@pytest.mark.parametrize(
    ("heads", "seq", "dim", "compress"),
    [(3, 50, 64, 4), (2, 33, 20, 4), (1, 1, 4, 1), (2, 17, 64, 1), (2, 700, 128, 2), (1, 10, 36, 16), (2, 600, 132, 8)],
)
@pytest.mark.parametrize("reverse", [0, 1])
def test_elementwise_agrees_with_the_oracle(backend, heads, seq, dim, compress, reverse):
    check_elementwise(backend, (heads, seq, dim), compress, reverse)


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
    cpu.compile_library(tmp_path / "libelastickv.so")
    for target in compilers.cpu_targets():
        listing = subprocess.run(
            ["nm", tmp_path / f"libelastickv.{target}.o"], capture_output=True, text=True, check=True
        ).stdout
        symbols = [line.split()[-2:] for line in listing.splitlines()]
        weak = {name for kind, name in symbols if kind in "WVu" and "DW.ref" not in name}
        assert weak
        assert {name for name in weak if f"elastickv_{target}" not in name} == set()
