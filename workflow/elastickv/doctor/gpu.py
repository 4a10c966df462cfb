"""The GPU and its driver: present on the PCI bus, known to the driver, visible, supported by CuPy, MIG mode."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from elastickv import device
from elastickv.device import driver as cuda
from elastickv.device.driver import Attribute
from elastickv.device.nvml import Nvml, any_split
from elastickv.doctor import packages
from elastickv.doctor.finding import Finding, note, ok, problem
from elastickv.doctor.needs import Needs

PCI = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY_CLASSES = "0x10de", ("0x0300", "0x0302")
NO_DEVICE = 100
# Error codes of cuInit with their meaning and fix. For other codes the fix is a reboot, which reloads the driver.
INIT_FAULTS = {
    NO_DEVICE: ("the driver sees no GPU", "nvidia-smi -L"),
    802: ("the driver is waiting for the fabric manager", "systemctl restart nvidia-fabricmanager"),
    803: ("libcuda and the kernel driver have different versions", "reboot"),
    804: ("this libcuda does not match the installed driver", "unset LD_LIBRARY_PATH"),
    999: ("the driver's device files cannot be opened", "nvidia-modprobe -u -c=0"),
}
CUPY_CUDA = 12  # the CUDA version of the CuPy pinned in envs/cuda.txt


@dataclass(frozen=True)
class Gpu:
    """One visible GPU. capability: (9, 0). Memory in bytes; `free` is None if unknown. mig: None if unsupported."""

    name: str
    uuid: str
    capability: tuple[int, int]
    total: int
    free: int | None
    l2_bytes: int
    mig: bool | None = None


@dataclass(frozen=True)
class Facts:
    """Facts from the PCI bus, the driver and NVML.

    on_bus: number of NVIDIA GPUs on the PCI bus. init: result of cuInit, None without libcuda. hidden: the value of
    CUDA_VISIBLE_DEVICES, None if unset. driver: its version; cuda: the CUDA version that it supports. mig_parent:
    whether any GPU is in MIG mode.
    """

    on_bus: int = 0
    init: int | None = None
    hidden: str | None = None
    driver: str | None = None
    cuda: tuple[int, int] | None = None
    gpus: tuple[Gpu, ...] = ()
    mig_parent: bool = False


def gather() -> Facts:
    """Queries the PCI bus, the driver library and NVML, each of which may be missing."""
    return Facts(
        on_bus=_on_bus(),
        init=cuda.initialised(),
        hidden=os.environ.get("CUDA_VISIBLE_DEVICES"),
        driver=device.nvidia_driver(),
        cuda=device.cuda_driver_version(),
        gpus=tuple(map(_gpu, device.gpus())),
        mig_parent=any_split(),
    )


def _on_bus() -> int:
    found = 0
    for folder in PCI.glob("*"):
        with suppress(OSError):
            kind = (folder / "class").read_text().strip()
            found += (folder / "vendor").read_text().strip() == NVIDIA and kind.startswith(DISPLAY_CLASSES)
    return found


def _gpu(one: cuda.Gpu) -> Gpu:
    nvml = Nvml(one.uuid)
    memory, split = nvml.read_own("MemoryInfo").value, nvml.read("MigMode").value
    return Gpu(
        cuda.name(one),
        one.uuid,
        (cuda.attribute(one, Attribute.CAPABILITY_MAJOR), cuda.attribute(one, Attribute.CAPABILITY_MINOR)),
        cuda.total_bytes(one),
        memory and int(memory.free),
        cuda.attribute(one, Attribute.L2_BYTES),
        split and split[0] == 1,
    )


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    return [gpu(facts, needs), *driver(facts, needs), *mig(facts, needs)]


def _lacking(needs: Needs, check: str, found: str, fix: str) -> Finding:
    """The finding for a missing GPU or driver: a problem if the config requires a GPU, otherwise a note."""
    if needs.gpu == "required":
        return problem(check, found, fix)
    text = "; the CPU kernels will be measured" if needs.gpu == "optional" else "; this config does not need a GPU"
    return note(check, found + text, fix if needs.gpu == "optional" else None)


def gpu(facts: Facts, needs: Needs) -> Finding:
    """Whether this process can use a GPU; if not, whether the hardware, the driver or a variable is the reason."""
    check = "GPU"
    if facts.gpus:
        names = [
            f"{one.name} (sm_{one.capability[0]}{one.capability[1]}, {one.total / 1e9:.0f} GB)" for one in facts.gpus
        ]
        return ok(check, ", ".join(names))
    if facts.init is None:
        if facts.on_bus:
            fix = f"{packages.install('driver')}, then reboot"
            return _lacking(needs, check, f"{facts.on_bus} NVIDIA GPUs on the bus, but no driver", fix)
        return _lacking(needs, check, "no NVIDIA GPU and no driver", needs.make("backend=cpu"))
    if facts.hidden is not None:
        found = f"CUDA_VISIBLE_DEVICES={facts.hidden} hides every GPU of this machine"
        return _lacking(needs, check, found, "unset CUDA_VISIBLE_DEVICES")
    if facts.mig_parent:
        return _lacking(needs, check, "MIG is enabled but has no GPU instance", "sudo nvidia-smi mig -cgi 0 -C")
    found, fix = INIT_FAULTS.get(facts.init or NO_DEVICE, (f"the driver fails with error {facts.init}", "reboot"))
    return _lacking(needs, check, found, fix)


def driver(facts: Facts, needs: Needs) -> list[Finding]:
    """Whether the driver supports the CUDA version of the pinned CuPy."""
    if facts.cuda is None:
        return []
    text = f"{facts.driver or 'version unknown'}, CUDA {'.'.join(map(str, facts.cuda))}"
    if facts.cuda[0] >= CUPY_CUDA:
        return [ok("NVIDIA driver", text)]
    found = f"{text}: CuPy needs CUDA {CUPY_CUDA}"
    return [_lacking(needs, "NVIDIA driver", found, f"{packages.install('driver')}, then reboot")]


def mig(facts: Facts, needs: Needs) -> list[Finding]:
    """Notes MIG: a slice is measured, but the datasheet peak is that of the whole GPU."""
    if not facts.gpus or needs.gpu == "none" or not any(one.mig or one.uuid.startswith("MIG") for one in facts.gpus):
        return []
    found = "enabled: a slice will be measured, whose bandwidth is only a part of the GPU's datasheet peak"
    return [note("MIG", found, "sudo nvidia-smi -mig 0")]
