"""Steady work: queued replays, blocks of both arms, the speedup over processes, and its verdict. On made-up devices."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from types import SimpleNamespace

import pytest
from results_folder import LIMITS, example, typed

from elastickv.audit import judgement
from elastickv.audit import sustained as audit
from elastickv.audit.finding import Findings
from elastickv.device.base import Lap
from elastickv.device.cuda import CudaBackend, Program
from elastickv.judge import verdict
from elastickv.measure import statistics, steady, sustained
from elastickv.schemas.measurement import Snapshot
from elastickv.schemas.parts import Unavailable


class Gpu:
    """A backend whose launches take longer as it works, as under a power cap: `seconds[arm]`, then times `steady`."""

    def __init__(self, seconds: dict[str, float], idle: float = 0.0, steady: float = 1.0):
        self.times, self.idle, self.steady, self.worked, self.closed = seconds, idle, steady, 0.0, 0

    def seconds(self, *programs, lead=()):
        return sum(self.times[program] for program in programs)

    def laps(self, *programs, ahead):
        assert ahead >= 2
        try:
            for _ in itertools.count():
                slower = self.steady if self.worked > 0.5 else 1.0
                took = slower * self.seconds(*programs)
                self.worked += took
                yield Lap(took, self.idle * took)
        finally:
            self.worked, self.closed = 0.0, self.closed + 1


STATE = SimpleNamespace(snapshot=lambda: Snapshot(sm_mhz=1400, power_w=690.0))
TIMES = {"full": 0.0004, "elastic": 0.0002}


def replays(gpu: Gpu, launches: int = 20):
    return {arm: lambda arm=arm: steady.Replays(gpu, [arm], launches) for arm in TIMES}


def blocks_of(gpu: Gpu, seconds: float = 2.0):
    return sustained.series(replays(gpu), seconds, STATE)


def test_blocks_are_full_elastic_elastic_full_without_their_first_second():
    gpu = Gpu(TIMES, steady=1.5)
    blocks = blocks_of(gpu)
    assert [one.arm for one in blocks] == ["full", "elastic", "elastic", "full"]
    assert gpu.closed == 4
    for one in blocks:
        assert 2.0 <= one.seconds < 2.1
        assert one.seconds / one.launches == pytest.approx(1.5 * TIMES[one.arm] / 20)  # none of the quick ones
        assert (one.busy, one.sm_mhz, one.power_w) == (1.0, 1400, 690.0)
    assert sustained.ratio(blocks) == pytest.approx(2.0)


def test_a_lap_is_long_enough_to_time_and_laps_are_queued_ahead():
    taken = steady.Replays(Gpu({"quick": 0.0001}), ["quick"], 7)
    with contextlib.closing(taken.work()) as work:
        done = next(work)
    assert done.seconds == pytest.approx(0.005)
    assert done.launches == 50 * 7


def test_time_without_work_counts_and_its_share_is_recorded():
    blocks = blocks_of(Gpu(TIMES, idle=0.25))
    assert blocks[0].busy == pytest.approx(0.8)
    assert blocks[0].seconds / blocks[0].launches == pytest.approx(1.25 * TIMES["full"] / 20)
    idle = sustained.over_processes([blocks] * 3, 2.0, 0.99)
    assert idle.speedup is None
    assert idle.reason == "the device worked 80.0% of a block, at least 95% needed"


def processes_at(*ratios: float):
    return [blocks_of(Gpu({"full": 0.0004, "elastic": 0.0004 / ratio})) for ratio in ratios]


def test_the_interval_is_student_s_over_processes():
    ratios = (1.98, 2.0, 2.03)
    found = sustained.over_processes(processes_at(*ratios), 2.0, 0.99)
    logs = [math.log(ratio) for ratio in ratios]
    mean = sum(logs) / 3
    error = math.sqrt(sum((log - mean) ** 2 for log in logs) / 2 / 3)
    half = 9.925 * error  # t(0.995, 2)
    assert found.speedup.value == pytest.approx(math.exp(mean))
    assert (found.speedup.low, found.speedup.high) == pytest.approx(
        (math.exp(mean - half), math.exp(mean + half)), rel=1e-5
    )
    assert found.reason is None


@pytest.mark.parametrize(("count", "words"), [(1, "one process"), (2, "2 processes")])
def test_fewer_than_three_processes_have_no_sustained_speedup(count, words):
    found = sustained.over_processes(processes_at(*[2.0] * count), 2.0, 0.99)
    assert found.speedup is None
    assert found.reason == f"measured by {words}; an interval takes 3"
    assert len(found.runs) == count


def test_no_interval_over_processes_is_narrower_than_within_one():
    within = [statistics.median_interval([value] * 20, 0.99) for value in (2.0, 2.0, 2.0)]
    assert statistics.over_processes([2.0] * 3, 0.99, within).low == pytest.approx(2.0)
    wide = [one.model_copy(update={"low": 1.9, "high": 2.2}) for one in within]
    found = statistics.over_processes([2.0] * 3, 0.99, [*wide[:2], within[0]])
    assert (found.low, found.high) == pytest.approx((1.9, 2.2))
    assert found.method == "mean of the logarithms of 3 processes, t, as wide as within one"
    apart = statistics.over_processes([1.0, 1e30], 0.99)
    assert 0 < apart.low < apart.value < apart.high < math.inf


# The GPU's own queue.


class Clock:
    """What CuPy offers of a stream and its events, on a made-up clock that goes on only where work is enqueued."""

    def __init__(self, host: float = 0.0):
        self.host, self.device, self.waits = host, 0.0, 0
        self.stream = SimpleNamespace(ptr=0, synchronize=self.wait)
        self.cuda = SimpleNamespace(Event=lambda: Event(self), get_elapsed_time=lambda a, b: (b.at - a.at) * 1e3)

    def wait(self):
        self.waits += 1

    def work(self, _stream=None):
        self.device += 0.004

    def idle(self):
        self.device += self.host


class Event:
    def __init__(self, clock: Clock):
        self.clock, self.at = clock, math.nan

    def record(self, _stream):
        self.clock.idle()
        self.at = self.clock.device

    def synchronize(self):
        assert not math.isnan(self.at)


@pytest.mark.parametrize("ahead", [0, 2, 5])
def test_laps_of_a_gpu_are_queued_and_timed_with_what_is_between_them(ahead):
    clock = Clock(host=0.001)
    backend = CudaBackend.__new__(CudaBackend)
    backend._cupy, backend._stream = clock, clock.stream
    program = Program(SimpleNamespace(launch=clock.work), [])
    laps = backend.laps(program, program, ahead=ahead)
    taken = [next(laps) for _ in range(10)]
    assert clock.device == pytest.approx((10 + ahead) * (2 * 0.004 + 2 * 0.001))
    assert [lap.seconds for lap in taken] == pytest.approx([0.009] * 10)  # two replays, and the end's own record
    assert [lap.idle for lap in taken] == pytest.approx([0.0] + [0.001] * 9)
    assert clock.waits == 0
    laps.close()
    assert clock.waits == 1


# Judged and audited.


def with_steady_work(*ratios: float, name: str = "4096_elementwise") -> dict:
    record = example(name)
    record["case"]["measure"] |= {"processes": 3, "sustained_seconds": 2}
    found = sustained.over_processes(processes_at(*ratios), 2.0, 0.99)
    record["statistics"]["sustained"] = found.model_dump(mode="json")
    return record


def judged(record: dict):
    entry = verdict.judge(typed(record), LIMITS)
    expected = judgement.judge(record, LIMITS.model_dump())["criteria"]["sustained"]
    assert entry.criteria.sustained.model_dump(exclude={"reason"}) == expected
    return entry


def test_golden_needs_the_samples_and_the_steady_work():
    assert judged(with_steady_work(1.97, 1.97, 1.97)).verdict == "golden_ticket"
    capped = judged(with_steady_work(1.90, 1.90, 1.90))
    assert (capped.verdict, capped.criteria.sustained.outcome) == ("excellent", "fail")
    assert "sustained fail" in capped.reason
    assert judged(with_steady_work(1.9, 1.96, 2.0)).criteria.sustained.outcome == "ambiguous"


def test_without_steady_work_nothing_is_golden():
    record = with_steady_work(1.97, 1.97, 1.97)
    record["statistics"]["sustained"] = Unavailable(value=None, reason=sustained.too_few(1)).model_dump()
    few = judged(record)
    assert (few.verdict, few.criteria.sustained.outcome) == ("excellent", "not_measured")
    assert few.criteria.sustained.reason == "measured by one process; an interval takes 3"
    assert judged(example("4096_cpu")).criteria.sustained.outcome == "not_applicable"


def test_steady_work_beyond_the_bytes_is_no_number():
    found = judged(with_steady_work(2.9, 2.9, 2.9)).criteria.sustained
    assert (found.outcome, found.value) == ("not_measured", None)
    assert "above the byte ceiling" in found.reason


def faults(record: dict) -> list[str]:
    findings = Findings()
    audit.check(findings.of("results_x.json"), record)
    return [str(fault) for fault in findings.faults]


def test_the_audit_makes_the_sustained_speedup_again():
    record = with_steady_work(1.96, 1.97, 1.98)
    assert faults(record) == []
    for change, where in (
        (lambda found: found["speedup"].update(low=found["speedup"]["low"] * 1.01), "speedup.low"),
        (lambda found: found["runs"][1][2].update(seconds=2.5), "speedup.value"),
        (lambda found: found["runs"][1][2].update(seconds=0.5), "runs.1.2.seconds"),
        (lambda found: found["runs"][0][3].update(busy=0.9), "speedup: found a speedup, expected"),
        (lambda found: found["runs"].pop(), "runs: found 2, expected 3 processes"),
        (lambda found: found["runs"][0].reverse() or found["runs"][0][0].update(arm="elastic"), "runs.0.arm"),
        (lambda found: found.update(speedup=None, reason="lost"), "speedup: found none"),
    ):
        changed = copy.deepcopy(record)
        change(changed["statistics"]["sustained"])
        assert any(where in fault for fault in faults(changed)), (where, faults(changed))
