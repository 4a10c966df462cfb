"""The fatbin: whether it has an image that this GPU can run and that its driver can load."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from elastickv import records
from elastickv.build import compilers
from elastickv.doctor import gpu as gpus
from elastickv.doctor import packages
from elastickv.doctor.finding import Finding, note, ok, problem
from elastickv.doctor.needs import ELASTICKV, Needs
from elastickv.errors import MachineError
from elastickv.schemas.build import Build

MANIFEST = Path("build/cuda/manifest.json")
OLDEST_OF_NVRTC = "525"  # oldest driver that loads images compiled by NVRTC 12.9
REBUILD = f"rm -r build/cuda && {ELASTICKV} build cuda"


@dataclass(frozen=True)
class Image:
    """One image: its kind (elf or ptx), its architecture (90 for sm_90) and the oldest driver that loads it."""

    kind: str
    architecture: int
    minimum_driver: str

    def runs_on(self, capability: tuple[int, int]) -> bool:
        """Machine code runs on the same major version with an equal or higher minor; PTX on any newer version."""
        major, minor = divmod(self.architecture, 10)
        if self.kind == "ptx":
            return (major, minor) <= capability
        return major == capability[0] and minor <= capability[1]


@dataclass(frozen=True)
class Facts:
    """built: images of the finished fatbin, None without one. planned: images that the config requests."""

    built: tuple[Image, ...] | None
    planned: tuple[Image, ...]
    gpus: tuple[gpus.Gpu, ...] = ()
    driver: str | None = None

    @property
    def images(self) -> tuple[Image, ...]:
        """The images that a run would load: those of the existing fatbin, otherwise those that it would build."""
        return self.planned if self.built is None else self.built


def gather(needs: Needs, gpu: gpus.Facts) -> Facts:
    """Reads the build manifest and determines which compiler would build each image."""
    if "cuda" not in needs.backends:
        return Facts(None, ())
    planned, built = (), None
    with suppress(MachineError):  # a compiler is missing: reported by the checks of the compilers
        planned = _planned(needs)
    if MANIFEST.exists():
        made = records.load(MANIFEST, Build).root.images
        built = tuple(Image(one.kind, _number(one.architecture), one.minimum_driver) for one in made)
    return Facts(built, planned, gpu.gpus, gpu.driver)


def _planned(needs: Needs) -> tuple[Image, ...]:
    """The images that the config requests, with the compilers that would build them. Raises MachineError."""
    wanted = [("elf", architecture) for architecture in needs.architectures]
    wanted += [("ptx", needs.ptx)] if needs.ptx else []
    return tuple(Image(kind, arch, compilers.choose(arch, needs.compiler).minimum_driver) for kind, arch in wanted)


def _number(architecture: str) -> int:
    return int(re.sub(r"\D", "", architecture))


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    if "cuda" not in needs.backends:
        return []
    return [fatbin(facts), *(finding for one in facts.gpus for finding in on_gpu(one, facts, needs))]


def fatbin(facts: Facts) -> Finding:
    """Whether there is a fatbin, and the images in it."""
    names = ", ".join(f"{'compute' if one.kind == 'ptx' else 'sm'}_{one.architecture}" for one in facts.images)
    if facts.built is not None:
        return ok("fatbin", f"built: {names}")
    return note("fatbin", f"not built yet: the next run builds {names}", f"{ELASTICKV} build cuda")


def on_gpu(one: gpus.Gpu, facts: Facts, needs: Needs) -> list[Finding]:
    """Whether there is an image that this GPU can run, and a driver that can load it."""
    if not facts.images:
        return []
    check, architecture = f"image for {one.name}", one.capability[0] * 10 + one.capability[1]
    fitting = [image for image in facts.images if image.runs_on(one.capability)]
    if not fitting:
        return [_none_fits(check, architecture, facts, needs)]
    best = max(fitting, key=lambda image: (image.kind == "elf", image.architecture))
    name = (
        f"sm_{best.architecture}" if best.kind == "elf" else f"PTX for compute_{best.architecture}, compiled on loading"
    )
    return [ok(check, name), *driver(facts.driver, best, facts.built is not None)]


def _none_fits(check: str, architecture: int, facts: Facts, needs: Needs) -> Finding:
    """The architecture to build instead: this one, or the newest older one of the same major version."""
    from elastickv.build.cuda import ARCHITECTURES

    usable = [arch for arch in ARCHITECTURES if Image("elf", arch, "").runs_on(divmod(architecture, 10))]
    found = f"no image of the fatbin can run on sm_{architecture}"
    if any(image.runs_on(divmod(architecture, 10)) for image in facts.planned):
        return note(check, f"{found}; the next run builds one that can", needs.make())
    if usable:
        wanted = sorted({*needs.architectures, max(usable)})
        return problem(check, found, needs.make(f"build.architectures=[{','.join(map(str, wanted))}]"))
    if architecture >= max(ARCHITECTURES):
        return problem(check, found, needs.make(f"build.ptx={max(ARCHITECTURES)}"))
    return problem(check, f"{found}, and none can be built for it", needs.make("backend=cpu"))


def driver(version: str | None, image: Image, built: bool) -> list[Finding]:
    """Whether the NVIDIA driver is new enough for the image."""
    check = "driver for the image"
    if version is None:
        return [note(check, f"{image.minimum_driver} or newer is needed; NVML does not report the driver's version")]
    if _order(version) >= _order(image.minimum_driver):
        return [ok(check, f"{version}; the image needs {image.minimum_driver} or newer")]
    found = f"{version} is older than {image.minimum_driver}, which the {'built' if built else 'planned'} image needs"
    if _order(version) >= _order(OLDEST_OF_NVRTC):
        return [problem(check, found, f"{REBUILD} --compiler nvrtc")]
    return [problem(check, found, f"{packages.install('driver')}, then reboot")]


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
