"""A GPU that is not ours alone, on a GPU: who else computes on it is named, and no such record is `ok`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from elastickv import device, environments, matrix, records
from elastickv.errors import MachineError
from elastickv.measure import supervisor

pytestmark = [pytest.mark.gpu, pytest.mark.gpu_alone]
BUILD = Path("build")
SPIN = """
import cupy, sys
source = 'extern "C" __global__ void spin(float* x) { for (int i = 0; i < 200000; ++i) x[threadIdx.x] += i; }'
spin = cupy.RawKernel(source, "spin")
x = cupy.empty(1024, cupy.float32)
x.data.memset(0, x.nbytes)
print("there", flush=True)
while sys.argv[1] == "busy":
    for _ in range(16):
        spin((132 * 8,), (128,), (x,))
    cupy.cuda.get_current_stream().synchronize()
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter that has CuPy, on a machine where cases can be measured on a GPU."""
    if not device.visible_gpus():
        pytest.skip("no NVIDIA GPU is visible")
    if not (BUILD / "cuda" / "elastickv.fatbin").is_file():
        pytest.skip("build/cuda/elastickv.fatbin is not built (elastickv build cuda)")
    try:
        return str(environments.interpreter("cuda"))
    except MachineError as error:
        pytest.skip(f"no environment for CUDA: {error.problem}")


@contextmanager
def beside(python: str, how: str) -> Iterator[int]:
    """Another process with a context on the GPU, `busy` or `idle`; its number."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    other = subprocess.Popen([python, "-c", SPIN, how], text=True, **pipes)
    try:
        assert other.stdout.readline() == "there\n"
        yield other.pid
    finally:
        other.kill()
        other.communicate()


def measured() -> dict:
    flags = {"id": "shared", "backend": "cuda", "seq": 4096, "heads": 32, "dim": 128, "compress": 4}
    case = matrix.case_from_flags({**flags, "measure": {"max_seconds": 5, "decode_tokens": 0}})
    record = supervisor.measure_case(case, str(BUILD)).model_dump(mode="json")
    records.check(record, "measurement", "on a GPU")
    return record


def test_a_gpu_that_another_process_computes_on_is_never_ok(python):
    with beside(python, "busy") as other:
        record = measured()
    assert record["status"] == "noisy"
    assert "the GPU was shared: process" in record["reason"]
    assert record["machine"]["others_on_gpu"]["value"], other


def test_an_idle_process_on_the_gpu_is_listed(python):
    with beside(python, "idle"):
        record = measured()
    others = record["machine"]["others_on_gpu"]["value"]
    assert len(others) == 1
    assert (record["status"] == "ok") <= (others[0]["sm_percent"] == 0)


def test_a_gpu_alone_tells_clocks_energy_and_nobody_else(python):
    record = measured()
    assert record["machine"]["others_on_gpu"]["value"] == []
    assert record["throttling"]["readings"] == len(record["samples"]["full_us"]) + len(record["samples"]["dropped"])
    assert record["throttling"]["ranges"]["sm_mhz"]["low"] > 0
    energy = record["energy"]
    assert energy["joules_per_token"]["full"] > energy["joules_per_token"]["elastic"] > 0
    assert energy["arms"]["full"]["watts"] < 1.2 * record["machine"]["gpu"]["power_limit_w"]["value"]
