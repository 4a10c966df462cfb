"""`elastickv baseline peers`: the job of several peers on several cases; one worker for each case holds all of them."""

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
from elastickv.measure import demand
from elastickv.measure.stopwatch import Stopwatch
from elastickv.measure.supervisor import SAMPLING
from elastickv.peers import record, toolchain
from elastickv.schemas import config as keys
from elastickv.schemas.case import DecodeCase, case_of
from elastickv.schemas.parts import BuildUsed
from elastickv.schemas.peers import Library, Peers, Settings

VERSIONS_SECONDS = 60
NO_CASE = "the matrix has no case of the workload decode"
Part = tuple[str, str]  # a peer's name and a case's id


@dataclass(frozen=True)
class Comparison(jobs.Job[Part, Peers]):
    """The job of these peers beside our kernel on these cases. versions: of the libraries of the environment."""

    settings: keys.Peers
    cases: dict[str, DecodeCase]
    build: str
    backend: str | None = None
    built: Mapping[str, BuildUsed] = field(default_factory=dict)  # by case
    versions: Mapping[str, str] = field(default_factory=dict)
    parts: Sequence[Part] = ()
    watch: Stopwatch = field(default_factory=Stopwatch)
    model = Peers

    def known_by(self, part: Part) -> dict[str, Any]:
        """Case, bounds, sampling, and both kernels: our fingerprint, the libraries' versions."""
        library = peers.load(part[0]).library
        return {
            "peer": part[0],
            "versions": {name: self.versions.get(name) for name in sorted({library, "torch"})},
            "case": matrix.content_key(self._measured(self.cases[part[1]])),
            "settings": self._bounds.model_dump(mode="json"),
            "sampling": SAMPLING,
            "build": self.built[part[1]].fingerprint if self.built else None,
        }

    def restored(self, part: Part, record: Peers) -> Peers:
        measured = self._measured(self.cases[part[1]])
        return record.model_copy(update={"cases": [record.cases[0].model_copy(update={"case": measured})]})

    def measure(self, parts: Sequence[Part], uuid: str | None) -> Iterator[tuple[Part, Peers]]:
        for case in self.cases.values():
            names = [name for name, of in parts if of == case.id]
            while names:
                for name, made in self._in_one_worker(case, names, uuid).items():
                    names.remove(name)
                    yield (name, case.id), made

    def _in_one_worker(self, case: DecodeCase, names: list[str], uuid: str | None) -> dict[str, Peers]:
        """What one worker finds of these peers, at least of one. If it dies, that costs the peer under way alone."""
        request = {"task": "compare", "backend": self.backend, "build": self.build, "names": names,
                   "case": case.model_dump(mode="json"), "settings": self.settings.model_dump(mode="json")}  # fmt: skip
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
        """The record of a part that no worker is asked about."""
        return self.compose(part[0], self.cases[part[1]], {"status": status, "reason": reason}, {})

    def compose(self, name: str, case: DecodeCase, entry: Mapping[str, Any], answer: jobs.Answer) -> Peers:
        """One case's result as a record; of the worker's answer what it told of device and software."""
        peer = peers.load(name)
        about = record.About(
            backend=self.backend,
            settings=self._bounds,
            library=Library(name=peer.library, version=self.versions.get(peer.library)),
            device=answer.get("device"),
            software=answer.get("software") or device.software(),
            build=self.built.get(case.id),
            started=self.watch.started,
        )
        return record.compose(about, peer, [record.case_entry(self._measured(case), entry)], self.watch.ended())

    def _measured(self, case: DecodeCase) -> DecodeCase:
        return record.for_peers(case, self.settings)

    @property
    def _bounds(self) -> Settings:
        return Settings(reps=self.settings.reps, max_seconds=self.settings.max_seconds)


def run(args: argparse.Namespace) -> int:
    """Writes `peers_<name>.json` into `args.results` for every peer of the settings."""
    settings, backend = jobs.read_settings(args.settings, keys.Peers)
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
    """The record of each peer: out of the store where it has it, else measured (whatever happens, valid records)."""
    job = Comparison(settings, {case.id: case for case in cases}, build)
    parts = [(name, case.id) for case in cases for name in settings.names]
    found: dict[Part, Peers] = {}
    try:
        job = replace(job, backend=device.resolve_backend(backend))
        for part in parts:
            reason = peers.load(part[0]).supports(job.cases[part[1]], job.backend)
            if reason:
                found[part] = job.without("unsupported", reason, part)
        if len(found) < len(parts):
            built = {case.id: binary.facts(build, job.backend, "decode", case.formats) for case in cases}
            job = replace(job, built=built)
            found |= _beside_ours(job, [part for part in parts if part not in found], store, remeasure)
    except MachineError as error:
        found |= {part: job.without("unsupported", error.one_line, part) for part in parts if part not in found}
    ids = [case.id for case in cases]
    return {name: record.merged(peers.load(name), [found[name, id] for id in ids]) for name in settings.names}


def _beside_ours(
    job: Comparison, parts: list[Part], store: jobs.RecordStore | None, remeasure: bool
) -> dict[Part, Peers]:
    """Records of parts whose libraries the environment has, and of those whose it has not."""
    answer = ask(job.backend, {"task": "versions"}, VERSIONS_SECONDS, None)
    if "versions" not in answer:
        return {part: job.without(*jobs.ended(answer), part) for part in parts}
    job = replace(job, versions=answer["versions"])
    missing = {part: library for part in parts if (library := peers.load(part[0]).library) not in job.versions}
    found = {part: job.without("unsupported", _missing(library), part) for part, library in missing.items()}
    made = jobs.run(replace(job, parts=[part for part in parts if part not in missing]), store, remeasure)
    return found | made


def _missing(library: str) -> str:
    python = environments.interpreter("peers").name
    fix = f"elastickv env peers on a machine with a GPU, or: {python} -m pip install {library}"
    return f"{library} is not installed in the environment peers (fix: {fix})"


def ask(backend: str, request: dict[str, Any], timeout: float, uuid: str | None) -> jobs.Answer:
    """A worker's answer. Raises MachineError when the environment is missing."""
    # On a CPU ours and torch bring an OpenMP each: the idle one's threads must not spin on the cores of the other.
    variables = {"CUDA_VISIBLE_DEVICES": uuid or "", "OMP_WAIT_POLICY": "passive"}
    if uuid:
        variables |= toolchain.variables(str(environments.interpreter("peers")), Path("build/.links"))
    # The environment of the kernels: on a GPU CuPy comes from there, unless that environment was adopted.
    kernels = environments.site_packages("cuda") if backend == "cuda" else None
    request = {**request, "packages": [str(kernels)] if kernels else []}
    return jobs.Worker("elastickv.peers.worker", "peers").ask(request, timeout, variables)


def describe(made: Peers) -> str:
    """One line on a judged record, for logs and terminals. Numbers only where they hold."""
    line = f"peer {made.peer}: {made.status}"
    shown = [
        f"{entry.case.id} ours {entry.full.ours.plain.ratio.value:.3f}x its speed"
        for entry in made.cases
        if entry.status in noise.PUBLISHED
    ]
    return ", ".join([line, *shown]) + (f" ({made.reason})" if made.reason else "")
