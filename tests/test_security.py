"""What comes from configs, records and models is data: it reaches no shell, no path outside its folder, no renderer."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from bad_configs import GOOD
from conftest import Checkout
from results_folder import EVERYTHING, HOSTILE, LIMITS, elastickv, example, judged, make, put, shortened

from elastickv import cli, environments, matrix, records
from elastickv.errors import UsageError
from elastickv.judge import verdict
from elastickv.pipeline import plan
from elastickv.report import show, text
from elastickv.schemas.verdict import Verdicts

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "workflow").rglob("*.py"))

# Nothing of this reaches a shell or leaves the folder; also where the checkout itself has such a name.
NASTY_CHECKOUT = "che ckout $(touch pwned-by-checkout)'s"
NASTY_RESULTS = """results/a b$(touch pwned-1)'q";touch pwned-2;#&|*`touch pwned-3`é"""


# Names that reach commands


def shell_commands() -> list[tuple[str, str]]:
    """Each rule's shell command, as (rule, text)."""
    found = []
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"^rule ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            name, command = rule.partition(":")[0], rule.partition("    shell:\n")[2]
            found.append(
                (name, "".join(ast.literal_eval(line) for line in re.findall(r'^\s+("[^\n]*")$', command, re.M)))
            )
    return found


UNQUOTED = {"params.architecture", "params.ptx", "params.compiler", "params.backend"}  # numbers, and words of an enum


@pytest.mark.parametrize(("rule", "command"), shell_commands(), ids=lambda value: value[:20])
def test_rules_quote_whatever_could_hold_free_text(rule, command):
    assert "python -m elastickv" in command
    fields = re.findall(r"(?<!\{)\{([^{}]+)\}(?!\})", command)
    assert {field for field in fields if not field.endswith(":q")} <= UNQUOTED


@pytest.mark.slow
def test_names_of_checkout_and_results_reach_no_shell(clone: Checkout, cpu_build: Path, tmp_path: Path):
    """The whole DAG, where both names hold all that a shell acts on."""
    checkout = clone.copy(tmp_path / NASTY_CHECKOUT)
    shutil.copytree(cpu_build / ".store", checkout.root / "build/.store")  # spares compiling
    config = checkout.root / "config/nasty.yaml"
    matrix_of = {
        "results": NASTY_RESULTS,
        "backend": "cpu",
        "measure": {"reps": 4, "warmup": 1, "inner_loops": 1, "decode_tokens": 0, "max_seconds": 1},
        "cases": {"a": {"seq": 64, "heads": 2, "dim": 64, "compress": 2}},
        "baselines": {"transformers": {"enable": False}},
    }
    config.write_text(json.dumps(matrix_of), encoding="utf-8")
    run = checkout.snakemake("--configfile", "config/nasty.yaml")
    assert run.code == 0, run.text
    assert (checkout.root / NASTY_RESULTS / "manifest.json").is_file()
    assert not list(tmp_path.rglob("pwned-*"))
    assert {path.name for path in (checkout.root / "results").iterdir()} - {"reference"} == {
        NASTY_RESULTS.split("/")[1]
    }


@pytest.mark.parametrize("case", ["../../x", "a/b", "..", "a\n", "a b", "$(x)", "-x", "", "a" * 101])
def test_ids_that_are_no_names_are_refused_wherever_they_are_read(tmp_path, case):
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps({"cases": {case: {"seq": 64, "heads": 2, "dim": 64, "compress": 2}}}))
    with pytest.raises(UsageError, match="is not a valid id"):
        matrix.load([config])
    with pytest.raises(records.RecordError):
        records.check({"schema": "cases/2", "cases": [case], "sweeps": {}}, "cases", "plan")
    record = example("4096_cpu")
    record["case"]["id"] = case
    for content, schema in ((record, "measurement"), (record["case"], "case")):
        with pytest.raises(records.RecordError):
            records.check(content, schema, "x")


@pytest.mark.parametrize("results", ["../x", "results/../../x", "-x", "--out", ".", "~/x", "a\nb", "{x}", "", "/"])
def test_results_folders_that_lead_elsewhere_are_refused(tmp_path, results):
    config = tmp_path / "c.yaml"
    config.write_text(f"results: {json.dumps(results)}\n{GOOD}")
    with pytest.raises(UsageError, match="results"):
        matrix.load([config])


def test_every_file_of_a_plan_lies_in_its_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = matrix.load([ROOT / "config/sweep.yaml"], {"results": NASTY_RESULTS, "backend": "cpu"})
    resolved = plan.resolve(config)
    inside = [resolved.results.resolve(), (ROOT / "build").resolve(), (ROOT / ".envs").resolve()]
    paths = [*plan.results_contents(config, resolved), *resolved.records]
    assert len(paths) > 50
    assert all(any(path.resolve().is_relative_to(folder) for folder in inside) for path in paths)


@pytest.mark.parametrize("name", ["../envs/core", "core/../core", "/etc/passwd", "", "-x", "nothing"])
def test_only_an_environment_with_a_lock_is_made(tmp_path, monkeypatch, name):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/core.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="allowed: core"):
        environments.make(name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["core.txt", "envs"]


# Code that must not be there


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    """Every call in a module, by its dotted name."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def keyword(call: ast.Call, name: str) -> Any:
    """A keyword's literal value, or None where it is not given."""
    return next((ast.literal_eval(one.value) for one in call.keywords if one.arg == name), None)


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_unpickles_evaluates_or_calls_a_shell(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    unpicklers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
    assert not {name.split(".")[0] for name in imported} & unpicklers
    for name, call in calls(tree):
        assert name not in ("eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput"), name
        assert name not in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "read_pickle"), name
        assert name not in ("np.load", "numpy.load") or not keyword(call, "allow_pickle")
        assert name != "torch.load" or keyword(call, "weights_only") is True
        assert not name.startswith("subprocess.") or not keyword(call, "shell")


def test_these_checks_see_what_they_look_for():
    """Each of the forbidden calls, as `calls` and `keyword` read it."""
    written = ast.parse(
        "torch.load(f, weights_only=False); subprocess.run(c, shell=True); np.load(f, allow_pickle=True)"
    )
    found = dict(calls(written))
    assert keyword(found["torch.load"], "weights_only") is False
    assert keyword(found["subprocess.run"], "shell") is True
    assert keyword(found["np.load"], "allow_pickle") is True


def test_models_are_loaded_without_their_code_and_without_the_network():
    loads = []
    for path in PACKAGE:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        given = [
            ast.literal_eval(value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Dict)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant) and key.value == "trust_remote_code"
        ]
        given += [keyword(call, "trust_remote_code") for _, call in calls(tree)]
        assert not any(given), path
        loads += [(path.name, call) for name, call in calls(tree) if name.endswith(".from_pretrained")]
    assert {name for name, _ in loads} == {"transformers_engine.py"}
    assert all("common" in [ast.unparse(one.value) for one in call.keywords if one.arg is None] for _, call in loads)


@pytest.mark.slow
def test_the_code_of_a_model_is_not_run(tmp_path):
    """A model whose configuration names its own Python code, which would leave a file behind."""
    environments.make("llm")
    model, proof = tmp_path / "model", tmp_path / "it-ran"
    model.mkdir()
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own", "AutoTokenizer": ["own.Own", None]}
    (model / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto}))
    (model / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto, "tokenizer_class": "Own"}))
    (model / "own.py").write_text(f"open({str(proof)!r}, 'w').close()\nclass Own: pass\nclass OwnConfig: pass\n")
    (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    settings = {"model": str(model), "backend": "cpu", "context": 64, "decode_tokens": 2, "reps": 1}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    out = tmp_path / "baseline.json"
    assert cli.main(["baseline", "transformers", "--settings", str(tmp_path / "settings.json"), "--out", str(out)]) == 0
    record = records.read(out, "baseline")
    assert (record["status"], record["reason"]) == (
        "unsupported",
        "the model requires its own Python code, which is never run",
    )
    assert not proof.exists()


@pytest.mark.parametrize(
    "model", ["--help", "-x", "$(touch pwned)", "`touch pwned`", "';touch pwned;'", "../../etc/passwd"]
)
def test_model_names_are_names(tmp_path, model):
    """They go from the plan to a worker as JSON, and from there to no shell."""
    (tmp_path / "settings.json").write_text(json.dumps({"model": model, "backend": "cpu"}))
    command = [sys.executable, "-m", "elastickv", "baseline", "gguf", "--settings", str(tmp_path / "settings.json")]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out.json")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2), done.stderr
    assert not list(tmp_path.rglob("pwned*"))
    if done.returncode == 0:
        assert records.read(tmp_path / "out.json", "baseline")["status"] == "failed"


# Strings from records


def poisoned(record: dict[str, Any], schema: str) -> dict[str, Any]:
    """The record with HOSTILE in place of every string that its schema leaves free, and as every free name."""
    record = shortened(record)

    def walk(value: Any) -> None:
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            kept = value[key]
            if isinstance(kept, str):
                value[key] = HOSTILE
                if not fits():
                    value[key] = kept
            elif isinstance(kept, dict | list):
                walk(kept)
        if isinstance(value, dict):
            value[HOSTILE] = HOSTILE
            if not fits():
                del value[HOSTILE]

    def fits() -> bool:
        try:
            records.check(record, schema, "poisoned")
        except records.RecordError:
            return False
        return True

    walk(record)
    return record


@pytest.fixture(scope="module")
def poisoned_folder(tmp_path_factory) -> Path:
    """A judged results folder whose records hold HOSTILE in every free text."""
    results = make(tmp_path_factory.mktemp("poisoned") / "results", EVERYTHING)
    placed = 0
    for case in EVERYTHING:
        record = poisoned(example(case), "measurement")
        placed += json.dumps(record).count("alert(1)")
        put(results, record)
        (results / f".plan/cases/{case}.json").write_text(json.dumps(record["case"]), encoding="utf-8")
    for name, schema in (
        ("ceilings", "ceilings"),
        ("transformers_baseline", "baseline"),
        ("gguf_baseline", "baseline"),
    ):
        record = poisoned(example(name), schema)
        placed += json.dumps(record).count("alert(1)")
        (results / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    assert placed > 100
    return judged(results)


def rendered(markdown: str) -> list[Any]:
    """The tokens of Markdown as GitHub reads it: tables, strikethrough, HTML let through."""
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown)
    return [inner for token in tokens for inner in [token, *(token.children or [])]]


def own_links(tokens: list[Any]) -> set[str]:
    """Where links and images lead."""
    return {str(t.attrGet("href") or t.attrGet("src")) for t in tokens if t.type in ("link_open", "image")}


def test_a_renderer_finds_nothing_of_the_records_in_the_report(poisoned_folder):
    markdown = elastickv(["report", "markdown"], poisoned_folder, "report.md").read_text(encoding="utf-8")
    assert markdown.count("alert(1)") > 20
    tokens = rendered(markdown)
    assert not [token.content for token in tokens if token.type in ("html_block", "html_inline")]
    assert all(link.startswith("figures/") for link in own_links(tokens))
    assert "H1" not in {token.content for token in tokens if token.type == "inline" and token.map}
    widths = [line.count("|") - line.count("\\|") for line in markdown.splitlines() if line.startswith("|")]
    tables = [block for block in re.split(r"\n\n", markdown) if block.startswith("|")]
    assert widths
    for block in tables:
        assert len({line.count("|") - line.count("\\|") for line in block.splitlines()}) == 1, block[:200]
    assert "\u202e" not in markdown


def test_a_renderer_would_find_it_unescaped():
    """The check itself: HOSTILE without escaping makes HTML, a heading and a link."""
    kinds = {token.type for token in rendered(f"x {HOSTILE}")}
    assert {"html_inline", "heading_open", "link_open"} <= kinds
    kinds = {token.type for token in rendered(text.escape(HOSTILE))}
    assert kinds <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}


def test_the_explanation_of_the_notebook_renders_nothing_of_the_records(poisoned_folder):
    from elastickv.report import explanation, inputs

    loaded = inputs.load(poisoned_folder / ".plan/cases.json", poisoned_folder)
    tokens = rendered(explanation.markdown(loaded))
    assert "alert(1)" in "".join(token.content for token in tokens)
    assert not [token for token in tokens if token.type in ("html_block", "html_inline", "link_open", "image")]


def test_figures_hold_no_element_that_acts(poisoned_folder):
    folder = elastickv(["report", "figures"], poisoned_folder, "figures")
    svgs = list(folder.glob("*.svg"))
    assert svgs
    for path in svgs:
        for node in ElementTree.fromstring(path.read_bytes()).iter():
            assert node.tag.rpartition("}")[2] not in ("script", "a", "foreignObject", "image", "iframe"), path
            assert not [name for name in node.attrib if name.lower().startswith("on")], path
            links = [value for name, value in node.attrib.items() if name.endswith("href")]
            assert all(value.startswith("#") for value in links), path


def test_table_posts_and_terminal_take_strings_literally(poisoned_folder, capsys):
    table = elastickv(["summarise"], poisoned_folder, "summary.csv").read_text(encoding="utf-8")
    assert len(table.splitlines()) == len(EVERYTHING) + 1
    posts = elastickv(["report", "social"], poisoned_folder, "social_media_content.txt").read_text(encoding="utf-8")
    assert "<" not in posts
    assert "@you" not in posts
    judged_cases = records.load(poisoned_folder / "verdicts.json", Verdicts).cases
    for shown in (show.table(judged_cases), table, posts):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", shown)


def test_terminals_are_not_sent_what_they_obey():
    entry = verdict.unreadable("a", "\x1b[2J", LIMITS).model_copy(update={"device": "\x1b]0;x\x07"})
    assert "\x1b" not in show.table([entry])


# What leads out of the results folder by a link


def test_a_report_written_through_a_link_replaces_the_link(tmp_path):
    """A record's name may be a link to elsewhere: writing it leaves the other file alone."""
    elsewhere = tmp_path / "precious"
    elsewhere.write_text("untouched")
    link = tmp_path / "results_a.json"
    link.symlink_to(elsewhere)
    records.write_text(link, "new")
    assert elsewhere.read_text() == "untouched"
    assert not link.is_symlink()
