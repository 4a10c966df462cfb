"""Launch shapes of the CUDA kernels: instances that exist, sizes that fit, no GPU needed."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastickv import formats, matrix
from elastickv.build import headers
from elastickv.device import launches, limits
from elastickv.device.params import AdvanceParams, Cache, CompressParams, DecodeParams, StreamParams
from elastickv.errors import UsageError
from elastickv.system import kernel_files

KERNEL_SOURCES = Path(__file__).resolve().parents[1] / "kernels"
STATIC_SHARED_LIMIT = 48 << 10
MOST_THREADS = {False: 512, True: 384}  # __launch_bounds__ of decode.cu and decode_tensor.cu
DECODE = launches.of_kernel("decode")
H200 = launches.Gpu(132, 90, 228 << 10)


def kernel_names() -> set[str]:
    """Every extern "C" kernel, after the preprocessor expanded the instance lists."""
    names: set[str] = set()
    headers.write("cuda", KERNEL_SOURCES)
    for source in headers.sources("cuda", KERNEL_SOURCES).values():
        folders = (KERNEL_SOURCES, KERNEL_SOURCES / "cuda", headers.FOLDER)
        flags = ["-D__CUDA_ARCH__=900", "-D__CUDACC__", *(f"-I{folder}" for folder in folders)]
        text = subprocess.run(
            ["g++", "-E", "-P", "-x", "c++", *flags, source], check=True, capture_output=True, text=True
        ).stdout
        names |= set(re.findall(r'extern "C" __global__ (?:__launch_bounds__\([^{;]*?\) )?void (\w+)\(', text))
    return names


def decode_params(batch=1, kv_heads=4, group=1, tokens=4096, dim=128, dtype="fp16", cache_dtype=None, compress=4):
    exact, middle = (formats.of(name).number for name in (dtype, cache_dtype or dtype))
    cache = Cache(rows=batch * kv_heads, kv_heads=kv_heads, dim=dim, dtype=exact, segment_count=2)
    cache.segments[0].k_format = cache.segments[0].v_format = exact
    cache.segments[1].k_format = cache.segments[1].v_format = middle
    params = DecodeParams(cache=cache, group=group)
    params.touched[:2] = min(tokens, 260 + compress), max(0, tokens - 260) // compress
    return params


ANY_DECODE = st.builds(
    decode_params,
    batch=st.integers(1, 64),
    kv_heads=st.integers(1, 71),
    group=st.integers(1, 71),
    tokens=st.integers(0, 200_000),
    dim=st.sampled_from(limits.DECODE_DIMS),
    dtype=st.sampled_from(["fp32", "fp16", "bf16"]),
    cache_dtype=st.sampled_from([None, *formats.scaled()]),
    compress=st.integers(1, 8),
)


@pytest.fixture(scope="module")
def names() -> set[str]:
    return kernel_names()


def test_every_kernel_of_the_contract_exists(names):
    single = headers.sources("cuda", KERNEL_SOURCES).keys() - {"decode", "decode_any", "decode_tensor"}
    assert single <= names
    assert any(name.startswith("decode_") for name in names)


def test_every_kernel_says_how_it_is_launched(tmp_path, monkeypatch):
    for kernel in headers.sources("cuda", KERNEL_SOURCES).keys() - {"decode_tensor"}:  # decode's file launches it
        assert callable(launches.of_kernel(kernel).launch)
    monkeypatch.setattr(kernel_files, "KERNELS", tmp_path)
    with pytest.raises(UsageError, match=r"sort/launch\.py is missing"):
        launches.of_kernel("sort")
    (tmp_path / "sort").mkdir()
    (tmp_path / "sort" / "launch.py").write_text("THREADS = 32\n")
    with pytest.raises(UsageError, match="must define launch"):
        launches.of_kernel("sort")


def test_every_supported_shape_has_an_instance(names):
    every = itertools.product(
        formats.exact(), [None, *formats.scaled()], limits.DECODE_DIMS, [1, 2, 7, 71], [61, 75, 80, 90]
    )
    for dtype, cache_dtype, dim, group, capability in every:
        params = decode_params(group=group, dim=dim, dtype=dtype, cache_dtype=cache_dtype)
        chosen = launches.launch_of("decode", params, launches.Gpu(132, capability)).name
        assert chosen in names, (dtype, cache_dtype, dim, group, capability)


@pytest.mark.parametrize(("keys", "values", "group"), [("int8", "int4", 1), ("fp16", "fp8_e4m3", 3)])
def test_keys_and_values_in_different_formats_go_to_the_kernel_that_takes_any(names, keys, values, group):
    params = decode_params(group=group)
    params.cache.segments[1].k_format, params.cache.segments[1].v_format = (
        formats.of(x).number for x in (keys, values)
    )
    assert launches.launch_of("decode", params, H200).name in names
    assert launches.launch_of("decode", params, H200).name == f"decode_any_g{1 if group == 1 else 4}"


def test_state_per_head_and_a_third_segment_go_there_too():
    params = decode_params()
    assert not DECODE.needs_any(params.cache)
    params.cache.segments[1].k_state = 256
    assert DECODE.needs_any(params.cache)
    three = decode_params().cache
    three.segment_count = 3
    assert DECODE.needs_any(three)


@given(params=ANY_DECODE, third=st.integers(0, 5000), sms=st.integers(1, 170))
def test_pieces_cover_every_touched_slot_and_the_kernel_finds_their_size(params, third, sms):
    any_cache = launches.of_kernel("decode_any")
    params.cache.segment_count, params.touched[2] = 3, third
    params.touched[0] = max(params.touched[0], 1)
    gpu = launches.Gpu(sms, 90)
    blocks = any_cache.launch(params, gpu).grid[0]
    shift = any_cache.SHORTEST
    while any_cache.pieces(params.touched[:3], shift) > blocks:  # as AnyPieces of any.cuh does
        shift += 1
    assert any_cache.pieces(params.touched[:3], shift) == blocks
    places = (
        blocks * params.cache.rows * -(-params.group // 4 if params.group > 1 else -1) * (4 if params.group > 1 else 1)
    )
    assert any_cache.workspace_bytes(params, gpu) == places * (params.cache.dim + 4) * 4


@given(
    params=ANY_DECODE,
    sms=st.integers(1, 170),
    capability=st.sampled_from([70, 80, 90]),
    shared_bytes=st.sampled_from([64 << 10, 100 << 10, 164 << 10, 228 << 10]),
    stage=st.sampled_from([None, "never", "always"]),
)
def test_a_decode_launch_fits_the_device(params, sms, capability, shared_bytes, stage):
    gpu = launches.Gpu(sms, capability, shared_bytes, launches.Forced(stage=stage))
    shape = DECODE.shape_of(params, gpu)
    assert 32 <= shape.warps * 32 <= MOST_THREADS[shape.instance.large]
    assert 1 <= shape.splits <= 65535
    assert shape.tiles == params.cache.rows * -(-params.group // shape.instance.tile)
    if shape.staged:
        assert capability >= DECODE.STAGE_CAPABILITY
        assert stage != "never"
        assert shape.resident(gpu) // sms * (shape.shared_bytes + 1024) <= shared_bytes
        assert DECODE.units(params, shape.instance) > shape.splits * shape.warps
    else:
        assert shape.shared_bytes + 256 <= STATIC_SHARED_LIMIT
    assert shape.splits == 1 or shape.warps * (shape.splits - 1) < 2 * DECODE.units(params, shape.instance)
    partials = shape.tiles * (shape.splits - 1) * shape.instance.tile
    assert DECODE.workspace_bytes(params, gpu) == partials * shape.instance.widest * (4 + 8 // 4)


def test_a_long_single_row_is_split_over_most_of_the_device():
    shape = DECODE.shape_of(decode_params(kv_heads=1, tokens=131072, compress=1), H200)
    assert shape.tiles * shape.splits * shape.warps >= 0.9 * DECODE.BUSY_WARPS * H200.multiprocessors


@pytest.mark.parametrize(
    ("changes", "staged"),
    [
        ({"batch": 8, "kv_heads": 32}, True),
        ({"batch": 8, "kv_heads": 32, "dim": 96, "group": 2}, False),  # two heads share a read, on CUDA cores
        ({"batch": 8, "kv_heads": 32, "cache_dtype": "int4"}, False),
        ({"batch": 8, "kv_heads": 32, "dtype": "fp32"}, False),
        ({"batch": 8, "kv_heads": 8, "group": 4}, False),  # on tensor cores
        ({"batch": 8, "kv_heads": 32, "dim": 80, "dtype": "bf16"}, True),
    ],
)
def test_second_units_wait_in_shared_memory_where_that_pays(changes, staged):
    assert DECODE.shape_of(decode_params(**changes), H200).staged is staged
    never = H200._replace(forced=launches.Forced(stage="never"))
    assert not DECODE.shape_of(decode_params(**changes), never).staged


@pytest.mark.parametrize(("splits", "staged"), [(7, True), (5, False)])
def test_a_second_unit_is_staged_where_few_warps_have_one(splits, staged):
    gpu = H200._replace(forced=launches.Forced(warps=8, splits=splits))
    assert DECODE.shape_of(decode_params(kv_heads=32), gpu).staged is staged
    always = gpu._replace(forced=gpu.forced._replace(stage="always"))
    assert DECODE.shape_of(decode_params(kv_heads=32), always).staged


def test_many_rows_are_not_split():
    assert DECODE.shape_of(decode_params(batch=64, kv_heads=32), H200).splits == 1


@pytest.mark.parametrize("slots", [0, 1, 5000])
def test_compress_covers_any_length(slots):
    launch = launches.launch_of("compress", CompressParams(cache=Cache(rows=3), most_slots=slots), H200)
    assert launch.grid[0] >= 1
    assert launch.grid[1:] == (3, 1)


@pytest.mark.parametrize("rows", [1, 32, 5000])
def test_advance_is_one_block_whatever_the_rows(rows):
    launch = launches.launch_of("advance", AdvanceParams(rows=rows, kv_heads=1), H200)
    assert launch.grid == (1, 1, 1)
    assert 32 <= launch.threads <= 1024
    assert launch.threads % 32 == 0


def test_a_cache_without_a_middle_is_read_as_its_exact_slots_are():
    params = decode_params(dtype="bf16", cache_dtype="int4")
    params.cache.segment_count, params.touched[1] = 1, 0
    assert DECODE.instance_of(params, H200).kernel == "decode_bf16_bf16_d128_g1"


@pytest.mark.parametrize(("read", "write"), [(0, 0), (16, 0), (1 << 40, 1 << 40)])
def test_stream_grids_are_legal(read, write):
    launch = launches.launch_of("stream", StreamParams(read_bytes=read, write_bytes=write), H200)
    assert 1 <= launch.grid[0] <= launches.MOST_GRID


@given(params=ANY_DECODE, warps=st.sampled_from([None, 3, 4, 6, 8, 12, 16]), splits=st.integers(1, 128))
def test_a_study_gets_the_launch_that_it_asks_for_or_a_reason(params, warps, splits):
    gpu = H200._replace(forced=launches.Forced("cores", warps, splits))
    dtype, cache_dtype = DECODE.DTYPE_OF[params.cache.dtype], DECODE.middle_format(params.cache)
    shape = {"dtype": dtype, "cache_dtype": cache_dtype, "dim": params.cache.dim, "heads": params.group, "kv_heads": 1}
    case = matrix.case_from_flags(shape)
    instance = DECODE.instance_of(params, gpu)
    assert not instance.tensor
    refused = DECODE.unfit(case, gpu)
    if refused:
        assert f"has no blocks of {warps} warps, but of " in refused
        return
    chosen = DECODE.shape_of(params, gpu)
    assert chosen.warps == warps or warps is None
    assert 1 <= chosen.splits <= splits
    work = max(1, DECODE.units(params, instance))
    assert chosen.splits == splits or chosen.splits * chosen.warps >= 2 * work or chosen.splits == 128
    free = DECODE.shape_of(params, H200._replace(forced=launches.Forced(loop="cores")))
    same = H200._replace(forced=launches.Forced("cores", free.warps, free.splits))
    assert DECODE.shape_of(params, same) == free
