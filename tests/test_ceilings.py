"""Ceilings by size: cold at every size, bounded in time; what the cases reach is held against them."""

from __future__ import annotations

import itertools

import pytest
from pydantic import MISSING
from results_folder import example, gpu_folder, judged, make, put

from elastickv import records
from elastickv.cache import bytes_moved
from elastickv.device.cpu import CpuBackend
from elastickv.measure import ceilings
from elastickv.report import environment, figures, inputs, markdown
from elastickv.schemas.ceilings import Ceilings, Point

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.mark.parametrize(("backend", "cache"), [("cpu", MIB), ("cuda", 60 * MIB), ("cuda", 480 * MIB)])
def test_every_size_flushes_the_cache_before_a_place_comes_again(backend, cache):
    buffer = ceilings.buffer_bytes(backend, cache, budget=80 * GIB)
    sizes = ceilings.sizes_of(backend, buffer)
    assert sizes[0] == 256 * KIB
    assert sizes[-1] == {"cuda": 4 * GIB, "cpu": GIB}[backend]
    assert all(large == 2 * small for small, large in itertools.pairwise(sizes))
    for nbytes in sizes:
        launches, places, cold = ceilings.launches_of(backend, nbytes, buffer, cache)
        assert cold
        assert places * nbytes >= bytes_moved.COLD_FACTOR * cache
        assert places * nbytes <= buffer
        assert places <= launches <= ceilings.MOST_LAUNCHES
        assert launches * nbytes <= max(2 * ceilings.LARGEST_BYTES[backend], bytes_moved.COLD_FACTOR * cache + nbytes)


def test_a_buffer_too_small_for_a_cold_cache_is_said_to_be():
    buffer = ceilings.buffer_bytes("cpu", 480 * MIB, budget=GIB)
    assert buffer == GIB // 2
    assert ceilings.sizes_of("cpu", buffer)[-1] == GIB // 2
    launches, places, cold = ceilings.launches_of("cpu", 64 * MIB, buffer, 480 * MIB)
    assert (launches, places, cold) == (30, 8, False)


class SmallMachine(CpuBackend):
    """This one, with a cache of 1 MiB as far as it knows, so that a test need not walk through much."""

    def facts(self):
        return super().facts() | {"last_level_cache_bytes": MIB}


def test_a_curve_of_this_machine_fits_the_schema(cpu_build, monkeypatch):
    monkeypatch.setitem(ceilings.LARGEST_BYTES, "cpu", 4 * MIB)
    monkeypatch.setitem(ceilings.LIMIT_SECONDS, "cpu", 0.0)
    backend = SmallMachine(cpu_build / "cpu")
    points = ceilings.curve(backend)
    backend.free_all()
    assert [point.bytes for point in points] == [256 * KIB << power for power in range(5)]
    for point in points:
        assert point.cold and point.dependent is MISSING
        for kind in ceilings.KINDS:
            assert len(getattr(point, kind).samples) == ceilings.FEWEST_ROUNDS
            assert 0 < getattr(point, kind).value < 2000  # on a busy machine a pass of 256 KiB may wait for its core
    record = example("ceilings") | {"points": [point.model_dump() for point in points], "backend": "cpu"}
    records.check(record, "ceilings", "a curve")


def test_between_two_sizes_time_grows_evenly():
    def gbps(nbytes: float) -> float:
        return nbytes / (2e-6 + nbytes / 1e12) / 1e9

    curve = [(size, gbps(size)) for size in (MIB, 4 * MIB, 16 * MIB)]
    for nbytes in (MIB, 1.5 * MIB, 4 * MIB, 9 * MIB):
        assert bytes_moved.curve_gbps(curve, nbytes) == pytest.approx(gbps(nbytes))
    assert bytes_moved.curve_gbps(curve, 64 * MIB) == curve[-1][1]
    assert bytes_moved.curve_gbps(curve, MIB - 1) is None
    assert bytes_moved.curve_gbps([], MIB) is None


def test_a_case_is_held_against_launches_like_its_own():
    points = Ceilings.model_validate(example("ceilings")).points
    plain, dependent = (dict(environment.curve_of(points, launch)) for launch in ("plain", "dependent"))
    assert dependent[4 * MIB] == points[0].dependent.read_gbps.value > plain[4 * MIB]
    older = [Point(**point.model_dump(exclude={"dependent"})) for point in points]
    assert environment.curve_of(older, "dependent") == []
    assert environment.curve_of(older, "plain") == list(plain.items())


def test_the_report_and_the_figure_have_the_cases_beside_the_curve(tmp_path):
    loaded = inputs.load(gpu_folder(tmp_path) / ".plan/cases.json", tmp_path / "results")
    text = markdown.report(loaded)
    record = example("4096_golden_ticket")
    achieved = record["efficiency"]["elastic"]["achieved_gbps"]
    row = next(line for line in text.splitlines() if line.startswith("| `4096_golden_ticket` | elastic"))
    assert f"{achieved:,.0f}" in row
    assert row.rstrip(" |").endswith("%")
    drawn = figures.achieved_data(loaded)
    assert ("4096_golden_ticket", "elastic", record["bytes"]["elastic"], achieved) in drawn
    assert not [row for row in drawn if row.case in ("4096_noisy", "4096_incorrect")]


def test_a_warm_case_is_not_held_against_a_cold_curve(tmp_path):
    results = make(tmp_path / "results", ("1024_standard",), "ceilings")
    record = example("1024_standard")
    record["resolved"]["cold"] = False
    put(results, record)
    loaded = inputs.load(judged(results) / ".plan/cases.json", results)
    assert figures.achieved_data(loaded) == []
    assert "### Bandwidth of the cases" not in markdown.report(loaded)


def state(loaded):
    """The report's section about the machine's state."""
    return markdown.report(loaded).split("## State of the machine\n")[1].split("\n## ")[0]


def test_the_report_tells_the_state_of_the_machine(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket", "4096_elementwise", "4096_failed"), "ceilings")
    record = example("4096_golden_ticket")
    record["machine"]["others_on_gpu"]["value"] = [{"pid": 4711, "name": "a|b", "memory_bytes": None, "sm_percent": 0}]
    record["throttling"]["ranges"]["sm_mhz"]["low"] = 1755
    put(results, record)
    loaded = inputs.load(judged(results) / ".plan/cases.json", results)
    text = state(loaded)
    row = next(line for line in text.splitlines() if "`4096_golden_ticket`" in line)
    assert "1,755 to 1,980" in row and "software power cap (3 of 60)" in row and "a\\|b (4711)" in row
    joules = record["energy"]["joules_per_token"]
    assert f"{joules['elastic'] * 1e3:.4g}" in text
    assert f"{joules['full'] / joules['elastic']:.2f}x" in text
    assert "NVML: Not Supported" in text


def test_a_cpu_run_tells_the_load_of_others(tmp_path):
    results = judged(make(tmp_path / "results", ("4096_cpu",)))
    text = state(inputs.load(results / ".plan/cases.json", results))
    assert "others' load during" in text and "0.02" in text
    assert "SM, MHz" not in text


def test_nothing_timed_is_no_section(tmp_path):
    results = judged(make(tmp_path / "results", ("4096_failed",)))
    assert "State of the machine" not in markdown.report(inputs.load(results / ".plan/cases.json", results))
