"""Environments: made from locks, remade when the lock changes, adopted on request, unfinished ones never trusted."""

import json
import sys

import pytest

from elastickv import environments
from elastickv.errors import MachineError, UsageError


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "tiny.txt").write_text("# a comment\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(workshop) -> dict:
    return json.loads((workshop / ".envs" / "tiny" / "ready").read_text())


def test_made_once_and_again_only_when_the_lock_changes(workshop, monkeypatch):
    installs = []

    def install(name, folder):
        installs.append(name)
        folder.mkdir(parents=True, exist_ok=True)
        return sys.executable

    monkeypatch.setattr(environments, "_install", install)
    environments.make("tiny")
    environments.make("tiny")
    (workshop / "envs" / "tiny.txt").write_text("\n# another comment\n")
    environments.make("tiny")
    assert installs == ["tiny"]
    (workshop / "envs" / "tiny.txt").write_text("numpy==1.0\n")
    environments.make("tiny")
    assert installs == ["tiny", "tiny"]
    assert made(workshop)["adopted"] is False


def test_an_unfinished_environment_is_wiped_and_made_anew(workshop):
    leftover = workshop / ".envs" / "tiny" / "half"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("killed here")
    python = environments.make("tiny")
    assert python.exists()
    assert not leftover.exists()
    assert environments.interpreter("tiny") == python


def test_a_failed_install_says_how_to_go_on(workshop):
    (workshop / "envs" / "tiny.txt").write_text("no-such-package-of-ours==999\n")
    with pytest.raises(MachineError, match="elastickv env tiny"):
        environments.make("tiny")
    assert not (workshop / ".envs" / "tiny" / "ready").exists()


def test_adopting_takes_this_interpreter_and_checks_it(workshop, monkeypatch):
    assert environments.make("tiny", adopt=True).samefile(sys.executable)
    assert made(workshop)["adopted"] is True
    monkeypatch.setitem(environments.NEEDED, "tiny", ("no_such_module_of_ours",))
    (workshop / ".envs" / "tiny" / "ready").unlink()
    with pytest.raises(MachineError, match="no_such_module_of_ours"):
        environments.make("tiny", adopt=True)


def test_an_unknown_name_lists_the_known_ones(workshop):
    with pytest.raises(UsageError, match="allowed: tiny"):
        environments.make("huge")


def test_without_any_interpreter_the_fix_is_named(workshop, monkeypatch):
    monkeypatch.setitem(environments.NEEDED, "tiny", ("no_such_module_of_ours",))
    with pytest.raises(MachineError, match="elastickv env tiny"):
        environments.interpreter("tiny")
