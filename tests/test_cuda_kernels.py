"""The CUDA kernels against the NumPy reference (bit for bit) and the float64 oracle (within its tolerances).

They need an NVIDIA GPU, CuPy and build/cuda/elastickv.fatbin. `-rP` shows the errors found. `test_sanitizers.py` runs
those with "small" in their name under compute-sanitizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kernel_caches import GROWING, POISON, SHAPES, Caches, case_of, check_elementwise, grow, workspace_for
from test_segments import Tiers

from elastickv import device, formats
from elastickv.cache import numerics, oracle
from elastickv.device.base import Backend, Call, Mode
from elastickv.device.params import DecodeParams, FillParams, StreamParams

pytestmark = pytest.mark.gpu
BUILD = Path(__file__).resolve().parents[1] / "build"

# What the GPU adds to SHAPES: real sizes, many splits, every kernel instance.
LARGE = {
    "the golden case": {"seq": 4096, "heads": 32, "kv_heads": 32, "dim": 128, "window": 256},
    "compress 8, seq 5003": {"seq": 5003, "compress": 8, "dim": 128, "window": 256},
    "batch 3, 28 heads on 4": {"batch": 3, "seq": 4096, "heads": 28, "kv_heads": 4, "dim": 128, "window": 256},
    "int4, every token": {"seq": 4096, "dim": 128, "compress": 1, "cache_dtype": "int4", "window": 256},
    "int4, many splits": {"seq": 30011, "heads": 4, "kv_heads": 1, "dim": 128, "compress": 1, "cache_dtype": "int4"},
    "one row, most splits": {"seq": 60013, "heads": 1, "kv_heads": 1, "dim": 128},
    "8 heads on one": {"seq": 30011, "heads": 8, "kv_heads": 1, "dim": 128, "dtype": "bf16"},
    "more rows than blocks": {"batch": 40, "heads": 16, "kv_heads": 16, "seq": 300, "dim": 64},
    "biased": {"seq": 5003, "bias": "log_count", "compress": 3, "dim": 128, "heads": 8},
}  # fmt: skip
# Every pair of formats, which decode_any takes.
PAIRS = {
    f"{keys} keys, {values} values, dim {dim} group {group}": dict(
        key_dtype=keys, value_dtype=values, dtype=dtype, dim=dim, heads=2 * group, kv_heads=2, seq=1300, compress=2
    )
    for dtype, dim, group in (("fp16", 128, 1), ("bf16", 64, 3), ("fp32", 256, 1), ("fp16", 80, 7))
    for keys in (dtype, *formats.scaled())
    for values in (dtype, *formats.scaled())
    if keys != values
}
LARGE |= {
    "int8 keys, int4 values": {
        "seq": 30011,
        "heads": 4,
        "kv_heads": 1,
        "dim": 128,
        "key_dtype": "int8",
        "value_dtype": "int4",
    },
    "exact keys, int4 values, many rows": {
        "batch": 40,
        "heads": 16,
        "seq": 300,
        "value_dtype": "int4",
        "bias": "log_count",
    },
}
INSTANCES = {
    f"{dtype} {cache_dtype} dim {dim} group {group}": dict(
        dtype=dtype, cache_dtype=cache_dtype, dim=dim, heads=2 * group, kv_heads=2, seq=1300, compress=2
    )
    for dtype in ("fp32", "fp16", "bf16")
    for cache_dtype in (dtype, *formats.scaled())
    for dim in (64, 80, 96, 128, 256)
    for group in (1, 3)
}


@pytest.fixture(scope="module")
def gpu() -> Backend:
    """One backend for all tests: loading the fatbin takes a while."""
    if not device.visible_gpus():
        pytest.skip("no NVIDIA GPU is visible")
    pytest.importorskip("cupy", reason="CuPy is not installed (elastickv env cuda)")
    if not (BUILD / "cuda" / "elastickv.fatbin").is_file():
        pytest.skip("build/cuda/elastickv.fatbin is not built (elastickv build cuda)")
    from elastickv.device.cuda import CudaBackend

    return CudaBackend(BUILD / "cuda")


@pytest.fixture
def backend(gpu) -> Iterator[Backend]:
    yield gpu
    gpu.synchronize()
    gpu.free_all()


def check_both_arms(backend: Backend, changes: dict) -> None:
    case = case_of(**changes)
    caches = Caches(backend, case)
    caches.compress()
    caches.check_elastic(case.seq)
    caches.check_decode("elastic", case.seq)
    caches.check_decode("full", case.seq)


ALL_SHAPES = SHAPES | {f"large: {name}": changes for name, changes in LARGE.items()} | INSTANCES | PAIRS


@pytest.mark.parametrize("changes", ALL_SHAPES.values(), ids=ALL_SHAPES.keys())
def test_compress_and_decode_agree_with_the_reference(backend, changes):
    check_both_arms(backend, changes)


# Every kernel, shape class and layout, small enough for compute-sanitizer: both loops, several splits, query tiles with
# idle heads, a ring, both segments.
SMALL = {
    f"{dtype} {cache_dtype} dim {dim} group {group}": dict(
        dtype=dtype, cache_dtype=cache_dtype, dim=dim, heads=2 * group, kv_heads=2, seq=700
    )
    for dtype, cache_dtype in (
        ("fp16", "fp16"), ("fp16", "int8"), ("fp16", "int4"), ("bf16", "bf16"), ("bf16", "int4"), ("fp32", "fp32"),
        ("fp32", "int8"), ("fp16", "fp8_e4m3"), ("bf16", "fp8_e4m3"), ("fp32", "fp8_e4m3"),
    )
    for dim in (80, 128)
    for group in (1, 3, 4)
}  # fmt: skip
SMALL |= {
    "one slot": {"seq": 1, "dim": 128},
    "biased": {"bias": "log_count", "dim": 128, "heads": 8, "kv_heads": 2, "seq": 333},
    "int4, every token": {"compress": 1, "cache_dtype": "int4", "dim": 128, "seq": 500, "batch": 2},
    "mean": {"anchor": "mean", "compress": 3, "cache_dtype": "int8"},
    "last": {"anchor": "last", "compress": 5},
    "dim 256": {"dim": 256, "heads": 5, "kv_heads": 1, "seq": 130},
    "int8 keys, int4 values": {"key_dtype": "int8", "value_dtype": "int4", "dim": 128, "seq": 500},
    "fp8 keys, exact values": {"key_dtype": "fp8_e4m3", "bias": "log_count", "dim": 80, "heads": 8, "kv_heads": 2},
}


@pytest.mark.parametrize("changes", SMALL.values(), ids=SMALL.keys())
def test_small_caches_are_made_and_read_right(backend, changes):
    check_both_arms(backend, changes)


@pytest.mark.parametrize("cache_dtype", ["fp16", *formats.scaled()])
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("heads", [2, 8])
@pytest.mark.parametrize("together", [True, False])
def test_small_caches_grow_right(backend, cache_dtype, dim, heads, together):
    changes = {"heads": heads, "kv_heads": 2, "dim": dim, "window": 3, "cache_dtype": cache_dtype}
    grow(backend, changes, start=20, steps=6, together=together)


@pytest.mark.parametrize("together", [True, False])
def test_small_caches_of_two_formats_grow_right(backend, together):
    changes = {"heads": 8, "kv_heads": 2, "dim": 128, "window": 3, "key_dtype": "int8", "value_dtype": "fp8_e4m3"}
    grow(backend, changes, start=20, steps=6, together=together)


@pytest.mark.parametrize("changes", [{}, {"dtype": "bf16", "heads": 12, "batch": 2}, {"dtype": "fp32", "dim": 80}])
@pytest.mark.parametrize("tokens", [3, 301])
def test_small_caches_of_three_segments_are_made_and_read_right(backend, changes, tokens):
    case = case_of(seq=tokens, cache_dtype="int4", **changes)
    values = {"sinks": 2, "window": 20, "recent": 70, "anchor": "value_norm"}
    caches = Caches(backend, case, policy=Tiers(values, case.dtype, "int4", "int4"))
    caches.compress()
    caches.check_elastic(tokens)
    caches.check_decode("elastic", tokens)


def test_small_passes_are_right(backend):
    """elementwise (bulk stores, which long passes take, too), fill and stream."""
    for shape, compress in (((2, 33, 64), 4), ((2, 600, 132), 8), ((32, 1024, 128), 4)):
        for reverse in (0, 1):
            check_elementwise(backend, shape, compress, reverse)
    source, target, sink = backend.allocate(4112), backend.allocate(100_064), backend.allocate(4)
    backend.launch(Call("stream", StreamParams(source, 4112, target, 100_000, sink)))
    backend.launch(Call("fill", FillParams(target, 1003, formats.of("bf16").number, 1, 2, 0)))


@pytest.mark.parametrize("together", [True, False], ids=["a decode appends", "a launch of its own appends"])
@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("start", [1, 9, 60, 1000])
def test_one_captured_step_replays_while_the_cache_grows(backend, name, start, together):
    """The ring wraps and groups close under a graph that was captured once."""
    grow(backend, {"batch": 2, "kv_heads": 3, "heads": 6, **GROWING[name]}, start, steps=45, together=together)


@pytest.mark.parametrize("name", ["the golden case", "int4, many splits", "8 heads on one"])
def test_equal_launches_give_equal_bits(backend, name):
    case = case_of(**LARGE[name])
    caches = Caches(backend, case)
    caches.compress()
    first = caches.decode()
    assert all(np.array_equal(first, caches.decode()) for _ in range(20))


def test_a_workspace_serves_launch_after_launch(backend):
    """Readers free the places of partials, also when arms with other splits share the workspace."""
    caches = Caches(backend, case_of(seq=3000, dim=128, compress=8))
    caches.compress()
    rows, group, dim = caches.shape.rows, 1, 128
    query = caches.vectors((rows, group, dim), 3)
    q, out = (backend.allocate(query.size * 2) for _ in range(2))
    backend.write(q, formats.of("fp16").encode(query))
    params = []
    for arm, cache in caches.layer.caches.items():
        params.append(DecodeParams(q, out, None, group, 0, 1 / math.sqrt(dim), cache=cache))
        params[-1].touched[:] = caches.touched(arm, growing=False)
    workspace = workspace_for(backend, params)
    for block in params:
        block.workspace = workspace
    program = backend.program([Call("decode", block) for block in params * 20], Mode(graph=True))
    backend.seconds(program)
    answer = formats.of("fp16").decode(backend.read(out, query.shape, np.float16))
    correctness = oracle.check(answer, caches.attention(query, "elastic", 3000), "fp16")
    assert oracle.passes(correctness), correctness


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("which", ["k", "v"])
def test_a_nan_reaches_the_output_of_its_row_and_no_other(backend, dtype, which):
    caches = Caches(backend, case_of(dtype=dtype, heads=8, kv_heads=4, seq=200))
    getattr(caches, which)[2, 150, 9] = np.nan
    caches.write_full()
    answer = caches.decode("full")
    assert np.isnan(answer[2] if which == "k" else answer[2, :, 9]).all()
    assert np.isfinite(np.delete(answer, 2, axis=0)).all()


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


def test_ties_of_the_norm_go_to_the_earliest_and_a_nan_is_the_largest(backend):
    caches = Caches(backend, case_of(compress=4))
    caches.v[:, 4:20] = caches.v[:, 4:5]
    caches.v[1, 9, 0] = caches.v[1, 10, 0] = np.nan
    caches.write_full()
    caches.compress()
    kept = caches.layer.read_kept(0, 4, 101)  # behind 4 sinks
    assert kept[0, 4:8].tolist() == [4, 8, 12, 16]
    assert kept[1, 4:8].tolist() == [4, 9, 12, 16]


def test_large_logits_do_not_overflow(backend):
    caches = Caches(backend, case_of(dtype="fp32", heads=8, kv_heads=2, seq=300))
    caches.k *= 1000
    caches.write_full()
    caches.check_decode("full", 300)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("count", [1, 63, 64, 1000, 1_000_003])
def test_fill_writes_the_seeded_values_and_nothing_else(backend, dtype, count):
    width = formats.of(dtype).vector_bytes(1)
    address = backend.allocate((count + 64) * width)
    backend.fill_bytes(address, (count + 64) * width, 0xAB)
    backend.launch(Call("fill", FillParams(address, count, formats.of(dtype).number, 123, 456, 0)))
    expected = formats.of(dtype).encode(numerics.seeded_values(count, 123, 456))
    np.testing.assert_array_equal(backend.read(address, (count,), formats.of(dtype).words), expected)
    assert (backend.read(address + count * width, (64 * width,), np.uint8) == 0xAB).all()


@pytest.mark.parametrize(
    ("heads", "seq", "dim", "compress"),
    [
        (3, 50, 64, 4),
        (2, 33, 20, 4),
        (1, 1, 4, 1),
        (2, 17, 64, 1),
        (32, 4096, 128, 4),
        (1, 10, 36, 16),
        (2, 600, 132, 8),
    ],
)
def test_elementwise_agrees_with_the_oracle(backend, heads, seq, dim, compress):
    check_elementwise(backend, (heads, seq, dim), compress)


@pytest.mark.parametrize(
    ("read", "write"), [(0, 4096), (16, 0), (16, 16), (100_000, 16), (4112, 800_000), (64 << 20, 64 << 20), (0, 0)]
)
def test_stream_writes_what_it_should_and_nothing_else(backend, read, write):
    source, target, sink = backend.allocate(read), backend.allocate(write + 64), backend.allocate(4)
    backend.fill_bytes(target, write + 64, POISON)
    backend.launch(Call("stream", StreamParams(source, read, target, write, sink)))
    assert not (backend.read(target, (write // 4,), np.uint32) == 0xFFFFFFFF).any()
    assert (backend.read(target + write, (64,), np.uint8) == POISON).all()


def test_allocating_beyond_the_memory_is_a_memory_error(backend):
    with pytest.raises(MemoryError):
        backend.allocate(1 << 50)
    address = backend.allocate(1000)  # the backend is as usable as before
    assert (backend.read(address, (1000,), np.uint8) == 0).all()


def test_facts_say_what_the_device_is(backend):
    facts = backend.facts()
    assert facts["uuid"] in device.visible_gpus()
    assert facts["last_level_cache_bytes"] > 0
    assert facts["driver"] is None or facts["driver"][0].isdigit()
    print(facts)
