"""What a case needs of a machine depends on its backend and size, and on nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastickv import formats, matrix
from elastickv.cache import bytes_moved
from elastickv.measure import demand
from elastickv.schemas.case import AnyCase
from elastickv.workloads import cache, positions, rotation

GIB = 1024


def case(**said) -> AnyCase:
    return matrix.case_from_flags({"seq": 1024, "heads": 16, "dim": 64, "compress": 2, **said})


def with_measure(**settings) -> AnyCase:
    return case(measure=settings)


@pytest.mark.parametrize(("backend", "gpus", "node"), [("auto", 1, ""), ("cuda", 1, ""), ("cpu", 0, "--exclusive")])
def test_measuring_requests_one_gpu_of_any_node_or_a_node_of_its_own(backend, gpus, node):
    for demanded in (demand.of_case(case(backend=backend)), demand.of_ceilings(backend)):
        assert (demanded.gpu, demanded.slurm_extra) == (gpus, node)


@pytest.mark.parametrize("backend", ["cuda", "cpu"])
@pytest.mark.parametrize("workload", ["decode", "elementwise"])
def test_memory_and_time_grow_with_the_case(backend, workload):
    small, large = (
        demand.of_case(case(backend=backend, workload=workload, seq=seq, heads=64, dim=128)) for seq in (1024, 1 << 20)
    )
    assert large.mem_mb > 2 * small.mem_mb
    assert large.runtime > small.runtime


def test_small_cases_ask_for_what_any_node_has():
    for backend in ("cuda", "cpu"):
        requested = demand.of_case(case(backend=backend))
        assert requested.mem_mb <= 8 * GIB
        assert requested.runtime <= 30


def test_the_time_asked_for_covers_the_longest_that_the_measurement_may_take():
    for settings in ({"max_seconds": 1}, {"max_seconds": 600}):
        measured = with_measure(**settings)
        assert demand.of_case(measured).runtime * 60 >= demand.worker_seconds(measured) + 120
    ten = with_measure(processes=10)
    assert demand.of_case(ten).runtime * 60 >= 10 * demand.worker_seconds(ten, processes=10) + 120
    assert demand.worker_seconds(with_measure(max_seconds=600)) > demand.worker_seconds(with_measure(max_seconds=1))
    assert demand.of_ceilings("cpu").runtime * 60 >= demand.CEILINGS_SECONDS + 120


NOWHERE = positions.Addresses(0, 0, 0)


class Counting:
    """A backend that only counts what is allocated."""

    def __init__(self):
        self.bytes = 0

    def allocate(self, nbytes: int) -> int:
        self.bytes += nbytes
        return 256


@given(
    seq=st.integers(1, 200_000),
    batch=st.integers(1, 64),
    kv_heads=st.sampled_from([1, 2, 8, 32]),
    dim=st.sampled_from([64, 128, 256]),
    compress=st.integers(1, 64),
    window=st.integers(0, 4096),
    dtype=st.sampled_from(["fp16", "fp32", "bf16"]),
    cache_dtype=st.sampled_from([None, *formats.scaled()]),
    bias=st.sampled_from(["none", "log_count"]),
    decode_tokens=st.integers(0, 512),
)
def test_a_layer_allocates_what_its_footprint_says(decode_tokens, cache_dtype, **shape):
    said = shape | ({"cache_dtype": cache_dtype} if cache_dtype else {}) | {"heads": 32}
    measured, backend = case(**said, measure={"decode_tokens": decode_tokens}), Counting()
    shape = cache.CacheShape(measured, measured.seq + decode_tokens)
    cache.LayerCaches(backend, shape, dict.fromkeys(shape.segments, NOWHERE))
    assert 0 <= rotation.footprint(measured) - backend.bytes <= 8192  # the last array's padding


def test_a_cpu_case_asks_for_all_the_layers_that_it_rotates_over():
    measured = case(backend="cpu", seq=4096, heads=32, dim=128, compress=4)
    rotated = 4 * demand.ASSUMED_LAST_LEVEL_BYTES  # of the elastic caches alone
    assert demand.of_case(measured).mem_mb >= 2048 + rotated * 3 / demand.MIB  # full caches are larger


def test_samples_asked_for_exactly_have_the_time_that_they_take():
    """The original's custom command: 100 samples of 128 launches, on a machine that reads 10 GB/s."""
    shape = {"seq": 8192, "heads": 64, "dim": 128, "compress": 8}
    requested, fewer = (
        case(**shape, measure={"reps": reps, "warmup": warmup, "inner_loops": 128})
        for reps, warmup in ((100, 50), (3, 1))
    )
    full, elastic = (bytes_moved.traffic(requested)[arm].total for arm in ("full", "elastic"))
    takes = 150 * 128 * (2 * full + 2 * elastic) / 10e9
    assert demand.worker_seconds(requested, ("reps",)) > takes
    assert demand.worker_seconds(requested, ("inner_loops",)) > takes
    assert demand.worker_seconds(requested) == demand.worker_seconds(fewer) < takes
