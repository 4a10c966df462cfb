"""The kernel that docs/kernels.md begins with: it compiles, is right, and agrees with `decode`, which it explains."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from kernel_caches import Caches, case_of

from elastickv import device
from elastickv.build import compilers
from elastickv.cache import numerics, oracle

SOURCE = ROOT / "docs/first_kernel/decode.cu"
TYPES = {"fp16": np.float16, "fp32": np.float32}
SHAPES = {  # rows, query heads per row, slots, dim
    "one slot": (2, 1, 1, 64),
    "grouped queries": (3, 7, 333, 128),
    "dims that fill no warp": (2, 1, 100, 80),
    "largest dim": (1, 3, 1000, 256),
}


def compiled(folder: Path, architecture: str) -> Path:
    """The kernel's image; skips where there is no nvcc."""
    nvcc = compilers.nvcc().path
    if nvcc is None:
        pytest.skip("nvcc is neither on PATH nor in .envs/cuda (elastickv env cuda)")
    image = folder / f"first_decode_{architecture}.cubin"
    subprocess.run([nvcc, "-cubin", f"-arch={architecture}", "-Werror=all-warnings", SOURCE, "-o", image], check=True)
    return image


@pytest.fixture(scope="module")
def cupy():
    if not device.visible_gpus():
        pytest.skip("no NVIDIA GPU is visible")
    return pytest.importorskip("cupy", reason="CuPy is not installed (elastickv env cuda)")


@pytest.fixture(scope="module")
def first_decode(cupy, tmp_path_factory):
    """The kernel on float32 queries [rows, group, dim], keys and values [rows, slots, dim]; answers in float32."""
    capability = cupy.cuda.Device().compute_capability
    module = cupy.RawModule(path=str(compiled(tmp_path_factory.mktemp("first"), f"sm_{capability}")))

    def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, dtype: str) -> np.ndarray:
        arrays = [cupy.asarray(np.ascontiguousarray(array, TYPES[dtype])) for array in (q, k, v)]
        out = cupy.full(q.shape, np.nan, TYPES[dtype])
        rows, group, dim = q.shape
        sizes = [np.int32(size) for size in (k.shape[1], dim, group)]
        module.get_function(f"first_decode_{dtype}")((rows * group,), (32,), (*arrays, out, *sizes))
        return cupy.asnumpy(out).astype(np.float32)

    return attend


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_it_compiles_without_warnings(tmp_path, architecture):
    assert compiled(tmp_path, architecture).stat().st_size > 0


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_it_agrees_with_float64(first_decode, shape, dtype):
    rows, group, slots, dim = shape
    sizes = (rows, group, dim), (rows, slots, dim), (rows, slots, dim)
    q, k, v = (
        numerics.seeded_values(int(np.prod(size)), 7, stream).reshape(size).astype(TYPES[dtype]).astype(np.float32)
        for stream, size in enumerate(sizes)
    )
    correctness = oracle.check(first_decode(q, k, v, dtype), oracle.decode_attention(q, k, v), dtype)
    assert oracle.passes(correctness), correctness


@pytest.mark.gpu
@pytest.mark.parametrize(
    "cache", [{"dtype": "fp16", "dim": 128, "heads": 12}, {"dtype": "fp32", "cache_dtype": "int8"}]
)
def test_it_agrees_with_decode_on_a_full_and_an_elastic_cache(cupy, first_decode, cache):
    """An elastic cache is fewer slots: over those that decode reads, dequantised, the first kernel answers the same."""
    if not (ROOT / "build/cuda/elastickv.fatbin").is_file():
        pytest.skip("build/cuda/elastickv.fatbin is not built (elastickv build cuda)")
    from elastickv.device.cuda import CudaBackend

    backend = CudaBackend(ROOT / "build/cuda")
    case = case_of(seq=777, kv_heads=4, **cache)
    caches = Caches(backend, case)
    caches.compress()
    held = caches.compact(case.seq)
    for arm, (k, v) in {"full": (caches.k, caches.v), "elastic": (held.k, held.v)}.items():
        answer = caches.decode(arm)
        backend.synchronize()
        first = first_decode(caches.q, k, v, case.dtype)
        correctness = oracle.check(first, caches.attention(caches.q, arm, case.seq), case.dtype)
        assert oracle.passes(correctness), (arm, correctness)
        difference = np.linalg.norm(first - answer) / np.linalg.norm(answer)
        assert difference <= 2 * oracle.TOLERANCE[case.dtype], arm
    backend.free_all()
