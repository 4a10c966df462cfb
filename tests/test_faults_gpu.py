"""Faults that need an NVIDIA GPU: faulty kernels, a fatbin for another architecture, a full device. -rP shows reasons.

A GPU that others use at the same time: test_shared_gpu.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Checkout
from results_folder import LIMITS, typed

from elastickv import device, environments, records
from elastickv.errors import MachineError
from elastickv.judge import verdict

pytestmark = [pytest.mark.gpu, pytest.mark.gpu_alone]

FLAGS = ["--backend=cuda", "--seq=4096", "--heads=32", "--compress=4", "--max_seconds=3"]
FINISH = "kernels/cuda/finish.cuh"
# In write_answer, after normalising; each fault has a different head size.
ANSWER = "  const float4 x = partial.normalised();\n"
FAULTY_ANSWER = """  float4 x = partial.normalised();
  if (p.cache.dim == 64 && at == 0) x.y = __uint_as_float(0x7fc00000u);
  if (p.cache.dim == 80 && at == 0) return;
  if (p.cache.dim == 96) x = make_float4(x.x * 1.01f, x.y * 1.01f, x.z * 1.01f, x.w * 1.01f);
  if (p.cache.dim == 128 && p.cache.segment_count > 1)
    for (const long long until = clock64() + 60000; clock64() < until;) {}
  if (p.cache.dim == 256 && p.cache.rows == 3) *reinterpret_cast<volatile int*>(8) = 1;
"""


def python_of_cuda() -> str:
    """The interpreter that has CuPy; skips where no case can be measured on a GPU."""
    if not device.visible_gpus():
        pytest.skip("no NVIDIA GPU is visible")
    try:
        return str(environments.interpreter("cuda"))
    except MachineError as error:
        pytest.skip(f"no environment for CUDA: {error.problem}")


def capability() -> int:
    """90 for compute capability 9.0."""
    requested = [python_of_cuda(), "-c", "import cupy; print(cupy.cuda.Device(0).compute_capability)"]
    return int(subprocess.run(requested, capture_output=True, text=True, check=True).stdout)


def command(checkout: Checkout, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "elastickv", *arguments],
        cwd=checkout.root,
        env=os.environ | {"PYTHONPATH": checkout.environment["PYTHONPATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr or arguments[0] == "bench", done.stderr  # a crashed worker's is passed on
    return done


def build(checkout: Checkout, architecture: int) -> None:
    """build/cuda with one image and no PTX."""
    image = f"build/cuda/sm_{architecture}.cubin"
    made = command(checkout, "build", "image", "--architecture", str(architecture), "--out", image)
    assert made.returncode == 0, made.stderr
    merged = command(checkout, "build", "fatbin", "--images", image, "--out", "build/cuda/elastickv.fatbin",
                     "--manifest", "build/cuda/manifest.json")  # fmt: skip
    assert merged.returncode == 0, merged.stderr


def measured(checkout: Checkout, *flags: str) -> dict:
    """The record of a case given by flags; the command itself always ends well."""
    out = checkout.root / "record.json"
    done = command(checkout, "bench", *FLAGS, *flags, "--out", str(out))
    assert done.returncode == 0, done.stderr
    record = records.read(out, "measurement")
    print(record["status"], "-", record["reason"])
    return record


def copy_of(clone: Checkout, folder: Path) -> Checkout:
    """A copy that finds this checkout's environments."""
    checkout = clone.copy(folder)
    if (ROOT / ".envs").exists():
        (checkout.root / ".envs").symlink_to(ROOT / ".envs")
    return checkout


@pytest.fixture(scope="module")
def faulty(clone: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose kernels have a fault for each head size, built for this GPU."""
    architecture = capability()
    checkout = copy_of(clone, tmp_path_factory.mktemp("faulty") / "checkout")
    checkout.edit(FINISH, ANSWER, FAULTY_ANSWER)
    build(checkout, architecture)
    return checkout


@pytest.mark.parametrize(
    ("dim", "reason"),
    [
        (64, "the output contains NaN or infinity, or was not completely written"),
        (80, "the output contains NaN or infinity, or was not completely written"),
        (96, "relative error 0.01"),
    ],
    ids=["writes NaN", "leaves elements unwritten", "wrong by a percent"],
)
def test_a_wrong_kernel_is_incorrect_and_has_no_number(faulty, dim, reason):
    record = measured(faulty, f"--dim={dim}")
    assert record["status"] == "incorrect"
    assert reason in record["reason"]
    assert not {"samples", "statistics", "efficiency"} & record.keys()


def test_a_slow_arm_is_a_speedup_below_one_and_called_slower(faulty):
    record = measured(faulty, "--dim=128")
    assert record["status"] == "ok", record["reason"]
    assert record["statistics"]["speedup"]["high"] < 1
    judged = verdict.judge(typed(record), LIMITS)
    print(judged.verdict, judged.reason)
    assert judged.verdict == "slower"


def test_a_kernel_that_breaks_the_device_is_a_failed_record_and_the_next_case_is_measured(faulty):
    record = measured(faulty, "--dim=256", "--heads=3")
    assert record["status"] == "failed"
    assert "illegal" in record["reason"].lower() or "the worker" in record["reason"]
    assert measured(faulty, "--dim=256")["status"] in ("ok", "noisy")


def test_a_fatbin_for_another_architecture_is_a_failed_record_with_the_fix(clone, tmp_path):
    other = 90 if capability() < 90 else 80  # a GPU runs images of the same generation that are not newer
    checkout = copy_of(clone, tmp_path / "checkout")
    build(checkout, other)
    record = measured(checkout, "--dim=128")
    assert record["status"] == "failed"
    assert "holds no image that this GPU and driver can run" in record["reason"]
    assert "fix: add the GPU's architecture to build.architectures" in record["reason"]


ALLOCATE = """
import json, sys
from pathlib import Path
from elastickv.device.opening import open_backend
backend = open_backend("cuda", sys.argv[1])
before = backend.memory_budget()
taken, said = 0, None
while said is None and taken < 10**13:
    try:
        backend.allocate(4 << 30)
        taken += 4 << 30
    except MemoryError as error:
        said = str(error)
backend.free_all()
address = backend.allocate(1 << 20)
backend.fill_bytes(address, 1 << 20, 7)
backend.synchronize()
read = backend.read(address, (1 << 20,), "uint8")
print(json.dumps({"said": said, "taken": taken, "works": bool((read == 7).all()), "before": before}))
"""


def test_a_device_filled_to_the_brim_says_so_and_works_on(clone, tmp_path):
    checkout = copy_of(clone, tmp_path / "checkout")
    build(checkout, capability())
    done = subprocess.run(
        [python_of_cuda(), "-c", ALLOCATE, str(checkout.root / "build")],
        env=os.environ | {"PYTHONPATH": checkout.environment["PYTHONPATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert "GB left" in found["said"]
    assert found["taken"] >= found["before"] - (4 << 30)
    assert found["works"]


def test_a_case_larger_than_the_device_is_out_of_memory(clone, tmp_path):
    checkout = copy_of(clone, tmp_path / "checkout")
    build(checkout, capability())
    record = measured(checkout, "--dim=256", "--seq=4194304", "--heads=128", "--batch=8")
    assert record["status"] == "out_of_memory"
    assert "GB" in record["reason"]
