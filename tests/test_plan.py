"""What a config needs, and plan files that change only with their content."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastickv import environments, matrix
from elastickv.build import images
from elastickv.pipeline import plan


@pytest.fixture
def small() -> plan.Plan:
    return plan.Plan(
        results=Path("results/x"),
        backend="cpu",
        cases=("one", "two"),
        backends=("cpu",),
        images=(),
        compiler="auto",
        baselines=(),
    )


def test_images_are_named_by_target_and_read_back():
    names = images.names([61, 90], 90)
    assert names == ("sm_61.cubin", "sm_90.cubin", "compute_90.ptx")
    assert [images.target(name) for name in names] == [(61, False), (90, False), (90, True)]


def test_without_ptx_there_is_no_ptx_image():
    assert images.names([80], None) == ("sm_80.cubin",)


@pytest.mark.parametrize("name", ["sm_80.ptx", "compute_90.cubin", "sm_.cubin", "x/sm_80.cubin"])
def test_other_names_are_no_images(name):
    with pytest.raises(ValueError, match="not the name of an image"):
        images.target(name)


def test_thresholds_change_their_own_plan_files_alone(tmp_path):
    """Nothing that times reads them: neither a case nor the settings of a peer or a language model."""
    text = "cases: {a: {seq: 64, heads: 2, dim: 64, compress: 2}}\nbaselines: {peers: {enable: true}}\n"
    files = []
    for thresholds in ("", "golden: {speedup: 1.5}\nnoise: {cuda: 0.01, cpu: 0.1, widest: 0.5}\n"):
        path = tmp_path / f"{len(files)}.yaml"
        path.write_text(text + thresholds)
        config = matrix.load([path])
        files.append(plan.results_contents(config, plan.resolve(config)))
    assert files[0].keys() == files[1].keys()
    changed = {path.name for path in files[0] if files[0][path] != files[1][path]}
    assert changed == {"golden.json", "noise.json", "config.json"}


def test_an_environment_made_by_hand_is_not_made_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/core.txt").write_text("snakemake==9.27.1\n")
    environments.make("core", adopt=True)
    path = plan.ENVIRONMENT_PLAN / "core.json"
    plan.write({path: "{}"}, [path], [])
    assert path.stat().st_mtime < environments.ready_file("core").stat().st_mtime
    (tmp_path / "envs/core.txt").write_text("snakemake==9.28.0\n")
    plan.write({path: "{}"}, [path], [])
    assert path.stat().st_mtime > environments.ready_file("core").stat().st_mtime


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
    for name in (
        "results_one.json",
        "results_gone.json",
        "gguf_baseline.json",
        "transformers_baseline.json",
        "summary.csv",
    ):
        (small.results / name).write_text(name)
    retired = plan.retire(small)
    assert {path.name for path in small.results.iterdir()} == {"results_one.json", "summary.csv", ".retired"}
    assert sorted(path.read_text() for path in retired) == [
        "gguf_baseline.json",
        "results_gone.json",
        "transformers_baseline.json",
    ]


def test_environments_are_needed_only_by_what_is_enabled(small):
    assert plan.needed_environments(small) == ()
    assert plan.needed_environments(plan.Plan(**{**vars(small), "backends": ("cuda", "cpu")})) == ("cuda",)
    assert plan.needed_environments(plan.Plan(**{**vars(small), "baselines": ("transformers", "gguf")})) == (
        "llm",
        "gguf",
    )
