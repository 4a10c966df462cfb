"""`elastickv ab`: two commits' kernels in one process, judged on made-up repetitions and on real builds."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastickv.cli import main
from elastickv.errors import UsageError
from elastickv.measure import ab, ab_worker, checkouts

ROOT = Path(__file__).parents[1]
MATRIX = """
backend: cpu
measure: {reps: 20, warmup: 10, inner_loops: 4, decode_tokens: 0, max_seconds: 0.5}
defaults: {sinks: 4, window: 32, heads: 8, dim: 64}
cases:
  small: {seq: 2048, compress: 4}
"""


def repetitions(*ratios: float, control: float = 1.0) -> list[dict[str, Any]]:
    """What repetitions with these ratios HEAD / BASE answer."""
    controls = {side: {"ratio": control, "low": control * 0.999, "high": control * 1.001} for side in ab.SIDES}
    return [
        {
            "ratio": one,
            "low": one * 0.999,
            "high": one * 1.001,
            "head": 10 * one,
            "base": 10.0,
            "rounds": 30,
            "controls": controls,
        }
        for one in ratios
    ]


def judged(**arms: list[dict[str, Any]]) -> dict[str, str]:
    found = ab.judge({"case": {"arms": arms}, "other": {"reason": "for a test"}}, 0.01)
    return {arm: one.outcome for (_, arm), one in found.items()}


def test_each_arm_is_judged():
    equal = repetitions(1.001, 0.999, 1.0)
    slower, faster = repetitions(1.031, 1.029, 1.03), repetitions(0.969, 0.971, 0.97)
    assert judged(full=equal, elastic=slower) == {"full": "same", "elastic": "regressed"}
    assert judged(full=slower, elastic=equal) == {"full": "regressed", "elastic": "same"}
    assert judged(full=equal, elastic=faster) == {"full": "same", "elastic": "improved"}


def test_repetitions_that_disagree_prove_nothing():
    assert judged(full=repetitions(1.0, 1.0, 1.0), elastic=repetitions(0.97, 1.0, 1.15))["elastic"] == "unclear"


def test_an_interval_wider_than_the_tolerance_is_unclear_and_the_last_line_says_what_narrows_it():
    cases = {"case": {"arms": {"full": repetitions(0.97, 1.0, 1.03), "elastic": repetitions(1.001, 0.999, 1.0)}}}
    found = ab.judge(cases, 0.01)
    assert found["case", "full"].outcome == "unclear"
    last = ab.text(cases, found, 0.01)[-1]
    assert "unclear" in last.partition("(tolerance 0.01)")[0]
    assert last.endswith("more --repetitions, more --seconds or less other load narrow it")


class MadeUp:
    """A side whose samples scatter around a time."""

    def __init__(self, us: float):
        self.us, self.rng = us, np.random.default_rng(int(1000 * us))

    def sampler(self, arm: str, loops: int) -> Callable[[], float]:
        return lambda: self.us * (1 + 0.002 * self.rng.standard_normal())


def test_a_repetition_samples_both_sides_twice_in_every_round():
    sides = {"head": MadeUp(10.5), "base": MadeUp(10.0)}
    rows = [ab_worker._arm(sides, "full", 4, 0.5) for _ in range(3)]
    assert all({*row["controls"]} == {*ab.SIDES} for row in rows)
    assert judged(full=rows) == {"full": "regressed"}


def test_a_biased_control_widens_the_interval():
    assert judged(full=repetitions(1.03, 1.03, 1.03))["full"] == "regressed"
    assert judged(full=repetitions(1.03, 1.03, 1.03, control=1.03))["full"] == "unclear"
    assert judged(full=repetitions(*[1.03] * 20, control=1.03))["full"] == "unclear"  # repeating removes no bias


def test_the_table_names_what_was_not_timed():
    cases = {"case": {"arms": {"full": repetitions(1.0, 1.0, 1.0)}}, "other": {"reason": "for a test"}}
    lines = ab.text(cases, ab.judge(cases, 0.01), 0.01)
    assert lines[-2:] == ["not timed: other: for a test", "1 same (tolerance 0.01)"]


RIGHT, WRONG, MISSING = None, ab_worker.Problem("wrong answers", wrong=True), ab_worker.Problem("no such kernel")


@pytest.mark.parametrize(
    ("head", "base", "broken"),
    [(WRONG, RIGHT, True), (WRONG, WRONG, False), (RIGHT, WRONG, False), (MISSING, RIGHT, False)],
)
def test_wrong_answers_of_head_alone_are_named_and_a_comparison_that_timed_nothing_fails(
    head, base, broken, capsys, monkeypatch
):
    """Everything but building and timing is real."""
    sides = {name: MadeUp(10.0) for name in ab.SIDES}
    for name, problem in (("head", head), ("base", base)):
        sides[name].start = lambda configfiles, case, problem=problem: problem
        sides[name].end = lambda: None

    def timed(_, __, files, args, names):
        request = {"configfiles": files, "repetitions": args.repetitions, "seconds": args.seconds}
        return {"cases": {name: ab_worker._case(sides, name, request) for name in args.case or names}}

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(checkouts, "build", lambda folder, backend: None)
    monkeypatch.setattr(ab, "_timed", timed)
    assert main(["ab", ".", ".", "--backend=cpu", "--case", "1024_standard"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("no longer right: 1024_standard: " if broken else "not timed: 1024_standard: ")


@pytest.mark.parametrize(
    ("arguments", "stated"),
    [
        (["no-such-revision", "."], "neither a checkout"),
        ([".", ".", "--tolerance=2"], "--tolerance: must be a fraction"),
        ([".", ".", "--repetitions=2"], "--repetitions: must be an integer of at least 3"),
        ([".", ".", "--seconds=nan"], "--seconds: must be a number above 0"),
        ([".", ".", "--case", "none"], "--case: no case none"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, stated, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["ab", *arguments, "--backend=cpu"]) == 2
    assert stated in capsys.readouterr().err


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_revision_is_checked_out_and_removed(tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    (repository / checkouts.PACKAGE).mkdir(parents=True)
    (repository / checkouts.PACKAGE / "__init__.py").write_text("", encoding="utf-8")
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "first")
    monkeypatch.chdir(repository)
    with checkouts.folder_of("HEAD", tmp_path / "base") as folder:
        assert (folder / checkouts.PACKAGE / "__init__.py").is_file()
        assert (folder / "build/.store").resolve() == (repository / "build/.store").resolve()
    assert not (tmp_path / "base").exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    with checkouts.folder_of(str(repository), tmp_path / "base") as folder:
        assert folder == repository
    with pytest.raises(UsageError, match="neither a checkout"), checkouts.folder_of("--help", tmp_path / "base"):
        pass


@pytest.mark.slow  # it compiles
def test_a_slower_kernel_is_found_and_an_equal_one_is_not(cpu_build, tmp_path, capfd, monkeypatch):
    """The slower one runs every launch eight times."""
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(MATRIX, encoding="utf-8")
    slower = tmp_path / "slower"
    names = ("kernels", "workflow", "schemas", "config", "envs")
    for name in names:
        shutil.copytree(ROOT / name, slower / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(cpu_build / ".store", slower / "build/.store")  # spares compiling the equal one
    dispatch = slower / "kernels/cpu/dispatch.cpp"
    text = dispatch.read_text(encoding="utf-8")
    monkeypatch.chdir(ROOT)
    options = ["--configfile", str(matrix), "--backend=cpu", "--repetitions=3", "--seconds=1", "--tolerance=0.5"]
    assert main(["ab", ".", str(slower), *options]) == 0
    once = "return chosen->run(n, kernels, params);"
    assert once in text
    more = "double seconds = 0; for (int i = 0; i < 8; ++i) seconds += chosen->run(n, kernels, params); return seconds;"
    dispatch.write_text(text.replace(once, more), encoding="utf-8")
    assert main(["ab", ".", str(slower), *options]) == 1
    assert "regressed" in capfd.readouterr().out
