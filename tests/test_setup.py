"""The set-up of a fresh clone, the lint gate, and the copies of messages that the rules keep."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT, Checkout, plain_environment

from elastickv.cli import main


def load(path: Path) -> ModuleType:
    """A module of `workflow/` that is no part of the package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bootstrap(tmp_path: Path) -> ModuleType:
    """The set-up script of a checkout that holds nothing but locks."""
    (tmp_path / "workflow").mkdir()
    (tmp_path / "envs").mkdir()
    (tmp_path / ".venv").mkdir()
    shutil.copy2(ROOT / "workflow/bootstrap.py", tmp_path / "workflow")
    shutil.copy2(ROOT / "pyproject.toml", tmp_path)
    for name in ("core", "dev"):
        (tmp_path / "envs" / f"{name}.txt").write_text(f"{name}==1\n", encoding="utf-8")
    return load(tmp_path / "workflow/bootstrap.py")


def finish(bootstrap: ModuleType, *names: str) -> None:
    for name in names:
        bootstrap.touch(bootstrap.mark_of(name))


def test_a_finished_environment_is_not_made_again(bootstrap):
    assert bootstrap.missing(["core", "dev"]) == ["core", "dev"]
    finish(bootstrap, "core")
    assert bootstrap.missing(["core", "dev"]) == ["dev"]
    finish(bootstrap, "dev")
    assert bootstrap.missing(["core", "dev"]) == []
    bootstrap.main(["core", "dev"])


@pytest.mark.parametrize(("changed", "expected"), [("core", ["core", "dev"]), ("dev", ["dev"])])
def test_a_changed_lock_is_installed(bootstrap, changed, expected):
    finish(bootstrap, "core", "dev")
    Path(bootstrap.lock_path(changed)).write_text("other==2\n", encoding="utf-8")
    assert bootstrap.missing(["core", "dev"]) == expected


def test_a_cut_off_installation_starts_over(bootstrap):
    finish(bootstrap, "core", "dev")
    bootstrap.touch(bootstrap.UNFINISHED)
    assert bootstrap.missing(["core", "dev"]) == ["core", "dev"]


def test_who_is_killed_while_an_old_environment_is_deleted_leaves_none_that_looks_finished(bootstrap, monkeypatch):
    finish(bootstrap, "core", "dev")
    Path(bootstrap.lock_path("dev")).write_text("dev==2\n", encoding="utf-8")

    def killed(folder: str, **options: bool) -> None:
        assert (folder, options["clear"]) == (bootstrap.VENV, True)
        Path(bootstrap.UNFINISHED).unlink(missing_ok=True)  # the order of deletion is the file system's
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap.venv, "create", killed)
    with pytest.raises(KeyboardInterrupt):
        bootstrap.make_venv()
    assert bootstrap.missing(["core", "dev"]) == ["core", "dev"]


def test_the_package_is_installed_once_and_not_taken_from_a_run_when_a_lock_is_added(bootstrap, monkeypatch):
    commands = []
    monkeypatch.setattr(bootstrap, "run", lambda *command: commands.append(command))
    bootstrap.install("core")
    bootstrap.install("dev")
    assert ["--editable" in command for command in commands] == [False, True, False]


def test_an_old_python_is_refused_with_the_fix(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap, "OLDEST", (99, 0))
    with pytest.raises(SystemExit, match=r"Python >= 3\.11 is needed.*\nfix: make PYTHON="):
        bootstrap.main(["core"])


def test_a_failed_installer_ends_with_one_line(bootstrap):
    with pytest.raises(SystemExit, match=r"set-up: failed: .*\nfix: "):
        bootstrap.run(sys.executable, "-c", "raise SystemExit(3)")


@pytest.mark.parametrize(("profile", "lock"), [("profiles/slurm", "slurm"), ("", "")])
def test_only_the_cluster_profile_installs_the_clusters_plugin(profile, lock):
    command = ["make", "--no-print-directory", "--dry-run", "setup", f"PROFILE={profile}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("workflow/bootstrap.py", 1)[1].split() == [lock] * bool(lock)


def test_make_help_names_the_two_commands():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"run", "test", "test-slow", "remeasure"} <= {line.split(":")[0] for line in done.stdout.splitlines()}


def test_lint_allows_missing_conda_and_nothing_else():
    lint = load(ROOT / "workflow/lint.py")
    report = "Lints for rule a (line 1, Snakefile):\n    * {}:\n      because\n"
    assert lint.unexpected(report.format("Specify a conda environment or container for each rule.")) == []
    assert lint.unexpected(report.format("No log directive defined")) == ["No log directive defined"]


@pytest.mark.slow
def test_a_fresh_clone_sets_itself_up_and_is_instant_the_second_time(clone: Checkout, tmp_path: Path):
    root = clone.copy(tmp_path / "checkout").root
    setup = {"args": ["make", "setup"], "cwd": root, "env": plain_environment()}
    first = subprocess.run(**setup, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "making .venv" in first.stderr
    second = subprocess.run(**setup, capture_output=True, text=True, check=False)
    assert (second.returncode, second.stderr) == (0, "")
    version = subprocess.run([".venv/bin/elastickv", "--version"], cwd=root, capture_output=True, text=True, check=True)
    assert version.stdout.startswith("elastickv ")
    heavy = subprocess.run([".venv/bin/python", "-c", "import torch"], cwd=root, capture_output=True, check=False)
    assert heavy.returncode != 0, "a core-only user never downloads torch"


def test_a_missing_module_is_named_with_the_fix(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "filelock", None)
    assert main(["env", "core"]) == 3
    message = capsys.readouterr().err
    assert "lacks the Python module filelock" in message
    assert "make setup" in message
