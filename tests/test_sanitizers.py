"""The CUDA kernels under compute-sanitizer: no bad access, race, uninitialised read or misused barrier.

Needs an NVIDIA GPU and `compute-sanitizer` (of the CUDA toolkit) on PATH; takes minutes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from elastickv import device

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[1]
SANITIZER = "compute-sanitizer"
FOUND = 99  # its exit code when it found something


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_every_kernel_is_clean(tool):
    if not device.visible_gpus():
        pytest.skip("no NVIDIA GPU is visible")
    if shutil.which(SANITIZER) is None:
        pytest.skip(f"{SANITIZER} is not on PATH")
    tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu", "tests/test_cuda_kernels.py", "-k"]
    command = [SANITIZER, "--tool", tool, "--error-exitcode", str(FOUND), *tests, "small"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=3000)
    print(done.stdout[-3000:])
    if "Device not supported" in done.stdout:
        pytest.skip(f"{SANITIZER} cannot work on this machine's GPU")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"\b[1-9]\d* passed", done.stdout), "no test has run"
    assert re.search(r"ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards", done.stdout)
