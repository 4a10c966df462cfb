"""The CUDA kernels against the NumPy reference (bit for bit) and the float64 oracle (within its tolerances).

They need an NVIDIA GPU, CuPy and build/cuda/elastickv.fatbin. `-rP` shows the errors found. `test_sanitizers.py` runs
those with "small" in their name under compute-sanitizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import permutations

import numpy as np
import pytest
from kernel_caches import POISON, Caches, case_of, check_elementwise, grow, workspace_for
from test_segments import Tiers

from elastickv import device, formats
from elastickv.cache import oracle
from elastickv.device.base import Backend, Call, Mode
from elastickv.device.params import DecodeParams, FillParams, StreamParams
from elastickv.policies import Policy

pytestmark = [pytest.mark.gpu, pytest.mark.parametrize("backend", ["cuda"], indirect=True)]

# What the GPU adds to the shapes of test_kernels.py: real sizes, many splits, every kernel instance.
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
    "int8 keys, int4 values": {"seq": 30011, "heads": 4, "kv_heads": 1, "dim": 128, "key_dtype": "int8",
                               "value_dtype": "int4"},
    "exact keys, int4 values, many rows": {"batch": 40, "heads": 16, "seq": 300, "value_dtype": "int4",
                                           "bias": "log_count"},
}  # fmt: skip


def shapes(kinds: Iterable[tuple[str, str, str, int, int]], seq: int) -> dict[str, dict]:
    """Cases by name, of (dtype, format of keys, of values, dim, query heads per KV head)."""
    return {
        f"{dtype}, {keys} keys, {values} values, dim {dim} group {group}, seq {seq}": dict(
            dtype=dtype, key_dtype=keys, value_dtype=values, dim=dim, heads=2 * group, kv_heads=2, seq=seq, compress=2
        )
        for dtype, keys, values, dim, group in kinds
    }


# Every pair of formats, which decode_any takes: its kernel reads the formats, dim and group at run time.
WITH_ANY = [("fp16", 128, 1), ("bf16", 64, 3), ("fp32", 256, 1), ("fp16", 80, 7)]
PAIRS = shapes(
    (
        (dtype, keys or dtype, values or dtype, dim, group)
        for number, (keys, values) in enumerate(permutations((None, *formats.scaled()), 2))
        for dtype, dim, group in [WITH_ANY[number % 4]]
    ),
    1300,
)
# Every instance, with dims 64, 128, 256 and one of 80 and 96; one query head per KV head, and three (a tile has four).
ALIKE = [(dtype, keys or dtype) for dtype in formats.exact() for keys in (None, *formats.scaled())]
INSTANCES = shapes(
    (
        (dtype, stored, stored, dim, group)
        for number, (dtype, stored) in enumerate(ALIKE)
        for dim in (64, (80, 96)[number % 2], 128, 256)
        for group in (1, 3)
    ),
    1301,
)


@pytest.mark.parametrize("changes", (LARGE | INSTANCES | PAIRS).values(), ids=(LARGE | INSTANCES | PAIRS).keys())
def test_compress_and_decode_agree_with_the_reference(backend, changes):
    check_both_arms(backend, changes)


def check_both_arms(backend: Backend, changes: dict, policy: Policy | None = None) -> None:
    caches = Caches(backend, case_of(**changes), policy=policy)
    caches.compress()
    caches.check_both()


# Every kernel, shape class and layout, small enough for compute-sanitizer: both loops, several splits, query tiles with
# idle heads, a ring, both segments.
SMALL = shapes(((*alike, alike[1], dim, group) for alike in ALIKE for dim, group in ((80, 3), (128, 1), (128, 4))), 701)
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
@pytest.mark.parametrize(("dim", "heads", "together"), [(64, 2, True), (64, 8, False), (128, 8, True), (128, 2, False)])
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
    values = {"sinks": 2, "window": 20, "recent": 70, "anchor": "value_norm"}
    policy = Tiers(values, changes.get("dtype", "fp16"), "int4", "int4")
    check_both_arms(backend, changes | {"seq": tokens, "cache_dtype": "int4"}, policy)


@pytest.mark.parametrize("start", [9, 1000])
def test_a_long_cache_grows_right(backend, start):
    grow(backend, {"batch": 2, "kv_heads": 3, "heads": 6}, start, steps=45, together=True)


def test_small_passes_are_right(backend):
    """elementwise, fill and stream."""
    for shape, compress in (((2, 33, 64), 4), ((2, 600, 132), 8), ((32, 1024, 128), 4)):
        for reverse in (0, 1):
            check_elementwise(backend, shape, compress, reverse)
    source, target, sink = backend.allocate(4112), backend.allocate(100_064), backend.allocate(4)
    backend.launch(Call("stream", StreamParams(source, 4112, target, 100_000, sink)))
    backend.launch(Call("fill", FillParams(target, 1003, formats.of("bf16").number, 1, 2, 0)))


@pytest.mark.parametrize("name", ["the golden case", "int4, many splits", "8 heads on one"])
def test_equal_launches_give_equal_bits(backend, name):
    case = case_of(**LARGE[name])
    caches = Caches(backend, case)
    caches.compress()
    first = caches.decode()
    assert all(np.array_equal(first, caches.decode()) for _ in range(20))


def test_a_long_elementwise_pass_is_right(backend):
    """It takes bulk stores, where the device has them."""
    check_elementwise(backend, (32, 4096, 128), 4)


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
