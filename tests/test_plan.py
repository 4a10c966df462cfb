"""What a config asks for, and plan files that change only with their content."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastickv import plan


@pytest.fixture
def small() -> plan.Plan:
    return plan.Plan(
        results=Path("results/x"),
        backend="cpu",
        cases=("one", "two"),
        backends=("cpu",),
        images=(),
        compiler="auto",
        transformers=False,
    )


def test_images_are_named_by_target_and_read_back():
    names = plan.image_names({"architectures": [61, 90], "ptx": 90})
    assert names == ("sm_61.cubin", "sm_90.cubin", "compute_90.ptx")
    assert [plan.image_target(name) for name in names] == [(61, False), (90, False), (90, True)]


def test_without_ptx_there_is_no_ptx_image():
    assert plan.image_names({"architectures": [80], "ptx": None}) == ("sm_80.cubin",)


@pytest.mark.parametrize("name", ["sm_80.ptx", "compute_90.cubin", "sm_.cubin", "x/sm_80.cubin"])
def test_other_names_are_no_images(name):
    with pytest.raises(ValueError, match="not the name of an image"):
        plan.image_target(name)


def test_comments_in_a_lock_are_no_pins(tmp_path):
    lock = tmp_path / "llm.txt"
    lock.write_text("# made by uv\ntorch==2.13.0  # via transformers\n\n  numpy==2.4.6 ; python_version >= '3.11'\n")
    assert plan.lock_lines(lock) == ["torch==2.13.0", "numpy==2.4.6 ; python_version >= '3.11'"]


def test_only_changed_plan_files_are_written_and_stale_ones_deleted(tmp_path):
    kept, changed, new = (tmp_path / "cases" / f"{name}.json" for name in ("kept", "changed", "new"))
    stale = tmp_path / "cases" / "stale.json"
    plan.write({kept: "1", changed: "1", stale: "1"}, [kept, changed, stale], [])
    before = kept.stat().st_mtime_ns
    files = {kept: "1", changed: "2", new: "3"}
    difference = plan.changes(files, tmp_path)
    assert difference == ([changed, new], [stale])
    plan.write(files, *difference)
    assert {path: path.read_text() for path in sorted(tmp_path.glob("cases/*"))} == dict(sorted(files.items()))
    assert kept.stat().st_mtime_ns == before
    assert plan.changes(files, tmp_path) == ([], [])


def test_records_of_removed_cases_and_disabled_baselines_leave_the_results_folder(tmp_path, monkeypatch, small):
    monkeypatch.chdir(tmp_path)
    small.results.mkdir(parents=True)
    for name in ("results_one.json", "results_gone.json", "transformers_baseline.json", "summary.csv"):
        (small.results / name).write_text(name)
    retired = plan.retire(small)
    assert {path.name for path in small.results.iterdir()} == {"results_one.json", "summary.csv", ".retired"}
    assert sorted(path.read_text() for path in retired) == ["results_gone.json", "transformers_baseline.json"]


def test_environments_are_needed_only_by_what_is_enabled(small):
    assert plan.environments(small) == ()
    assert plan.environments(plan.Plan(**{**vars(small), "backends": ("cuda", "cpu")})) == ("cuda",)
    assert plan.environments(plan.Plan(**{**vars(small), "transformers": True})) == ("llm",)
