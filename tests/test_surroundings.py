"""Accounts, locales, package settings and folders of others: the set-up and a run work there, or state why not."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Checkout, plain_environment
from test_setup import load

from elastickv.cli import main
from elastickv.doctor import storage
from elastickv.pipeline import overrides
from elastickv.system import installers, surroundings

NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"
TINY = ["CONFIG=config/smoke.yaml", "SET=backend=cpu measure.max_seconds=0.2"]
MISSING_LOCALE = {"LC_ALL": "xx_XX.UTF-8"}
ODD_NAMES = ["ü", "a b", "a#b", "a'b", 'a"b', "a%20b", "a;b", "a&b", "a(b)", "a[b]", "a*b", "-a", "~a", "a\\b", "a,b"]


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command with what it printed. The folder's own package is the one that it imports."""
    return subprocess.run(
        command,
        cwd=folder,
        env=plain_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture
def closed(tmp_path: Path, monkeypatch) -> Path:
    """A home that takes no files, whoever runs this test."""
    home = tmp_path / "closed"
    home.mkdir()
    monkeypatch.setattr(surroundings.os, "access", lambda path, _mode: not Path(path).is_relative_to(home))
    return home


def test_caches_stay_where_the_user_has_them(tmp_path: Path):
    variables = {"HOME": str(tmp_path)}
    surroundings.settle(tmp_path / "checkout", variables)
    assert variables == {"HOME": str(tmp_path)}


def test_caches_of_a_closed_home_go_into_the_checkout(closed: Path, tmp_path: Path):
    variables = {"HOME": str(closed)}
    surroundings.settle(tmp_path, variables)
    assert variables.keys() == {"HOME", *surroundings.CACHES}
    assert all(Path(variables[name]).is_relative_to(tmp_path / ".envs/.cache") for name in surroundings.CACHES)


def test_one_closed_cache_moves_alone_and_models_that_are_there_are_still_found(closed: Path, tmp_path: Path):
    (closed / "huggingface").mkdir()
    variables = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(closed)}
    surroundings.settle(tmp_path, variables)
    assert variables.keys() == {"HOME", "XDG_CACHE_HOME", "HF_HOME"}
    assert variables["HF_HOME"] == str(closed / "huggingface")


def test_the_doctor_looks_at_the_caches(closed: Path, tmp_path: Path):
    assert storage.caches((tmp_path,)).level == "ok"
    assert storage.caches((surroundings.IN_CHECKOUT.absolute() / "x",)).level == "note"
    found = storage.caches((tmp_path, closed / "x"))
    assert (found.level, str(closed) in found.found) == ("problem", True)


@pytest.mark.parametrize("by", ["environment", "file"])
def test_settings_of_pip_that_redirect_go_and_sources_of_packages_stay(by: str, tmp_path: Path):
    redirecting = {
        "user": "1",
        "target": "/elsewhere",
        "prefix": "/elsewhere",
        "no-deps": "1",
        "require-virtualenv": "1",
    }
    kept = {"index-url": "https://mirror.example/simple", "trusted-host": "mirror.example", "cert": "/ca.pem"}
    settings = redirecting | kept
    if by == "environment":
        given = {f"PIP_{key.replace('-', '_').upper()}": value for key, value in settings.items()}
    else:
        file = tmp_path / "pip.conf"
        file.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
        given = {"PIP_CONFIG_FILE": str(file)}
    found = installers.variables({"PATH": os.environ["PATH"], "HOME": str(tmp_path), **given})
    of_pip = {key for key in found if key.startswith("PIP_")}
    assert not of_pip & {f"PIP_{key.replace('-', '_').upper()}" for key in redirecting}
    assert found["PIP_CONFIG_FILE"] == os.devnull
    assert (found["PIP_INDEX_URL"], found["UV_DEFAULT_INDEX"]) == (kept["index-url"],) * 2
    assert (found["UV_INSECURE_HOST"], found["SSL_CERT_FILE"]) == ("mirror.example", "/ca.pem")


def test_settings_of_uv_and_python_that_redirect_go():
    gone = ("UV_TARGET", "UV_SYSTEM_PYTHON", "UV_PROJECT", "UV_CONSTRAINT", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
    kept = {
        "UV_INDEX_URL": "https://mirror.example/simple",
        "UV_CACHE_DIR": "/cache",
        "UV_OFFLINE": "1",
        "PATH": "/bin",
    }
    found = installers.variables(dict.fromkeys(gone, "/elsewhere") | kept)
    assert not set(gone) & found.keys()
    assert kept.items() <= found.items()


@pytest.mark.parametrize("name", ["a:b", "a{b", "a$x"])
def test_a_checkout_whose_path_no_tool_takes_is_refused_in_one_line(name: str, tmp_path: Path):
    bootstrap = load(ROOT / "workflow/bootstrap.py")
    (tmp_path / name).mkdir()
    with pytest.raises(SystemExit, match=r"set-up: .*: the path holds '[:{$]', which .*\nfix: move the checkout"):
        bootstrap.check_place(str(tmp_path / name))


def test_other_names_are_not_refused(tmp_path: Path):
    bootstrap = load(ROOT / "workflow/bootstrap.py")
    for name in ODD_NAMES:
        (tmp_path / name).mkdir()
        bootstrap.check_place(str(tmp_path / name))


def test_a_checkout_that_takes_no_files_is_refused(closed: Path):
    with pytest.raises(SystemExit, match="cannot write to the checkout"):
        load(ROOT / "workflow/bootstrap.py").check_place(str(closed))


@pytest.mark.parametrize(
    ("values", "files", "said"),
    [
        (["""SET=results="results/my run" """], ["config/config.yaml"], ["results=results/my run"]),
        (["SET=measure.reps=9 results='my run'"], ["config/config.yaml"], ["measure.reps=9", "results=my run"]),
        (["SET=a='x#y' b='$$z'"], ["config/config.yaml"], ["a=x#y", "b=$z"]),
        (['CONFIG="my matrix.yaml" b.yaml', "SET="], ["my matrix.yaml", "b.yaml"], []),
    ],
)  # fmt: skip
def test_every_command_of_make_gets_the_same_words(
    tmp_path: Path, values: list[str], files: list[str], said: list[str]
):
    """Programs that record their arguments replace ours; the overrides become a file, whose path all get."""
    log = tmp_path / "log"
    for name in ("elastickv", "snakemake"):
        path = tmp_path / name
        path.write_text(f"""#!{sys.executable}
import json, sys
open({str(log)!r}, "a").write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1] == "overrides" and sys.argv[-1] != "--set=":
    print("set.yaml")
""")
        path.chmod(0o755)
    done = run(["make", "--no-print-directory", "--old-file=setup", f"BIN={tmp_path}", "run", *values], ROOT)
    assert done.returncode == 0, done.stderr
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert [call[0] for call in calls] == ["overrides", "--cores", "overrides", "show"]
    for call in calls:
        given = call[call.index("--configfile") + 1 :]
        if call[0] == "overrides":
            assert given[:-1] == files
            assert overrides.words(given[-1].removeprefix("--set=")) == said
        else:
            assert given == [*files, *(["set.yaml"] if said else [])]


def test_nothing_is_shown_where_no_run_has_finished(tmp_path: Path, capsys):
    assert main(["show", "--if-finished", "--config", f"results={tmp_path / 'none'}"]) == 0
    assert capsys.readouterr().out == ""


def test_snakemake_in_another_folder_ends_with_one_line(clone: Checkout, tmp_path: Path):
    """By `--directory`, and by the Snakefile's path: never a traceback."""
    snakemake = [Path(sys.executable).with_name("snakemake"), "--cores", "1", "--dry-run"]
    ways = {("--directory", str(tmp_path)): clone.root, ("-s", str(clone.root / "Snakefile")): tmp_path}
    for arguments, folder in ways.items():
        done = subprocess.run(
            [*snakemake, *arguments], cwd=folder, env=clone.environment, capture_output=True, text=True, check=False
        )
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("elastickv: ")]
        assert (done.returncode, len(said)) == (2, 1), done.stderr
        assert f"cd {clone.root}" in said[0]
        assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def odd(clone: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout set up by `make`, under a name with letters and signs that tools misread."""
    root = clone.copy(tmp_path_factory.mktemp("odd") / "ü #'a b%20").root
    done = run(["make", "setup"], root, LC_ALL="C", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ["--dry-run", "--unlock", "--list", "--summary", "--until build_cpu"])
def test_make_run_does_whatever_snakemake_was_asked_and_shows_no_table(odd: Path, arguments: str):
    done = run(["make", "run", f"ARGS={arguments}", *TINY], odd)
    assert done.returncode == 0, done.stderr
    assert "byte ceiling" not in done.stdout


@pytest.mark.slow
def test_a_locale_that_is_not_installed_and_a_path_beyond_ascii(odd: Path):
    """The path file that Python reads before anything else is ASCII, and file names are read as UTF-8."""
    (path_file,) = odd.glob(".venv/lib/python3*/site-packages/__editable__*.pth")
    assert not os.path.isabs(path_file.read_bytes().decode("ascii"))
    for locale in (MISSING_LOCALE, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        for command in ("elastickv cases", "snakemake --cores 1 --dry-run", "python -c 'import elastickv'"):
            program, *arguments = shlex.split(command)
            done = run([f".venv/bin/{program}", *arguments], odd, **locale)
            assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_in_a_folder_with_blanks_ends_with_its_table(odd: Path):
    (odd / "config/my smoke.yaml").write_text((odd / "config/smoke.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    words = ["CONFIG='config/my smoke.yaml'", "SET=measure.max_seconds=0.2 results='results/my run'"]
    done = run(["make", "run", *words], odd, **MISSING_LOCALE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report: results/my run/report.md" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["-a", "~a\\b", 'a"*[b](c);&,d'])
def test_a_checkout_of_any_allowed_name_is_set_up(clone: Checkout, tmp_path: Path, name: str):
    root = clone.copy(tmp_path / name).root
    for command in (["make", "setup"], [".venv/bin/snakemake", "--cores", "1", "--dry-run", "--quiet"]):
        done = run(command, root)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
@pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason=f"no {SYSTEM_PYTHON}, which every user may run")
def test_a_user_whose_home_is_closed_runs_the_pipeline(clone: Checkout, tmp_path: Path):
    """Its packages and models come by a network: nothing is in its caches."""
    root = Path("/var/tmp") / f"elastickv-{os.getpid()}"  # pytest's own folders are closed to others
    try:
        clone.copy(root)
        for folder, _, files in os.walk(root):
            for path in (folder, *(os.path.join(folder, file) for file in files)):
                os.chown(path, NOBODY, NOBODY)
        outside = {key: value for key, value in plain_environment().items() if not key.startswith("XDG_")}
        path = os.pathsep.join(part for part in outside["PATH"].split(os.pathsep) if os.stat(part).st_mode & 1)
        variables = outside | {"HOME": "/", "PATH": path}
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        for command in (["make", "run", f"PYTHON={SYSTEM_PYTHON}", *TINY], [".venv/bin/elastickv", "doctor"]):
            done = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, check=False, **who)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Traceback" not in done.stderr
        assert "cannot write to the usual folders" in done.stdout
        assert any((root / surroundings.IN_CHECKOUT).iterdir())
    finally:
        shutil.rmtree(root, ignore_errors=True)
