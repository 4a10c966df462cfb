"""`elastickv baseline peers`: measures several peers on several cases, with one worker per case for all peers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from elastickv import device, environments, jobs, matrix, peers, records
from elastickv.build import binary
from elastickv.errors import MachineError, UsageError
from elastickv.judge import noise
from elastickv.matrix import peers as naming
from elastickv.measure import demand
from elastickv.measure.stopwatch import Stopwatch
from elastickv.measure.supervisor import SAMPLING
from elastickv.peers import base, record, toolchain
from elastickv.schemas import config as keys
from elastickv.schemas.case import DecodeCase, case_of
from elastickv.schemas.parts import BuildUsed
from elastickv.schemas.peers import Library, OwnFile, Peers, Settings

DESCRIBE_SECONDS = 300  # a user's file may compile its kernel when it is loaded
NO_CASE = "the matrix has no case of the workload decode"
Part = tuple[str, str]  # a peer's name and a case's id


@dataclass(frozen=True)
class Described:
    """Facts about a peer without running its kernel; for a user's file (`path`), only a worker can determine them.

    refused: why it does not support a case, by case id; wrong: status and reason if the peer cannot be loaded.
    """

    times: str
    needs: Sequence[str]
    path: str | None = None
    sha256: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    wrong: tuple[str, str] | None = None

    @classmethod
    def named(cls, entry: str) -> Described:
        """What is known without a worker. entry: the name in the config."""
        if naming.is_path(entry):
            return cls("what the file's PEER launches", base.Peer.needs, entry)
        peer = peers.load(entry)
        return cls(peer.times, peer.needs)

    def without(self, case: str) -> tuple[str, str] | None:
        """Status and reason if no worker can measure a case with this peer."""
        if self.wrong:
            return self.wrong
        if case in self.refused:
            return "unsupported", self.refused[case]
        return ("unsupported", _missing(self.missing[0])) if self.missing else None

    @property
    def missing(self) -> list[str]:
        """The distributions that it needs but that are not installed."""
        return [library for library in self.needs if library not in self.versions]


@dataclass(frozen=True)
class Comparison(jobs.Job[Part, Peers]):
    """The job of comparing these peers (by their names in records) with our kernel on these cases, as measured."""

    settings: keys.Peers
    cases: dict[str, DecodeCase]
    build: str
    peers: Mapping[str, Described]
    backend: str | None = None
    built: Mapping[str, BuildUsed] = field(default_factory=dict)  # by case
    parts: Sequence[Part] = ()
    watch: Stopwatch = field(default_factory=Stopwatch)
    model = Peers

    def known_by(self, part: Part) -> dict[str, Any]:
        """Case, bounds, sampling, and both kernels: our fingerprint; the libraries' versions and a user's file."""
        peer = self.peers[part[0]]
        return {
            "peer": part[0],
            "file": peer.sha256,
            "versions": {name: peer.versions.get(name) for name in sorted({*peer.needs, "torch"})},
            "case": matrix.content_key(self.cases[part[1]]),
            "settings": self._bounds.model_dump(mode="json"),
            "sampling": SAMPLING,
            "build": self.built[part[1]].fingerprint if self.built else None,
        }

    def restored(self, part: Part, record: Peers) -> Peers:
        entries = [record.cases[0].model_copy(update={"case": self.cases[part[1]]})]
        return record.model_copy(update={"cases": entries, "file": self._file(part[0])})

    def measure(self, parts: Sequence[Part], uuid: str | None) -> Iterator[tuple[Part, Peers]]:
        for case in self.cases.values():
            for names in together(self.peers, [name for name, of in parts if of == case.id]):
                while names:
                    for name, made in self._in_one_worker(case, names, uuid).items():
                        names.remove(name)
                        yield (name, case.id), made

    def _in_one_worker(self, case: DecodeCase, names: list[str], uuid: str | None) -> dict[str, Peers]:
        """One worker's results for at least one of these peers. If it dies, only the current peer is lost."""
        known = {name: self.peers[name] for name in names}
        request = {"task": "compare", "backend": self.backend, "build": self.build, **_named(known),
                   "versions": {name: version for one in known.values() for name, version in one.versions.items()},
                   "case": case.model_dump(mode="json")}  # fmt: skip
        answer = ask(self.backend, request, demand.peers_seconds(case, len(names), self.settings.max_seconds), uuid)
        found = {name: self.compose(name, case, entry, answer) for name, entry in answer.get("done", {}).items()}
        if "finished" not in answer:
            status, reason = jobs.ended(answer)
            current = answer.get("current")  # None: it ended before or between peers, and would again
            culprits = set(names) - set(found) if current is None else {current}
            failed = {"status": status, "reason": reason}
            found |= {name: self.compose(name, case, failed, answer) for name in culprits}
        return found

    def refused(self, part: Part, error: MachineError) -> Peers:
        return self.without("failed", error.one_line, part)

    def without(self, status: str, reason: str, part: Part) -> Peers:
        """The record of a part that needs no worker."""
        return self.compose(part[0], self.cases[part[1]], {"status": status, "reason": reason}, {})

    def compose(self, name: str, case: DecodeCase, entry: Mapping[str, Any], answer: jobs.Answer) -> Peers:
        """One case's result as a record, with device and software from the worker's answer."""
        peer = self.peers[name]
        about = {
            "peer": name,
            "times": peer.times,
            "backend": self.backend,
            "settings": self._bounds,
            "library": Library(name=peer.needs[0], version=peer.versions.get(peer.needs[0])),
            "file": self._file(name),
            "device": answer.get("device"),
            "software": answer.get("software") or device.software(),
            "build": self.built.get(case.id),
            "started": self.watch.started,
            "ended": self.watch.ended(),
        }
        return record.compose(about, [record.case_entry(case, entry)])

    def _file(self, name: str) -> OwnFile | None:
        peer = self.peers[name]
        return OwnFile(path=peer.path, sha256=peer.sha256) if peer.path else None

    @property
    def _bounds(self) -> Settings:
        return Settings(reps=self.settings.reps, max_seconds=self.settings.max_seconds)


def run(args: argparse.Namespace) -> int:
    """Writes `peers_<name>.json` into `args.results` for every peer of the settings."""
    settings, backend = jobs.read_settings(args.settings, keys.Peers)
    settings = naming.completed(settings)
    faults = [f"{args.settings}: names: {text}" for _, text in naming.faults(settings.names)]
    if faults:
        raise UsageError(faults)
    store = jobs.RecordStore(args.store) if args.store else None
    cases = read_cases(args.cases)
    if not cases:
        raise UsageError(f"{args.settings}: {NO_CASE}")
    found = compare(settings, backend, cases, args.build, store, args.remeasure)
    folder = Path(args.results)
    codes = []
    for name, made in found.items():
        judged = record.as_judged(made, keys.Noise())
        path = folder / f"peers_{name}.json"
        codes.append(jobs.deliver(path, made, describe(judged), args.strict, judged.status))
    return max(codes)


def read_cases(paths: list[str]) -> list[DecodeCase]:
    """The cases in these files that are attention. Raises UsageError."""
    try:
        cases = [case_of(records.read(path, "case")) for path in paths]
    except records.RecordError as error:
        raise UsageError(str(error)) from error
    return [case for case in cases if isinstance(case, DecodeCase)]


def compare(
    settings: keys.Peers,
    backend: str,
    cases: Sequence[DecodeCase],
    build: str,
    store: jobs.RecordStore | None = None,
    remeasure: bool = False,
) -> dict[str, Peers]:
    """The record of each peer, from the store or measured; always valid records."""
    settings = naming.completed(settings)
    cases = [record.for_peers(case, settings) for case in cases]
    job = Comparison(settings, {case.id: case for case in cases}, build, _named_in(settings))
    parts = [(name, case.id) for case in cases for name in job.peers]
    found: dict[Part, Peers] = {}
    try:
        job = replace(job, backend=device.resolve_backend(backend))
        job = replace(job, peers=described(settings, job.backend, cases))
        early = {part: job.peers[part[0]].without(part[1]) for part in parts}
        found = {part: job.without(*why, part) for part, why in early.items() if why}
        if len(found) < len(parts):
            built = {case.id: binary.facts(build, job.backend, "decode", case.formats, case.rule) for case in cases}
            job = replace(job, built=built)
            job = replace(job, parts=[part for part in parts if part not in found])
            found |= jobs.run(job, store, remeasure)
    except MachineError as error:
        found |= {part: job.without("unsupported", error.one_line, part) for part in parts if part not in found}
    return {name: record.merged([found[name, case] for case in job.cases]) for name in job.peers}


def described(settings: keys.Peers, backend: str, cases: Sequence[DecodeCase]) -> dict[str, Described]:
    """A worker's facts about the peers in the settings, by their names in records. No kernel is run.

    Raises MachineError when the environment is missing.
    """
    found = _named_in(settings)
    for names in together(found, [*found]):
        request = {"task": "describe", "backend": backend, **_named({name: found[name] for name in names}),
                   "cases": [case.model_dump(mode="json") for case in cases]}  # fmt: skip
        answer = ask(backend, request, DESCRIBE_SECONDS, None)
        for name in names:
            told = answer.get("described", {}).get(name, answer)
            known = told if "needs" in told else {"wrong": jobs.ended(told)}
            found[name] = replace(found[name], **known)
    return found


def _named_in(settings: keys.Peers) -> dict[str, Described]:
    return {naming.name_of(entry): Described.named(entry) for entry in settings.names}


def together(known: Mapping[str, Described], names: Sequence[str]) -> list[list[str]]:
    """Groups of peers that share a worker: the project's peers together; each user's file alone, for isolation."""
    ours = [name for name in names if not known[name].path]
    return [group for group in (ours, *([name] for name in names if name not in ours)) if group]


def _named(known: Mapping[str, Described]) -> dict[str, Any]:
    """The part of a request that says which peers it is about."""
    files = {name: {"path": peer.path, "sha256": peer.sha256} for name, peer in known.items() if peer.path}
    return {"names": [*known], "files": files}


def _missing(library: str) -> str:
    return f"{library} is not installed in the environment peers (fix: {environments.adding('peers', library)})"


def ask(backend: str, request: dict[str, Any], timeout: float, uuid: str | None) -> jobs.Answer:
    """A worker's answer. Raises MachineError when the environment is missing."""
    # On a CPU ours and torch bring an OpenMP each: the idle one's threads must not spin on the cores of the other.
    variables = {"CUDA_VISIBLE_DEVICES": uuid or "", "OMP_WAIT_POLICY": "passive"}
    if uuid:
        variables |= toolchain.variables(str(environments.interpreter("peers")), Path("build/.links"))
    # The environment of the kernels: on a GPU CuPy comes from there, unless that environment was adopted.
    kernels = environments.site_packages("cuda") if backend == "cuda" else None
    request = {**request, "packages": [str(kernels)] if kernels else []}
    return jobs.in_worker("elastickv.peers.worker", "peers", request, timeout, variables)


def describe(made: Peers) -> str:
    """One line on a judged record, for logs and terminals. Numbers only where they hold."""
    line = f"peer {made.peer}: {made.status}"
    shown = [
        f"{entry.case.id} ours {entry.full.ours.plain.ratio.value:.3f}x its speed"
        for entry in made.cases
        if entry.status in noise.PUBLISHED
    ]
    return ", ".join([line, *shown]) + (f" ({made.reason})" if made.reason else "")
