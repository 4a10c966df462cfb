"""The command `snakemake`: files and overrides reach the Snakefile as typed, and bad ones end as everywhere."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from conftest import BIN, ROOT, Checkout, plain_environment
from snakemake.cli import parse_config
from snakemake_interface_executor_plugins.utils import format_cli_arg

from elastickv.pipeline import handover

CASE = "{seq: 64, heads: 2, dim: 64, compress: 2}"
HEAD = "results: results/handed\nbackend: cpu\nbaselines: {transformers: {enable: false}}\n"
FILES = ["config/a b.yaml", "/tmp/it's $HOME &x=1;#%2F+.yaml", "-", "1", "ü🎫", os.fsdecode(b"\xff.yaml"), "new\nline"]
OVERRIDES = ["measure.reps=5", "foo", "=x", "", "results=", 'measure={"reps": "5"}', "a=1", "a='$(x)' \\ \t"]
BAD_FILES = {
    "not UTF-8": b"cases: \xff\n",
    "tab": b"cases:\n\ta: 1\n",
    "tag": b"cases: !!python/x {}\n",
    "two documents": b"cases: {}\n---\nb: 1\n",
    "empty": b"",
    "list": b"[1]\n",
    "number": b"5\n",
}


def test_whatever_was_typed_arrives_also_on_another_machine():
    """There a shell takes the words that Snakemake quotes for it, and Snakemake reads them again."""
    for files, overrides in ((FILES, OVERRIDES), (FILES, []), ([], OVERRIDES), (["1"], []), ([], ["1=1"])):
        packed = handover.packed(files, overrides)
        option, *words = shlex.split(format_cli_arg("--config", [packed]))
        assert (option, words) == ("--config", [packed])
        assert handover.unpacked(parse_config(words)) == (files, overrides)


def test_what_is_not_packed_stays_as_snakemake_read_it():
    assert handover.unpacked({"backend": "cpu"}) is None
    args = Namespace(configfile=[], config=None, directory=None)
    handover.hand_over(args)
    assert (args.configfile, args.config) == ([], None)


def test_relative_files_are_of_the_folder_in_which_they_were_typed(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    args = Namespace(configfile=[Path("a.yaml")], config=None, directory=Path("elsewhere"))
    handover.hand_over(args)
    assert handover.unpacked(parse_config(args.config)) == ([str(tmp_path / "a.yaml")], [])


def test_the_command_of_the_environment_is_this_one():
    assert "from elastickv.pipeline.handover import main" in (BIN / "snakemake").read_text(encoding="utf-8")
    told = subprocess.run([BIN / "snakemake", "--help"], capture_output=True, text=True, check=True)
    assert "--configfile" in told.stdout


def same_message(checkout: Checkout, *arguments: str) -> str:
    """The message in which Snakemake ends with exit code 2, which has to be that of `elastickv cases`."""
    command = [sys.executable, "-m", "elastickv", "cases", *arguments]
    environment = checkout.environment
    cases = subprocess.run(command, cwd=checkout.root, env=environment, capture_output=True, text=True, check=False)
    assert cases.returncode == 2
    run = checkout.snakemake("--dry-run", *arguments)
    assert run.code == 2, run.text
    assert run.text.splitlines()[1:] == cases.stderr.splitlines(), "after a line on the profile"
    return cases.stderr


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_yaml_cannot_read_is_named(clone: Checkout, tmp_path: Path, name: str):
    file = tmp_path / "bad.yaml"
    file.write_bytes(BAD_FILES[name])
    assert f"elastickv: {file}:" in same_message(clone, "--configfile", str(file))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--configfile", "config/none.yaml"],
        ["--configfile", "config"],
        ["--config", "foo"],
        ["--configfile", "config/smoke.yaml", "--config", "measure.rep=5"],
        ["--configfile", "config/smoke.yaml", "--config", "elastickv=x"],
    ],
    ids=" ".join,
)
def test_a_bad_command_line_ends_in_the_message_alone(clone: Checkout, arguments: list[str]):
    assert len(same_message(clone, *arguments).splitlines()) == 1


def test_keys_that_yaml_1_1_takes_for_dates_and_dotted_overrides_plan_the_same_run(clone: Checkout, tmp_path: Path):
    checkout = clone.copy(tmp_path / "checkout")
    file = checkout.root / "config/date.yaml"
    file.write_text(f"{HEAD}cases:\n  2025-13-01: {CASE}\n  1e3: {CASE}\n", encoding="utf-8")
    overrides = ("--config", "measure.reps=5", "cases.1e3.seq=128")
    run = checkout.snakemake("--dry-run", "--configfile", str(file), *overrides)
    assert run.code == 0, run.text
    assert {"measure 2025-13-01", "measure 1e3"} < run.jobs
    without = subprocess.run(
        [BIN / "python", "-m", "snakemake", "--dry-run", "--cores", "1", "--configfile", "config/smoke.yaml"],
        cwd=checkout.root,
        env=checkout.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert without.returncode == 0, without.stderr
    assert "measure decode_c4" in without.stdout + without.stderr


@pytest.mark.parametrize("goals", [["run"], ["remeasure"]])
def test_make_without_a_matrix_says_so(goals: list[str]):
    done = subprocess.run(
        ["make", "--dry-run", *goals, "CONFIG="],
        cwd=ROOT,
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "CONFIG= names no matrix" in done.stderr
    assert len(done.stderr.splitlines()) == 1
