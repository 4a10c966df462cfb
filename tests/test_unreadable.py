"""Files that cannot be read, of every kind, in every place: a fault with the path or exit code 3, never a traceback."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import privileges
import pytest
import results_folder

from elastickv.cli import main
from elastickv.system import readable

CASES = ("4096_golden_ticket", "1024_standard")
RECORD = f"results_{CASES[0]}.json"
FILES = (
    *("manifest.json", ".plan/cases.json", ".plan/golden.json", ".plan/config.json", f".plan/cases/{CASES[0]}.json"),
    *(RECORD, "ceilings.json", "transformers_baseline.json", "gguf_baseline.json", "verdicts.json"),
    *("summary.csv", "report.md", "social_media_content.txt", "social_media_content.json"),
    *("elastic_kv_benchmark.ipynb", "figures/speedups.png"),
)
FOLDERS = (".plan", ".plan/cases", "figures")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished results folder with a file of each kind. Not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("original")
        patch.chdir(place)  # no build folder of this checkout in the report
        others = ("ceilings", "transformers_baseline", "gguf_baseline")
        results = results_folder.make(place / "results", CASES, *others)
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
    "a link to itself": replaced_by(lambda path: path.symlink_to(path.name)),
    "empty": lambda path: path.write_bytes(b""),
    "not UTF-8": lambda path: path.write_bytes(b"caf\xe9\n"),
    "a huge number": lambda path: path.write_text("1" + "0" * 5000, encoding="utf-8"),
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


# Every kind in one place, and one kind in every place.
PAIRS = [*((RECORD, kind) for kind in KINDS), *((name, "a folder") for name in FILES if name != RECORD)]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_verify_names_a_file_that_cannot_be_read(results, capsys, name, kind):
    KINDS[kind](results / name)
    code, out, _ = run(capsys, "verify", results)
    assert code == 1
    assert any(line.startswith(f"{name}: ") for line in out.splitlines()), out


@pytest.mark.parametrize("name", ["manifest.json", RECORD, "report.md"])
def test_a_file_that_may_not_be_read_is_one_fault_also_of_an_unfinished_run(results, capsys, name):
    if name != "manifest.json":
        (results / "manifest.json").unlink()
    (results / name).chmod(0)
    code, out, _ = run(capsys, "verify", results)
    assert code == 1
    assert [line for line in out.splitlines() if line.startswith(f"{name}: ")] == [
        f"{name}: (file): found Permission denied, expected a file that can be read"
    ]


@pytest.mark.parametrize(("name", "mode"), [(name, 0) for name in FOLDERS] + [(".plan", 0o400)])
def test_a_folder_that_may_not_be_entered_is_found(results, capsys, name, mode):
    (results / name).chmod(mode)
    code, out, _ = run(capsys, "verify", results)
    (results / name).chmod(0o700)
    assert code == 1
    assert any(line.startswith(name) and "Permission denied" in line for line in out.splitlines()), out


def test_a_file_in_place_of_a_folder_is_found(results, capsys):
    shutil.rmtree(results / ".plan")
    (results / ".plan").write_text("", encoding="utf-8")
    code, out, _ = run(capsys, "verify", results)
    assert code == 1
    assert ".plan/cases.json: (file): found nothing, expected the file that manifest.json lists (inputs.0)" in out


def test_what_nothing_is_said_of_is_a_note(results, capsys):
    shutil.rmtree(results / "figures")  # neither these nor the notebook are what the records give
    (results / "elastic_kv_benchmark.ipynb").unlink()
    results_folder.published(results)
    closed(results / "notes.txt")
    code, out, _ = run(capsys, "verify", results)
    assert code == 0
    assert "note: notes.txt: not listed in manifest.json, not checked" in out


# The folder itself


@pytest.mark.parametrize("mode", [0, 0o100, 0o400], ids=oct)
@pytest.mark.parametrize("command", ["verify", "compare"])
def test_a_results_folder_that_is_closed_is_named_with_what_to_do(original, results, capsys, command, mode):
    results.chmod(mode)
    code, out, err = run(capsys, command, *([original] if command == "compare" else []), results)
    results.chmod(0o700)
    assert (code, out) == (3, "")
    assert err.startswith(f"elastickv: {results}: cannot be read: Permission denied\nfix: give this user access")


# compare


@pytest.mark.parametrize("kind", KINDS)
def test_compare_names_a_record_that_cannot_be_read(original, results, capsys, kind):
    KINDS[kind](results / RECORD)
    code, out, err = run(capsys, "compare", original, results)
    assert str(results / RECORD) in (err if "closed" in kind else out)
    assert code == (3 if "closed" in kind else 1), out + err


@pytest.mark.parametrize("kind", ["closed", "empty"])
def test_compare_says_when_the_order_of_the_plan_cannot_be_read(original, results, capsys, kind):
    KINDS[kind](results / ".plan/cases.json")
    code, _, err = run(capsys, "compare", original, results)
    assert str(results / ".plan/cases.json") in err
    assert code == (3 if "closed" in kind else 0)


# Other commands


@pytest.mark.parametrize("name", [RECORD, ".plan/cases.json"])
def test_reports_of_a_file_that_may_not_be_read_end_with_its_path(results, capsys, name):
    (results / name).chmod(0)
    given = {"--cases": results / ".plan/cases.json", "--results": results, "--out": results.parent / "out"}
    code, _, err = run(capsys, "report", "markdown", *(word for pair in given.items() for word in pair))
    assert code == 3
    assert f"{results / name}: cannot be read as a" in err and "Permission denied; give this user access" in err


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


def test_obstacles_are_described(tmp_path):
    assert readable.obstacle(tmp_path / "none") == "nothing"
    assert readable.obstacle(tmp_path / "a\0b") is not None
    assert readable.obstacle(Path("/dev/null")) == "not a regular file"
    assert readable.obstacle(Path(sys.executable)) is None
