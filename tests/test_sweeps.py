"""Sweeps in the report: which cases make a grid, cells without a result, and the figures drawn from them."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from results_folder import cpu_folder, elastickv, example, judged, planned, swept, without_result

from elastickv import matrix
from elastickv.pipeline import plan
from elastickv.report import drawing, drawing_sweeps, inputs, sweeps, text

SEQS, COMPRESSES, DTYPES = (1024, 4096), (2, 4, 8), ("fp16", "int4")


def sweep_records():
    """One record for each place, their speedups all different."""
    return [
        swept(
            f"s-{seq}-{compress}-{dtype}", seq, compress, dtype, compress * (1.5 if dtype == "int4" else 1) + seq / 1e4
        )
        for seq in SEQS
        for compress in COMPRESSES
        for dtype in DTYPES
    ]


def loaded(results):
    return inputs.load(results / ".plan/cases.json", results)


def words(figure):
    """All text of a drawn figure, line by line."""
    import matplotlib.text

    return [line for item in figure.findobj(matplotlib.text.Text) for line in item.get_text().split("\n")]


def test_cases_that_differ_on_the_axes_alone_are_one_grid(tmp_path):
    other = swept("other", 2048, 2, "fp16", 1.7)
    other["case"]["heads"] = other["case"]["kv_heads"] = 8
    results = judged(planned(tmp_path / "results", [*sweep_records(), other]))
    (grid,) = sweeps.grids(loaded(results))
    assert (grid.seqs, grid.amounts, grid.cache_dtypes) == (list(SEQS), list(COMPRESSES), list(DTYPES))
    assert len(grid.cells) == 12
    assert grid.cells["int4", 8, 4096].speedup.value == pytest.approx(12.4096)
    assert grid.cells["int4", 8, 4096].byte_ceiling == pytest.approx(12.4096 / 0.9)
    assert grid.shape == "decode, 32 heads x 128, fp16, sinks 4, window 256, anchor value_norm"
    assert grid.device == "CPU: Intel(R) Xeon(R) Platinum 8481C, 2 threads"
    assert not grid.without_result


def test_formats_of_keys_and_values_are_one_axis_with_a_colour_between_both(tmp_path):
    """A pair of formats has a separate panel."""
    records = sweep_records()
    for record in [one for one in records if one["case"]["cache_dtype"] == "int4"]:
        record["case"]["key_dtype"] = "int8"
    results = judged(planned(tmp_path / "results", records))
    (grid,) = sweeps.grids(loaded(results))
    assert grid.cache_dtypes == ["fp16", "int8/int4"]
    assert "cache in int8/int4" in words(drawing_sweeps.against_ceilings(grid))
    colours = [drawing_sweeps._colour(stored) for stored in ("int8", "int8/int4", "int4")]
    assert colours[1] == pytest.approx([(one + other) / 2 for one, other in zip(colours[0], colours[2], strict=True)])


def test_a_sweep_keeps_its_name(tmp_path):
    """Two sweeps over the same shape are two grids, each named in the report and in its heat map."""
    ids = [record["case"]["id"] for record in sweep_records()]
    again = [swept(f"again-{seq}-{compress}", seq, compress, "fp16", 1.5) for seq in SEQS for compress in COMPRESSES]
    named = {"lengths": ids, "again": [record["case"]["id"] for record in again]}
    results = judged(planned(tmp_path / "results", [*sweep_records(), *again], named))
    first, second = sweeps.grids(loaded(results))
    assert [first.name, second.name] == ["lengths", "again"]
    assert len(first.cells) == 12 and len(second.cells) == 6
    assert any(line.startswith("lengths: decode, 32 heads x 128") for line in words(drawing_sweeps.heat_map(first)))
    report = elastickv(["report", "markdown"], results, "report.md").read_text(encoding="utf-8")
    assert "### lengths: decode, 32 heads x 128" in report and "### again: decode" in report


def test_the_plan_names_the_sweep_of_each_of_its_cases(tmp_path):
    matrix_file = tmp_path / "matrix.yaml"
    axes = "matrices: {lengths: {base: {heads: 2, dim: 64, compress: 2}, axes: {seq: [64, 128]}}}\n"
    matrix_file.write_text("cases: {alone: {seq: 64, heads: 2, dim: 64, compress: 4}}\n" + axes, encoding="utf-8")
    config = matrix.load([matrix_file])
    resolved = plan.resolve(config)
    listed = json.loads(plan.results_contents(config, resolved)[resolved.folder / "cases.json"])
    assert listed["sweeps"] == {"lengths": ["lengths-seq64", "lengths-seq128"]}
    assert listed["cases"][0] == "alone"


def test_a_matrix_that_is_no_sweep_has_no_grid(tmp_path):
    results = cpu_folder(tmp_path)
    assert sweeps.grids(loaded(results)) == []
    assert "Sweep" not in elastickv(["report", "markdown"], results, "report.md").read_text(encoding="utf-8")
    assert not list(elastickv(["report", "figures"], results, "figures").glob("heat_map*"))


def broken_sweep(tmp_path):
    """The sweep with a noisy, a failed, an unsupported and a missing case, and one whose claim is beyond its bytes."""
    records = {record["case"]["id"]: record for record in sweep_records()}
    records["s-1024-2-fp16"] |= {"status": "noisy", "reason": "the control strayed"}
    records["s-1024-4-fp16"] = without_result(records["s-1024-4-fp16"], "failed", "the worker was killed")
    records["s-1024-8-fp16"] = without_result(records["s-1024-8-fp16"], "out_of_memory", "no room")
    records["s-1024-2-int4"]["bytes"]["ceiling"] = 1.5
    results = planned(tmp_path / "results", list(records.values()))
    (results / "results_s-1024-4-int4.json").unlink()
    return judged(results)


BROKEN = {
    ("fp16", 2, 1024): ("✗", "noisy"),
    ("fp16", 4, 1024): ("✗", "failed"),
    ("fp16", 8, 1024): ("·", "out of memory"),
    ("int4", 2, 1024): ("✗", "noisy"),
    ("int4", 4, 1024): ("✗", "failed"),
}


def test_cells_without_a_result_have_a_mark_and_no_number(tmp_path):
    (grid,) = sweeps.grids(loaded(broken_sweep(tmp_path)))
    missing = {place: cell for place, cell in grid.cells.items() if cell.speedup is None}
    assert {place: (cell.mark, cell.status) for place, cell in missing.items()} == BROKEN


def test_the_heat_map_writes_numbers_for_results_alone(tmp_path):
    (grid,) = sweeps.grids(loaded(broken_sweep(tmp_path)))
    with drawing.style():
        figure = drawing_sweeps.heat_map(grid)
    drawn = words(figure)
    numbers = [text.times_short(cell.speedup.value) for cell in grid.cells.values() if cell.speedup]
    ticks = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    assert sorted(word for word in drawn if word.endswith("x") and word not in ticks) == sorted(numbers)
    assert drawn.count("✗") == 4 and drawn.count("·") == 1
    hatched = [patch for axes in figure.axes for patch in axes.patches if patch.get_hatch()]
    assert len(hatched) == len(BROKEN)
    assert "full cache" not in drawn  # compress 1 is no part of this sweep


def test_the_full_cache_is_named_where_it_would_stand(tmp_path):
    records = [*sweep_records(), swept("kept", 1024, 1, "int4", 3.0)]
    (grid,) = sweeps.grids(loaded(judged(planned(tmp_path / "results", records))))
    with drawing.style():
        drawn = words(drawing_sweeps.heat_map(grid))
    assert drawn.count("full cache") == len(SEQS)


def test_the_other_figure_draws_each_result_against_both_ceilings(tmp_path):
    (grid,) = sweeps.grids(loaded(broken_sweep(tmp_path)))
    with drawing.style():
        figure = drawing_sweeps.against_ceilings(grid)
    drawn = [
        [(float(bars.lines[0].get_xdata()[0]), float(bars.lines[0].get_ydata()[0])) for bars in axes.containers]
        for axes in figure.axes
    ]
    results = [cell for cell in grid.cells.values() if cell.speedup]
    for points, key in zip(drawn, ("byte_ceiling", "reachable_ceiling"), strict=True):
        assert points == [(getattr(cell, key), cell.speedup.value) for cell in results]
    assert "no result (5)" in [label.get_text() for label in figure.axes[0].get_legend().get_texts()]
    crosses = next(line for line in figure.axes[0].lines if line.get_marker() == "x")
    assert sorted(crosses.get_xdata()) == sorted(cell.byte_ceiling for cell in grid.without_result)
    assert all(y < min(cell.speedup.low for cell in results) for y in crosses.get_ydata())


def test_another_device_has_a_grid_of_its_own(tmp_path):
    records = sweep_records()
    for record in records[:3]:
        record["device"]["name"] = "Another CPU"
    own, other = sweeps.grids(loaded(judged(planned(tmp_path / "results", records))))
    assert (own.suffix, other.suffix) == ("", "_2") or (own.suffix, other.suffix) == ("_2", "")
    assert {own.device, other.device} == {"CPU: Another CPU", "CPU: Intel(R) Xeon(R) Platinum 8481C, 2 threads"}
    assert sorted((len(own.cells), len(other.cells))) == [3, 9]


def test_a_sweep_without_any_result_is_all_hatched(tmp_path):
    records = [without_result(record, "failed", "no library") for record in sweep_records()]
    results = judged(planned(tmp_path / "results", records))
    names = {path.name for path in elastickv(["report", "figures"], results, "figures").iterdir()}
    assert {"heat_map.svg", "heat_map.png"} <= names
    assert not {name for name in names if name.startswith("against_ceilings")}
    report = elastickv(["report", "markdown"], results, "report.md").read_text(encoding="utf-8")
    assert "12 cases, 12 without a result" in report and "against_ceilings" not in report


def test_an_elementwise_sweep_is_one_panel(tmp_path):
    records = []
    for seq in SEQS:
        for compress in COMPRESSES:
            record = example("4096_elementwise")
            record["case"] |= {"id": f"e-{seq}-{compress}", "seq": seq, "compress": compress}
            records.append(record)
    (grid,) = sweeps.grids(loaded(judged(planned(tmp_path / "results", records))))
    assert (grid.shape, grid.cache_dtypes) == ("elementwise, 32 heads x 128, fp32", ["fp32"])
    assert grid.device == "GPU: NVIDIA H200"


def test_every_figure_that_the_report_shows_is_written(tmp_path):
    results = broken_sweep(tmp_path)
    folder = elastickv(["report", "figures"], results, "figures")
    report = elastickv(["report", "markdown"], results, "report.md").read_text(encoding="utf-8")
    section = report.split("## Sweeps\n")[1].split("\n## ")[0]
    assert "12 cases, 5 without a result" in section
    for name in ("heat_map", "against_ceilings"):
        assert f"(figures/{name}.svg)" in section
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    elastickv(["report", "figures"], results, "figures")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_numbers_in_cells_have_three_digits():
    shown = [text.times_short(value) for value in (0.987, 1.0, 9.994, 9.996, 12.64, 123.4)]
    assert shown == ["0.99x", "1.00x", "9.99x", "10.0x", "12.6x", "123.4x"]


def test_the_sweep_config_is_what_the_readme_says(request):
    config = matrix.load([request.config.rootpath / "config/sweep.yaml"])
    cases = list(config.cases.values())
    assert {case.compress for case in cases} == {1, 2, 3, 4, 6, 8}
    assert {case.cache_dtype for case in cases} == {"fp16", "int8", "int4"}
    assert len({case.seq for case in cases}) >= 2
    assert (config.results, config.backend) == ("results/sweep", "auto")
    assert not any(baseline.enable for _, baseline in config.baselines)
