"""Files that cannot be read, of every kind, in every place: a fault with the path or exit code 3, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import privileges
import pytest
import results_folder
from conftest import ROOT

from elastickv.cli import main
from elastickv.system import readable

CASES = ("4096_golden_ticket", "1024_standard")
RECORD = f"results_{CASES[0]}.json"
STORED = ".records/" + "ab" * 32 + ".json"
FILES = (
    *("manifest.json", ".plan/cases.json", ".plan/golden.json", ".plan/config.json", f".plan/cases/{CASES[0]}.json"),
    *(RECORD, STORED, "ceilings.json", "transformers_baseline.json", "gguf_baseline.json", "verdicts.json"),
    *("summary.csv", "report.md", "social_media_content.txt", "social_media_content.json"),
    *("elastic_kv_benchmark.ipynb", "figures/speedups.png"),
)
FOLDERS = (".plan", ".plan/cases", ".records", "figures")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished results folder with a file of each kind. Not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("original")
        patch.chdir(place)  # no build folder of this checkout in the report
        others = ("ceilings", "transformers_baseline", "gguf_baseline")
        results = results_folder.make(place / "results", CASES, *others)
        for name in CASES:  # different moments: the store identifies records by them
            record = results_folder.example(name)
            record["started"] = f"2025-11-23T10:00:0{CASES.index(name)}Z"
            results_folder.put(results, record)
        (results / ".records").mkdir()
        shutil.copy(results / RECORD, results / STORED)
        (results / "figures").mkdir()
        (results / "figures/speedups.png").write_bytes(b"\x89PNG")
        (results / "elastic_kv_benchmark.ipynb").write_text("{}", encoding="utf-8")
        results_folder.elastickv(["verdict"], results, "verdicts.json")
        results_folder.published(results)
        return results


@pytest.fixture
def results(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(original, tmp_path / "results", copy_function=shutil.copy2)


def replaced_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.unlink()
        make(path)

    return spoil


KINDS: dict[str, Callable[[Path], object]] = {
    "closed": lambda path: path.chmod(0),
    "a folder": replaced_by(Path.mkdir),
    "a pipe": replaced_by(os.mkfifo),
    "a link to nothing": replaced_by(lambda path: path.symlink_to("nowhere")),
    "a link to itself": replaced_by(lambda path: path.symlink_to(path.name)),
    "a link to a closed file": replaced_by(
        lambda path: path.symlink_to(closed(path.parents[1] / f"{path.name}.there"))
    ),
    "empty": lambda path: path.write_bytes(b""),
    "not UTF-8": lambda path: path.write_bytes(b"caf\xe9\n"),
    "a huge number": lambda path: path.write_text("1" + "0" * 5000, encoding="utf-8"),
    "a number too large for a float": lambda path: path.write_text("1e999", encoding="utf-8"),
}


def closed(path: Path) -> Path:
    path.write_text("{}", encoding="utf-8")
    path.chmod(0)
    return path


def run(capsys: pytest.CaptureFixture, *command: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command, without root's privileges."""
    with privileges.dropped():
        code = main(list(map(str, command)))
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, printed.out, printed.err


FEW = (RECORD, "report.md")  # of each kind; the rest of all pairs takes long


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=[] if kind == "closed" or name in FEW else pytest.mark.slow)
        for name in FILES
        for kind in KINDS
    ],
)
def test_verify_names_a_file_that_cannot_be_read(results, capsys, name, kind):
    KINDS[kind](results / name)
    code, out, _ = run(capsys, "verify", results)
    assert code == 1
    assert any(line.startswith(f"{name}: ") for line in out.splitlines()), out


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_may_not_be_read_is_one_fault_also_of_an_unfinished_run(results, capsys, name):
    if name != "manifest.json":
        (results / "manifest.json").unlink()
    (results / name).chmod(0)
    code, out, _ = run(capsys, "verify", results)
    assert code == 1
    assert [line for line in out.splitlines() if line.startswith(f"{name}: ")] == [
        f"{name}: (file): found Permission denied, expected a file that can be read"
    ]


@pytest.mark.parametrize("mode", [0, 0o100, 0o400], ids=oct)
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_may_not_be_entered_is_found(results, capsys, name, mode):
    (results / name).chmod(mode)
    code, out, _ = run(capsys, "verify", results)
    (results / name).chmod(0o700)
    assert code == 1
    assert any(line.startswith(name) and "Permission denied" in line for line in out.splitlines()), out


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_in_place_of_a_folder_is_found(results, capsys, name):
    shutil.rmtree(results / name)
    (results / name).write_text("", encoding="utf-8")
    code, out, _ = run(capsys, "verify", results)
    assert code == 1
    assert f"{name}: (file): found a file, expected a folder that can be read" in out


def test_what_nothing_is_said_of_is_a_note(results, capsys):
    (results / ".logs").mkdir()
    for name in ("notes.txt", ".logs/measure.log"):
        closed(results / name)
    code, out, _ = run(capsys, "verify", results)
    assert code == 0
    for name in ("notes.txt", ".logs/measure.log"):
        assert f"note: {name}: Permission denied: not checked" in out


def test_faults_of_files_that_cannot_be_read_are_in_the_json_too(results, capsys):
    (results / "report.md").chmod(0)
    code, out, _ = run(capsys, "verify", results, "--json")
    fault = {
        "file": "report.md",
        "field": "(file)",
        "found": "Permission denied",
        "expected": "a file that can be read",
    }
    assert code == 1 and fault in json.loads(out)["faults"]


def test_builds_of_the_checkout_that_may_not_be_read_are_not_compared(results, capsys):
    for name in ("cpu", "cuda"):
        (results.parent / "build" / name).mkdir(parents=True)
        closed(results.parent / "build" / name / "manifest.json")
    assert run(capsys, "verify", results)[0] == 0


# The folder itself


@pytest.mark.parametrize("mode", [0, 0o100, 0o400], ids=oct)
@pytest.mark.parametrize("command", [["verify"], ["compare"]], ids=" ".join)
def test_a_results_folder_that_is_closed_is_named_with_what_to_do(original, results, capsys, command, mode):
    results.chmod(mode)
    code, out, err = run(capsys, *command, *([original] if command == ["compare"] else []), results)
    results.chmod(0o700)
    assert (code, out) == (3, "")
    assert err.startswith(f"elastickv: {results}: cannot be read: Permission denied\nfix: give this user access")


def test_a_folder_in_a_closed_one_is_named(results, capsys):
    results.parent.chmod(0)
    codes = [run(capsys, "verify", results), run(capsys, "compare", results, results)]
    results.parent.chmod(0o700)
    assert all(code == 3 and f"{results}: cannot be read: Permission denied" in err for code, _, err in codes)


# compare


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["old", "new"])
def test_compare_names_a_record_that_cannot_be_read(original, results, capsys, side, kind):
    KINDS[kind](results / RECORD)
    code, out, err = run(capsys, "compare", *((results, original) if side == "old" else (original, results)))
    assert str(results / RECORD) in (err if "closed" in kind else out)
    assert code == (3 if "closed" in kind else 1), out + err


@pytest.mark.parametrize("kind", KINDS)
def test_compare_says_when_the_order_of_the_plan_cannot_be_read(original, results, capsys, kind):
    KINDS[kind](results / ".plan/cases.json")
    code, _, err = run(capsys, "compare", original, results)
    assert str(results / ".plan/cases.json") in err
    assert code == (3 if "closed" in kind else 0)


# Other commands


def report(results: Path, *what: str, out: str = "out") -> list[str]:
    cases = results / ".plan/cases.json"
    return [*what, "--cases", str(cases), "--results", str(results), "--out", str(results.parent / out)]


@pytest.mark.parametrize("name", [RECORD, "verdicts.json", ".plan/cases.json", f".plan/cases/{CASES[0]}.json"])
def test_reports_of_a_file_that_may_not_be_read_end_with_its_path(results, capsys, name):
    (results / name).chmod(0)
    code, _, err = run(capsys, *report(results, "report", "markdown"))
    assert code == 3
    assert f"{results / name}: cannot be read as a" in err and "Permission denied; give this user access" in err


def test_a_readme_that_may_not_be_read_is_named(results, capsys):
    readme = closed(results.parent / "README.md")
    code, _, err = run(capsys, *report(results, "report", "readme", out="README.md"))
    assert code == 3
    assert f"{readme}: cannot be read: Permission denied\nfix: give this user" in err


def test_show_of_verdicts_that_may_not_be_read_names_them(results, capsys):
    config, results = results.parent / "config.yaml", results.rename(results.parent / "mine")
    shape = "{seq: 64, heads: 2, dim: 64, compress: 2}"
    config.write_text(f"results: {results}\ncases: {{a: {shape}}}\n", encoding="utf-8")
    (results / "verdicts.json").chmod(0)
    code, _, err = run(capsys, "show", "--configfile", config)
    assert code == 3 and f"{results / 'verdicts.json'}: cannot be read" in err, err
    results.chmod(0)
    code, _, err = run(capsys, "show", "--configfile", config)
    results.chmod(0o700)
    assert code == 3 and f"{results / 'verdicts.json'}: Permission denied\nfix: " in err


@pytest.mark.parametrize(
    "command",
    [
        ["cases", "--configfile", "{}"],
        ["show", "--configfile", "{}"],
        ["doctor", "--configfile", "{}"],
        ["baseline", "transformers", "--settings", "{}", "--out", "out"],
        ["measure", "--case", "{}", "--out", "out", "--store", "store"],
    ],
    ids=lambda command: command[0],
)
def test_what_a_command_is_given_and_may_not_read_is_named(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    for path in (closed(tmp_path / "given"), tmp_path / "closed/given"):
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0 if path.parent != tmp_path else 0o700)
        code, _, err = run(capsys, *(word.format(path) for word in command))
        path.parent.chmod(0o700)
        assert code in (2, 3)
        assert str(path) in err and "Permission denied" in err


# As another user, in a separate process


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_s_look_at_closed_files(original):
    python = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/bin")
    packages = os.pathsep.join([str(ROOT / "workflow"), *(path for path in sys.path if path.endswith("site-packages"))])

    def as_nobody(*arguments: str | Path) -> subprocess.CompletedProcess:
        environment = {"PYTHONPATH": packages, "HOME": "/", "PATH": os.defpath}
        who = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/", "env": environment}
        return subprocess.run([python, *arguments], **who, capture_output=True, text=True, check=False)

    if python is None or as_nobody("-c", "import elastickv.cli, jsonschema, numpy, pandas").returncode:
        pytest.skip("another user finds no Python of this version that may read the checkout and its packages")
    with tempfile.TemporaryDirectory() as folder:  # pytest closes its own to others
        Path(folder).chmod(0o755)
        results, other = (shutil.copytree(original, Path(folder, name)) for name in ("results", "other"))
        clean = as_nobody("-m", "elastickv", "verify", results)
        assert clean.returncode == 0, clean.stdout + clean.stderr
        (results / "report.md").chmod(0)
        found = as_nobody("-m", "elastickv", "verify", results)
        (results / RECORD).chmod(0)
        refused = as_nobody("-m", "elastickv", "compare", other, results)
    assert (found.returncode, found.stderr) == (1, "")
    assert "report.md: (file): found Permission denied, expected a file that can be read\n" in found.stdout
    assert refused.returncode == 3 and f"{results / RECORD}: cannot be read" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_obstacles_are_told_in_words(tmp_path):
    assert readable.obstacle(tmp_path / "none") == "nothing"
    assert readable.obstacle(tmp_path / "a\0b") is not None
    assert readable.obstacle(Path("/dev/null")) == "not a regular file"
    assert readable.obstacle(Path(sys.executable)) is None
