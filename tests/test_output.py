"""Where a command writes: files that a user names, and streams of any encoding."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from results_folder import RECORDS, gpu_folder, limits_of

from elastickv import jobs, records
from elastickv.cli import main
from elastickv.errors import UsageError
from elastickv.schemas.measurement import Measurement

TINY = (
    "--backend=cpu",
    "--max_seconds=2",
    "--seq=64",
    "--heads=2",
    "--dim=64",
    "--reps=3",
    "--warmup=1",
    "--inner_loops=1",
)


def elastickv(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "elastickv", *arguments]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)


def test_a_device_is_written_in_place():
    master, slave = os.openpty()
    try:
        records.write_text(os.ttyname(slave), "to a terminal\n")
        assert os.read(master, 100) == b"to a terminal\r\n"
        assert records.destination(os.ttyname(slave)) == Path(os.ttyname(slave))
    finally:
        os.close(slave)
        os.close(master)


@pytest.mark.parametrize(
    "write",
    [records.destination, records.check_file, lambda path: records.write_text(path, "")],
    ids=["destination", "check", "write"],
)
def test_what_is_no_file_is_refused_and_stays(tmp_path: Path, write):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    for name, what in {"pipe": "a pipe", "folder": "a directory", "link": "a directory"}.items():
        with pytest.raises(UsageError, match=f"{name}: cannot be written: Is {what}"):
            write(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("flag", ["--out", "--save-tensors"])
def test_bench_refuses_a_place_that_takes_no_file_before_it_measures(tmp_path: Path, monkeypatch, capsys, flag):
    monkeypatch.setattr("elastickv.measure.supervisor.measure_case", pytest.fail)
    (tmp_path / "file").write_text("")
    places = {tmp_path: "Is a directory", tmp_path / "none/x": "the folder does not exist", "": "Is a directory"}
    places |= {tmp_path / "file/below": "cannot be written: Not a directory", "/proc/x": "cannot be written"}
    for place, problem in places.items():
        assert main(["bench", *TINY, f"{flag}={place}"]) == 2
        message = capsys.readouterr().err
        assert problem in message
        assert message.count("\n") == 1


def test_measure_and_ceilings_refuse_a_folder_before_they_begin(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("elastickv.build.binary.facts", pytest.fail)
    case = tmp_path / "case.json"
    records.write(case, json.loads((RECORDS / "4096_cpu.json").read_text(encoding="utf-8"))["case"], "case")
    for command in (["measure", f"--case={case}", f"--store={tmp_path}"], ["ceilings", "--backend=cpu"]):
        assert main([*command, f"--out={tmp_path}"]) == 2
        assert "Is a directory; name a new file" in capsys.readouterr().err


def test_bench_refuses_one_file_for_record_and_tensors_unless_it_is_a_device(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("elastickv.measure.bench._built", lambda *_: pytest.fail("goes on"))
    (tmp_path / "link").symlink_to("same")
    assert main(["bench", *TINY, f"--out={tmp_path / 'same'}", f"--save-tensors={tmp_path / 'link'}"]) == 2
    stated = f"elastickv: bench: --save-tensors: {tmp_path / 'link'} is also the file of --out; name another one\n"
    assert capsys.readouterr().err == stated
    with pytest.raises(pytest.fail.Exception, match="goes on"):
        main(["bench", *TINY, "--out=/dev/null", "--save-tensors=/dev/null"])


@pytest.mark.parametrize("command", [["summarise"], ["report", "manifest"]], ids=" ".join)
def test_a_report_s_place_that_takes_no_file_is_bad_usage(tmp_path: Path, capsys, command):
    results = gpu_folder(tmp_path)
    arguments = ["--cases", str(results / ".plan/cases.json"), "--results", str(results)]
    arguments += limits_of(command[0], results)
    (tmp_path / "file").write_text("")
    for place, reason in {tmp_path: "Is a directory", tmp_path / "file" / "below": "Not a directory"}.items():
        assert main([*command, *arguments, f"--out={place}"]) == 2
        assert capsys.readouterr().err == (
            f"elastickv: {place}: cannot be written: {reason}; name a new file, a file to replace, or a device\n"
        )


def test_a_folder_in_the_record_store_loses_no_measurement(tmp_path: Path, capsys):
    store = jobs.RecordStore(tmp_path)
    store.path("key").mkdir()
    store.keep("key", records.load(RECORDS / "4096_cpu.json", Measurement))
    assert "key.json: cannot be written: Is a directory" in capsys.readouterr().err


def test_bench_writes_the_very_names_given_and_keeps_links(cpu_build: Path, tmp_path: Path):
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "record").symlink_to("old.json")
    (tmp_path / "named").symlink_to("tensors")  # a file that is not there yet
    files = (f"--out={tmp_path / 'record'}", f"--save-tensors={tmp_path / 'named'}")
    done = elastickv("bench", *TINY, *files, "--build", str(cpu_build))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["named", "old.json", "record", "tensors"]
    assert (tmp_path / "record").is_symlink()
    assert records.read(tmp_path / "old.json", "measurement")["status"] in ("ok", "noisy")
    assert "full_out" in np.load(tmp_path / "tensors")


def test_a_single_launch_says_so_as_json_and_writes_nothing(cpu_build: Path, tmp_path: Path, capsys):
    done = elastickv("bench", *TINY, "--once", "--json", "--build", str(cpu_build))
    assert done.returncode == 0, done.stderr
    stated = json.loads(done.stdout)
    records.check(stated, "once", "bench")
    assert (stated["case"]["seq"], stated["backend"], stated["launched"]) == (64, "cpu", 1)
    for flag in ("--out", "--save-tensors"):
        assert main(["bench", *TINY, "--once", f"{flag}={tmp_path / 'x'}"]) == 2
        assert f"bench: {flag}: --once measures nothing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_lacks_a_character_shows_another(tmp_path: Path):
    results = gpu_folder(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(f"results: {results}\ncases: {{a: {{seq: 64, heads: 2, dim: 64, compress: 2}}}}\n")
    for command in (["show", "--configfile", str(config)], ["verify", str(results)], ["bench", "--help"]):
        done = elastickv(*command, PYTHONIOENCODING="ascii")
        assert "Traceback" not in done.stderr
        assert done.stdout.isascii()
        assert len(done.stdout) > 100


@pytest.mark.parametrize(
    ("files", "overrides", "fix"),
    [
        ((), (), "make run"),
        (
            ("config/smoke.yaml", "config/sweep.yaml"),
            ("backend=cpu", "results=results/x"),
            "make run CONFIG='config/smoke.yaml config/sweep.yaml' SET='backend=cpu results=results/x'",
        ),
    ],
    ids=["neither", "two of each"],
)
def test_show_of_no_run_says_how_to_run_what_was_asked_for(tmp_path: Path, monkeypatch, capsys, files, overrides, fix):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    given = [*(f"--configfile={name}" for name in files), *(f"--config={said}" for said in overrides)]
    assert main(["show", *given]) == 3
    assert capsys.readouterr().err.endswith(f"verdicts.json does not exist: no run has finished yet\nfix: {fix}\n")
