"""What `tests/test_key_value_formats.py` runs in a checkout that holds the two files of rotated5."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernel_caches import Caches, case_of, grow

from elastickv import formats
from elastickv.device.base import Backend

SHAPES = {
    "keys": {"key_dtype": "rotated5", "value_dtype": "int4", "seq": 333},
    "keys of fp32, dim 96, grouped": {"key_dtype": "rotated5", "value_dtype": "fp8_e4m3", "dim": 96, "heads": 12,
                                      "dtype": "fp32", "bias": "log_count", "compress": 1, "seq": 700},
    "values": {"value_dtype": "rotated5", "dim": 80, "heads": 28, "batch": 2, "dtype": "bf16"},
    "both, dim 256": {"cache_dtype": "rotated5", "dim": 256, "anchor": "mean", "window": 0, "dtype": "fp32"},
}  # fmt: skip


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def backend(request) -> Backend:
    if request.param == "cpu":
        from elastickv.device.cpu import CpuBackend

        backend = CpuBackend(Path("build/cpu"))
    else:
        from elastickv.device.cuda import CudaBackend

        backend = CudaBackend(Path("build/cuda"))
    yield backend
    backend.free_all()


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
def test_codes_and_scales_are_the_references_and_the_answer_is_right(backend, changes):
    case = case_of(**changes)
    caches = Caches(backend, case)
    assert {one.shape[0] for one in caches.shape.states.values()} == {4}
    caches.compress()
    caches.check_elastic(case.seq)
    caches.check_decode("elastic", case.seq)


@pytest.mark.parametrize("window", [0, 5])
def test_groups_that_close_while_the_cache_grows_pass_through_the_matrix(backend, window):
    grow(backend, {"key_dtype": "rotated5", "value_dtype": "int8", "window": window, "heads": 8}, 30, 20, True)


def test_a_row_takes_five_bits_a_value():
    assert formats.of("rotated5").vector_bytes(128) == 80
