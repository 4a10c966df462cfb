"""One case in several processes: which of them is published, and an interval that holds them all."""

from __future__ import annotations

import sys

import pytest
from results_folder import example

from elastickv import cli, jobs, matrix, records
from elastickv.measure import bench, processes, supervisor
from elastickv.schemas.measurement import Measurement

TINY = {"id": "tiny", "backend": "cpu", "seq": 128, "heads": 2, "dim": 64, "compress": 4, "sinks": 4, "window": 32}
QUICK = {"reps": 4, "warmup": 0, "inner_loops": 1, "max_seconds": 5, "decode_tokens": 0}
COMPOSED = ("schema", "case", "device", "software", "build", "started", "ended")


def answer(speedup: float | None = 3.3, status: str = "ok", **changes) -> dict:
    """What a worker answers that found `speedup` (None: every round was dropped)."""
    fields = {key: value for key, value in example("4096_cpu").items() if key not in COMPOSED}
    for interval in (fields["statistics"]["speedup"], fields["inference_cycle"]["speedup"]):
        factor = (speedup or 1) / interval["value"]
        interval |= {key: interval[key] * factor for key in ("value", "low", "high")}
    fields |= {"status": status, "reason": None if status == "ok" else "a loud neighbour"}
    if speedup is None:
        fields |= dict.fromkeys(("statistics", "bytes", "efficiency", "inference_cycle", "original_score"))
        fields["samples"] |= {"order": [], "full_us": [], "elastic_us": [], "full_again_us": []}
        fields["samples"]["dropped"] = [{"index": 0, "reason": "thermal"}]
    return {"fields": {**fields, **changes}, "device": example("4096_cpu")["device"]}


def record_of(response: dict) -> dict:
    composed = {key: example("4096_cpu")[key] for key in COMPOSED}
    record = {**composed, **response["fields"], "device": response["device"]}
    records.check(record, "measurement", "processes")
    return record


def test_the_published_interval_is_widened_to_the_spread_and_says_so():
    record = record_of(processes.combine([answer(value) for value in (3.1, 3.3, 3.5)]))
    speedup = record["statistics"]["speedup"]
    assert (speedup["value"], speedup["low"], speedup["high"]) == pytest.approx((3.3, 3.1, 3.5))
    assert speedup["method"].endswith(", widened; widened to the spread of 3 processes")
    assert record["processes"]["published"] == 1
    assert record["processes"]["spread"] == pytest.approx({"low": 3.1, "high": 3.5})
    assert supervisor.describe(Measurement.model_validate(record)).endswith("; 3 processes: 3.100x to 3.500x")
    cycle = record["inference_cycle"]["speedup"]
    assert (cycle["low"], cycle["high"]) == pytest.approx((3.1, 3.5))
    within = record["processes"]["runs"][1]["speedup"]
    assert 3.1 < within["low"] < within["high"] < 3.5


def test_a_spread_inside_the_interval_changes_nothing():
    alone = answer(3.3)["fields"]["statistics"]["speedup"]
    record = record_of(processes.combine([answer(value) for value in (3.299, 3.3, 3.301)]))
    assert record["statistics"]["speedup"] == alone
    assert len(record["processes"]["runs"]) == 3


def test_an_even_number_publishes_the_lower_of_the_middle_ones():
    record = record_of(processes.combine([answer(value) for value in (3.4, 3.1, 3.3, 3.2)]))
    assert record["processes"]["published"] == 3
    assert record["statistics"]["speedup"]["value"] == pytest.approx(3.2)


def test_a_noisy_minority_is_not_published_but_widens():
    responses = [answer(3.3), answer(9.0, "noisy"), answer(3.2), answer(3.4), answer(9.1, "noisy")]
    record = record_of(processes.combine(responses))
    assert record["status"] == "ok"
    assert record["statistics"]["speedup"]["value"] == pytest.approx(3.3)
    assert record["statistics"]["speedup"]["high"] == pytest.approx(9.1)
    assert [run["status"] for run in record["processes"]["runs"]] == ["ok", "noisy", "ok", "ok", "noisy"]


def test_noise_in_half_of_the_processes_is_a_noisy_record():
    record = record_of(processes.combine([answer(3.3), answer(3.4, "noisy")]))
    assert record["status"] == "noisy"
    assert record["reason"] == "1 of 2 processes were noisy; the first: a loud neighbour"


def test_a_process_without_a_round_counts_as_noisy_and_all_of_them_leave_no_figure():
    record = record_of(processes.combine([answer(3.3), answer(None, "noisy"), answer(3.4)]))
    assert record["status"] == "ok"
    assert record["processes"]["runs"][1]["speedup"] is None
    nothing = record_of(processes.combine([answer(None, "noisy"), answer(None, "noisy")]))
    assert nothing["reason"] == "in every process: a loud neighbour"
    assert nothing.get("processes") is None


@pytest.mark.parametrize("status", ["failed", "out_of_memory"])
def test_a_process_that_ends_badly_ends_the_measurement_and_is_named(status):
    stopped = processes.stopped_by({"status": status, "reason": "no more"}, 3, 10)
    assert stopped == {"status": status, "reason": "process 4 of 10: no more"}


def test_a_wrong_answer_in_one_process_is_a_wrong_answer():
    stopped = processes.stopped_by(answer(3.3, "incorrect", reason="elastic arm: off"), 1, 2)
    assert stopped["fields"]["status"] == "incorrect"
    assert stopped["fields"]["reason"] == "process 2 of 2: elastic arm: off"
    assert processes.stopped_by(answer(3.3), 0, 2) is None
    assert processes.stopped_by(answer(3.3, "noisy"), 0, 2) is None


def test_real_processes_each_leave_their_samples(cpu_build):
    case = matrix.case_from_flags({**TINY, "measure": {**QUICK, "processes": 2}}).model_dump(mode="json")
    record = supervisor.measure_case(case, str(cpu_build), fixed=("reps", "warmup", "inner_loops"))
    records.check(record, "measurement", "two")
    assert record["status"] in ("ok", "noisy"), record["reason"]
    runs = record["processes"]["runs"]
    assert [len(run["full_us"]) for run in runs] == [4, 4]
    assert runs[0]["elastic_us"] != runs[1]["elastic_us"]
    published = runs[record["processes"]["published"]]
    assert record["samples"]["elastic_us"] == published["elastic_us"]
    low, high = (record["statistics"]["speedup"][key] for key in ("low", "high"))
    assert all(low <= run["speedup"]["value"] <= high for run in runs)


def test_a_process_that_dies_leaves_a_failed_record_that_names_it(cpu_build, monkeypatch, tmp_path):
    """The first worker is real, the second is killed as it starts."""
    started = tmp_path / "started"
    python = tmp_path / "python"
    real = f'exec {sys.executable} "$@"'
    python.write_text(f"#!/bin/sh\nif [ -e {started} ]; then kill -9 $$; fi\ntouch {started}\n{real}\n")
    python.chmod(0o755)
    monkeypatch.setattr(jobs.process, "interpreter", lambda _: str(python))
    case = matrix.case_from_flags({**TINY, "measure": {**QUICK, "processes": 3}}).model_dump(mode="json")
    record = supervisor.measure_case(case, str(cpu_build))
    records.check(record, "measurement", "killed")
    assert record["status"] == "failed"
    assert record["reason"].startswith("process 2 of 3: the worker was killed by SIGKILL")


def test_bench_takes_processes_and_the_store_knows_them():
    flags = ["bench", "--backend=cpu", "--processes", "2"]
    two, one = (bench.case_of(cli.build_parser().parse_args(given)) for given in (flags, flags[:2]))
    assert two["measure"] == {**one["measure"], "processes": 2}
    assert (processes.count(two), processes.count(one)) == (2, 1)
    first, second = (supervisor.Case(case, "cpu", "build", {"fingerprint": "f" * 64}) for case in (one, two))
    assert first.known_by(one["id"]) != second.known_by(two["id"])
