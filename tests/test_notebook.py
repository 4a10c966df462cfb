"""The notebook: its content, when it changes, its text; and executed from an empty folder."""

from __future__ import annotations

import ast
import csv
import html
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import BIN, ROOT, Checkout, source_files
from results_folder import BROKEN_CASES, GPU_CASES, elastickv, gpu_folder, judged, make, put, short_cycle

from elastickv import records
from elastickv.build import cuda, sources
from elastickv.cli import main
from elastickv.errors import UsageError
from elastickv.judge import noise
from elastickv.report import environment, explanation, inputs, notebook, phrases, summary
from elastickv.schemas.measurement import Measurement

CARRIED = ("workflow/elastickv/", "kernels/", "schemas/", "envs/")
IN_ORDER = [
    *("title", "environment", "install", "login", "controls", "folders", "check", "build", "golden", "bench"),
    *("baselines", "metrics", "verdicts", "figures", "explanation", "explained", "posts", "files"),
]


@pytest.fixture(scope="module")
def text() -> str:
    """The notebook of this checkout's sources."""
    return notebook.notebook(ROOT)


@pytest.fixture(scope="module")
def cells(text: str) -> dict[str, Any]:
    """Its cells by id."""
    return {cell["id"]: cell for cell in json.loads(text)["cells"]}


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def written(cells: dict[str, Any]) -> dict[str, str]:
    """Path -> content of every file that a cell writes."""
    found = {}
    for cell in cells.values():
        first, _, body = source_of(cell).partition("\n")
        if first.startswith("%%writefile "):
            found[first.removeprefix("%%writefile ")] = body + "\n"
    return found


def test_it_is_a_valid_notebook_with_the_promised_cells_in_order(text, cells):
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert [name for name in cells if name in IN_ORDER] == IN_ORDER
    places = list(cells)
    first_file = next(name for name in places if name.startswith("file-"))
    assert places.index("folders") < places.index(first_file) < places.index("check")
    assert all(cell["outputs"] == [] for cell in cells.values() if cell["cell_type"] == "code")


def test_it_holds_every_source_file_byte_for_byte(cells):
    expected = {name for name in source_files() if name.startswith(CARRIED)} | {str(path) for path in sources.MATRICES}
    found = written(cells)
    assert set(found) == expected
    for name, content in found.items():
        assert content.encode() == (ROOT / name).read_bytes(), name


def test_every_group_of_files_is_explained(cells):
    headings = {name: source_of(cell) for name, cell in cells.items() if name.startswith("group-")}
    listed = [line for heading in headings.values() for line in heading.splitlines() if line.startswith("- `")]
    assert len(listed) == len(written(cells))
    for name, heading in headings.items():
        assert heading.startswith("### "), name
    assert "- `kernel.cu`: decode: attention of one new token" in headings["group-kernel-decode"]


def test_its_own_cells_are_python_without_leftovers(cells):
    code = {name: source_of(cell) for name, cell in cells.items() if cell["cell_type"] == "code"}
    for name, source in code.items():
        if not name.startswith("file-"):
            ast.parse(source)
            assert "BY_GENERATOR" not in source
    for control in (
        "ENABLE_TRANSFORMERS_MINI",
        "ENABLE_GGUF",
        "TRANSFORMERS_MODEL",
        "DECODE_TOKENS",
        "GGUF_REPO",
        "GGUF_FILE",
    ):
        assert re.search(rf"^{control} = .*# @param", code["controls"], re.MULTILINE), control


@pytest.mark.parametrize(
    ("capability", "control", "architectures", "ptx"),
    [
        ("7.5", "auto", [75], 0),
        ("8.7", "auto", [86], 0),
        ("10.0", "auto", [90], 90),
        ("7.5", "75, sm_61", [61, 75], 0),
        ("9.0", "75, sm_61", [61, 75], 75),
    ],
)
def test_it_compiles_for_the_gpu_found_alone_unless_told_otherwise(cells, capability, control, architectures, ptx):
    source = source_of(cells["build"])
    choice = source[source.index("FATBIN =") : source.index("\nif BACKEND")]
    said = {"GPUS": [f"A GPU, 15360 MiB, 550.54, {capability}"], "ARCHITECTURES": control, "Path": Path, "cuda": cuda}
    exec(choice, said)
    assert (said["architectures"], said["ptx"]) == (architectures, ptx)


def test_it_holds_no_blob_and_no_path_of_this_machine(text):
    assert not re.search(r"[A-Za-z0-9+/=]{200}", text)
    for path in (str(ROOT), sys.prefix, str(Path(sys.base_prefix)), f"{Path.home()}/"):
        assert path not in text


def test_what_it_installs_is_pinned_by_the_locks(cells):
    pins = notebook.pins(ROOT)
    locked = {line for path in (ROOT / "envs").iterdir() for line in path.read_text(encoding="utf-8").splitlines()}
    assert {line for lines in pins.values() for line in lines} <= locked
    source = source_of(cells["install"])
    said = {"GPUS": ["a GPU"], "importlib": importlib, "sys": sys, "subprocess": subprocess}
    exec(source.partition("missing =")[0], said)  # the packages that it would look for
    assert said["PINS"] == pins
    assert {"numpy", "cupy-cuda12x", "jinja2", "pyyaml"} < set(said["NEEDED"].values()) <= set(pins)


def test_the_same_sources_give_the_same_notebook(text, tmp_path):
    assert notebook.notebook(ROOT) == text
    results = make(tmp_path / "results", ("4096_golden_ticket",))
    assert elastickv(["report", "notebook"], results, "elastic_kv_benchmark.ipynb").read_text(encoding="utf-8") == text


@pytest.fixture
def checkout(clone: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the sources to change."""
    return clone.copy(tmp_path / "checkout")


@pytest.mark.parametrize(
    ("name", "old", "new", "changes"),
    [
        ("kernels/decode/kernel.cu", "#include", "// a remark\n#include", False),
        ("kernels/decode/kernel.cu", "#include", "static_assert(sizeof(char) == 1);\n#include", True),
        ("config/config.yaml", "# The default matrix", "# Other words", False),
        ("config/config.yaml", "seq: 4096", "seq: 4095", True),
        ("schemas/golden.schema.json", "Thresholds of the", "Thresholds of", True),
        ("workflow/elastickv/cache/compact.py", "import", "# a remark\nimport", True),
        ("README.md", "#", "##", False),
    ],
)
def test_its_fingerprint_changes_with_what_it_runs(checkout, name, old, new, changes):
    before = sources.sha256(checkout.root)
    path = checkout.root / name
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    assert (sources.sha256(checkout.root) != before) is changes


def test_a_broken_default_matrix_is_carried_as_it_is_and_a_missing_one_is_an_error(checkout):
    matrix = checkout.root / "config/config.yaml"
    matrix.write_text("cases: [\n", encoding="utf-8")
    assert sources.sha256(checkout.root)
    assert written_text(notebook.notebook(checkout.root))["config/config.yaml"] == "cases: [\n"
    matrix.unlink()
    assert sources.sha256(checkout.root)
    with pytest.raises(UsageError, match=r"config/config\.yaml is missing"):
        notebook.notebook(checkout.root)


def written_text(text: str) -> dict[str, str]:
    return written({cell["id"]: cell for cell in json.loads(text)["cells"]})


@pytest.mark.parametrize("content", ["", "\n", "\nfirst\n", "no newline"])
def test_a_file_that_a_cell_cannot_write_byte_for_byte_is_refused(content):
    with pytest.raises(UsageError, match=r"x\.py"):
        notebook.file_cell(Path("x.py"), content)


def test_a_results_folder_can_be_planned_without_snakemake(tmp_path, capsys):
    results = tmp_path / "results"
    arguments = ["--configfile", "config/smoke.yaml", "--config", f"results={results}", "--config", "measure.reps=7"]
    assert main(["plan", *arguments]) == 0
    names = records.read(results / ".plan/cases.json", "cases")["cases"]
    assert f"{len(names)} cases" in capsys.readouterr().out
    for name in names:
        assert records.read(results / f".plan/cases/{name}.json", "case")["measure"]["reps"] == 7
    assert main(["plan", *arguments[:-1], "measure.reps=0"]) == 2
    assert "measure.reps" in capsys.readouterr().err


# What it explains: every number with its record, and none without a result.


def resolve(results: Path, number: phrases.Number) -> Any:
    """The value that a number's JSON pointer leads to."""
    value = json.loads((results / number.file).read_text(encoding="utf-8"))
    for part in number.fields[0].split("/")[1:]:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def check_numbers(results: Path, loaded: inputs.Inputs) -> int:
    """Checks that the explanation's digits are numbers or strings of records; returns how many numbers it has."""
    rest, numbers = explanation.explained(loaded)
    names = {case.id for case in loaded.cases} | {"fp16", "fp32", "int4", "int8"}
    for baseline in loaded.baselines:
        if baseline.measured:
            names |= {baseline.record.model.name, baseline.record.device.name}
    for name in sorted(names, key=len, reverse=True):
        rest = rest.replace(name, "")
    words = ""
    for number in numbers:
        assert resolve(results, number) == number.value
        before, found, rest = rest.partition(number.text)
        assert found
        words += before
    for line in (words + rest).splitlines():
        if not line.startswith(("###", "- ``: ", "**Language model (")) or line.startswith("- ``: at most"):
            assert not re.search(r"\d", line), line  # the others hold a device's name or a reason
    return len(numbers)


def test_every_number_of_the_explanation_has_its_record(tmp_path):
    results = gpu_folder(tmp_path)
    loaded = inputs.load(results / ".plan/cases.json", results)
    assert check_numbers(results, loaded) > 30
    said = explanation.markdown(loaded)
    assert "at most 2.00x" in said
    assert "of a golden ticket is out of reach" in said
    assert "the memory bottleneck" in said.lower()
    assert "tokens/s" in said
    for case in BROKEN_CASES:
        lines = [line for line in said.splitlines() if f"`{case}`" in line]
        assert not any("measured" in line or "differ by" in line for line in lines)


def test_an_explanation_leaves_out_a_cycle_of_too_few_samples(tmp_path):
    results = judged(make(tmp_path / "results", ("4096_golden_ticket", "1024_standard")))
    put(results, short_cycle("1024_standard", 1))
    said = explanation.markdown(inputs.load(results / ".plan/cases.json", results))
    assert [line.split(",")[0] for line in said.splitlines() if "with appends" in line] == ["- `4096_golden_ticket`"]


def test_an_explanation_without_results_has_no_number_but_ceilings(tmp_path):
    results = judged(make(tmp_path / "results", ("4096_failed",)))
    loaded = inputs.load(results / ".plan/cases.json", results)
    assert check_numbers(results, loaded) == 0
    assert explanation.NO_RESULT in explanation.markdown(loaded)


def test_a_baseline_that_failed_is_named_with_its_reason(tmp_path):
    results = judged(make(tmp_path / "results", GPU_CASES[:1], "transformers_baseline"))
    file = results / "transformers_baseline.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    kept = ("schema", "engine", "backend", "model", "device", "software", "started", "ended", "settings", "text")
    failed = {key: record[key] for key in kept if key in record} | {"status": "failed", "reason": "no network"}
    file.write_text(json.dumps(failed), encoding="utf-8")
    said = explanation.markdown(inputs.load(results / ".plan/cases.json", results))
    assert "**Language model (transformers)**: no result" in said
    assert "tokens/s" not in said


# Executed from an empty folder, in a separate environment, without the checkout.


def same(displayed: str, exact: Any) -> bool:
    """Whether a displayed text is a value, rounded to five digits where it is a float."""
    if exact in (None, ""):
        return displayed == ""
    if displayed == str(exact):
        return True
    return float(displayed) == float(f"{float(exact):.5g}")


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The executed notebook's code cells by id, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("notebook")
    python = folder / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    finds = {"UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")}
    install = [BIN / "uv", "pip", "install", "--quiet", "--python", python, "-r", ROOT / "envs/notebook.txt"]
    subprocess.run(install, check=True, env=os.environ | finds)
    start = folder / "start"
    start.mkdir()
    (start / "it.ipynb").write_text(notebook.notebook(ROOT), encoding="utf-8")
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != BIN)
    hidden = ("ELASTICKV_", "PYTHON", "VIRTUAL_ENV", "COVERAGE")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    environment |= {"PATH": path, "BACKEND": "cpu", "DECODE_TOKENS": "8"}
    alone = subprocess.run(
        [python, "-c", "import elastickv"], cwd=start, env=environment, capture_output=True, check=False
    )
    assert alone.returncode != 0, "the checkout can be seen from there"
    done = subprocess.run(
        [python.with_name("jupyter"), "execute", "--output=executed.ipynb", "it.ipynb"],
        cwd=start,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    content = nbformat.read(start / "executed.ipynb", as_version=4)
    return {cell["id"]: cell for cell in content["cells"] if cell["cell_type"] == "code"}, start


def data(cell: dict[str, Any], kind: str) -> list[str]:
    """What a cell displayed of one MIME type."""
    return [output["data"][kind] for output in cell["outputs"] if kind in output.get("data", {})]


def printed(cell: dict[str, Any]) -> str:
    return "".join(output["text"] for output in cell["outputs"] if output["output_type"] == "stream")


@pytest.mark.slow
def test_every_cell_runs_and_what_they_write_is_there(executed):
    cells, start = executed
    counts = [cell["execution_count"] for cell in cells.values()]
    assert counts == list(range(1, len(cells) + 1))
    assert not [name for name, cell in cells.items() if any(o["output_type"] == "error" for o in cell["outputs"])]
    for name in source_files():
        if name.startswith(CARRIED):
            assert (start / "elastic_kv" / name).read_bytes() == (ROOT / name).read_bytes()
    assert "as generated" in printed(cells["check"])
    assert not [name for name, cell in cells.items() if str(start) in json.dumps(cell["outputs"])]
    results = start / "elastic_kv/results/notebook"
    figures = {path.name for path in (results / "figures").iterdir()}
    assert {"speedup.png", "samples.png", "ceilings.png"} <= figures
    assert len(data(cells["figures"], "image/png")) == len([name for name in figures if name.endswith(".png")])
    posts = (results / "social_media_content.txt").read_text(encoding="utf-8")
    assert posts.startswith("=== X ===\n")
    assert "\n=== LinkedIn ===\n" in posts
    assert "GPU" not in posts
    assert records.read(results / "manifest.json", "manifest")["outputs"]


@pytest.mark.slow
def test_the_table_of_metrics_has_every_case_with_a_status_and_only_what_the_records_say(executed):
    cells, start = executed
    results = start / "elastic_kv/results/notebook"
    names = records.read(results / ".plan/cases.json", "cases")["cases"]
    measured = {name: records.load(results / f"results_{name}.json", Measurement) for name in names}
    limits = summary.folder.noise_limits(results / ".plan/noise.json")
    rows = [summary.row(summary.folder.Entry(name, measured[name]), limits) for name in names]
    text = (results / "summary.csv").read_text(encoding="utf-8")
    assert text == summary.to_csv(rows)
    table = [*csv.reader(text.splitlines())]
    (markup,) = data(cells["metrics"], "text/html")
    shown = [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", markup, re.DOTALL)]
    meanings = [summary.COLUMNS[name].meaning for name in table[0]]
    expected = [
        cell for place in range(1, len(meanings)) for cell in (*(row[place] for row in table[1:]), meanings[place])
    ]
    assert all(same(*pair) for pair in zip(shown, expected, strict=True))
    assert [row["status"] for row in rows] == [noise.as_judged(measured[name], limits).status for name in names]
    engines = inputs.baselines_of(results)
    assert [one.engine for one in engines] == ["transformers"]
    assert data(cells["metrics"], "text/markdown")[0] == environment.baselines(engines)


@pytest.mark.slow
def test_no_number_appears_without_its_record(executed):
    cells, start = executed
    results = start / "elastic_kv/results/notebook"
    loaded = inputs.load(results / ".plan/cases.json", results)
    check_numbers(results, loaded)
    assert data(cells["explained"], "text/markdown")[-1] == explanation.markdown(loaded)
    trace = records.read(results / "social_media_content.json", "social")
    for post in trace["posts"].values():
        assert post["text"] in printed(cells["posts"])
        for number in post["numbers"]:
            if number["how"] == "value":
                found = phrases.Number(number["text"], number["value"], number["file"], tuple(number["fields"]))
                assert resolve(results, found) == number["value"]
    for case in loaded.cases:
        (line,) = [line for line in printed(cells["golden"]).splitlines() if line.startswith(f"{case.id}: ")]
        assert case.publishable or not re.search(r"\dx \[", line)
