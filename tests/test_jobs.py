"""The one way to make records: what is looked up, locked, stored and answered, for every kind of job."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from results_folder import example

from elastickv import device, jobs, records
from elastickv.device import lease
from elastickv.errors import MachineError, UsageError
from elastickv.jobs import job, process
from elastickv.models import fetching
from elastickv.models import supervisor as models
from elastickv.schemas import config as keys
from elastickv.schemas.baseline import Baseline
from elastickv.schemas.measurement import Measurement

RECORD = Measurement(**example("4096_golden_ticket"))


@dataclass
class Letters(jobs.Job[str, Measurement]):
    """A job whose parts are letters, and which measures them in its own process."""

    parts: Sequence[str] = ("a", "b", "c")
    backend: str = "cpu"
    status: str = "ok"
    dies_at: str = ""
    measured: list[str] = field(default_factory=list)
    model = Measurement

    def known_by(self, part: str) -> dict:
        return {"letter": part}

    def measure(self, parts: Sequence[str], uuid: str | None) -> Iterator[tuple[str, Measurement]]:
        for part in parts:
            if part == self.dies_at:
                raise MachineError(f"no {part} left", "bring one")
            self.measured.append(part)
            yield part, ended(self.status, None if self.status == "ok" else "why")

    def refused(self, part: str, error: MachineError) -> Measurement:
        return ended("failed", error.one_line)


def ended(status: str, reason: str | None) -> Measurement:
    return RECORD.model_copy(update={"status": status, "reason": reason})


@pytest.fixture
def store(tmp_path) -> jobs.RecordStore:
    return jobs.RecordStore(tmp_path / "store")


@pytest.fixture(autouse=True)
def own_locks(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(lease, "FOLDER", tmp_path / "locks")


def test_each_part_is_measured_once_and_then_found(store):
    first, again, fresh = Letters(), Letters(), Letters()
    assert list(jobs.run(first, store)) == ["a", "b", "c"]
    assert jobs.run(again, store) == jobs.run(first, store)
    jobs.run(fresh, store, remeasure=True)
    assert (first.measured, again.measured, fresh.measured) == (["a", "b", "c"], [], ["a", "b", "c"])
    more = Letters(parts=("a", "d"))
    assert list(jobs.run(more, store)) == ["a", "d"]
    assert more.measured == ["d"]


def test_what_is_finished_does_not_wait_for_the_device(store, monkeypatch):
    jobs.run(Letters(), store)
    monkeypatch.setenv(lease.TIMEOUT_VARIABLE, "0")
    with lease.one_of(["cpu"]):
        assert set(jobs.run(Letters(), store)) == {"a", "b", "c"}
        refused = jobs.run(Letters(parts=("a", "new")), store)
    assert refused["a"].status == "ok"
    assert "in use by other measurements" in refused["new"].reason


def test_what_another_run_measured_meanwhile_is_not_measured_again(store, monkeypatch):
    """The other run measures while this one waits for the device."""
    real = device.exclusive_device

    def after_another_run(backend: str):
        monkeypatch.setattr(device, "exclusive_device", real)
        jobs.run(Letters(parts=("b",)), store)
        return real(backend)

    monkeypatch.setattr(device, "exclusive_device", after_another_run)
    waited = Letters()
    assert len(jobs.run(waited, store)) == 3
    assert waited.measured == ["a", "c"]


def test_what_was_measured_before_the_machine_gave_up_is_kept(store):
    found = jobs.run(Letters(dies_at="c"), store)
    assert [found[part].status for part in "abc"] == ["ok", "ok", "failed"]
    assert found["c"].reason == "no c left (fix: bring one)"
    second = Letters()
    jobs.run(second, store)
    assert second.measured == ["c"]


def test_only_finished_records_are_stored(store):
    assert not Letters().is_finished(ended("failed", "why"))
    jobs.run(Letters(status="unsupported"), store)
    assert not list(store.folder.glob("*.json"))


def test_nothing_is_measured_without_room_for_the_record(store):
    store.folder.write_text("a file in the store's place")
    made = Letters()
    assert "cannot be written" in jobs.run(made, store)["a"].reason
    assert made.measured == []


def test_the_key_holds_schema_device_and_content(monkeypatch):
    keys = {job.key(Letters(), part, None) for part in "ab"}
    monkeypatch.setattr(device, "identity", lambda backend, uuid: {"cpu": "another"})
    keys.add(job.key(Letters(), "a", None))
    monkeypatch.setattr(Letters, "schema", "measurement/3")
    keys.add(job.key(Letters(), "a", None))
    assert len(keys) == 4


def test_a_stored_language_model_does_not_wait_for_the_device(store, tmp_path, monkeypatch):
    fetched = fetching.Fetched(fetching.Identity("m"), "/nowhere", None, 1, None)
    monkeypatch.setattr(models, "ask", lambda *_: fetched.to_json())
    path = Path(__file__).parent / "fixtures/records/transformers_baseline.json"
    stored = records.load(path, Baseline).model_copy(update={"status": "ok"})
    engine = models.ENGINES["transformers"]
    settings = models.Settings(engine.settings(), "cpu")
    kept = jobs.RecordStore(tmp_path / "store")
    kept.keep(job.key(models.Model(engine, settings, fetched, None, None, "cpu"), "transformers", None), stored)
    monkeypatch.setenv(lease.TIMEOUT_VARIABLE, "0")
    with lease.one_of(["cpu"]):
        assert models.baseline(engine, settings, kept) == stored


# Workers.

WORKER = """
import os, signal, sys
from elastickv.errors import MachineError, UsageError
from elastickv.jobs import worker

def work(request):
    progress = worker.Progress(request, {"device": "some"})
    progress.begin("one")
    progress.end("one", {"value": 1})
    progress.begin("two")
    if request["how"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise {"machine": MachineError("no disk", "buy one"), "usage": UsageError("a folder"),
           "memory": MemoryError("9 GB"), "defect": ZeroDivisionError("by nothing")}[request["how"]]

sys.exit(worker.serve({"work": work, "echo": lambda request: {"echo": request["what"]}}))
"""


def requested(folder: Path, **request: object) -> jobs.Answer:
    program = folder / "program.py"
    program.write_text(WORKER, encoding="utf-8")
    return process.ask([sys.executable, str(program)], request, 60, process.environment())


def test_a_worker_answers_what_it_was_asked(tmp_path):
    assert requested(tmp_path, task="echo", what=[1, "x"]) == {"echo": [1, "x"]}


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [("killed", "failed", "the worker was killed by SIGKILL"), ("machine", "failed", "no disk (fix: buy one)"),
     ("usage", "failed", "a folder (fix: name another file)"), ("memory", "out_of_memory", "9 GB"),
     ("defect", "failed", "ZeroDivisionError: by nothing")],
)  # fmt: skip
def test_every_end_of_a_worker_is_a_status_and_a_reason_beside_its_progress(tmp_path, how, status, reason):
    answer = requested(tmp_path, task="work", how=how)
    assert jobs.ended(answer)[0] == status
    assert reason in jobs.ended(answer)[1]
    assert (answer["done"], answer["current"], answer["device"]) == ({"one": {"value": 1}}, "two", "some")


# Both ends of a command.


def test_a_record_is_delivered_with_its_line_and_exit_code(tmp_path, capsys):
    assert jobs.deliver(tmp_path / "r.json", RECORD, "a line") == 0
    assert capsys.readouterr().out == "a line\n"
    assert records.load(tmp_path / "r.json", Measurement) == RECORD
    assert [jobs.exit_code(status, True) for status in ("ok", "noisy", "failed")] == [0, 1, 1]


@pytest.mark.parametrize(
    ("text", "named"), [("[]", "a JSON object"), ("{", "cannot be read"), ('{"backend": 3}', "backend")]
)
def test_settings_that_are_none_are_bad_usage(tmp_path, text, named):
    (tmp_path / "s.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=named):
        jobs.read_settings(str(tmp_path / "s.json"), keys.Peers)
