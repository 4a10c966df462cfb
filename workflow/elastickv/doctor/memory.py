"""Memory: the least that each case needs, compared with the free memory of this machine and its GPU."""

from __future__ import annotations

from dataclasses import dataclass

from elastickv.cache import bytes_moved
from elastickv.device import host
from elastickv.device.base import memory_budget
from elastickv.doctor import gpu as gpus
from elastickv.doctor.finding import MOST_NAMED, Finding, few, note, ok, problem
from elastickv.doctor.needs import Needs
from elastickv.schemas.case import AnyCase
from elastickv.workloads.rotation import Rotation, rotation


@dataclass(frozen=True)
class Facts:
    """The device that will be measured, its free memory and its last-level cache, in bytes."""

    backend: str
    place: str
    free: int
    last_level_cache: int


def gather(needs: Needs, gpu: gpus.Facts) -> list[Facts]:
    """The memory of the device that will be measured; empty if a GPU is required and none is visible."""
    if needs.gpu != "none" and gpu.gpus:
        one = gpu.gpus[0]
        return [Facts("cuda", one.name, one.total if one.free is None else one.free, one.l2_bytes)]
    if needs.gpu == "required":
        return []
    return [Facts("cpu", "this machine", host.available_memory(), host.last_level_cache_bytes()[0])]


def checks(facts: list[Facts], needs: Needs) -> list[Finding]:
    return [finding for one in facts for finding in cases(one, needs)]


def budget(free: int, backend: str) -> int:
    """Bytes that a case may allocate if `free` bytes are free, after the buffer for the ceilings."""
    from elastickv.measure.ceilings import large_bytes

    return memory_budget(backend, free - large_bytes(backend, memory_budget(backend, free)))


def cases(facts: Facts, needs: Needs) -> list[Finding]:
    """Whether every case fits, with enough copies to keep caches cold."""
    check = f"memory of {facts.place}"
    allowed = budget(facts.free, facts.backend)
    plans = {case.id: rotation(case, facts.last_level_cache, allowed) for case in needs.cases}
    too_large = [case for case in needs.cases if plans[case.id].layers < 1]
    if too_large:
        return list(
            few((_too_large(check, case, plans[case.id], facts, needs) for case in too_large), check, "do not fit")
        )
    largest = max(plans, key=lambda case: plans[case].footprint)
    size, room = plans[largest].footprint, plans[largest].room
    text = f"{facts.free / 1e9:.1f} GB free, {room / 1e9:.1f} of them usable by a case; {largest}, the largest, needs "
    text += f"{size / 1e9:.2f} GB"
    warm = [case for case, plan in plans.items() if not plan.cold and plan.layers < bytes_moved.MOST_LAYERS]
    if not warm:
        return [ok(check, text)]
    named = ", ".join(warm[:MOST_NAMED]) + (" ..." if len(warm) > MOST_NAMED else "")
    found = f"{text}; too little to keep caches cold in {named}: memory efficiency and roofline will not be judged"
    return [note(check, found, "close other programs, then make remeasure")]


def _too_large(check: str, case: AnyCase, plan: Rotation, facts: Facts, needs: Needs) -> Finding:
    """The finding for a case that does not fit in memory; the fix is the longest context that does."""
    size, room = plan.footprint, plan.room
    found = f"{case.id} needs {size / 1e9:.2f} GB; {room / 1e9:.2f} of {facts.free / 1e9:.1f} GB free may be used"
    fitting = int(getattr(case, "seq", 0) * room / size * 0.95)
    if fitting < 1:
        return problem(check, found, f"close other programs, then {needs.make()}")
    return problem(check, found, needs.change(case, "seq", fitting))
