"""Whether a GPU was throttled: pure functions of NVML readings."""

from __future__ import annotations

# nvmlClocksEventReason: why the clocks are what they are.
REASONS = {
    0x1: "idle",
    0x2: "clocks set by a user",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clock setting",
}
# Reasons that always mean throttling, at any clock. A power cap is not among them: it is normal under load, and costs
# time only if the clock is far below the rated one.
SLOWDOWNS = 0x8 | 0x20 | 0x40 | 0x80
SET_BY_USER = 0x2
# A sample counts as throttled below this share of the rated clock: the default of NVBench (--throttle-threshold).
LOWEST_SHARE = 0.75


def names(bits: int) -> list[str]:
    """The reasons in `bits`; a bit without a name by its number."""
    known = [name for bit, name in REASONS.items() if bits & bit]
    rest = bits & ~sum(REASONS)
    return known + ([f"reason {rest:#x}"] if rest else [])


def slowed(bits: int, clocks_mhz: dict[str, tuple[int | None, int | None]]) -> str | None:
    """Why a sample taken just now is to be dropped, or None.

    clocks_mhz: by name ("SM", "memory") the clock during the sample and the one it is rated for; None where unknown. A
    clock that a user has set is not throttling.
    """
    if bits & SLOWDOWNS:
        return ", ".join(names(bits & SLOWDOWNS))
    if bits & SET_BY_USER:
        return None
    for name, (now, rated) in clocks_mhz.items():
        if now is not None and rated and now < LOWEST_SHARE * rated:
            why = f" ({', '.join(names(bits))})" if bits else ""
            return f"{name} clock {now} MHz is below {LOWEST_SHARE:.0%} of {rated} MHz{why}"
    return None
