"""Cases of the config that the kernels do not support on the device that will be measured."""

from __future__ import annotations

from dataclasses import dataclass

from elastickv.device import limits
from elastickv.device.limits import Limit
from elastickv.doctor import gpu as gpus
from elastickv.doctor.finding import Finding, few, ok, problem
from elastickv.doctor.needs import Needs
from elastickv.schemas.case import AnyCase

CHECK = "cases"


@dataclass(frozen=True)
class Facts:
    """The backend that will be used, and the compute capability of its GPU (10 * major + minor) if one is visible."""

    backend: str
    capability: int | None = None


def gather(needs: Needs, gpu: gpus.Facts) -> Facts:
    """The first visible GPU, or the CPU if no GPU is visible and none is required."""
    if needs.gpu != "none" and gpu.gpus:
        major, minor = gpu.gpus[0].capability
        return Facts("cuda", 10 * major + minor)
    return Facts("cuda" if needs.gpu == "required" else "cpu")


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    """One finding per unsupported case, with its reason."""
    found = [(case, _limit(case, facts)) for case in needs.cases]
    refused = [(case, limit) for case, limit in found if limit]
    if not refused:
        return [ok(CHECK, f"the {facts.backend} kernels support all {len(needs.cases)} cases")]
    return list(few((_unsupported(case, limit, needs) for case, limit in refused), CHECK, "are unsupported"))


def _limit(case: AnyCase, facts: Facts) -> Limit | None:
    return limits.on_cpu(case) if facts.backend == "cpu" else limits.on_cuda(case, facts.capability)


def _unsupported(case: AnyCase, limit: Limit, needs: Needs) -> Finding:
    """The finding for an unsupported case; the fix is the nearest supported value."""
    found = f"{case.id} is unsupported: {limit.reason}"
    if limit.instead is None:
        return problem(CHECK, found, f"choose another {limit.key}")
    return problem(CHECK, found, needs.change(case, limit.key, limit.instead))
