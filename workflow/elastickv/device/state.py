"""What a reader of a device's state offers while a measurement runs on it. Implementations: `GpuState`, `CpuState`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # pydantic, which the environments of language models do not have
    from elastickv.schemas.measurement import Snapshot, Throttling
    from elastickv.schemas.parts import Others, Setting


class State(Protocol):
    """Clocks, power, temperature, energy and other users of the device that a measurement runs on.

    `power_reason`, `energy_reason`: why the device does not report it, or None.
    """

    power_reason: str | None
    energy_reason: str | None

    def opened(self) -> None:
        """Called once this process uses the device, so that it is not counted as another process."""

    def throttled(self) -> str | None:
        """Called after every round: why what it timed was disturbed, or None."""

    def rounds(self) -> list[dict[str, Any]]:
        """What each call of `throttled` read, in order: fields of a record's `samples.rounds`; empty if nothing."""

    def energy(self) -> float | None:
        """Joules since some moment, or None where the device does not count them."""

    def snapshot(self) -> Snapshot:
        """Readings at this moment for a record: `clocks.before` and `clocks.after`."""

    def seen(self) -> Throttling:
        """What `throttled` read so far, for the record's `throttling`."""

    def others(self) -> Others:
        """Other processes on the device, or why they cannot be known."""

    def settings(self) -> dict[str, Setting]:
        """How the device is set, for the record's `machine`."""
