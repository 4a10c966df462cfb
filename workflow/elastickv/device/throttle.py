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
POWER_CAP = 0x4
# Reasons that disturb a round. The power cap is not among them: it is what the load itself does on this device.
SLOWDOWNS = 0x8 | 0x20 | 0x40 | 0x80


def names(bits: int) -> list[str]:
    """The reasons in `bits`; a bit without a name by its number."""
    known = [name for bit, name in REASONS.items() if bits & bit]
    rest = bits & ~sum(REASONS)
    return known + ([f"reason {rest:#x}"] if rest else [])


def slowed(bits: int) -> str | None:
    """Why a round that ended just now is to be dropped, or None."""
    return ", ".join(names(bits & SLOWDOWNS)) or None
