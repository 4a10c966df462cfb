"""A GPU that runs the PTX of an older architecture: launches follow the code that was loaded, not the GPU."""

from __future__ import annotations

import pytest
from kernel_caches import Caches, case_of, check_elementwise

from elastickv.build import compilers, cuda
from elastickv.errors import MachineError

OLDER = 75  # has neither tensor cores for bf16, nor asynchronous copies, bulk stores or dependent launches

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture(scope="module")
def older(gpu, tmp_path_factory):
    """The GPU's backend with nothing but PTX of sm_75."""
    from elastickv.device.cuda import CudaBackend

    if compilers.choose(OLDER, "auto").path is None:
        pytest.skip(f"no compiler for sm_{OLDER} is installed (elastickv env cuda)")
    build = tmp_path_factory.mktemp("older")
    image = build / "elastickv.ptx"
    cuda.build_image(OLDER, True, "auto", image)
    cuda.merge([image], build / "elastickv.fatbin", build / "manifest.json")
    try:
        return CudaBackend(build)
    except MachineError as error:
        pytest.skip(f"this GPU runs no PTX of sm_{OLDER}: {error}")


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 4096, "heads": 32, "kv_heads": 32, "dim": 128, "window": 256},
        {"seq": 5003, "heads": 32, "kv_heads": 4, "dim": 128, "dtype": "bf16"},
        {"seq": 5003, "heads": 32, "kv_heads": 4, "dim": 128, "compress": 1, "cache_dtype": "int4"},
        {"seq": 3000, "dim": 64, "key_dtype": "int8", "value_dtype": "fp8_e4m3"},
    ],
    ids=["16 bits", "grouped bf16", "grouped int4", "two formats"],
)
def test_caches_are_right(older, changes):
    caches = Caches(older, case_of(**changes))
    caches.compress()
    caches.check_both()


def test_a_long_elementwise_pass_is_right(older):
    check_elementwise(older, (32, 4096, 128), 4)


def test_launches_depend_on_the_code(older):
    assert older.launch_mode("auto") == "plain"
    assert "not 7.5" in older.supports(case_of(launch="dependent"))
