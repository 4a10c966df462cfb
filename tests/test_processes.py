"""One case in several processes: which of them is published, and the interval over all of them."""

from __future__ import annotations

import math
import sys
from statistics import fmean, median, stdev

import pytest
from results_folder import example

from elastickv import cli, jobs, matrix, records
from elastickv.judge import verdict
from elastickv.measure import bench, processes, steps, supervisor
from elastickv.schemas.base import given
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.parts import BuildUsed

TINY = {"id": "tiny", "backend": "cpu", "seq": 128, "heads": 2, "dim": 64, "compress": 4, "sinks": 4, "window": 32}
QUICK = {"reps": 4, "warmup": 0, "inner_loops": 1, "max_seconds": 5, "decode_tokens": 0}


def answer(speedup: float | None = 3.3, status: str = "ok", **changes) -> Measurement:
    """The record of a process that found `speedup` (None: every round was dropped)."""
    content = example("4096_cpu")
    for interval in (content["statistics"]["speedup"], content["inference_cycle"]["speedup"]):
        factor = (speedup or 1) / interval["value"]
        interval |= {key: interval[key] * factor for key in ("value", "low", "high")}
    content |= {"status": status, "reason": None if status == "ok" else "a loud neighbour"}
    if speedup is None:
        content |= dict.fromkeys(("statistics", "bytes", "efficiency", "inference_cycle", "original_score"))
        content["samples"] |= {
            "order": [],
            "full_us": [],
            "elastic_us": [],
            "full_again_us": [],
            "elastic_again_us": [],
        }
        content["samples"]["dropped"] = [{"index": 0, "reason": "thermal"}]
    return Measurement.model_validate({**content, **changes})


def combined(*found: Measurement) -> Measurement:
    made = processes.combine(found)
    records.check(made.model_dump(mode="json"), "measurement", "processes")
    return made


def test_the_published_interval_is_student_s_over_the_processes_and_says_so():
    record = combined(*(answer(value) for value in (3.28, 3.3, 3.33)))
    speedup = record.statistics.speedup
    logs = [math.log(value) for value in (3.28, 3.3, 3.33)]
    half = 9.924843 * stdev(logs) / math.sqrt(3)  # t(0.995, 2)
    ends = [math.exp(fmean(logs) + side * half) for side in (0, -1, 1)]
    assert (speedup.value, speedup.low, speedup.high) == pytest.approx(ends, rel=1e-6)
    assert speedup.method == "mean of the logarithms of 3 processes, t"
    assert record.processes.published == 1
    assert record.processes.spread.model_dump() == pytest.approx({"low": 3.28, "high": 3.33})
    assert supervisor.describe(record).endswith("; 3 processes: 3.280x to 3.330x")
    assert record.inference_cycle.speedup == speedup.model_copy(
        update=record.inference_cycle.speedup.model_dump(include={"low", "high", "value"})
    )
    within = record.processes.runs[1].speedup
    assert speedup.low < within.low < within.high < speedup.high


def test_the_original_s_score_is_that_of_the_published_speedup():
    device = example("4096_cpu")["device"] | {"peak_gbps": 1e4}
    record = combined(*(answer(value, device=device) for value in (1.1, 1.2, 1.25)))
    copies = [one.bytes / one.us / 1e3 for one in record.samples.read_ceiling if one.kind == "copy"]
    expected = 0.5 * median(copies) / 1e4 + 0.5 * record.statistics.speedup.value
    assert record.original_score == pytest.approx(expected) and expected < 1


def test_processes_that_agree_have_an_interval_as_wide_as_that_of_one():
    alone = answer(3.3).statistics.speedup
    record = combined(*(answer(value) for value in (3.2999, 3.3, 3.3001)))
    speedup = record.statistics.speedup
    assert speedup.low / speedup.value == pytest.approx(alone.low / alone.value)
    assert speedup.high / speedup.value == pytest.approx(alone.high / alone.value)
    assert speedup.method == "mean of the logarithms of 3 processes, t, as wide as within one"
    assert len(record.processes.runs) == 3


@pytest.mark.parametrize("series", ["elastic_us", "elastic_again_us"])
def test_the_largest_variation_of_any_process_is_judged(series):
    restless = answer(3.31)
    times = [time * (1.3 if index % 2 else 1.0) for index, time in enumerate(getattr(restless.samples, series))]
    restless = restless.model_copy(update={"samples": restless.samples.model_copy(update={series: times})})
    record = combined(answer(3.29), answer(3.3), restless)
    assert record.processes.published == 1
    assert record.processes.cv == max(run.cv for run in record.processes.runs) > 0.1
    assert verdict.cv_criterion(record, 0.05).outcome == "fail"
    assert record.statistics.elastic.cv_trimmed < 0.05


def test_processes_share_the_time():
    settings = matrix.case_from_flags({**TINY, "measure": {"max_seconds": 30}}).measure
    assert steps.rule(settings).max_seconds == 30
    assert steps.rule(settings, processes=3).max_seconds == 10


def test_an_even_number_publishes_the_lower_of_the_middle_ones():
    record = combined(*(answer(value) for value in (3.4, 3.1, 3.3, 3.2)))
    assert record.processes.published == 3
    assert record.statistics.speedup.value == pytest.approx((3.4 * 3.1 * 3.3 * 3.2) ** 0.25)


def test_a_noisy_minority_is_not_published_but_counts():
    responses = [answer(3.3), answer(9.0, "noisy"), answer(3.2), answer(3.4), answer(9.1, "noisy")]
    record = combined(*responses)
    assert record.status == "ok"
    assert record.processes.published == 0
    assert record.statistics.speedup.high > 9.1  # no process is left out
    assert [run.status for run in record.processes.runs] == ["ok", "noisy", "ok", "ok", "noisy"]


def test_noise_in_half_of_the_processes_is_a_noisy_record():
    record = combined(answer(3.3), answer(3.4, "noisy"))
    assert record.status == "noisy"
    assert record.reason == "1 of 2 processes were noisy; the first: a loud neighbour"


def test_a_process_without_a_round_counts_as_noisy_and_all_of_them_leave_no_figure():
    record = combined(answer(3.3), answer(None, "noisy"), answer(3.4))
    assert record.status == "ok"
    assert record.processes.runs[1].speedup is None
    nothing = combined(answer(None, "noisy"), answer(None, "noisy"))
    assert nothing.reason == "in every process: a loud neighbour"
    assert given(nothing.processes) is None


@pytest.mark.parametrize("status", ["out_of_memory", "incorrect"])
def test_a_process_that_ends_badly_ends_the_measurement_and_is_named(status):
    stopped = processes.stopped_by(answer(3.3, status, reason="elastic arm: off"), 1, 2)
    assert (stopped.status, stopped.reason) == (status, "process 2 of 2: elastic arm: off")
    assert processes.stopped_by(answer(3.3), 0, 2) is None
    assert processes.stopped_by(answer(3.3, "noisy"), 0, 2) is None


def test_real_processes_each_leave_their_samples(cpu_build):
    case = matrix.case_from_flags({**TINY, "measure": {**QUICK, "processes": 2}})
    record = supervisor.measure_case(case, str(cpu_build), fixed=("reps", "warmup", "inner_loops"))
    records.check(record.model_dump(mode="json"), "measurement", "two")
    assert record.status in ("ok", "noisy"), record.reason
    runs = record.processes.runs
    assert [len(run.full_us) for run in runs] == [4, 4]
    assert runs[0].elastic_us != runs[1].elastic_us
    published = runs[record.processes.published]
    assert record.samples.elastic_us == published.elastic_us
    speedup = record.statistics.speedup
    assert all(speedup.low <= run.speedup.value <= speedup.high for run in runs)


def test_a_process_that_dies_leaves_a_failed_record_that_names_it(cpu_build, monkeypatch, tmp_path):
    """The first worker is real, the second is killed as it starts."""
    started = tmp_path / "started"
    python = tmp_path / "python"
    real = f'exec {sys.executable} "$@"'
    python.write_text(f"#!/bin/sh\nif [ -e {started} ]; then kill -9 $$; fi\ntouch {started}\n{real}\n")
    python.chmod(0o755)
    monkeypatch.setattr(jobs.process, "interpreter", lambda _: str(python))
    case = matrix.case_from_flags({**TINY, "measure": {**QUICK, "processes": 3}})
    record = supervisor.measure_case(case, str(cpu_build))
    records.check(record.model_dump(mode="json"), "measurement", "killed")
    assert record.status == "failed"
    assert record.reason.startswith("process 2 of 3: the worker was killed by SIGKILL")


def test_bench_takes_processes_and_the_store_knows_them():
    flags = ["bench", "--backend=cpu", "--processes", "2"]
    two, one = (bench.case_of(cli.build_parser().parse_args(given)) for given in (flags, flags[:2]))
    assert two.measure == one.measure.model_copy(update={"processes": 2})
    assert (two.measure.processes, one.measure.processes) == (2, 1)
    built = BuildUsed.model_validate(example("4096_cpu")["build"])
    first, second = (supervisor.Case(case, "cpu", "build", built) for case in (one, two))
    assert first.known_by(one.id) != second.known_by(two.id)
