"""Snakemake's own program with our matrix: config files and values reach the plan, and bad ones end in one message."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import BIN, ROOT, Checkout, Finished, plain_environment

from elastickv.build.provenance import command
from elastickv.cli import main
from elastickv.errors import UsageError
from elastickv.pipeline import overrides

SMOKE = "config/smoke.yaml"
CASE = "{seq: 64, heads: 2, dim: 64, compress: 2}"
HEAD = "results: results/given\nbackend: cpu\nbaselines: {transformers: {enable: false}}\n"
# What Snakemake lets pass or reads otherwise, and the message of the strict reader.
LET_PASS = {
    "duplicate key": ("backend: cpu\nbackend: cpu\n", "bad.yaml:2: duplicate key backend"),
    "unknown key": (f"measure: {{rep: 5}}\ncases: {{a: {CASE}}}\n", "bad.yaml:1: measure.rep: unknown key"),
}
# What Snakemake cannot read itself, in its own words.
SYNTAX = "Config file is not valid JSON or YAML."
NO_MAPPING = "Config file must be given as JSON or YAML with keys at top level."
REFUSED = {
    "not closed": ("cases: {\n", SYNTAX, "bad.yaml:1: YAML syntax error"),
    "list": ("[1]\n", NO_MAPPING, "bad.yaml:1: must be a mapping of keys to values"),
}
LOGGED = " 2> >(tee -i {log:q} >&2)"  # how a rule keeps the output of its command
PRINT_ARGUMENTS = """
from snakemake.spawn_jobs import SpawnedJobArgsFactory
from snakemake_interface_executor_plugins.utils import format_cli_arg

values = format_cli_arg("--config", workflow.config_settings.config_args)
print("ARGUMENTS", SpawnedJobArgsFactory(workflow).get_configfiles_arg(), values)
"""


def resolved(checkout: Checkout, results: str) -> dict:
    """The resolved config that a run planned."""
    return json.loads((checkout.root / results / ".plan/config.json").read_text(encoding="utf-8"))


def planned(checkout: Checkout, *arguments: str) -> Finished:
    """Writes the plan and runs no job."""
    run = checkout.snakemake("--summary", *arguments)
    assert run.code == 0, run.text
    return run


@pytest.fixture
def checkout(clone: Checkout, tmp_path: Path) -> Checkout:
    return clone.copy(tmp_path / "checkout")


def test_the_command_is_snakemakes_own():
    from snakemake import __version__

    done = subprocess.run([BIN / "snakemake", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{__version__}\n"
    assert "elastickv" not in (BIN / "snakemake").read_text(encoding="utf-8")


def test_values_of_the_command_line_win_over_the_files(checkout: Checkout):
    planned(
        checkout,
        *("--configfile", SMOKE, "--config", "backend=cuda", "results=results/my run"),
        "measure={max_seconds: 1, precision: 1e-1}",
    )
    config = resolved(checkout, "results/my run")
    assert config["backend"] == "cuda"
    assert (config["measure"]["max_seconds"], config["measure"]["precision"]) == (1, 0.1)


def test_without_a_file_the_default_matrix_is_read(checkout: Checkout):
    planned(checkout, "--config", "backend=cpu")
    config = resolved(checkout, "results/local")
    assert config["backend"] == "cpu"
    assert "4096_golden_ticket" in config["cases"]


@pytest.mark.parametrize("flags", ["--configfile b.yaml --configfile c.yaml", "--configfile b.yaml c.yaml"])
def test_every_config_file_counts_and_the_last_wins(checkout: Checkout, flags: str):
    (checkout.root / "b.yaml").write_text(f"{HEAD}measure: {{reps: 5, warmup: 3}}\ncases: {{a: {CASE}}}\n")
    (checkout.root / "c.yaml").write_text(f"measure: {{reps: 6}}\ncases: {{1e3: {CASE}, 2025-01-01: {CASE}}}\n")
    planned(checkout, *flags.split())
    config = resolved(checkout, "results/given")
    assert list(config["cases"]) == sorted(["a", "1e3", "2025-01-01"])
    assert (config["measure"]["reps"], config["measure"]["warmup"]) == (6, 3)


def test_files_are_of_the_folder_in_which_they_were_named(checkout: Checkout, tmp_path: Path):
    (tmp_path / "b.yaml").write_text(f"{HEAD}cases: {{b: {CASE}}}\n")
    (tmp_path / "c.yaml").write_text(f"cases: {{c: {CASE}}}\n")
    named = Checkout(tmp_path).snakemake(
        *("--snakefile", "checkout/Snakefile", "--directory", "checkout", "--summary"),
        *("--configfile", "b.yaml", "--configfile", "./c.yaml"),
    )
    assert named.code == 0, named.text
    assert set(resolved(checkout, "results/given")["cases"]) == {"b", "c"}


def test_a_job_elsewhere_reads_the_same_config(checkout: Checkout):
    """Its command line is made by Snakemake: from the files of both flags and the values as it parsed them."""
    (checkout.root / "b.yaml").write_text(f"{HEAD}cases: {{b: {CASE}}}\n")
    (checkout.root / "c.yaml").write_text(f"cases: {{c: {CASE}}}\n")
    snakefile = checkout.root / "Snakefile"
    source = snakefile.read_text(encoding="utf-8")
    snakefile.write_text(source + PRINT_ARGUMENTS, encoding="utf-8")
    given = [
        "--configfile",
        "b.yaml",
        "--configfile",
        "c.yaml",
        "--config",
        "measure={reps: 5}",
        "results=results/it's a",
    ]
    run = planned(checkout, *given)
    config = resolved(checkout, "results/it's a")
    assert set(config["cases"]) == {"b", "c"}
    shutil.rmtree(checkout.root / "results/it's a")
    stated = run.text.partition("ARGUMENTS ")[2].splitlines()[0]
    planned(checkout, *shlex.split(stated))
    assert resolved(checkout, "results/it's a") == config


@pytest.mark.parametrize("name", LET_PASS)
def test_what_snakemake_lets_pass_is_refused_in_one_message(checkout: Checkout, name: str):
    text, message = LET_PASS[name]
    (checkout.root / "bad.yaml").write_text(text)
    run = checkout.snakemake("--configfile", "bad.yaml")
    assert run.code == 2, run.text
    assert "elastickv: bad.yaml" in run.text
    assert message in run.text
    assert "Traceback" not in run.text
    assert not list(checkout.root.glob("results/*/.plan"))
    assert "elastickv: bad.yaml" in made(checkout, "bad.yaml", message)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_snakemake_cannot_read_ends_in_its_message_and_in_ours_by_make(checkout: Checkout, name: str):
    text, snakemakes, ours = REFUSED[name]
    (checkout.root / "bad.yaml").write_text(text)
    run = checkout.snakemake("--dry-run", "--configfile", "bad.yaml")
    assert run.code == 1, run.text
    assert snakemakes in run.text
    assert "Traceback" not in run.text
    made(checkout, "bad.yaml", ours)


@pytest.mark.parametrize(
    "content", [None, b"cases: \xff\n", b"cases: {2025-13-01: {}}\n"], ids=["missing", "bytes", "date"]
)
def test_make_refuses_what_snakemake_would_end_on_with_a_traceback(checkout: Checkout, content: bytes | None):
    if content is not None:
        (checkout.root / "bad.yaml").write_bytes(content)
    made(checkout, "bad.yaml", "bad.yaml")


def made(checkout: Checkout, config: str, *messages: str, **variables: str) -> str:
    """The output of `make run` for a bad matrix: the messages, and only one line of make's."""
    run = checkout.make("run", f"CONFIG={config}", *(f"{name}={value}" for name, value in variables.items()))
    assert run.code != 0, run.text
    assert all(message in run.text for message in messages), run.text
    assert "Traceback" not in run.text
    said = [line for line in run.text.splitlines() if not line.startswith("make: ")]
    assert all(line.startswith("elastickv: ") or ": " in line for line in said), run.text
    return run.text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("measure.rep=5", "SET: measure.rep: unknown key; did you mean reps"),
        ("measure={reps:", "SET measure: YAML syntax error"),
        ("backend", "SET backend: must be KEY=VALUE"),
        ("results='a", "SET: No closing quotation: results='a"),
    ],
)
def test_a_bad_override_of_make_is_named_as_such(monkeypatch, capsys, tmp_path: Path, value: str, message: str):
    monkeypatch.chdir(tmp_path)
    assert main(["overrides", "--configfile", str(ROOT / SMOKE), f"--set={value}"]) == 2
    assert capsys.readouterr().err.startswith(f"elastickv: {message}")
    assert list(tmp_path.iterdir()) == []


def test_make_ends_with_the_message_on_a_bad_override(clone: Checkout):
    made(clone, SMOKE, "elastickv: SET: measure.rep: unknown key", SET="backend=cpu measure.rep=5")


@pytest.mark.parametrize(
    ("value", "named"), [("measure={rep: 5}", "--config"), ("measure={reps: 5", "--config"), ("backend=gpu", "backend")]
)
def test_a_bad_value_of_snakemakes_command_line_is_named(clone: Checkout, value: str, named: str):
    run = clone.snakemake("--configfile", SMOKE, "--config", value)
    assert run.code == 2, run.text
    assert "elastickv: " in run.text and named in run.text
    assert "Traceback" not in run.text
    assert not (clone.root / "results/smoke/.plan").exists()


def test_set_is_one_more_config_file(checkout: Checkout):
    overridden = "measure.max_seconds=1 results='results/my run' cases.decode_c4.seq=1000"
    checkout.make("run", f"CONFIG={SMOKE}", f"SET={overridden}", "ARGS=--summary")
    config = resolved(checkout, "results/my run")
    assert config["measure"]["max_seconds"] == 1
    assert config["cases"]["decode_c4"]["seq"] == 1000
    assert len(list((checkout.root / "build/.plan").glob("set-*.yaml"))) == 1


def test_words_of_set_are_quoted_as_in_a_shell():
    assert overrides.words("a.b=1 c='d e' \"f=g h\" i=j\\ k") == ["a.b=1", "c=d e", "f=g h", "i=j k"]
    assert overrides.words("") == []
    with pytest.raises(UsageError, match="SET: No closing quotation"):
        overrides.words("a='b")


@pytest.mark.parametrize("value", ["measure.reps=5 results='results/my run'"])
def test_a_record_states_the_command_of_make_as_it_was_given(tmp_path: Path, value: str):
    (tmp_path / "Makefile").write_text('run:\n\t@printf %s "$$MAKEFLAGS"\n', encoding="utf-8")
    done = subprocess.run(
        ["make", "--no-print-directory", "run", f"SET={value}", "CORES=2"],
        cwd=tmp_path, env=plain_environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    stated = command([], {"ELASTICKV_MAKE": "run", "MAKEFLAGS": done.stdout})
    assert stated[:2] == ["make", "run"]
    assert set(stated[2:]) == {f"SET={value}", "CORES=2"}


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (".venv/bin/snakemake", "snakemake"),
        ("site/snakemake/__main__.py", "snakemake"),
        ("x/elastickv/__main__.py", "elastickv"),
    ],
)
def test_a_record_states_the_program_by_its_name_also_of_a_module(program: str, name: str):
    assert command([program, "--cores", "2"], {}) == [name, "--cores", "2"]


def test_make_without_a_matrix_says_so():
    done = subprocess.run(
        ["make", "--dry-run", "run", "CONFIG="],
        cwd=ROOT,
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "CONFIG= names no matrix" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_a_rules_command_says_is_on_the_terminal_and_in_its_log(checkout: Checkout):
    source = checkout.root / "kernels/cpu/elastickv.cpp"
    source.write_text("#error broken on purpose\n" + source.read_text(encoding="utf-8"), encoding="utf-8")
    run = checkout.snakemake("build_cpu", "--configfile", SMOKE)
    assert run.code == 1
    assert "broken on purpose" in run.text
    assert "broken on purpose" in (checkout.root / "build/.logs/cpu.log").read_text(encoding="utf-8")


def test_a_log_that_cannot_be_written_stops_no_rules_command():
    assert LOGGED in (ROOT / "workflow/rules/measure.smk").read_text(encoding="utf-8")
    for log in ("/dev/full", f"{__file__}/log"):
        command = "exec sh -c 'echo said >&2; echo done'" + LOGGED.replace("{log:q}", log)
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert done.stdout == "done\n"
        assert "said\n" in done.stderr
        assert "tee: " in done.stderr


@pytest.mark.slow
def test_make_runs_a_matrix_with_two_overrides_to_its_verdicts(checkout: Checkout, cpu_build: Path):
    checkout.take_builds(cpu_build)
    run = checkout.make("run", f"CONFIG={SMOKE}", "SET=measure.max_seconds=1 results='results/my run'")
    assert run.code == 0, run.text
    assert "report: results/my run/report.md" in run.text
    stated = json.loads((checkout.root / "results/my run/.plan/run.json").read_text(encoding="utf-8"))["command"]
    assert "SET=measure.max_seconds=1 results='results/my run'" in stated
