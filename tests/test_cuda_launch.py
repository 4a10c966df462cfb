"""Launch shapes of the CUDA kernels: instances that exist, sizes that fit, no GPU needed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastickv.backends import cuda_decode, cuda_launch
from elastickv.backends.params import DTYPES, KERNELS, Cache, CompressParams, DecodeParams, StreamParams

CUDA = Path(__file__).resolve().parents[1] / "kernels" / "cuda"
STATIC_SHARED_LIMIT = 48 << 10
MOST_THREADS = {1: 512, cuda_decode.QUERY_TILE: 384}  # __launch_bounds__ of decode.cu


def kernel_names() -> set[str]:
    """Every extern "C" kernel, after the preprocessor expanded the instance lists."""
    source = (CUDA / "elastickv.cu").read_text()
    includes = re.findall(r'#include "(\w+\.cu)"', source)
    names: set[str] = set()
    for name in includes:
        command = ["g++", "-E", "-P", "-x", "c++", "-I", CUDA, CUDA / name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        names |= set(re.findall(r'extern "C" __global__ (?:__launch_bounds__\([^{;]*?\) )?void (\w+)\(', text))
    return names


def decode_params(batch=1, kv_heads=4, group=1, tokens=4096, dim=128, dtype="fp16", cache_dtype=None, compress=4):
    codes = {"dtype": DTYPES[dtype], "cache_dtype": DTYPES[cache_dtype or dtype]}
    kept = {"sinks": 4, "window": 256, "compress": compress, "ring": 256 + compress}
    cache = Cache(rows=batch * kv_heads, dim=dim, **codes, **kept)
    return DecodeParams(cache=cache, group=group, max_tokens=tokens)


ANY_DECODE = st.builds(
    decode_params,
    batch=st.integers(1, 64),
    kv_heads=st.integers(1, 71),
    group=st.integers(1, 71),
    tokens=st.integers(0, 200_000),
    dim=st.sampled_from(cuda_decode.DIMS),
    dtype=st.sampled_from(["fp32", "fp16", "bf16"]),
    cache_dtype=st.sampled_from([None, "int8", "int4"]),
    compress=st.integers(1, 8),
)


@pytest.fixture(scope="module")
def names() -> set[str]:
    return kernel_names()


def test_every_kernel_of_the_contract_exists(names):
    assert {name for name in KERNELS if name != "decode"} <= names
    assert any(name.startswith("decode_") for name in names)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("cache_dtype", [None, "int8", "int4"])
@pytest.mark.parametrize("dim", cuda_decode.DIMS)
@pytest.mark.parametrize("group", [1, 2, 7, 71])
def test_every_supported_shape_has_an_instance(names, dtype, cache_dtype, dim, group):
    params = decode_params(group=group, dim=dim, dtype=dtype, cache_dtype=cache_dtype)
    assert cuda_launch.launch_of("decode", params, 132).name in names


@given(params=ANY_DECODE, sms=st.integers(1, 170))
def test_a_decode_launch_fits_the_device(params, sms):
    shape = cuda_decode.shape_of(params, sms)
    assert 32 <= shape.warps * 32 <= MOST_THREADS[shape.tile]
    assert 1 <= shape.splits <= 65535
    assert shape.tiles == params.cache.rows * -(-params.group // shape.tile)
    assert shape.shared_bytes + 256 <= STATIC_SHARED_LIMIT
    assert shape.splits == 1 or shape.warps * (shape.splits - 1) < cuda_decode.units(params, shape.tile, shape.widest)
    heads = shape.tiles * shape.splits * shape.tile
    assert cuda_decode.workspace_bytes(params, sms) >= heads * (params.cache.dim * 4 + 8) + shape.tiles * 4


def test_a_long_single_row_is_split_over_the_whole_device():
    shape = cuda_decode.shape_of(decode_params(kv_heads=1, tokens=131072, compress=1), 132)
    assert shape.tiles * shape.splits >= 0.9 * 132 or shape.splits == cuda_decode.MOST_SPLITS


def test_many_rows_are_not_split():
    assert cuda_decode.shape_of(decode_params(batch=64, kv_heads=32), 132).splits == 1


@pytest.mark.parametrize("tokens", [0, 1, 5000])
def test_compress_covers_any_length(tokens):
    launch = cuda_launch.launch_of("compress", CompressParams(cache=Cache(rows=3), source_tokens=tokens), 132)
    assert launch.grid[0] >= 1
    assert launch.grid[1] == 3


@pytest.mark.parametrize(("read", "write"), [(0, 0), (16, 0), (1 << 40, 1 << 40)])
def test_stream_grids_are_legal(read, write):
    launch = cuda_launch.launch_of("stream", StreamParams(read_bytes=read, write_bytes=write), 132)
    assert 1 <= launch.grid[0] <= cuda_launch.MOST_GRID
