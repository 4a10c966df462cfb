"""Bad configs: each ends in one message with what is wrong, where, and what is allowed, and in exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bad_configs import BAD, GOOD, SHAPE, bomb

from elastickv import matrix
from elastickv.cli import build_parser, main
from elastickv.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]


def problems_of(tmp_path: Path, text: str | bytes, overrides=None) -> list[str]:
    file = tmp_path / "bad.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        matrix.load([file], overrides)
    assert caught.value.exit_code == 2
    return [problem.replace(str(file), "bad.yaml") for problem in caught.value.problems]


@pytest.mark.parametrize("name", BAD)
def test_bad_config_names_what_where_and_what_is_allowed(tmp_path, name):
    text, fragments = BAD[name]
    problems = problems_of(tmp_path, text)
    assert any(all(fragment in problem for fragment in fragments) for problem in problems), problems
    assert all("\n" not in problem for problem in problems)
    assert len(problems) <= 4, "one fault must not raise a flood"


def test_every_problem_is_reported_at_once(tmp_path):
    text = (
        "backend: gpu\nmeasure: {reps: x}\ndefaults: {heads: 4, dim: 64}\n"
        "cases:\n  a: {seq: 0, compress: 2}\n  b: {seq: 8, compress: 2, kv_heads: 3}\n"
    )
    problems = "\n".join(problems_of(tmp_path, text))
    for where in (
        "bad.yaml:1: backend",
        "bad.yaml:2: measure.reps",
        "bad.yaml:5: cases.a.seq",
        "bad.yaml:6: cases.b.kv_heads",
    ):
        assert where in problems


DUPLICATE = "measure: {reps: 5, reps: 6}\n"
WRONG = "backend: gpu\ngolden: {speedup: -1}\n"


def assert_stated(problems: list[str], *expected: str) -> None:
    """One problem for each expected text, and no other."""
    assert len(problems) == len(expected), problems
    for text in expected:
        assert any(text in problem for problem in problems), (text, problems)


@pytest.mark.parametrize(
    ("fault", "stated"),
    [
        (DUPLICATE, "bad.yaml:3: duplicate key measure.reps"),
        ("results: !!str x\n", "bad.yaml:3: YAML tag"),
        ("measure: {reps: !!int 5}\n", "bad.yaml:3: YAML tag"),
    ],
    ids=["duplicate key", "tag", "tag of a number"],
)
def test_what_strict_reading_forbids_hides_no_other_problem(tmp_path, fault, stated):
    text = WRONG + fault + f"cases:\n  Big: {SHAPE}\n  a: {{seq: 64, heads: 4, dim: 64, compress: 2, kv_heads: 3}}\n"
    others = ("1: backend", "2: golden.speedup", "5: cases.Big", "6: cases.a.kv_heads")
    assert_stated(problems_of(tmp_path, text), stated, *(f"bad.yaml:{other}" for other in others))


def test_a_key_that_stands_twice_raises_no_doubt_about_what_follows_from_it(tmp_path):
    twice = "defaults: {heads: 4}\ndefaults: {dim: 64}\ncases: {a: {seq: 64, compress: 2}}\n"
    assert_stated(problems_of(tmp_path, twice), "bad.yaml:2: duplicate key defaults")
    assert_stated(problems_of(tmp_path, f"cases: {{a: {SHAPE}}}\ncases: {{}}\n"), "bad.yaml:2: duplicate key cases")


def test_problems_of_every_file_and_override_are_reported_together(tmp_path):
    (tmp_path / "one.yaml").write_text(WRONG + DUPLICATE + f"cases: {{Big: {SHAPE}}}\n")
    (tmp_path / "two.yaml").write_text("cases: {\n")
    files = [tmp_path / "one.yaml", tmp_path / "none.yaml", tmp_path / "two.yaml"]
    with pytest.raises(UsageError) as caught:
        matrix.load(files, ["backend=cuda0", "foo", "baselines={", "results=.."])
    assert_stated(
        caught.value.problems,
        "one.yaml:3: duplicate key measure.reps",
        "one.yaml:2: golden.speedup",
        "one.yaml:4: cases.Big",
        "none.yaml: cannot be read: No such file",
        "two.yaml:1: YAML syntax error",
        '--config: backend: must be one of auto, cuda, cpu, not "cuda0"',
        "--config foo: must be KEY=VALUE",
        "--config baselines: YAML syntax error",
        "--config: results",
    )


def test_what_a_file_that_cannot_be_read_may_hold_is_not_missed(tmp_path):
    (tmp_path / "rest.yaml").write_text(
        "matrices: {m: {base: {heads: 4}}}\nbaselines: {gguf: {repo: a/b}}\ncases: {a: {seq: 64}}\n"
    )
    with pytest.raises(UsageError) as caught:
        matrix.load([tmp_path / "none.yaml", tmp_path / "rest.yaml"])
    assert_stated(caught.value.problems, "none.yaml: cannot be read")


@pytest.mark.parametrize("value", ["{", "{a: 1, a: 2}", "&a *a"])
def test_the_value_of_a_flag_has_no_line_numbers(tmp_path, value):
    problems = problems_of(tmp_path, GOOD, [f"measure={value}"])
    assert all(problem.startswith("--config measure: ") or "unknown key" in problem for problem in problems), problems
    assert not any(" line " in problem for problem in problems)


def test_the_value_of_a_flag_is_shown_where_it_is_no_yaml(tmp_path):
    (problem,) = problems_of(tmp_path, GOOD, ["cases={"])
    assert problem.startswith("--config cases: YAML syntax error: ") and problem.endswith('; the value is "{"')
    assert_stated(problems_of(tmp_path, GOOD, ["cases={\n a: {\n"]), "--config cases:2: YAML syntax error")


def test_at_most_ten_are_shown_and_the_rest_counted(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("".join(f"key{n}: 1\n" for n in range(25)) + GOOD)
    with pytest.raises(UsageError) as caught:
        matrix.load([file])
    assert len(str(caught.value).splitlines()) == 11
    assert "15 more" in str(caught.value)


def test_a_bad_default_is_one_problem_however_many_cases_use_it(tmp_path):
    cases = "".join(f"  c{n}: {{seq: 64, dim: 64, compress: 2}}\n" for n in range(20))
    assert len(problems_of(tmp_path, "defaults: {heads: many}\ncases:\n" + cases)) == 1


@pytest.mark.parametrize(
    ("overrides", "fragments"),
    [
        ({"backend": "gpu"}, ["--config", "backend", "one of auto, cuda, cpu"]),
        ({"measure.rep": 5}, ["--config", "measure.rep", "did you mean reps"]),
        ({"measure": {"reps": "many"}}, ["--config", "measure.reps", "an integer"]),
        ({"measure": "{reps: 5"}, ["--config measure", "syntax error"]),
        ({"cases.a.window": -1}, ["--config", "cases.a.window", "from 0"]),
        (["backend"], ["--config backend", "KEY=VALUE"]),
        ({"golden": {"cv": float("nan")}}, ["golden.cv", "NaN"]),
        ({"measure": {"reps": "050"}}, ["--config: measure.reps: 050 has a leading zero", "write 50, 0o50 for 40"]),
        (["measure={<<: {reps: 5}}"], ["--config measure: <<: merge keys are not allowed"]),
        ({"backend": {1, 2}}, ["backend", "one of auto, cuda, cpu"]),
    ],
    ids=str,
)
def test_overrides_are_validated_too(tmp_path, overrides, fragments):
    problems = problems_of(tmp_path, GOOD, overrides)
    assert any(all(fragment in problem for fragment in fragments) for problem in problems), problems


def test_the_file_that_holds_the_fault_is_named(tmp_path):
    (tmp_path / "first.yaml").write_text(GOOD)
    (tmp_path / "second.yaml").write_text("measure:\n  reps: 1\n")
    with pytest.raises(UsageError) as caught:
        matrix.load([tmp_path / "first.yaml", tmp_path / "second.yaml"])
    assert "second.yaml:2: measure.reps" in str(caught.value)


def test_what_is_wrong_with_the_measure_of_all_cases_is_said_once_at_its_place(tmp_path):
    cases = "cases:\n  a: {seq: 64, heads: 2, dim: 64, compress: 2}\n  b: {seq: 64, heads: 2, dim: 64, compress: 4}\n"
    matrices = "matrices: {s: {base: {seq: 64, heads: 2, dim: 64}, axes: {compress: [2, 4]}}}\n"
    (problem,) = problems_of(tmp_path, "measure:\n  reps: 3\n  truncate: 45\n" + cases + matrices)
    assert problem.startswith("bad.yaml:3: measure.truncate: 45 leaves 1 of 3 reps")
    own = cases.replace("compress: 4", "compress: 4, measure: {reps: 3}")
    (problem,) = problems_of(tmp_path, "measure: {truncate: 45}\n" + own)
    assert problem.startswith("bad.yaml:4: cases.b.measure.truncate: 45 leaves 1 of 3 reps")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path, reason in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=reason) as caught:
            matrix.load([path])
        assert str(path) in str(caught.value)


def config_with_results(tmp_path: Path, results: Path | str, overrides=None) -> matrix.Config:
    (tmp_path / "c.yaml").write_text(f"{GOOD}results: {results}\n")
    return matrix.load([tmp_path / "c.yaml"], overrides)


def test_results_folder_that_cannot_be_written_to_is_named_with_its_place_in_the_config(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/below", "/proc/elastickv", "/proc"):
        with pytest.raises(
            UsageError, match=r"c\.yaml:3: results: .*: cannot be written to: .*; name a writable folder"
        ):
            matrix.check_results_writable(config_with_results(tmp_path, folder))
    with pytest.raises(UsageError, match=r"^--config: results: .*cannot be written to"):
        matrix.check_results_writable(config_with_results(tmp_path, "x", {"results": "/proc/x"}))


def test_whether_results_can_be_written_is_found_without_leaving_a_folder(tmp_path):
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "new/folder", tmp_path / "there", tmp_path / "there/new"):
        matrix.check_results_writable(config_with_results(tmp_path, folder))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["c.yaml", "there"]


def test_a_results_folder_that_is_a_link_to_nowhere_or_has_too_long_a_name_cannot_be_written_to(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for folder, reason in (("link", "No such file"), ("link/below", "No such file"), ("n" * 300, "name too long")):
        with pytest.raises(UsageError, match=reason):
            matrix.check_results_writable(config_with_results(tmp_path, tmp_path / folder))


SOURCES = ["workflow", "config/config.yaml", "./docs/", "README.md", ".git"]
MADE = [".venv", ".envs/x", ".snakemake", "build", "build/cuda"]
RUNS = ["results", "results/", "results/reference", "results/reference/h200"]


@pytest.mark.parametrize("results", [*SOURCES, *MADE, *RUNS, "//", "///"])
def test_results_are_no_place_of_the_project_s_own(tmp_path, monkeypatch, results):
    monkeypatch.chdir(tmp_path)
    said = [results]
    if not results.startswith("//"):
        (tmp_path / results).mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / results)
        said += [f"{tmp_path}/{results}", f"/{tmp_path}/{results}", "link"]
    for path in said:
        with pytest.raises(UsageError) as caught:
            config_with_results(tmp_path, path)
        assert "c.yaml:3: results: " in str(caught.value) and "a folder" in str(caught.value), path


def test_no_source_of_the_project_is_a_place_for_results(tmp_path, monkeypatch):
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    names = {line.partition("/")[0] for line in listed.splitlines()} or {path.name for path in ROOT.glob("*")}
    monkeypatch.chdir(ROOT)
    for name in names:
        with pytest.raises(UsageError):
            config_with_results(tmp_path, name)


@pytest.mark.parametrize("results", ["results/mine", "results/references", "results/a/b", "mine", "/srv/build"])
def test_other_places_are_free_for_results(tmp_path, monkeypatch, results):
    monkeypatch.chdir(tmp_path)
    assert config_with_results(tmp_path, results).results == results


@pytest.mark.parametrize(
    ("flags", "fragment"),
    [
        ({"seq": 0}, "--seq: must be an integer from 1"),
        ({"heads": 16, "kv_heads": 5}, "--kv_heads: heads must be a multiple"),
        ({"measure": {"truncate": float("nan")}}, "--truncate: must be a number from 0 to 45"),
        ({"cache_dtype": "fp32"}, "--cache_dtype: must be dtype (fp16)"),
        ({"workload": "elementwise", "measure": {"decode_tokens": 5}}, "--decode_tokens: does not apply"),
    ],
    ids=str,
)
def test_bench_flags_are_checked_like_a_case(flags, fragment):
    with pytest.raises(UsageError) as caught:
        matrix.case_from_flags({"id": "bench", **flags})
    assert fragment in str(caught.value)


def test_a_flag_that_breaks_two_rules_of_its_key_is_one_message(capsys):
    assert main(["bench", "--dim=-1"]) == 2
    stated = "elastickv: bench: --dim: must be an integer from 4 to 65536, a multiple of 4, not -1\n"
    assert capsys.readouterr().err == stated


@pytest.mark.parametrize(
    "flags", [["--inference"], ["--decode_tokens=5"], ["--inference", "--decode_tokens=5"]], ids=" ".join
)
def test_a_cycle_of_what_has_none_is_refused(capsys, flags):
    assert main(["bench", "--workload=elementwise", *flags]) == 2
    assert "does not apply to workload elementwise, which has no inference cycle" in capsys.readouterr().err


def test_a_cycle_of_no_tokens_is_refused(capsys):
    assert main(["bench", "--inference", "--decode_tokens=0"]) == 2
    stated = "elastickv: bench: --decode_tokens: must be at least 1 with --inference, not 0\n"
    assert capsys.readouterr().err == stated


def test_every_flag_that_is_no_number_is_told_with_what_is_allowed(capsys):
    assert main(["bench", "--seq=9e3", "--heads=0", "--truncate=some", "--dim", "x"]) == 2
    stated = capsys.readouterr().err
    for line in (
        '--seq: must be an integer from 1 to 2147483647, not "9e3", which is text',
        "--heads: must be an integer from 1 to 65535, not 0",
        '--truncate: must be a number from 0 to 45, not "some", which is text',
        '--dim: must be an integer from 4 to 65536, a multiple of 4, not "x", which is text',
    ):
        assert line in stated
    assert "usage:" not in stated


@pytest.mark.parametrize("text", ["1_0", "\u0661\u0660", " 10", ""])
def test_a_number_of_a_flag_is_written_as_in_a_config(capsys, text):
    assert main(["bench", f"--seq={text}", f"--truncate={text}", f"--processes={text}"]) == 2
    stated = capsys.readouterr().err
    for allowed in (
        "--seq: must be an integer from 1 to 2147483647",
        "--truncate: must be a number from 0 to 45",
        "--processes: must be",
    ):
        assert allowed in stated
    assert stated.count(f", not {json.dumps(text)}, which is text\n") == 2
    assert f"--processes: must be an integer or text from 1 to 100, or auto, not {json.dumps(text)}\n" in stated


def test_the_numbers_of_flags_that_are_written_as_in_a_config_are_read():
    given = ["--seq=+64", "--seed=007", "--truncate=5e0", "--precision=.5", "--max_seconds=-1.", "--warps=08"]
    args = build_parser().parse_args(["bench", *given])
    assert (args.seq, args.seed, args.truncate, args.precision, args.max_seconds, args.warps) == (64, 7, 5, 0.5, -1, 8)


def test_tokens_of_a_cycle_that_is_not_asked_for_are_checked_too(capsys):
    assert main(["bench", "--decode_tokens=-3"]) == 2
    assert "--decode_tokens: must be an integer from 0 to 1000000, not -3" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["build", "cpu"], ["bench", "--backend=cpu"]], ids=" ".join)
def test_where_no_kernels_are_there_is_one_message(capsys, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert "kernels/cpu: no such folder: run this in the root of a checkout" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["bench", "--comp=8"], ["cases", "--configf=x"], ["build", "cpu", "--o=x"]])
def test_flags_are_written_out(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert f"unrecognized arguments: {command[-1]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (["bench", "--decode-tokens=5"], "--decode-tokens=5; did you mean --decode_tokens?"),
        (["bench", "--no_graphs", "--sequ", "64"], "--no_graphs --sequ 64; did you mean --no-graphs, --seq?"),
        (["build", "cpu", "--uot=x"], "--uot=x; did you mean --out?"),
        (["cases", "--zzzzzz"], "--zzzzzz"),
        (["--json", "cases"], "--json"),
        (["verify", "one", "two"], "two"),
    ],
    ids=str,
)
def test_an_unknown_flag_is_told_with_the_nearest_of_its_command(capsys, command, hint):
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"unrecognized arguments: {hint}\n")


def test_command_exits_2_with_the_message_alone(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(BAD["alias bomb"][0])
    ended = subprocess.run(
        [sys.executable, "-m", "elastickv", "cases", "--configfile", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert str(file) in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "text",
    [bomb(60), "[" * 500_000, "- " * 200_000, "? " * 100_000],
    ids=["bomb", "lists", "items", "keys"],
)
def test_hostile_sizes_are_refused(tmp_path, text):
    """Unbounded, some of these would take hours or all memory."""
    assert problems_of(tmp_path, text)


def test_files_of_formats_and_rules_that_contradict_each_other_are_one_message(clone, tmp_path):
    checkout = clone.copy(tmp_path / "checkout")
    checkout.edit("workflow/elastickv/formats/int8.py", "number=3", "number=1")
    said = "elastickv: formats/fp16.py and int8.py both have the number 1; 6 is free\n"
    for run in (checkout.snakemake("-n"), checkout.elastickv("cases")):
        assert run.code != 0
        assert run.text.endswith(said)
        assert "Traceback" not in run.text and "File " not in run.text
