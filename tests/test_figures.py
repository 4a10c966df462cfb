"""Figures: the data behind them, and files that are the same every time."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from results_folder import (
    BROKEN_CASES,
    EVERYTHING,
    GPU_CASES,
    HOSTILE,
    cpu_folder,
    elastickv,
    example,
    gpu_folder,
    judged,
    make,
)

from elastickv.cli import main
from elastickv.report import figures, inputs


def test_figures_are_written_in_both_formats_and_are_the_same_every_time(tmp_path):
    results = judged(make(tmp_path / "results", GPU_CASES[:2], "ceilings"))
    folder = elastickv(["report", "figures"], results, "figures")
    names = {f"{name}.{kind}" for name in ("speedup", "efficiency", "samples", "ceilings") for kind in ("svg", "png")}
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(first) == names
    assert all(content.startswith(b"\x89PNG") for name, content in first.items() if name.endswith("png"))
    elastickv(["report", "figures"], results, "figures")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_a_place_that_takes_no_folder_is_refused_by_name(tmp_path, capsys):
    results = judged(make(tmp_path / "results", GPU_CASES[:1], "ceilings"))
    (tmp_path / "file").write_text("")
    arguments = ["--cases", str(results / ".plan/cases.json"), "--results", str(results)]
    for name, code, reason in (
        ("file", 2, "cannot be a folder: File exists"),
        ("file/figures", 2, "cannot be a folder: Not a directory"),
        ("/proc/none", 3, "cannot be written: "),  # where the system refuses
    ):
        place = tmp_path / name
        assert main(["report", "figures", *arguments, f"--out={place}"]) == code
        stated = capsys.readouterr().err
        assert f"{place}: {reason}" in stated
        assert ("--out: " in stated) == (code == 2)
    assert (tmp_path / "file").read_text() == ""


def test_figure_data_has_no_speedup_without_a_result(tmp_path):
    loaded = inputs.load(gpu_folder(tmp_path) / ".plan/cases.json", tmp_path / "results")
    rows = {row.case.split("\n")[0]: row for row in figures.speedup_data(loaded)}
    assert list(rows) == list(EVERYTHING)
    assert rows["4096_elementwise"].speedup.value == pytest.approx(1.975, abs=1e-3)
    assert rows["4096_elementwise"].note.endswith("golden ticket")
    for case in ("4096_noisy", *BROKEN_CASES):
        assert rows[case].speedup is None
        assert rows[case].note == "no result: " + example(case)["status"].replace("_", " ")
    assert len(figures.samples_data(loaded)) == len(GPU_CASES) + 1  # the noisy samples are shown, as noise
    assert [row.case for row in figures.efficiency_data(loaded)] == list(GPU_CASES)


def test_figures_take_names_literally(tmp_path):
    folder = elastickv(["report", "figures"], cpu_folder(tmp_path, name=HOSTILE), "figures")
    root = ElementTree.fromstring((folder / "speedup.svg").read_bytes())
    assert not [node for node in root.iter() if node.tag.endswith("script")]
    assert "frac{" in "".join(root.itertext())


def test_figures_without_any_result(tmp_path):
    folder = elastickv(["report", "figures"], judged(make(tmp_path / "results", ("4096_failed",))), "figures")
    assert {path.name for path in folder.iterdir()} == {"speedup.svg", "speedup.png"}


def test_axis_labels_are_plain_text(tmp_path):
    """Without mathtext a logarithmic axis would show its markup."""
    results = judged(make(tmp_path / "results", GPU_CASES[:2], "ceilings"))
    folder = elastickv(["report", "figures"], results, "figures")
    for path in folder.glob("*.svg"):
        text = "".join(ElementTree.fromstring(path.read_bytes()).itertext())
        assert "mathdefault" not in text, path.name
    assert "1,074" in "".join(ElementTree.fromstring((folder / "ceilings.svg").read_bytes()).itertext())
