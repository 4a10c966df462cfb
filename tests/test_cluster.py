"""What a cluster relies on: plans that ask no GPU, jobs that are no children of the head, locks that jobs share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Checkout

from elastickv import device
from elastickv.system import orphans

# Every call of this driver leaves a trace.
DRIVER = """
#include <cstdio>
#include <cstdlib>
extern "C" int cuInit(unsigned) {
  if (std::FILE* trace = std::fopen(std::getenv("ELASTICKV_TEST_TRACE"), "w")) std::fclose(trace);
  return 100;
}
"""


@pytest.fixture
def traced_driver(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """Variables under which a CUDA driver without a GPU is found, and the file that it writes when it is called."""
    if not shutil.which("g++"):
        pytest.skip("no g++")
    source, folder, trace = tmp_path / "driver.cpp", tmp_path / "driver", tmp_path / "requested"
    folder.mkdir()
    source.write_text(DRIVER, encoding="ascii")
    subprocess.run(["g++", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", source], check=True)
    return {"LD_LIBRARY_PATH": str(folder), "ELASTICKV_TEST_TRACE": str(trace)}, trace


def test_planning_for_cuda_never_asks_for_a_gpu(clone: Checkout, tmp_path: Path, traced_driver):
    variables, trace = traced_driver
    checkout = clone.copy(tmp_path / "checkout")
    run = checkout.start_snakemake("--configfile", "config/config.yaml", "--dry-run", **variables)
    text, _ = run.communicate(timeout=120)
    assert run.returncode == 0, text
    assert "merge build/cuda/elastickv.fatbin" in text
    assert not trace.exists()
    # The trace works: a command that has to know the GPU leaves it.
    requested = "from elastickv import device; print(device.visible_gpus())"
    done = subprocess.run(
        [sys.executable, "-c", requested],
        env=checkout.environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
    assert trace.exists()


def test_a_job_on_another_machine_is_not_ended_by_the_name_of_the_heads_process(
    clone: Checkout, cpu_build: Path, tmp_path: Path
):
    """The head's environment goes along with a job; a process of that number is none of the node's."""
    checkout = clone.copy(tmp_path / "checkout")
    checkout.take_builds(cpu_build)
    planned = checkout.snakemake("--configfile", "config/smoke.yaml", "--summary")  # writes the plan, runs no job
    assert planned.code == 0, planned.text
    elsewhere = subprocess.Popen([sys.executable, "-c", ""])
    elsewhere.wait()
    target = "build/cpu/libelastickv.so"
    job = checkout.start_snakemake(
        *("--configfile", "config/smoke.yaml", "--mode", "remote", "--nolock", "--", target),
        **{orphans.VARIABLE: str(elsewhere.pid)},
    )
    text, _ = job.communicate(timeout=120)
    assert job.returncode == 0, text
    assert (checkout.root / target).exists()


def test_jobs_with_folders_of_their_own_for_temporary_files_share_their_locks(tmp_path: Path):
    names = [tmp_path / "job1", tmp_path / "job2"]
    for name in names:
        name.mkdir()
    program = "from elastickv.device import lease; print(lease.lock_file('cpu'))"
    folders = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"TMPDIR": str(name)}, capture_output=True, check=True
        ).stdout
        for name in names
    }
    assert len(folders) == 1


def seen(visible: str) -> list[str]:
    """The GPUs that a process sees in an allocation."""
    program = "from elastickv import device; print(*device.visible_gpus())"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": visible}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.gpu
def test_only_the_gpus_of_the_allocation_are_seen_by_number_by_uuid_and_by_its_beginning():
    gpus = device.visible_gpus()
    if not gpus:
        pytest.skip("no NVIDIA GPU is visible")
    assert seen("") == []
    assert [seen(str(number)) for number, _ in enumerate(gpus)] == [[gpu] for gpu in gpus]
    assert [seen(gpu) for gpu in gpus] == [[gpu] for gpu in gpus]
    if len({gpu[:12] for gpu in gpus}) == len(gpus):
        assert [seen(gpu[:12]) for gpu in gpus] == [[gpu] for gpu in gpus]
