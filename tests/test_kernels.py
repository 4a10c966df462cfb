"""All kernels against the NumPy reference (bit for bit) and the float64 oracle (within its tolerances).

On every target of the CPU library, and on a GPU where there is one with CuPy and build/cuda/elastickv.fatbin.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from kernel_caches import GROWING, SHAPES, Caches, case_of, check_elementwise, grow

from elastickv import formats
from elastickv.build import compilers
from elastickv.cache import numerics
from elastickv.device.base import Call
from elastickv.device.params import FillParams

CPU = list(compilers.cpu_targets())
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


EACH = pytest.mark.parametrize("backend", [*CPU, CUDA], indirect=True)


@EACH
@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
def test_compress_and_decode_agree_with_the_reference(backend, changes):
    caches = Caches(backend, case_of(**changes))
    caches.compress()
    caches.check_both()


# Every way to grow from both lengths, each once with a decode that appends; the CPU's targets take turns.
WAYS = [
    (target, name, start, together)
    for number, name in enumerate(GROWING)
    for start, together in ((1, number % 2 == 0), (60, number % 2 == 1))
    for target in (CPU[number % len(CPU)], "cuda")
]


@pytest.mark.parametrize(
    ("backend", "name", "start", "together"),
    [pytest.param(*way, marks=[pytest.mark.gpu] if way[0] == "cuda" else []) for way in WAYS],
    indirect=["backend"],
)
def test_one_captured_step_replays_while_the_cache_grows(backend, name, start, together):
    """The ring wraps and groups close under a graph that was captured once. together: a decode appends the token."""
    grow(backend, {"batch": 2, "kv_heads": 3, "heads": 6, **GROWING[name]}, start, steps=45, together=together)


@EACH
@pytest.mark.parametrize(
    ("dtype", "count"), [*itertools.product(["fp32", "fp16", "bf16"], [63, 100_003]), ("fp32", 1), ("fp16", 64)]
)
def test_fill_writes_the_seeded_values_and_nothing_else(backend, dtype, count):
    width = formats.of(dtype).vector_bytes(1)
    address = backend.allocate((count + 64) * width)
    backend.fill_bytes(address, (count + 64) * width, 0xAB)
    backend.launch(Call("fill", FillParams(address, count, formats.of(dtype).number, 123, 456, 0)))
    expected = formats.of(dtype).encode(numerics.seeded_values(count, 123, 456))
    np.testing.assert_array_equal(backend.read(address, (count,), formats.of(dtype).words), expected)
    assert (backend.read(address + count * width, (64 * width,), np.uint8) == 0xAB).all()


@EACH
def test_equal_launches_give_equal_bits(backend):
    caches = Caches(backend, case_of(heads=10, kv_heads=5, seq=777, cache_dtype="int8", dtype="fp32"))
    caches.compress()
    first = caches.decode()
    assert all(np.array_equal(first, caches.decode()) for _ in range(20))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@EACH
@pytest.mark.parametrize("which", ["k", "v"])
def test_a_nan_reaches_the_output_of_its_row_and_no_other(backend, dtype, which):
    caches = Caches(backend, case_of(dtype=dtype, heads=8, kv_heads=4, seq=200))
    getattr(caches, which)[2, 150, 9] = np.nan
    caches.write_full()
    answer = caches.decode("full")
    assert np.isnan(answer[2] if which == "k" else answer[2, :, 9]).all()
    assert np.isfinite(np.delete(answer, 2, axis=0)).all()


@EACH
@pytest.mark.parametrize("cache_dtype", formats.scaled())
def test_a_nan_survives_quantisation(backend, cache_dtype):
    caches = Caches(backend, case_of(cache_dtype=cache_dtype, anchor="first"))
    caches.k[1, 8, 9] = np.nan
    caches.write_full()
    caches.compress()
    answer = caches.decode()
    assert np.isnan(answer[1]).all()
    assert np.isfinite(np.delete(answer, 1, axis=0)).all()


@EACH
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


@EACH
def test_large_logits_do_not_overflow(backend):
    caches = Caches(backend, case_of(dtype="fp32", heads=8, kv_heads=2, seq=300))
    caches.k *= 1000
    caches.write_full()
    caches.check_decode("full", 300)


@EACH
@pytest.mark.parametrize("anchor", ["key_norm", "value_norm"])
def test_of_equal_norms_the_earliest_is_kept_and_a_nan_wins(backend, anchor):
    caches = Caches(backend, case_of(compress=4, anchor=anchor))
    judged = caches.k if anchor == "key_norm" else caches.v
    judged[:, 4:20] = judged[:, 4:5]
    judged[1, 9, 0] = judged[1, 10, 0] = np.nan
    judged[2, 14] *= 0.5 if anchor == "key_norm" else 2
    judged[3, 4:8] = 0
    caches.write_full()
    caches.compress()
    kept = caches.layer.read_kept(0, 4, 101)[:, 4:8]
    assert kept.tolist() == [[4, 8, 12, 16], [4, 9, 12, 16], [4, 8, 14, 16], [4, 8, 12, 16]]


@pytest.mark.parametrize(
    ("heads", "seq", "dim", "compress"),
    [(3, 50, 64, 4), (2, 33, 20, 4), (1, 1, 4, 1), (2, 17, 64, 1), (2, 700, 128, 2), (1, 10, 36, 16), (2, 600, 132, 8)],
)
@EACH
@pytest.mark.parametrize("reverse", [0, 1])
def test_elementwise_agrees_with_the_oracle(backend, heads, seq, dim, compress, reverse):
    check_elementwise(backend, (heads, seq, dim), compress, reverse)
