"""Makes records: takes them from the store, or has worker processes measure them on a locked device."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from elastickv import device, records
from elastickv.errors import MachineError
from elastickv.jobs.store import RecordStore, key_of

if TYPE_CHECKING:  # pydantic, which the environments of language models do not have
    from elastickv.schemas.base import Model

MEASURED = ("ok", "noisy")
Part = TypeVar("Part", bound=Hashable)


class Measured(Protocol):
    """Fields of every record: the status, and the reason if there are no figures."""

    status: str
    reason: str | None


Record = TypeVar("Record", bound="Model")  # one that is `Measured`


class Job(abc.ABC, Generic[Part, Record]):
    """Records of one model that are measured while one device is locked.

    model: that of the records. backend: `cuda` or `cpu`, already resolved. parts: one for each record.
    """

    model: ClassVar[type[Record]]
    backend: str
    parts: Sequence[Part]

    @property
    def schema(self) -> str | None:
        """Name and version, as the records state it."""
        return records.version(records.schema_of(self.model))

    @abc.abstractmethod
    def known_by(self, part: Part) -> records.Json:
        """Everything that determines a part's record, apart from its schema and the device, as JSON."""

    @abc.abstractmethod
    def measure(self, parts: Sequence[Part], uuid: str | None) -> Iterator[tuple[Part, Record]]:
        """Yields the record of each part as soon as worker processes have measured it on the locked device.

        uuid: the GPU's UUID for CUDA_VISIBLE_DEVICES; None on the CPU.
        """

    @abc.abstractmethod
    def refused(self, part: Part, error: MachineError) -> Record:
        """The record of a part that could not be measured, or raises the error if it must end the command."""

    def restored(self, part: Part, record: Record) -> Record:
        """A stored record of the same content, with the names that this job uses."""
        return record

    def is_finished(self, record: Record) -> bool:
        """Whether to store a record; False for failures that may not occur again in a better state of the machine."""
        return record.status in MEASURED


def run(job: Job[Part, Record], store: RecordStore | None = None, remeasure: bool = False) -> dict[Part, Record]:
    """The record of every part: from the store if it is there (unless `remeasure`), otherwise measured."""
    found: dict[Part, Record] = {}
    readable = None if remeasure else store
    for uuid in device.uuids(job.backend):
        found |= _stored(job, _open(job, found), readable, uuid)  # without waiting for a device
    try:
        if _open(job, found):
            with device.exclusive_device(job.backend) as uuid:
                found |= _stored(job, _open(job, found), readable, uuid)  # by another run, while this one waited
                for part, record in _measured(job, _open(job, found), store, uuid):
                    found[part] = record
    except MachineError as error:
        found |= {part: job.refused(part, error) for part in _open(job, found)}
    return found


def _open(job: Job[Part, Record], found: dict[Part, Record]) -> list[Part]:
    return [part for part in job.parts if part not in found]


def key(job: Job[Part, Record], part: Part, uuid: str | None) -> str:
    """What the store knows a part by, measured on one device."""
    known_by = {"schema": job.schema, "device": device.identity(job.backend, uuid), **job.known_by(part)}
    return key_of(known_by)


def _stored(
    job: Job[Part, Record], parts: list[Part], store: RecordStore | None, uuid: str | None
) -> dict[Part, Record]:
    """What the store has of these parts as measured on one device."""
    found = {part: store.find(key(job, part, uuid), job.model) for part in parts} if store else {}
    return {part: job.restored(part, record) for part, record in found.items() if record is not None}


def _measured(
    job: Job[Part, Record], parts: list[Part], store: RecordStore | None, uuid: str | None
) -> Iterator[tuple[Part, Record]]:
    """Measures parts and stores finished records; requires disk space for a record before it is measured."""
    if not parts:
        return
    with store.room() if store else contextlib.nullcontext():
        for part, record in job.measure(parts, uuid):
            if store and job.is_finished(record):
                store.keep(key(job, part, uuid), record)
            yield part, record
