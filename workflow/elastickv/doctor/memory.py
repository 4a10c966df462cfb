"""Memory: what each case needs at the least, against what this machine and its GPU have left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from elastickv import roofline
from elastickv.backends import host
from elastickv.doctor import gpu as gpus
from elastickv.doctor.finding import Finding, note, ok, problem
from elastickv.doctor.needs import Needs

MOST_NAMED = 5


@dataclass(frozen=True)
class Facts:
    """Where the cases will run, what is free there, and its last-level cache; all in bytes."""

    backend: str
    place: str
    free: int
    last_level_cache: int


def gather(needs: Needs, gpu: gpus.Facts) -> list[Facts]:
    """The memory of the device that will measure; nothing where a GPU is required and none is visible."""
    if needs.gpu != "none" and gpu.gpus:
        one = gpu.gpus[0]
        return [Facts("cuda", one.name, one.total if one.free is None else one.free, one.l2_bytes)]
    if needs.gpu == "required":
        return []
    return [Facts("cpu", "this machine", host.available_memory(), host.last_level_cache_bytes()[0])]


def checks(facts: list[Facts], needs: Needs) -> list[Finding]:
    return [finding for one in facts for finding in cases(one, needs)]


def budget(free: int, backend: str) -> int:
    """Bytes that a case's layers may take when `free` are free: a share of what the buffer for ceilings leaves."""
    from elastickv.backends.cpu import BUDGET_SHARE as CPU_SHARE
    from elastickv.backends.cuda import BUDGET_SHARE as GPU_SHARE
    from elastickv.measure.ceilings import LARGE_BYTES
    from elastickv.workloads.decode import SCRATCH_BYTES

    share = {"cpu": CPU_SHARE, "cuda": GPU_SHARE}[backend]
    buffer = min(LARGE_BYTES[backend], int(free * share) // 4)
    return int((free - buffer) * share) - SCRATCH_BYTES


def footprint(case: dict[str, Any]) -> int:
    """Bytes of one layer of a case, both arms: the least that it can be measured with."""
    if case["workload"] == "elementwise":
        from elastickv.workloads.elementwise import BUFFERS

        return BUFFERS * case["heads"] * case["seq"] * case["dim"] * 4
    from elastickv.workloads.cache import CacheShape

    return CacheShape(case, case["seq"] + case["measure"]["decode_tokens"]).footprint()


def cases(facts: Facts, needs: Needs) -> list[Finding]:
    """Every case fits at least once, and often enough for cold caches."""
    check, room = f"memory of {facts.place}", budget(facts.free, facts.backend)
    sizes = {case["id"]: footprint(case) for case in needs.cases}
    too_large = [case for case in needs.cases if sizes[case["id"]] > room]
    if too_large:
        return [_too_large(check, case, room, facts, needs) for case in too_large[:MOST_NAMED]] + _more(
            too_large, check
        )
    largest = max(sizes, key=sizes.__getitem__)
    said = f"{facts.free / 1e9:.1f} GB free, {room / 1e9:.1f} of them for a case; {largest}, the largest, needs "
    said += f"{sizes[largest] / 1e9:.2f} GB"
    warm = [case["id"] for case in needs.cases if not _cold(case, sizes[case["id"]], room, facts.last_level_cache)]
    if not warm:
        return [ok(check, said)]
    named = ", ".join(warm[:MOST_NAMED]) + (" ..." if len(warm) > MOST_NAMED else "")
    found = f"{said}; too little to keep caches cold in {named}: their efficiencies will not be judged"
    return [note(check, found, "close other programs, then make remeasure")]


def _cold(case: dict[str, Any], size: int, room: int, last_level_cache: int) -> bool:
    elastic = roofline.traffic(case)["elastic"].total
    count = roofline.layers(elastic, size, last_level_cache, room)
    return roofline.is_cold(elastic, count, last_level_cache) or count == roofline.MOST_LAYERS


def _too_large(check: str, case: dict[str, Any], room: int, facts: Facts, needs: Needs) -> Finding:
    """A case that will end as out_of_memory; the fix is the longest context that fits."""
    size, room = footprint(case), max(room, 0)
    found = f"{case['id']} needs {size / 1e9:.2f} GB; {room / 1e9:.2f} of {facts.free / 1e9:.1f} GB free may be used"
    fitting = int(case["seq"] * room / size * 0.95)
    if fitting < 1:
        return problem(check, found, f"close other programs, then {needs.make()}")
    if case["id"] not in needs.written:  # of a sweep: no override names one of its cases
        return problem(check, found, f"in the axes of the sweep, leave out seq: {case['seq']}")
    return problem(check, found, needs.make(f"cases.{case['id']}.seq={fitting}"))


def _more(too_large: list[dict[str, Any]], check: str) -> list[Finding]:
    rest = len(too_large) - MOST_NAMED
    return [note(check, f"{rest} more cases do not fit either")] if rest > 0 else []
