"""`elastickv baseline peers`: workers that hold our kernel and the peers', and always a record per peer."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elastickv import demand, device, environments, matrix, records, workers
from elastickv.baselines import peers
from elastickv.baselines.peers import record, toolchain
from elastickv.baselines.peers.base import Peer, attention_only
from elastickv.build import binary
from elastickv.errors import MachineError, UsageError
from elastickv.matrix import structure
from elastickv.measure.supervisor import SAMPLING, exclusive, exit_code, identity, keep
from elastickv.schemas import config as keys
from elastickv.stopwatch import Stopwatch

VERSIONS_SECONDS = 60
NOTHING: dict[str, Any] = {}
NO_CASE = "the matrix has no case of the workload decode"


@dataclass
class Run:
    """What one command is about, and what it found so far: a record of one case by (peer, case id)."""

    settings: dict[str, Any]
    cases: list[dict[str, Any]]
    build: str
    store: records.RecordStore | None = None
    fresh: bool = False
    backend: str | None = None
    build_facts: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    watch: Stopwatch = field(default_factory=Stopwatch)
    found: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    @property
    def peers(self) -> list[Peer]:
        return [peers.load(name) for name in self.settings["names"]]

    def keep(self, peer: Peer, case: dict[str, Any], entry: dict[str, Any], about: dict[str, Any] = NOTHING) -> None:
        """One case's result as a record. about: what the worker told of device and software."""
        head = {
            "backend": self.backend,
            "settings": {key: self.settings[key] for key in ("reps", "max_seconds")},
            "library": {"name": peer.library, "version": self.versions.get(peer.library)},
            "device": about.get("device"),
            "software": about.get("software") or device.software(),
            "build": self.build_facts,
            "started": self.watch.started,
        }
        entries = [record.case_entry(record.for_peers(case, self.settings), entry)]
        self.found[peer.name, case["id"]] = record.compose(head, peer, entries, self.watch.ended())

    def refuse(self, status: str, reason: str) -> None:
        """The same status and reason for everything that has no result yet."""
        for peer in self.peers:
            for case in self.cases:
                if (peer.name, case["id"]) not in self.found:
                    self.keep(peer, case, {"status": status, "reason": reason})

    def open(self, case: dict[str, Any]) -> list[Peer]:
        """The peers without a result for a case."""
        return [peer for peer in self.peers if (peer.name, case["id"]) not in self.found]

    def records(self) -> dict[str, dict[str, Any]]:
        """The record of each peer."""
        return {
            peer.name: record.merged(peer, [self.found[peer.name, case["id"]] for case in self.cases])
            for peer in self.peers
        }


def run(args: argparse.Namespace) -> int:
    """Writes `peers_<name>.json` into `args.results` for every peer of the settings."""
    settings = read_settings(args.settings)
    store = records.RecordStore(args.store, "peers") if args.store else None
    asked = Run(settings, read_cases(args.cases), args.build, store, args.fresh)
    if not asked.cases:
        raise UsageError(f"{args.settings}: {NO_CASE}")
    measure(asked)
    found = asked.records()
    for name, made in found.items():
        records.write(Path(args.results) / f"peers_{name}.json", made, "peers")
        print(describe(made))
    return max(exit_code(made, args.strict) for made in found.values())


def read_settings(path: str) -> dict[str, Any]:
    """The settings in a file of the plan, complete. Raises UsageError."""
    try:
        said = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as settings: {error}") from error
    if not isinstance(said, dict):
        raise UsageError(f"{path}: a JSON object is needed")
    backend = said.pop("backend", keys.Root().backend)
    faults = [f"{path}: {'.'.join(map(str, key))}: {fault}" for key, fault in structure.faults(said, keys.Peers)]
    if backend not in ("auto", "cuda", "cpu"):
        faults.append(f"{path}: backend: one of auto, cuda, cpu is needed, this is {backend!r}")
    if faults:
        raise UsageError(faults)
    return keys.Peers(**said).model_dump() | {"backend": backend}


def read_cases(paths: list[str]) -> list[dict[str, Any]]:
    """The canonical cases in these files that are attention. Raises UsageError."""
    try:
        cases = [records.read(path, "case") for path in paths]
    except records.RecordError as error:
        raise UsageError(str(error)) from error
    return [case for case in cases if not attention_only(case)]


def measure(asked: Run) -> None:
    """Fills `asked.found`: out of the store where it has it, else measured under the device's lock."""
    try:
        asked.backend = device.resolve_backend(asked.settings["backend"])
        for peer in asked.peers:
            for case in asked.cases:
                refused = peer.supports(case, asked.backend)
                if refused:
                    asked.keep(peer, case, {"status": "unsupported", "reason": refused})
        if not any(map(asked.open, asked.cases)):
            return
        asked.build_facts = binary.facts(asked.build, asked.backend, "decode")
        python = str(environments.interpreter("peers"))
    except MachineError as error:
        asked.refuse("unsupported", f"{error.problem} (fix: {error.fix})")
        return
    libraries = packages(asked.backend)
    answer = ask(python, {"task": "versions", "packages": libraries}, VERSIONS_SECONDS, None)
    if "versions" not in answer:
        asked.refuse("failed", answer.get("crashed", "the worker told no versions"))
        return
    asked.versions = answer["versions"]
    _refuse_missing(asked, python)
    for uuid in device.visible_gpus() if asked.backend == "cuda" else [None]:
        _take_stored(asked, uuid)  # without waiting for a device
    if not any(map(asked.open, asked.cases)):
        return
    try:
        with exclusive(asked.backend) as uuid, asked.store.room() if asked.store else contextlib.nullcontext():
            _take_stored(asked, uuid)  # what another run kept while this one waited
            for case in asked.cases:
                _measure_case(asked, case, python, libraries, uuid)
    except MachineError as error:
        asked.refuse("failed", f"{error.problem} (fix: {error.fix})")


def packages(backend: str) -> list[str]:
    """Where the environment of the kernels lies: on a GPU CuPy comes from there, unless it was adopted."""
    folder = environments.site_packages("cuda") if backend == "cuda" else None
    return [str(folder)] if folder else []


def _refuse_missing(asked: Run, python: str) -> None:
    for peer in asked.peers:
        if peer.library in asked.versions:
            continue
        fix = f"elastickv env peers on a machine with a GPU, or: {Path(python).name} -m pip install {peer.library}"
        for case in asked.cases:
            if (peer.name, case["id"]) not in asked.found:
                reason = f"{peer.library} is not installed in the environment peers (fix: {fix})"
                asked.keep(peer, case, {"status": "unsupported", "reason": reason})


def _take_stored(asked: Run, uuid: str | None) -> None:
    """Whatever the store has of this device."""
    if asked.store is None or asked.fresh:
        return
    who = identity(asked.backend, uuid)
    for case in asked.cases:
        for peer in asked.open(case):
            stored = asked.store.find(store_key(asked, peer, case, who))
            if stored:
                measured = {**stored["cases"][0], "case": record.for_peers(case, asked.settings)}
                asked.found[peer.name, case["id"]] = {**stored, "cases": [measured]}


def _measure_case(asked: Run, case: dict[str, Any], python: str, libraries: list[str], uuid: str | None) -> None:
    """All open peers on one case. A worker that dies costs the peer under way; the others go on in a new one."""
    measured = asked.open(case)
    while asked.open(case):
        _one_worker(asked, case, python, libraries, uuid)
    if asked.store:
        who = identity(asked.backend, uuid)
        for peer in measured:
            keep(asked.store, store_key(asked, peer, case, who), asked.found[peer.name, case["id"]])


def _one_worker(asked: Run, case: dict[str, Any], python: str, libraries: list[str], uuid: str | None) -> None:
    """One worker on the open peers of a case; at least one of them has a result afterwards."""
    names = [peer.name for peer in asked.open(case)]
    with tempfile.TemporaryDirectory(prefix="elastickv-") as folder:
        progress = Path(folder, "progress.json")
        request = {
            "task": "compare", "backend": asked.backend, "build": asked.build, "case": case, "names": names,
            "settings": asked.settings, "packages": libraries, "progress": str(progress),
        }  # fmt: skip
        timeout = demand.peers_seconds(case, len(names), asked.settings["max_seconds"])
        response = ask(python, request, timeout, uuid)
        known = json.loads(progress.read_text(encoding="utf-8")) if progress.exists() else {}
    for peer in asked.open(case):
        if peer.name in known.get("done", {}):
            asked.keep(peer, case, known["done"][peer.name], known)
    if "finished" in response:
        return
    culprit = known.get("current")
    for peer in asked.open(case):
        if culprit in (None, peer.name):  # None: it ended before or between peers, and would again
            asked.keep(peer, case, ended_without(response), known | response)


def ended_without(response: dict[str, Any]) -> dict[str, Any]:
    """Status and reason of a worker that did not come to its end."""
    if "status" in response:
        return {"status": response["status"], "reason": response["reason"]}
    return {"status": "failed", "reason": response.get("crashed", "the worker gave no reason")}


def ask(python: str, request: dict[str, Any], timeout: float, uuid: str | None) -> dict[str, Any]:
    """A worker's answer."""
    variables = workers.environment(CUDA_VISIBLE_DEVICES=uuid or "")
    # On a CPU ours and torch bring an OpenMP each: the idle one's threads must not spin on the cores of the other.
    variables["OMP_WAIT_POLICY"] = "passive"
    if uuid:
        variables |= toolchain.variables(python, Path("build/.links"))
    return workers.ask([python, "-m", "elastickv.baselines.peers.worker"], request, timeout, variables)


def store_key(asked: Run, peer: Peer, case: dict[str, Any], who: dict[str, Any]) -> str:
    """Key of a finished comparison: case, settings, sampling, both kernels (fingerprint; versions), device, driver."""
    content = {
        "schema": record.SCHEMA,
        "peer": peer.name,
        "versions": {name: asked.versions.get(name) for name in sorted({peer.library, "torch"})},
        "case": matrix.content_key(record.for_peers(case, asked.settings)),
        "settings": {key: asked.settings[key] for key in ("reps", "max_seconds")},
        "sampling": SAMPLING,
        "build": asked.build_facts["fingerprint"] if asked.build_facts else None,
        "device": who,
    }
    return hashlib.sha256(matrix.canonical_json(content).encode()).hexdigest()


def describe(made: dict[str, Any]) -> str:
    """One line on a record, for logs and terminals. Numbers only where they hold."""
    line = f"peer {made['peer']}: {made['status']}"
    shown = [
        f"{entry['case']['id']} ours {entry['full']['ours']['plain']['ratio']['value']:.3f}x its speed"
        for entry in made["cases"]
        if entry["status"] == "ok"
    ]
    return ", ".join([line, *shown]) + (f" ({made['reason']})" if made["reason"] else "")
