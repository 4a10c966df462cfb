"""Sweeps among the cases of a plan: alike but for seq, compress and cache dtype, laid out as one grid per device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from elastickv import formats
from elastickv.cache import bytes_moved
from elastickv.judge import noise
from elastickv.report.inputs import Case, Inputs
from elastickv.report.text import device_title
from elastickv.schemas.case import AnyCase
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.parts import Interval

AXES = ("seq", "compress", "cache_dtype", "key_dtype", "value_dtype")
NOT_SHAPE = {*AXES, "schema_", "id", "measure"}
MOST_DRAWN = 8

Place = tuple[str, int, int]  # formats of middle slots, compress, seq


@dataclass(frozen=True)
class Cell:
    """A case of a sweep: its speedup, or without a result its mark and status. No reachable ceiling without samples."""

    speedup: Interval | None
    imprecise: bool
    mark: str
    status: str
    byte_ceiling: float
    reachable_ceiling: float | None


@dataclass(frozen=True)
class Grid:
    """One sweep on one device.

    `suffix` tells its files from those of other grids; `name` is the sweep's in the matrix (None: cases written one by
    one that are alike); `shape` is what all cells share, `dtype` that of the full cache; `cells` are by their place.
    """

    suffix: str
    name: str | None
    shape: str
    dtype: str
    device: str
    cells: dict[Place, Cell]

    @property
    def title(self) -> str:
        return f"{self.name}: {self.shape}" if self.name else self.shape

    @property
    def cache_dtypes(self) -> list[str]:
        order = [*formats.every()]
        return sorted(
            {stored for stored, _, _ in self.cells}, key=lambda stored: [*map(order.index, stored.split("/"))]
        )

    @property
    def compresses(self) -> list[int]:
        return sorted({compress for _, compress, _ in self.cells})

    @property
    def seqs(self) -> list[int]:
        return sorted({seq for _, _, seq in self.cells})

    @property
    def without_result(self) -> list[Cell]:
        return [cell for cell in self.cells.values() if cell.speedup is None]


def grids(inputs: Inputs) -> list[Grid]:
    """Every sweep over at least two lengths and two values of compress, in the order of the plan."""
    found: dict[tuple[str, int], list[Case]] = defaultdict(list)
    for key, case in _keyed(inputs.cases):
        found[key].append(case)
    made: list[Grid] = []
    for alike in found.values():
        if any(len({getattr(case.content, axis) for case in alike}) < 2 for axis in ("seq", "compress")):
            continue
        for device, cases in _by_device(inputs, alike).items():
            suffix = f"_{len(made) + 1}" if made else ""
            cells = {_place(case.content): _cell(case) for case in cases}
            content = cases[0].content
            made.append(Grid(suffix, cases[0].sweep, shape_text(content), content.dtype, device, cells))
    return made


def _keyed(cases: list[Case]) -> Iterator[tuple[tuple[str, int], Case]]:
    """Each case with its sweep and what it shares with others; a second case for one place starts another sweep."""
    taken: dict[tuple[str, Place], int] = defaultdict(int)
    for case in cases:
        if case.content is None:
            continue
        shape = repr((case.sweep, case.content.model_dump(exclude=NOT_SHAPE)))
        place = _place(case.content)
        yield (shape, taken[shape, place]), case
        taken[shape, place] += 1


def _place(content: AnyCase) -> Place:
    return getattr(content, "stored_as", content.dtype), content.compress, content.seq


def _by_device(inputs: Inputs, cases: list[Case]) -> dict[str, list[Case]]:
    """Title of the device -> its cases; a case without a record of its device is one of this run's."""
    own = device_title(inputs.backend, inputs.device.name if inputs.device else None)
    found: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        foreign = case.record is not None and inputs.is_foreign(case)
        title = _measured_on(case.record) if foreign else own
        found[title].append(case)
    return found


def _measured_on(record: Measurement) -> str:
    return device_title(record.resolved.backend, record.device.name)


def _cell(case: Case) -> Cell:
    verdict = case.verdict
    status = verdict.verdict if verdict.status in noise.PUBLISHED else verdict.status
    return Cell(
        speedup=case.record.statistics.speedup if case.publishable else None,
        mark=verdict.mark,
        imprecise=verdict.status == "imprecise",
        status=status.replace("_", " "),
        byte_ceiling=verdict.byte_ceiling or bytes_moved.byte_ceilings(bytes_moved.traffic(case.content)).ceiling,
        reachable_ceiling=verdict.reachable_ceiling,
    )


def shape_text(content: AnyCase) -> str:
    """What the cases of a sweep share: `decode, 8 heads x 128, fp16, sinks 4, window 256, anchor value_norm`."""
    heads = f"{content.heads} heads"
    if content.workload != "decode":
        return f"{content.workload}, {heads} x {content.dim}, {content.dtype}"
    if content.kv_heads != content.heads:
        heads += f" ({content.kv_heads} KV)"
    parts = [content.workload, f"{heads} x {content.dim}", content.dtype]
    if content.batch != 1:
        parts.insert(1, f"batch {content.batch}")
    parts += [f"sinks {content.sinks}", f"window {content.window}", f"anchor {content.anchor}"]
    parts += [f"bias {content.bias}"] if content.bias != "none" else []
    return ", ".join(parts)
