"""Arranges the sweeps of a plan as one grid per sweep and device.

Cases of a grid differ only in seq, the formats of middle slots, and the key that controls how much the policy keeps,
which is its first one (`compress` for the policy grouped).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass

from pydantic import MISSING

from elastickv import formats, policies
from elastickv.cache import bytes_moved
from elastickv.judge import noise
from elastickv.report.inputs import Case, Inputs
from elastickv.report.text import device_title
from elastickv.schemas.case import AnyCase, OtherCase, policy_of
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.parts import Interval

FORMATS = {"cache_dtype", "key_dtype", "value_dtype"}
NOT_SHAPE = {"seq", *FORMATS, "schema_", "id", "measure"}
MOST_DRAWN = 8

Place = tuple[str, int | str, int]  # formats of middle slots, how much is kept, seq


@dataclass(frozen=True)
class Cell:
    """A case of a sweep: its speedup, or its mark and status. The reachable ceiling requires samples."""

    speedup: Interval | None
    imprecise: bool
    mark: str
    status: str
    byte_ceiling: float
    reachable_ceiling: float | None


@dataclass(frozen=True)
class Grid:
    """One sweep on one device.

    suffix: distinguishes its files from those of other grids. name: of the sweep in the matrix (None: individually
    written cases). shape: what all cells share. key: controls how much is kept. cells: by place. whole: places without
    a cell that would equal the full cache.
    """

    suffix: str
    name: str | None
    shape: str
    key: str
    device: str
    cells: dict[Place, Cell]
    whole: set[Place]

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
    def amounts(self) -> list[int | str]:
        return sorted({amount for _, amount, _ in self.cells})

    @property
    def seqs(self) -> list[int]:
        return sorted({seq for _, _, seq in self.cells})

    @property
    def without_result(self) -> list[Cell]:
        return [cell for cell in self.cells.values() if cell.speedup is None]


def grids(inputs: Inputs) -> list[Grid]:
    """All sweeps with at least two lengths and two kept amounts, in the order of the plan."""
    found: dict[str, list[Case]] = defaultdict(list)
    for case in inputs.cases:
        key = case.content and _amount_key(case.content)
        if key:
            found[repr((case.sweep, case.content.model_dump(exclude={*NOT_SHAPE, key})))].append(case)
    made: list[Grid] = []
    for alike in found.values():
        key = _amount_key(alike[0].content)
        if any(len({getattr(case.content, axis) for case in alike}) < 2 for axis in ("seq", key)):
            continue
        for device, cases in _by_device(inputs, alike).items():
            suffix = f"_{len(made) + 1}" if made else ""
            cells = {_place(case.content): _cell(case) for case in cases}
            content = cases[0].content
            whole = _whole(content, key, cells)
            made.append(Grid(suffix, cases[0].sweep, shape_text(content), key, device, cells, whole))
    return made


def _amount_key(content: AnyCase) -> str | None:
    """The key that controls how much is kept, or None."""
    if content.kind.CACHE:
        return next(iter(policies.of(content.policy).KEYS), None)
    return "compress" if {"seq", "compress"} <= {*content.kind.TAKES} else None


def _whole(content: AnyCase, key: str, cells: dict[Place, Cell]) -> set[Place]:
    """Places without a cell whose case would move as many bytes as the full cache."""
    _, amounts, seqs = map(set, zip(*cells, strict=True))
    alike = {name: content.dtype if name == "cache_dtype" else MISSING for name in FORMATS if hasattr(content, name)}
    found = set()
    for amount, seq in itertools.product(amounts, seqs):
        case = content.model_copy(update={key: amount, "seq": seq} | alike)
        if bytes_moved.byte_ceilings(bytes_moved.traffic(case)).ceiling <= 1:
            found.add(_place(case))
    return found - cells.keys()


def _place(content: AnyCase) -> Place:
    return getattr(content, "stored_as", content.dtype), getattr(content, _amount_key(content)), content.seq


def _by_device(inputs: Inputs, cases: list[Case]) -> dict[str, list[Case]]:
    """Maps each device's title to its cases; a case without a device in its record belongs to this run's device."""
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


def _sizes(content: OtherCase) -> list[str]:
    """The shape of a workload, such as `32 heads x 128`, and its keys, such as `rows 64`."""
    heads = [f"{content.heads} heads x {content.dim}"] if {"heads", "dim"} <= {*content.kind.TAKES} else []
    return heads + [f"{key} {getattr(content, key)}" for key in content.kind.KEYS]


def shape_text(content: AnyCase) -> str:
    """Properties shared by a sweep's cases: `decode, 8 heads x 128, fp16, sinks 4, window 256, anchor value_norm`."""
    if not content.kind.CACHE:
        return ", ".join([content.workload, *_sizes(content), content.dtype])
    heads = f"{content.heads} heads"
    if content.kv_heads != content.heads:
        heads += f" ({content.kv_heads} KV)"
    parts = [content.workload, f"{heads} x {content.dim}", content.dtype]
    if content.batch != 1:
        parts.insert(1, f"batch {content.batch}")
    parts += [f"policy {content.policy}"] if content.policy != policies.DEFAULT else []
    values = policy_of(content).values
    parts += [
        f"{key} {str(value).lower()}"
        for key, value in values.items()
        if key != _amount_key(content) and value != "none"
    ]
    return ", ".join(parts)
