"""The results in README and docs/ are those of the committed runs: current, traced to records, and nothing else."""

from __future__ import annotations

import json
import os
import re
from functools import reduce
from pathlib import Path

import pytest
import results_folder
from conftest import ROOT
from test_docs import PAGES, name

from elastickv.audit.tables import shows
from elastickv.cli import main
from elastickv.errors import UsageError
from elastickv.report import readme
from elastickv.report.inputs import Inputs, load

WITH_RESULTS = [page for page in PAGES if readme.BLOCK.search(page.read_text(encoding="utf-8"))]
FOLDERS = sorted({block["folder"] for page in WITH_RESULTS for block in readme.BLOCK.finditer(page.read_text("utf-8"))})
FIGURE = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?")


def inputs_of(folder: str) -> Inputs:
    return load(ROOT / folder / "manifest.json", ROOT / folder)


def page_with(tmp_path: Path, section: str = "speedups") -> Path:
    path = tmp_path / "README.md"
    block = f"<!-- results: {section} of {tmp_path / 'results'} -->\nstale text\n{readme.END}"
    path.write_text(f"before\n{block}\nafter\n", encoding="utf-8")
    return path


def report(results: Path, out: Path) -> int:
    command = ["report", "readme", "--cases", str(results / ".plan/cases.json"), "--results", str(results)]
    return main([*command, "--out", str(out)])


@pytest.mark.parametrize("page", WITH_RESULTS, ids=name)
def test_results_on_a_page_are_those_of_the_committed_run(page: Path, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = page.read_text(encoding="utf-8")
    for folder in {block["folder"] for block in readme.BLOCK.finditer(text)}:
        link = os.path.relpath(folder, name(page.parent))
        assert readme.replaced(text, inputs_of(folder), folder, link, name(page)) == text


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("section", readme.SECTIONS)
def test_every_figure_is_in_a_record_at_its_pointer(folder: str, section: str):
    inputs = inputs_of(folder)
    rows = [
        [cell for cell in row.split("|")[1:-1]] for row in readme.section(inputs, "", section).splitlines()[4:] if row
    ]
    _, traced = readme.cells(inputs, section)
    assert traced and len(rows) == len(traced)
    for shown, phrases in zip(rows, traced, strict=True):
        for cell, phrase in zip(shown, phrases, strict=True):
            numbers = [piece for piece in phrase if isinstance(piece, readme.Number)]
            written = FIGURE.findall(re.sub("`.*?`", "", cell))
            assert written == [FIGURE.search(number.text)[0] for number in numbers]
            for number in numbers:
                (pointer,) = number.fields
                record = json.loads((ROOT / folder / number.file).read_text(encoding="utf-8"))
                value = reduce(
                    lambda at, key: at[int(key) if isinstance(at, list) else key], pointer.split("/")[1:], record
                )
                assert value == number.value, number
                scale = 1e3 if number.text.endswith(" mJ") else 1
                assert shows(number.text, value * scale), number


def test_only_the_marked_part_changes_and_cases_without_a_result_have_no_number(tmp_path: Path):
    results = results_folder.gpu_folder(tmp_path)
    path = page_with(tmp_path)
    assert report(results, path) == 0
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "stale text" not in text
    assert "(results/report.md)" in text
    rows = {match[1]: match[2] for match in re.finditer(r"^\| `(\S+)`\s*\|(.*)$", text, re.MULTILINE)}
    assert set(rows) == set(results_folder.EVERYTHING)
    assert " us " in rows["4096_golden_ticket"]
    for case in ("4096_noisy", *results_folder.BROKEN_CASES):
        assert " us " not in rows[case]
        assert "[" not in rows[case]


@pytest.mark.parametrize("section", ["controls", "bandwidth", "cycle", "energy"])
def test_tables_of_measurements_leave_out_cases_without_a_result(tmp_path: Path, section: str):
    results = results_folder.gpu_folder(tmp_path)
    text = readme.section(load(results / ".plan/cases.json", results), "results", section)
    for case in ("4096_noisy", *results_folder.BROKEN_CASES):
        assert case not in text


def test_a_page_without_a_block_of_the_folder_is_refused(tmp_path: Path, capsys):
    results = results_folder.gpu_folder(tmp_path)
    path = page_with(tmp_path / "results")  # its block names another folder
    assert report(results, path) == 2
    assert f"{path}: has no block <!-- results: SECTION of {results} -->" in capsys.readouterr().err


def test_an_unknown_section_is_refused_with_those_that_exist(tmp_path: Path):
    results = results_folder.gpu_folder(tmp_path)
    path = page_with(tmp_path, "speed")
    with pytest.raises(UsageError, match="results: speed: must be one of speedups, controls"):
        readme.replaced(
            path.read_text(encoding="utf-8"),
            load(results / ".plan/cases.json", results),
            results,
            "results",
            "README.md",
        )


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["missing", "no text"])
def test_a_page_that_cannot_be_read_is_bad_usage(tmp_path: Path, capsys, content):
    path = tmp_path / "README.md"
    if content is not None:
        path.write_bytes(content)
    assert report(results_folder.gpu_folder(tmp_path), path) == 2
    assert f"{path}: cannot be read" in capsys.readouterr().err
