"""The inputs of all reports, read from one results folder: records, verdicts, ceilings, baselines, peers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from elastickv import records
from elastickv.judge import folder, noise
from elastickv.models.record import as_judged
from elastickv.report import peers
from elastickv.report.peers import Peers
from elastickv.schemas import baseline
from elastickv.schemas.base import at
from elastickv.schemas.case import AnyCase
from elastickv.schemas.ceilings import Ceilings
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.parts import Device, OnBackend
from elastickv.schemas.verdict import Entry, Thresholds, Verdicts

BASELINE_ENGINES = {"transformers": "transformers_baseline.json", "gguf": "gguf_baseline.json"}
NUMBERLESS = ("invalid", "skipped")


@dataclass(frozen=True)
class Case:
    """One case of the plan: its record (None if unreadable), its verdict entry and its canonical content.

    The record has the judge's status, reason and speedup. place: index of its entry in verdicts.json.
    """

    id: str
    record: Measurement | None
    verdict: Entry
    content: AnyCase | None = None  # from the plan, so available without a record
    sweep: str | None = None  # name of the sweep that the case belongs to
    place: int = 0

    @property
    def publishable(self) -> bool:
        """Whether its numbers may be published as results."""
        return self.record is not None and self.verdict.verdict not in NUMBERLESS

    @property
    def golden(self) -> bool:
        return self.verdict.verdict == "golden_ticket"

    @property
    def reason(self) -> str:
        """Why a case has its status: from its record, otherwise from its verdict."""
        return at(self.record, ("reason",)) or self.verdict.reason


@dataclass(frozen=True)
class Baseline:
    """A language-model baseline: its judged record, or why the record cannot be read."""

    engine: str
    record: baseline.Baseline | None
    problem: str | None

    @property
    def measured(self) -> bool:
        return self.record is not None and self.record.status == "ok"

    @property
    def why(self) -> str:
        """Why it has no result."""
        return f"{self.record.status}: {self.record.reason}" if self.record else self.problem


@dataclass(frozen=True)
class Inputs:
    """A results folder, read once. device: this run's device; backend: the backend that was used."""

    cases: list[Case]
    thresholds: Thresholds
    ceilings: Ceilings | None
    ceilings_problem: str | None
    baselines: list[Baseline]
    device: Device | None
    backend: OnBackend | None
    peers: Peers = field(default_factory=Peers)

    @property
    def publishable(self) -> list[Case]:
        return [case for case in self.cases if case.publishable]

    @property
    def own(self) -> list[Case]:
        """The publishable cases of this run's device."""
        return [case for case in self.publishable if not self.is_foreign(case)]

    def is_foreign(self, case: Case) -> bool:
        """Whether a record comes from another device than this run's device."""
        measured = case.record and case.record.device
        return bool(measured and self.device and measured.name != self.device.name)


def load(
    cases_file: Path | str, results: Path | str, *, with_baselines: bool = True, with_peers: bool = True
) -> Inputs:
    """Reads a results folder that has verdicts.json. Raises RecordError if the plan or the verdicts cannot be used.

    with_baselines, with_peers: False for reports that do not show them and therefore do not depend on them.
    """
    results = Path(results)
    judged = records.load(results / "verdicts.json", Verdicts)
    entries = folder.entries(cases_file, results)
    limits = judged.thresholds.noise
    verdicts = {entry.case: entry for entry in judged.cases}
    places = {case: place for place, case in enumerate(verdicts)}
    unjudged = [entry.case for entry in entries if entry.case not in verdicts]
    if unjudged:
        raise records.RecordError(f"{results / 'verdicts.json'}: no verdict for {unjudged[0]}: run `elastickv verdict`")
    sweeps = folder.sweep_of(cases_file)
    cases = [
        Case(
            entry.case,
            entry.record and noise.as_judged(entry.record, limits),
            verdicts[entry.case],
            entry.content,
            sweeps.get(entry.case),
            places[entry.case],
        )
        for entry in entries
    ]
    ceilings, problem = folder.optional(results / "ceilings.json", Ceilings)
    device, backend = this_device(cases, ceilings)
    return Inputs(
        cases=cases,
        thresholds=judged.thresholds,
        ceilings=ceilings,
        ceilings_problem=problem,
        baselines=baselines_of(results) if with_baselines else [],
        device=device,
        backend=backend,
        peers=peers.load(results, {case.id: case.content for case in cases}, limits) if with_peers else Peers(),
    )


def this_device(cases: list[Case], ceilings: Ceilings | None) -> tuple[Device | None, OnBackend | None]:
    """Device and backend of this run: those of its ceilings, otherwise those of most records."""
    if ceilings and ceilings.device:
        return ceilings.device, ceilings.backend
    measured = [case.record for case in cases if case.record and case.record.device]
    if not measured:
        return None, None
    name, _ = Counter(record.device.name for record in measured).most_common(1)[0]
    record = next(record for record in measured if record.device.name == name)
    return record.device, record.resolved.backend


def baselines_of(results: Path) -> list[Baseline]:
    """The language-model baselines of a results folder, judged."""
    found = ((engine, *folder.optional(results / file, baseline.Baseline)) for engine, file in BASELINE_ENGINES.items())
    return [
        Baseline(engine, record and as_judged(record), problem)
        for engine, record, problem in found
        if record or problem
    ]
