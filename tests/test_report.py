"""What is published from a results folder: tables, figures, posts, manifest."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from xml.etree import ElementTree

import pytest
from results_folder import BROKEN_CASES, GPU_CASES, elastickv, example, make, put

from elastickv import records
from elastickv.report import figures, inputs, phrases, social, text

HOSTILE = "<script>alert(1)</script> | `x` \n# H1 [a](http://b) $\\frac{ ✅ GPU golden @you #tag \u202e"
EVERYTHING = (*GPU_CASES, "4096_noisy", *BROKEN_CASES)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """No build folder of the checkout in the reports."""
    monkeypatch.chdir(tmp_path)


def judged(results):
    elastickv(["verdict"], results, "verdicts.json")
    return results


def gpu_folder(tmp_path):
    return judged(make(tmp_path / "results", EVERYTHING, "ceilings", "transformers_baseline", "gguf_baseline"))


def cpu_folder(tmp_path, **changes):
    """One CPU case, with changes to its device."""
    results = make(tmp_path / "results", ("4096_cpu",))
    record = example("4096_cpu")
    record["device"] |= changes
    put(results, record)
    return judged(results)


def published(results):
    """The two posts of the text file, and the trace."""
    content = elastickv(["report", "social"], results, "social_media_content.txt").read_text(encoding="utf-8")
    assert [line for line in content.splitlines() if line.startswith("===")] == ["=== X ===", "=== LinkedIn ==="]
    x, linkedin = content.removeprefix("=== X ===\n").split("\n=== LinkedIn ===\n")
    trace = records.read(results / "social_media_content.json", "social")
    assert trace["posts"]["x"]["text"] == x.strip()
    assert trace["posts"]["linkedin"]["text"] == linkedin.strip()
    return x.strip(), linkedin.strip(), trace


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
    assert (golden["baseline_bytes"], golden["triples"]) == (str(record["bytes"]["baseline"]), "60")
    noisy = rows[len(GPU_CASES)]
    assert noisy["problem"].startswith("noisy: ")
    assert {noisy[key] for key in ("speedup", "baseline_us", "cv", "roofline", "cycle_speedup")} == {""}
    assert noisy["seq"] == "4096"


def test_summary_says_when_there_is_no_record(tmp_path):
    results = make(tmp_path / "results", ("4096_elementwise", "4096_cpu"))
    (results / "results_4096_cpu.json").unlink()
    assert summary(results)[1]["problem"] == "no record"


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
    assert cells[1:8] == [
        "1.975x [1.974, 1.976]",
        "2.00x",
        "2.00x",
        "0.13%",
        "93.5% (94.7%)",
        "96.8% (98.0%)",
        "✅☆ golden ticket",
    ]
    assert "2.011x" in row(section(markdown, "Inference cycle"), "4096_golden_ticket")[-1]
    assert "1.96x" in section(markdown, "Beside the original's claims")
    assert "73.8%" in section(markdown, "Beside the original's claims")
    assert "4,650" in section(markdown, "Ceilings")


def test_report_shows_no_number_for_a_case_without_a_result(tmp_path):
    markdown = report(gpu_folder(tmp_path))
    for case in ("4096_noisy", *BROKEN_CASES):
        cells = row(section(markdown, "Results"), case)
        assert cells[1] == cells[4] == cells[6] == "–"
        missing = section(markdown, "Cases without a result")
        assert example(case)["reason"] in row(missing, case)[2].replace("\\", "")
    assert "3.21x" not in markdown  # what the noisy samples would have said
    assert "microsoft/phi-2: the model hub is not reachable" in section(markdown, "Language-model baselines")


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
    assert text.times_interval({"value": 1.9551, "low": 1.9512, "high": 1.9588}) == "1.955x [1.951, 1.959]"
    assert text.times_interval({"value": 1.95, "low": 1.90, "high": 2.0}) == "1.95x [1.90, 2.00]"


# figures


def test_figures_are_written_in_both_formats_and_are_the_same_every_time(tmp_path):
    results = judged(make(tmp_path / "results", GPU_CASES[:2], "ceilings"))
    folder = elastickv(["report", "figures"], results, "figures")
    names = {f"{name}.{kind}" for name in ("speedup", "efficiency", "samples", "ceilings") for kind in ("svg", "png")}
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(first) == names
    assert all(content.startswith(b"\x89PNG") for name, content in first.items() if name.endswith("png"))
    elastickv(["report", "figures"], results, "figures")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_figure_data_has_no_speedup_without_a_result(tmp_path):
    loaded = inputs.load(gpu_folder(tmp_path) / ".plan/cases.json", tmp_path / "results")
    rows = {row["case"].split("\n")[0]: row for row in figures.speedup_data(loaded)}
    assert list(rows) == list(EVERYTHING)
    assert rows["4096_elementwise"]["speedup"]["value"] == pytest.approx(1.975, abs=1e-3)
    assert rows["4096_elementwise"]["note"].endswith("golden ticket")
    for case in ("4096_noisy", *BROKEN_CASES):
        assert rows[case]["speedup"] is None
        assert rows[case]["note"] == "no result: " + example(case)["status"].replace("_", " ")
    assert len(figures.samples_data(loaded)) == len(GPU_CASES) + 1  # the noisy samples are shown, as noise
    assert [row["case"] for row in figures.efficiency_data(loaded)] == list(GPU_CASES)


def test_figures_take_names_literally(tmp_path):
    folder = elastickv(["report", "figures"], cpu_folder(tmp_path, name=HOSTILE), "figures")
    root = ElementTree.fromstring((folder / "speedup.svg").read_bytes())
    assert not [node for node in root.iter() if node.tag.endswith("script")]
    assert "frac{" in "".join(root.itertext())


def test_figures_without_any_result(tmp_path):
    folder = elastickv(["report", "figures"], judged(make(tmp_path / "results", ("4096_failed",))), "figures")
    assert {path.name for path in folder.iterdir()} == {"speedup.svg", "speedup.png"}


# posts


def resolve(results, number):
    """The values that a traced number's JSON pointers lead to."""
    content = json.loads((results / number["file"]).read_text(encoding="utf-8"))
    found = []
    for pointer in number["fields"]:
        value = content
        for part in pointer.split("/")[1:]:
            value = value[int(part)] if isinstance(value, list) else value[part]
        found.append(value)
    return found


def test_posts_of_a_gpu_with_a_golden_case(tmp_path):
    x, linkedin, trace = published(gpu_folder(tmp_path))
    assert x.startswith("✅ Elastic KV cache on NVIDIA H200 (GPU): 1.975x [1.974, 1.976]")
    assert "#NVIDIAGTC @NVIDIAGTC" in x
    assert "not attention" in x  # the golden case is the elementwise pass
    assert "2 invalid, 2 skipped" in x  # the noisy one is another device's
    assert "2 invalid, 2 skipped" in linkedin
    assert "0.988x [0.984, 0.991]" in linkedin  # the inference cycle that lost
    assert trace["golden"] == ["4096_elementwise"]
    assert trace["posts"]["x"]["length"] <= 280
    assert trace["posts"]["linkedin"]["length"] <= 3000
    golden_lines = [line for line in linkedin.splitlines() if "✅" in line]
    assert len(golden_lines) == 1
    assert "elementwise" in golden_lines[0]


def test_every_number_in_the_posts_has_its_field(tmp_path):
    results = gpu_folder(tmp_path)
    _, _, trace = published(results)
    for post in [*trace["posts"].values(), *trace["variants"]]:
        content, between, at = post["text"], "", 0
        for number in post["numbers"]:
            found = resolve(results, number)
            assert number["value"] == (len(found) if number["how"] == "count" else found[0])
            digits = float(number["text"].rstrip("x%")) / (100 if number["text"].endswith("%") else 1)
            assert digits == pytest.approx(number["value"], abs=0.06 if "tokens_per" in number["fields"][0] else 0.006)
            begin = content.index(number["text"], at)
            between, at = between + content[at:begin], begin + len(number["text"])
        names = re.sub("H200|SmolLM2-135M|fp16|fp32|float64", "", between + content[at:])
        assert re.findall(r"\d", names) == []


def test_counts_in_the_posts_are_the_verdicts(tmp_path):
    results = gpu_folder(tmp_path)
    x, _, trace = published(results)
    counted = re.findall(r"(\d+) (golden|excellent|good|invalid|skipped)", x)
    judgements = records.read(results / "verdicts.json", "verdict")["cases"]
    verdicts = [entry["verdict"].removesuffix("_ticket") for entry in judgements if entry["case"] != "4096_noisy"]
    assert {word: int(number) for number, word in counted} == {word: verdicts.count(word) for word in set(verdicts)}
    assert trace["posts"]["x"]["numbers"][-1]["how"] == "count"


def test_posts_of_a_cpu_never_say_gpu_or_golden(tmp_path):
    x, linkedin, trace = published(cpu_folder(tmp_path))
    for post in (x, linkedin):
        assert "gpu" not in post.lower()
        assert "golden" not in post.lower()
        assert "✅" not in post
        assert "3.32x [3.30, 3.33]" in post
        assert "(CPU)" in post
        assert "No case meets every threshold." in post
    assert trace["backend"] == "cpu"


@pytest.mark.parametrize("name", [HOSTILE, "golden GPU", "@" * 500, "漢字" * 300, "W" * 500, "a b " * 400])
def test_posts_say_nothing_that_a_device_name_smuggles_in(tmp_path, name):
    x, linkedin, trace = published(cpu_folder(tmp_path, name=name))
    for post in (x, linkedin):
        assert "gpu" not in post.lower()
        assert "golden" not in post.lower()
        assert "✅" not in post
        assert "@you" not in post
        assert "3.32x [3.30, 3.33]" in post
    assert trace["posts"]["x"]["length"] <= 280


def test_posts_without_a_result_have_no_numbers(tmp_path):
    x, linkedin, trace = published(judged(make(tmp_path / "results", ("4096_noisy", "4096_failed"))))
    for post in (x, linkedin):
        assert not re.search(r"\d+(\.\d+)?x", post)
        assert "no number to post" in post
    assert "#NVIDIAGTC @NVIDIAGTC" in x
    assert trace["posts"]["x"]["numbers"] == trace["posts"]["linkedin"]["numbers"] == []


def test_posts_leave_out_what_another_device_measured(tmp_path):
    x, linkedin, _ = published(judged(make(tmp_path / "results", ("4096_golden_ticket", "4096_cpu"), "ceilings")))
    for post in (x, linkedin):
        assert "3.32x" not in post
        assert "2.388x" in post
        assert "Of 1 case: 1 excellent." in post


def test_a_loss_is_called_a_loss(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket",), "ceilings")
    record = example("4096_golden_ticket")
    record["statistics"]["speedup"] |= {"value": 0.93, "low": 0.92, "high": 0.94}
    put(results, record)
    x, linkedin, _ = published(judged(results))
    assert "slower than a full cache, 0.93x [0.92, 0.94]" in x
    assert "slower than a full cache, 0.93x [0.92, 0.94]" in linkedin


def test_clauses_are_left_out_whole():
    clauses = [social.Clause(0, ["a "]), social.Clause(2, ["b "]), social.Clause(1, ["c "]), social.Clause(0, ["d"])]
    assert ["".join(form) for form in social.shortenings(clauses)] == ["a b c d", "a c d", "a d"]


def test_linkedin_leaves_out_cases_but_counts_them(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket",), "ceilings")
    names = [f"sweep-{index}" for index in range(60)]
    for name in names:
        record = example("4096_golden_ticket")
        record["case"]["id"] = name
        put(results, record)
    (results / ".plan/cases.json").write_text(json.dumps({"schema": "cases/1", "cases": names}), encoding="utf-8")
    _, linkedin, trace = published(judged(results))
    shown = linkedin.count("decode attention")
    assert 0 < shown < 60
    assert f"… and {60 - shown} more in the report" in linkedin
    assert "Of 60 cases: 60 excellent." in linkedin
    assert trace["posts"]["linkedin"]["length"] <= 3000


def test_a_number_knows_its_field():
    entries = make_case("4096_golden_ticket")
    number = phrases.times(entries, "bytes/ceiling")
    assert (number.text, number.file, number.fields) == (
        "3.36x",
        "results_4096_golden_ticket.json",
        ("/bytes/ceiling",),
    )


def make_case(name):
    return inputs.Case(name, example(name), {"verdict": "excellent"})


# manifest.json


def test_manifest_hashes_every_input_and_output(tmp_path):
    results = gpu_folder(tmp_path)
    (tmp_path / "build/cpu").mkdir(parents=True)
    (tmp_path / "build/cpu/libelastickv.so").write_bytes(b"library")
    (results / ".logs").mkdir()
    (results / ".logs/x.log").write_text("not an output", encoding="utf-8")
    elastickv(["report", "figures"], results, "figures")
    report(results)
    for _ in range(2):  # its own hash is not in it: written twice, it stays the same
        elastickv(["report", "manifest"], results, "manifest.json")
    manifest = records.read(results / "manifest.json", "manifest")
    roots = {"results": results, "checkout": tmp_path}
    for entry in manifest["inputs"] + manifest["outputs"]:
        content = (roots[entry["root"]] / entry["path"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["bytes"] == len(content)
    listed = {entry["path"] for entry in manifest["outputs"]}
    expected = {f"results_{case}.json" for case in EVERYTHING} | {"report.md", "verdicts.json", "figures/speedup.svg"}
    assert expected <= listed
    assert not listed & {"manifest.json", ".logs/x.log"}
    assert "build/cpu/libelastickv.so" in {entry["path"] for entry in manifest["inputs"]}
    assert [case["id"] for case in manifest["cases"]] == list(EVERYTHING)
    assert manifest["config"]["golden"]["speedup"] == 1.95


def test_reports_need_the_verdicts_first(tmp_path, capsys):
    from elastickv.cli import main

    results = make(tmp_path / "results", ("4096_cpu",))
    arguments = ["--cases", str(results / ".plan/cases.json"), "--results", str(results), "--out", str(tmp_path / "r")]
    assert main(["report", "markdown", *arguments]) == 1
    assert "verdicts.json" in capsys.readouterr().err
    judged(results)
    (results / ".plan/cases.json").write_text('{"schema": "cases/1", "cases": ["4096_cpu", "new"]}', encoding="utf-8")
    assert main(["report", "markdown", *arguments]) == 1
    assert "no verdict for new" in capsys.readouterr().err
