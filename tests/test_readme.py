"""The README's results are those of the committed run, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import results_folder
from conftest import ROOT

from elastickv.cli import main
from elastickv.errors import UsageError
from elastickv.report import readme
from elastickv.report.inputs import load

REFERENCE = ROOT / "results" / "reference" / "h200"


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no run of the present record schema is committed")
def test_the_readme_shows_the_committed_run():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = readme.section(load(REFERENCE / "manifest.json", REFERENCE), "results/reference/h200")
    assert readme.replaced(text, part, "README.md") == text


def test_only_the_marked_part_changes_and_cases_without_a_result_have_no_number(tmp_path: Path):
    results = results_folder.gpu_folder(tmp_path)
    path = tmp_path / "README.md"
    path.write_text(f"before\n{readme.BEGIN}\nstale text\n{readme.END}\nafter\n", encoding="utf-8")
    command = ["report", "readme", "--cases", str(results / ".plan/cases.json"), "--results", str(results)]
    assert main([*command, "--out", str(path)]) == 0
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


def test_a_readme_without_marks_is_refused():
    with pytest.raises(UsageError, match="lacks the lines"):
        readme.replaced("nothing here", "part", "README.md")


def test_a_readme_that_is_not_there_is_bad_usage(tmp_path: Path, capsys):
    results = results_folder.gpu_folder(tmp_path)
    command = ["report", "readme", "--cases", str(results / ".plan/cases.json"), "--results", str(results)]
    assert main([*command, "--out", str(tmp_path / "README.md")]) == 2
    assert f"{tmp_path / 'README.md'}: is not a file" in capsys.readouterr().err
