"""What is published from a results folder: summary.csv, report.md, manifest.json."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil

import pytest
from conftest import ROOT
from results_folder import (
    BROKEN_CASES,
    EVERYTHING,
    GPU_CASES,
    HOSTILE,
    PROVENANCE,
    cpu_folder,
    elastickv,
    example,
    gpu_folder,
    judged,
    limits_of,
    list_cases,
    make,
    planned,
    put,
    short_cycle,
)

from elastickv import records
from elastickv.judge.verdict import Bounded
from elastickv.report import show, text
from elastickv.schemas.verdict import Verdicts


def report(results):
    return elastickv(["report", "markdown"], results, "report.md").read_text(encoding="utf-8")


def section(markdown, name):
    return markdown.split(f"## {name}\n")[1].split("\n## ")[0]


def row(markdown, case):
    """The cells of the first table row of a case."""
    line = next(line for line in markdown.splitlines() if line.startswith(f"| `{case}`"))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


# summary.csv


def summary(results):
    path = elastickv(["summarise"], results, "summary.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_summary_has_one_row_a_case_in_plan_order_and_numbers_only_where_they_hold(tmp_path):
    results = make(tmp_path / "results", EVERYTHING)
    put(results, example("4096_cpu"))  # not in the plan
    rows = summary(results)
    assert [row["case"] for row in rows] == list(EVERYTHING)
    record = example("4096_golden_ticket")
    golden = rows[1]
    assert float(golden["speedup"]) == record["statistics"]["speedup"]["value"]
    assert float(golden["roofline"]) == record["efficiency"]["elastic"]["roofline"]
    assert (golden["full_bytes"], golden["rounds"]) == (str(record["bytes"]["full"]), "60")
    noisy = rows[len(GPU_CASES)]
    assert noisy["problem"].startswith("noisy: ")
    assert {noisy[key] for key in ("speedup", "full_us", "cv_trimmed", "roofline", "cycle_speedup")} == {""}
    assert noisy["seq"] == "4096"


def test_summary_says_when_there_is_no_record(tmp_path):
    results = make(tmp_path / "results", ("4096_elementwise", "4096_cpu"))
    (results / "results_4096_cpu.json").unlink()
    assert summary(results)[1]["problem"] == "no record"


def test_summary_has_no_cycle_speedup_of_too_few_samples(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket", "1024_standard"))
    put(results, short_cycle("4096_golden_ticket", 1))
    short, long = summary(results)
    columns = ("cycle_speedup", "cycle_speedup_low", "cycle_speedup_high")
    assert [short[column] for column in columns] == ["", "", ""]
    assert short["elastic_layer_steps_per_second"]
    assert short["speedup"]
    assert all(long[column] for column in columns)


def test_summary_cells_are_no_formulas_and_one_line(tmp_path):
    results = make(tmp_path / "results", ("4096_cpu",))
    record = example("4096_cpu")
    record["device"]["name"] = "=HYPERLINK(1)\nx"
    put(results, record)
    assert summary(results)[0]["device"] == "'=HYPERLINK(1) x"


# report.md


def test_report_shows_figures_with_intervals_and_verdicts(tmp_path):
    markdown = report(gpu_folder(tmp_path))
    assert markdown.startswith("# Elastic KV cache: GPU results\n\nDevice: **NVIDIA H200**, driver 580.95.05.")
    cells = row(section(markdown, "Results"), "4096_elementwise")
    assert cells[1:10] == [
        "1.975x [1.971, 1.980]",
        "1.975x [1.970, 1.979]",
        "3 processes",
        "2.00x",
        "2.00x",
        "0.15% (0.13%)",
        "93.5% (94.7%)",
        "96.7% (98.0%)",
        "✅☆ golden ticket",
    ]
    assert "2.010x" in row(section(markdown, "Inference cycle"), "4096_golden_ticket")[-2]
    assert "1.96x" in section(markdown, "Comparison with the original's claims")
    assert "73.8%" in section(markdown, "Comparison with the original's claims")
    assert "4,650" in section(markdown, "Ceilings")


def test_the_pure_pass_is_marked_where_a_case_beats_it(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket", "1024_standard"))
    record = example("4096_golden_ticket")
    record["bytes"]["reachable_ceiling"] = 2.3
    put(results, record)
    markdown = report(judged(results))
    assert row(section(markdown, "Results"), "4096_golden_ticket")[5] == "2.30x, no bound"
    assert "no bound" not in row(section(markdown, "Results"), "1024_standard")[5]
    assert "| pure pass" in section(markdown, "Results")


@pytest.mark.parametrize(
    ("stationary", "cell"), [(True, "stationary"), (False, "trend left"), (None, "test did not run")]
)
def test_a_row_says_how_its_warm_up_ended(tmp_path, stationary, cell):
    results = make(tmp_path / "results", ("4096_golden_ticket",))
    record = example("4096_golden_ticket")
    record["resolved"]["warm_up"] = {"stationary": stationary, "ended": "warmup", "test": "a test"}
    put(results, record)
    assert cell in row(section(report(judged(results)), "Times, bytes and checks"), "4096_golden_ticket")


def of_launch(launch, low):
    """The golden example by one launch mode, with another interval of its speedup."""
    record = example("4096_golden_ticket")
    record["case"] |= {"id": launch, "launch": launch}
    record["resolved"]["launch"] = launch
    record["statistics"]["speedup"] |= {"value": low + 0.02, "low": low, "high": low + 0.04}
    return record


def test_plain_and_dependent_launches_stand_beside_each_other(tmp_path):
    results = planned(tmp_path / "results", [of_launch("plain", 1.8), of_launch("dependent", 2.2)])
    markdown = report(judged(results))
    cells = row(section(markdown, "Plain and dependent launches"), "plain")
    assert cells[:2] + cells[3:5] == ["`plain`", "1.82x [1.80, 1.84]", "`dependent`", "2.22x [2.20, 2.24]"]
    assert "the other one was not" not in markdown
    alone = report(judged(make(tmp_path / "alone", ("4096_golden_ticket",))))
    assert "## Plain and dependent launches" not in alone
    assert "the other one was not" in alone


def test_the_report_names_the_settings_that_differ_from_the_defaults(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket", "1024_standard"))
    assert "`measure.max_seconds`" not in section(report(judged(results)), "Settings")
    record = example("4096_golden_ticket")
    record["case"]["measure"]["max_seconds"] = 5
    plan = results / ".plan/cases/4096_golden_ticket.json"
    plan.write_text(json.dumps(record["case"]), encoding="utf-8")
    record["resolved"]["forced"] = {"splits": 4}
    put(results, record)
    stated = section(report(judged(results)), "Settings")
    assert re.search(r"`measure.max_seconds` +\| 5.* +\| 20 +\| `4096_golden_ticket` +\|", stated)
    assert re.search(r"`--splits` +\| 4 +\| auto +\|", stated)


def test_the_last_lines_of_a_run_say_what_would_narrow_its_intervals(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket", "4096_cpu", "4096_noisy"))

    def stated():
        verdicts = records.load(judged(results) / "verdicts.json", Verdicts).cases
        return show.closing(show.measured(results), verdicts)

    first, *rest = stated()
    assert re.fullmatch(r"3 cases measured in (\d+ min )?\d+ s\.", first)
    assert [line for line in rest if line.startswith("4096_noisy: imprecise or noisy; an idle machine")]
    more = "SET=measure.processes=5 would help."
    differ = f"4096_golden_ticket: the processes differ by more than measure.precision; {more}"
    assert differ not in rest
    record = example("4096_golden_ticket")
    assert record["resolved"]["stopped"] == "precision"
    speedup = record["statistics"]["speedup"]
    speedup |= {"low": speedup["value"] * 0.99, "high": speedup["value"] * 1.01}
    put(results, record)
    assert differ in stated()
    record = example("4096_golden_ticket")
    record["resolved"]["stopped"] = "max_seconds"
    put(results, record)
    names = "4096_golden_ticket, 4096_cpu, 4096_noisy"
    assert f"{names}: ended at measure.max_seconds; SET=measure.max_seconds=40 would narrow the interval." in stated()


def test_energy_is_shown_with_the_busy_share_or_the_reason_why_there_is_none(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket", "1024_standard"))
    record = example("1024_standard")
    nothing = {"value": None, "reason": "the device worked in 71% of the time, less than 95%"}
    record["energy"] |= {
        "joules_per_launch": nothing,
        "joules_per_token": nothing,
        "arms": {"full": nothing, "elastic": nothing},
    }
    put(results, record)
    markdown = section(report(judged(results)), "State of the machine")
    energy = markdown[markdown.index("mJ/token") :]
    assert row(energy, "4096_golden_ticket")[6:8] == ["99.8%", "99.8%"]
    assert row(energy, "1024_standard")[1:9] == ["–"] * 7 + ["the device worked in 71% of the time, less than 95%"]


def test_report_shows_no_number_for_a_case_without_a_result(tmp_path):
    markdown = report(gpu_folder(tmp_path))
    for case in ("4096_noisy", *BROKEN_CASES):
        cells = row(section(markdown, "Results"), case)
        assert cells[1] == cells[2] == cells[3] == cells[6] == cells[8] == "–"
        missing = section(markdown, "Cases without a result")
        assert example(case)["reason"] in row(missing, case)[2].replace("\\", "")
    assert "3.21x" not in markdown  # what the noisy samples would have given
    baselines = section(markdown, "Language-model baselines")
    assert "microsoft/phi-2: the model hub is not reachable" in baselines
    assert "a prompt of 1,024 tokens, then 64 decoded one by one; medians of 3 repetitions; attention sdpa" in baselines
    assert "static" in baselines and "77.0 [75.5, 77.8]" in baselines and "23 of 24" in baselines
    assert "need to install" in baselines


def test_report_shows_no_cycle_speedup_of_too_few_samples(tmp_path):
    results = gpu_folder(tmp_path)
    usual = row(section(report(results), "Inference cycle"), "4096_golden_ticket")
    put(results, short_cycle("4096_golden_ticket", 1))
    markdown = report(results)
    assert row(section(markdown, "Inference cycle"), "4096_golden_ticket") == [*usual[:-2], "–", usual[-1]]
    assert "`4096_golden_ticket`: the inference cycle has 1 sample, too few" in section(markdown, "Cautions")


def test_a_noisy_baseline_shows_no_rate(tmp_path):
    results = gpu_folder(tmp_path)
    path = results / "transformers_baseline.json"
    record = example("transformers_baseline")
    record["decode_tokens_per_second"] |= {"low": 41.5, "high": 81.5}
    path.write_text(json.dumps(record))
    baselines = section(report(results), "Language-model baselines")
    assert "61.5" not in baselines and "31.2" not in baselines
    assert (
        "41.75" in baselines and "noisy: the half-width of the decode rate's interval is 33% of its value" in baselines
    )


def test_report_of_a_cpu_says_so(tmp_path):
    markdown = report(cpu_folder(tmp_path))
    assert markdown.startswith("# Elastic KV cache: CPU results")
    assert "GPU" not in markdown
    assert "✅" not in markdown


def test_report_marks_records_of_another_device(tmp_path):
    results = judged(make(tmp_path / "results", ("4096_elementwise", "4096_cpu"), "ceilings"))
    cells = row(section(report(results), "Results"), "4096_cpu")
    assert "‡ Intel" in cells[0]
    assert "‡" not in row(section(report(results), "Results"), "4096_elementwise")[0]


def test_report_without_ceilings_or_any_record(tmp_path):
    results = make(tmp_path / "results", ("4096_failed", "4096_cpu"))
    (results / "results_4096_cpu.json").write_text("not json", encoding="utf-8")
    markdown = report(judged(results))
    assert markdown.startswith("# Elastic KV cache: no device results")
    assert "no ceilings.json" in markdown
    assert "unreadable record" in markdown


def test_report_says_what_was_built_and_by_which_command(tmp_path):
    build = section(report(cpu_folder(tmp_path)), "Build")
    made = example("4096_cpu")["build"]
    stated = rf"cpu +\| `{made['sha256'][:16]}` +\| avx512 by g\+\+ g\+\+ 12.2.0 +\| 1 +\|"
    assert re.search(stated, build)
    about = made["provenance"]
    row = rf"`{about['commit'][:12]}` +\| `{about['sources'][:16]}` +\| make run CONFIG=config/config.yaml +\| +1"
    assert re.search(row, build)


def test_a_binary_has_one_row_whatever_parts_of_it_the_cases_ran(tmp_path):
    results = make(tmp_path / "results", ("4096_cpu", "4096_noisy"))
    for number, name in enumerate(("4096_cpu", "4096_noisy")):
        record = example(name)
        record["device"] = example("4096_cpu")["device"]
        record["build"] = example("4096_cpu")["build"] | {"fingerprint": f"{number:064x}"}
        put(results, record)
    build = section(report(judged(results)), "Build")
    made = example("4096_cpu")["build"]["sha256"]
    assert re.findall(rf"\| cpu +\| `{made[:16]}` .*\| (\d+) +\|", build) == ["2"]


def test_a_report_of_a_copied_folder_has_the_same_bytes(tmp_path, monkeypatch):
    results = gpu_folder(tmp_path)
    elastickv(["summarise"], results, "summary.csv")
    elsewhere = tmp_path / "elsewhere"
    copy = shutil.copytree(results, elsewhere / "a copy")
    monkeypatch.chdir(ROOT)
    for folder in (results, copy):
        elastickv(["report", "figures"], folder, "figures")
        elastickv(["report", "social"], folder, "social_media_content.txt")
        elastickv(["report", "markdown"], folder, "report.md")
        elastickv(["report", "manifest"], folder, "manifest.json")
        monkeypatch.chdir(elsewhere)  # no checkout, no builds
        monkeypatch.setenv("ELASTICKV_PROVENANCE", json.dumps({"of": "another run"}))
    made = [
        {path.relative_to(top): path.read_bytes() for path in top.rglob("*.*") if path.is_file()}
        for top in (results, copy)
    ]
    assert made[0] == made[1]


def test_report_says_why_a_fact_is_missing(tmp_path):
    assert re.search(r"driver +\| – a CPU has none", section(report(cpu_folder(tmp_path)), "Machine"))


def test_report_disarms_strings_from_records(tmp_path):
    results = cpu_folder(tmp_path, name=HOSTILE, note="x" * 100_000)
    markdown = report(results)
    assert "<script>" not in markdown
    assert "\n# H1" not in markdown
    assert "\u202e" not in markdown
    assert len(markdown) < 20_000
    assert {line.count(" | ") for line in section(markdown, "Machine").splitlines() if "script" in line} == {1}


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a|b", "a\\|b"),
        ("a\nb\tc", "a b c"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("`code` *x*", "\\`code\\` \\*x\\*"),
        ("memory_efficiency _x_", "memory_efficiency \\_x\\_"),
        ("\x1b[31mred\u202e", "\\[31mred"),
        ("long" * 200, "long" * 74 + "lon…"),
        (None, "None"),
    ],
)
def test_escape(raw, shown):
    assert text.escape(raw) == shown


def test_intervals_are_never_hidden_by_rounding():
    assert text.times_interval(Bounded(1.9551, 1.9512, 1.9588)) == "1.955x [1.951, 1.959]"
    assert text.times_interval(Bounded(1.95, 1.90, 2.0)) == "1.95x [1.90, 2.00]"


# manifest.json


def test_manifest_hashes_every_input_and_output(tmp_path):
    results = gpu_folder(tmp_path)
    (results / ".logs").mkdir()
    (results / ".logs/x.log").write_text("not an output", encoding="utf-8")
    elastickv(["report", "figures"], results, "figures")
    report(results)
    for _ in range(2):  # its own hash is not in it: written twice, it stays the same
        elastickv(["report", "manifest"], results, "manifest.json")
    manifest = records.read(results / "manifest.json", "manifest")
    for entry in manifest["inputs"] + manifest["outputs"]:
        content = (results / entry["path"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["bytes"] == len(content)
    listed = {entry["path"] for entry in manifest["outputs"]}
    expected = {f"results_{case}.json" for case in EVERYTHING} | {"report.md", "verdicts.json", "figures/speedup.svg"}
    assert expected <= listed
    assert not listed & {"manifest.json", ".logs/x.log"}
    assert {".plan/cases.json", ".plan/golden.json", ".plan/run.json"} <= {e["path"] for e in manifest["inputs"]}
    assert manifest["run"] == PROVENANCE
    assert [case["id"] for case in manifest["cases"]] == list(EVERYTHING)
    assert manifest["config"]["golden"]["speedup"] == 1.95


def test_reports_need_the_verdicts_first(tmp_path, capsys):
    from elastickv.cli import main

    results = make(tmp_path / "results", ("4096_cpu",))
    arguments = ["--cases", str(results / ".plan/cases.json"), "--results", str(results), "--out", str(tmp_path / "r")]
    assert main(["report", "markdown", *arguments]) == 2
    assert "verdicts.json" in capsys.readouterr().err
    judged(results)
    list_cases(results, ["4096_cpu", "new"])
    assert main(["report", "markdown", *arguments]) == 2
    assert "no verdict for new" in capsys.readouterr().err


STEPS = ("summarise", "verdict", "report markdown", "report figures", "report social", "report manifest")
GIVEN_WRONG = [(step, flag) for step in STEPS for flag in ("--cases", "--results")]
GIVEN_WRONG += [("verdict", "--golden"), ("verdict", "--noise"), ("summarise", "--noise")]


@pytest.mark.parametrize(("step", "flag"), GIVEN_WRONG)
def test_a_step_refuses_what_is_no_plan_or_no_results_folder(tmp_path, capsys, step, flag):
    """Exit 2, as for any bad usage: 1 means that `verify` or `compare` found something."""
    from elastickv.cli import main

    results = judged(make(tmp_path / "results", ("4096_cpu",)))
    given = {"--cases": results / ".plan/cases.json", "--results": results, "--out": tmp_path / "out"}
    limits = limits_of(step, results)
    given |= dict(zip(limits[::2], limits[1::2], strict=True))
    wrong = tmp_path / "wrong"
    for content in (None, "{}"):
        if content:
            wrong.write_text(content, encoding="utf-8")
        arguments = [str(word) for pair in (given | {flag: wrong}).items() for word in pair]
        assert main([*step.split(), *arguments]) == 2
        stated = capsys.readouterr().err
        assert str(wrong) in stated and stated.startswith("elastickv: ")
        assert not (tmp_path / "out").exists()
