"""The matrix room on good input: what YAML means, defaults, sweeps, overrides, canonical cases and stable keys."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from elastickv import matrix, records
from elastickv.errors import UsageError
from elastickv.matrix import strict_yaml
from elastickv.schemas.case import AnyCase, DecodeCase
from elastickv.schemas.config import Measure

ROOT = Path(__file__).resolve().parents[1]
SHAPE = "{seq: 1024, heads: 16, dim: 64, compress: 2}"


def json_of(case: AnyCase) -> str:
    """What a case's plan file holds."""
    return records.canonical_json(case.model_dump(mode="json"))


@pytest.fixture
def load(tmp_path):
    """Loads YAML texts, each from a separate file, with overrides."""

    def from_texts(*texts: str, overrides=None) -> matrix.Config:
        files = []
        for number, text in enumerate(texts):
            files.append(tmp_path / f"{number}.yaml")
            files[-1].write_text(text, encoding="utf-8")
        return matrix.load(files, overrides)

    return from_texts


def test_default_matrix_is_the_documented_one():
    config = matrix.load([ROOT / matrix.CONFIG_DEFAULT])
    assert list(config.cases) == [
        "4096_golden_ticket", "1024_standard", "4096_batch8", "4096_int4", "4096_elementwise", "1024_elementwise",
    ]  # fmt: skip
    assert config.cases["4096_int4"].model_dump(mode="json") == {
        "schema": "case/1", "id": "4096_int4", "workload": "decode", "backend": "auto", "batch": 1, "seq": 4096,
        "heads": 32, "kv_heads": 32, "dim": 128, "dtype": "fp16", "cache_dtype": "int4", "compress": 1, "sinks": 4,
        "window": 256, "anchor": "value_norm", "bias": "none", "launch": "auto", "seed": 0,
        "measure": {"reps": 100, "warmup": 50, "inner_loops": 64, "truncate": 5, "decode_tokens": 64, "graphs": True,
                    "precision": 0.005, "max_seconds": 20, "confidence": 0.99, "processes": "auto",
                        "sustained_seconds": 2},
    }  # fmt: skip
    assert config.golden.model_dump(mode="json") == {
        "speedup": 1.95, "excellent": 1.7, "cv": 0.05, "memory_efficiency": 0.7, "roofline": 0.8
    }  # fmt: skip
    assert config.noise.model_dump(mode="json") == {"cuda": 0.005, "cpu": 0.03, "widest": 0.25}
    assert config.results == "results/local"


def test_absent_keys_mean_what_the_default_matrix_writes_out(load):
    """`config.yaml` spells the defaults out; a file with its cases alone must come to the same."""
    written = matrix.load([ROOT / matrix.CONFIG_DEFAULT])
    text = (ROOT / matrix.CONFIG_DEFAULT).read_text(encoding="utf-8")
    bare = load(text[text.index("cases:") : text.index("baselines:")])
    for part in ("results", "backend", "build", "measure", "golden", "noise", "baselines", "cases"):
        assert getattr(bare, part) == getattr(written, part), part


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_give_valid_cases_and_results_folders_of_their_own(path):
    config = matrix.load([path])
    validator = jsonschema.Draft202012Validator(records.schema("case"))
    for case_id, case in config.cases.items():
        assert case.id == case_id
        validator.validate(case.model_dump(mode="json"))
    if path.stem != "config":
        assert config.results == f"results/{path.stem}"


def test_smoke_covers_every_path_on_cpu():
    config = matrix.load([ROOT / "config/smoke.yaml"])
    cases = config.cases.values()
    assert config.backend == "cpu"
    assert not config.baselines.transformers.enable
    assert {case.workload for case in cases} == {"decode", "elementwise"}
    attention = [case for case in cases if isinstance(case, DecodeCase)]
    assert {case.cache_dtype for case in attention} >= {"fp16", "int4"}
    assert any(case.anchor == "mean" and case.bias == "log_count" for case in attention)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("+3", 3), ("-3", -3), ("007", 7), ("0o17", 15), ("0x1F", 31), ("1e3", 1000.0), (".5", 0.5),
        ("5.", 5.0), ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
        ("4096_8", "4096_8"), ("yes", "yes"), ("on", "on"), ("2025-01-01", "2025-01-01"), ("1:30", "1:30"),
        ("1e", "1e"), ("tRue", "tRue"), ("<<", "<<"),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text, value):
    got = strict_yaml.scalar(text)
    assert got == value
    assert type(got) is type(value)


def test_keys_stay_text_whatever_they_look_like(load):
    config = load(f"cases: {{4096_8: {SHAPE}, 1024: {SHAPE}, on: {SHAPE}, 1e3: {SHAPE}, 0x10: {SHAPE}, null: {SHAPE}}}")
    assert list(config.cases) == ["4096_8", "1024", "on", "1e3", "0x10", "null"]


def test_aliases_stand_for_their_value(load):
    config = load("cases: {a: &shape {seq: 64, heads: 4, dim: 64, compress: 2}, b: *shape}")
    assert matrix.content_key(config.cases["a"]) == matrix.content_key(config.cases["b"])
    assert config.cases["a"] != config.cases["b"]


def test_elementwise_case_ignores_cache_defaults(load):
    text = "defaults: {{workload: elementwise, window: {}, dtype: bf16, kv_heads: 3}}\nmeasure: {{decode_tokens: {}}}\n"
    one, other = (load(text.format(*values) + f"cases: {{a: {SHAPE}}}").cases["a"] for values in ((8, 4), (99, 50)))
    assert one == other
    assert set(one.model_dump(mode="json")) == {
        "schema", "id", "workload", "backend", "seq", "heads", "dim", "compress", "dtype", "launch", "pass_order",
        "seed", "measure",
    }  # fmt: skip
    assert one.dtype == "fp32"


def test_the_order_of_passes_is_part_of_the_case(load):
    shape = "workload: elementwise, seq: 64, heads: 4, dim: 64, compress: 2"
    text = f"cases: {{a: {{{shape}}}, b: {{{shape}, pass_order: forward}}, c: {{{shape}, pass_order: alternating}}}}"
    cases = load(text).cases
    assert matrix.content_key(cases["a"]) == matrix.content_key(cases["b"]) != matrix.content_key(cases["c"])
    assert cases["a"].pass_order == "forward"
    assert cases["c"].pass_order == "alternating"


def test_case_may_override_measure_keys(load):
    config = load("cases: {a: {seq: 64, heads: 1, dim: 4, compress: 1, measure: {reps: 7}}, b: " + SHAPE + "}")
    assert config.cases["a"].measure == config.measure.model_copy(update={"reps": 7})
    assert config.cases["b"].measure == config.measure


def test_the_number_of_processes_is_that_of_the_backend_unless_given(load):
    said = "cases: {a: {seq: 64, heads: 4, dim: 64, compress: 2, measure: {processes: %s}}}"
    auto, five = (load(said % count).cases["a"] for count in ("auto", 5))
    silent = load("cases: {a: {seq: 64, heads: 4, dim: 64, compress: 2}}").cases["a"]
    assert matrix.content_key(auto) == matrix.content_key(silent) != matrix.content_key(five)
    assert [auto.measure.processes_on(backend) for backend in ("cuda", "cpu")] == [3, 1]
    assert [five.measure.processes_on(backend) for backend in ("cuda", "cpu")] == [5, 5]


@pytest.mark.parametrize("count", ["0", "101", "many", "1.5", "true"])
def test_another_number_of_processes_is_refused(load, count):
    with pytest.raises(UsageError, match="must be an integer or text from 1 to 100, or auto, not"):
        load(f"measure: {{processes: {count}}}\ncases: {{a: {SHAPE}}}")


def test_a_dim_without_kernel_is_valid_config(load):
    assert load("cases: {a: {seq: 64, heads: 1, dim: 100, compress: 1}}").cases["a"].dim == 100


def test_equal_numbers_written_differently_are_one_case(load):
    first = load(f"measure: {{max_seconds: 20.0, truncate: 5.0}}\ncases: {{a: {SHAPE}}}")
    second = load(f"cases: {{a: {SHAPE}}}")
    assert json_of(first.cases["a"]) == json_of(second.cases["a"])
    assert '"max_seconds":20,' in json_of(first.cases["a"])  # a case's content key is of this text


def test_comments_and_key_order_change_no_canonical_json(load):
    first = load(f"cases: {{a: {SHAPE}}}\nmeasure: {{reps: 9, warmup: 3}}")
    second = load(
        "measure: {warmup: 3, reps: 9}  # why not\ncases:\n  a: {compress: 2, dim: 64, heads: 16, seq: 1024}\n"
    )
    assert json_of(first.cases["a"]) == json_of(second.cases["a"])


def test_content_key_is_of_everything_but_the_id():
    case = matrix.case_from_flags({"id": "a"})
    measure = case.measure.model_copy(update={"reps": 99})
    assert matrix.content_key(case) == matrix.content_key(case.model_copy(update={"id": "b"}))
    assert matrix.content_key(case) != matrix.content_key(case.model_copy(update={"seed": 1}))
    assert matrix.content_key(case) != matrix.content_key(case.model_copy(update={"measure": measure}))


def test_later_files_win_key_by_key(load):
    config = load(
        "measure: {reps: 10, warmup: 5}\nbuild: {architectures: [80, 90]}\n"
        "cases: {a: {seq: 64, heads: 4, dim: 64, compress: 2}}",
        "measure: {reps: 20}\nbuild: {architectures: [75]}\n"
        "cases: {a: {seq: 128}, b: {seq: 64, heads: 4, dim: 64, compress: 2}}",
    )
    assert (config.measure.reps, config.measure.warmup) == (20, 5)
    assert config.build.architectures == [75]
    assert (config.cases["a"].seq, config.cases["a"].heads) == (128, 4)
    assert [Path(source).name for source in config.sources] == ["0.yaml", "1.yaml"]


@pytest.mark.parametrize(
    "overrides",
    [
        {"measure": {"reps": "7"}, "backend": "cpu", "cases": {"a.b": {"window": "8"}}},  # as Snakemake hands them over
        {"measure.reps": 7, "backend": "cpu", "cases.a.b.window": 8},
        ["measure.reps=7", "backend=cpu", "cases.a.b.window=8"],
        ["measure={reps: 7}", "backend=cpu", "cases={a.b: {window: 8}}"],
    ],
    ids=["nested", "dotted", "flags", "flow"],
)
def test_overrides_come_last_however_they_are_given(load, overrides):
    config = load(f"measure: {{reps: 50}}\ncases: {{a.b: {SHAPE}}}", overrides=overrides)
    assert config.measure.reps == 7
    assert config.cases["a.b"].backend == "cpu"
    assert config.cases["a.b"].window == 8
    assert config.cases["a.b"].seq == 1024


def test_results_path_is_normalised(load):
    assert load(f"results: ./results//mine/\ncases: {{a: {SHAPE}}}").results == "results/mine"
    assert load(f"results: //srv/mine\ncases: {{a: {SHAPE}}}").results == "/srv/mine"
    assert load(f"results: /srv/My Results\ncases: {{a: {SHAPE}}}").results == "/srv/My Results"


def test_gguf_by_repo_and_file_needs_no_model(load):
    text = f"cases: {{a: {SHAPE}}}\nbaselines: {{gguf: {{enable: true, repo: someone/some-GGUF, file: some.Q4.gguf}}}}"
    settings = load(text).baselines.gguf.model_dump(mode="json")
    assert settings["enable"]
    assert settings["repo"] == "someone/some-GGUF"
    assert "model" not in settings


SWEEP = """
matrices:
  sweep:
    base: {heads: 32, dim: 128}
    axes: {seq: [1024, 4096], compress: [2, 3], cache_dtype: [fp16, int8]}
"""


def test_sweep_takes_every_combination_in_axis_order(load):
    config = load(SWEEP)
    assert list(config.cases)[:3] == [
        "sweep-seq1024-compress2-fp16", "sweep-seq1024-compress2-int8", "sweep-seq1024-compress3-fp16"
    ]  # fmt: skip
    assert len(config.cases) == 8
    case = config.cases["sweep-seq4096-compress3-int8"]
    assert [case.seq, case.compress, case.cache_dtype, case.heads] == [4096, 3, "int8", 32]


def test_reordered_axes_change_no_case(load):
    reordered = SWEEP.replace("seq: [1024, 4096], compress: [2, 3]", "compress: [3, 2], seq: [1024, 4096]")
    assert reordered != SWEEP
    assert load(reordered).cases == load(SWEEP).cases


def test_exclude_drops_what_it_matches_also_by_defaults(load):
    assert len(load(SWEEP + "    exclude: [{seq: 1024, cache_dtype: int8}, {compress: 3}]").cases) == 3
    kept = load(SWEEP + "    exclude: [{seq: 1024, anchor: mean}]\ndefaults: {anchor: mean}").cases
    assert {case.seq for case in kept.values()} == {4096}


WORKLOADS = """
matrices:
  s:
    base: {heads: 2, dim: 64, seq: 64}
    axes: {workload: [decode, elementwise], compress: [2, 4]}
    exclude: [%s]
"""


@pytest.mark.parametrize(
    ("pick", "dropped"),
    [
        ("{workload: elementwise, dtype: fp32, compress: 4}", ["s-compress4-elementwise"]),
        ("{dtype: fp32}", ["s-compress2-elementwise", "s-compress4-elementwise"]),
        ("{cache_dtype: fp16, compress: 2}", ["s-compress2-decode"]),
        ("{pass_order: forward, compress: 2}", ["s-compress2-elementwise"]),
    ],
)
def test_exclude_matches_what_a_combination_resolves_to(load, pick, dropped):
    everything = load(WORKLOADS.replace("    exclude: [%s]\n", "")).cases
    assert list(load(WORKLOADS % pick).cases) == [case for case in everything if case not in dropped]


@pytest.mark.parametrize(
    "pick",
    ["{workload: elementwise, dtype: fp16}", "{cache_dtype: fp32}"],
)
def test_exclude_of_what_no_combination_resolves_to_is_an_error(load, pick):
    with pytest.raises(UsageError, match="matches no combination"):
        load(WORKLOADS % pick)


def test_include_adds_keys_to_what_it_matches(load):
    config = load(SWEEP + "    include: [{cache_dtype: int8, window: 64}, {seq: 1024, measure: {reps: 9}}]")
    assert len(config.cases) == 8
    for case in config.cases.values():
        assert case.window == (64 if case.cache_dtype == "int8" else 256)
        assert case.measure.reps == (9 if case.seq == 1024 else 100)


def test_include_that_matches_nothing_is_a_case_of_its_own(load):
    config = load(SWEEP + "    include: [{seq: 512, compress: 16, heads: 4, dim: 64, anchor: last}]")
    added = set(config.cases) - set(load(SWEEP).cases)
    assert added == {"sweep-seq512-heads4-dim64-compress16-last"}
    assert config.cases[added.pop()].dim == 64


def test_cases_and_sweeps_stand_together_in_order(load):
    assert next(iter(load(SWEEP + f"cases: {{z: {SHAPE}}}").cases)) == "z"


def test_bench_without_flags_is_the_original_program_s_default():
    case = matrix.case_from_flags({"id": "bench"})
    assert [case.seq, case.heads, case.dim, case.compress] == [1024, 16, 64, 2]
    assert case.measure == Measure()
    jsonschema.Draft202012Validator(records.schema("case")).validate(case.model_dump(mode="json"))


def test_bench_flags_and_matrix_give_the_same_case(load):
    said = {"seq": 64, "heads": 4, "dim": 64, "compress": 4, "cache_dtype": "int4"}
    written = load(f"cases: {{a: {json.dumps(said)}}}").cases["a"]
    assert matrix.case_from_flags({"id": "a", **said}) == written


def cases_command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "elastickv", "cases", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_cases_command_prints_json_or_a_table(tmp_path):
    results = f"results={tmp_path}"
    listed = cases_command("--configfile", "config/smoke.yaml", "--config", results, "--json")
    assert listed.returncode == 0, listed.stderr
    answer = json.loads(listed.stdout)
    assert answer["schema"] == "resolved_cases/1"
    records.check(answer, "resolved_cases", "stdout")
    assert answer["cases"] == [
        case.model_dump(mode="json") for case in matrix.load([ROOT / "config/smoke.yaml"]).cases.values()
    ]
    table = cases_command("--configfile", "config/smoke.yaml", "--config", results).stdout
    assert all(case["id"] in table for case in answer["cases"])


def test_cases_command_marks_what_no_kernel_can_run(tmp_path):
    shape = "seq: 64, heads: 4, compress: 2"
    dims = ", ".join(f"d{dim}: {{{shape}, dim: {dim}}}" for dim in (32, 56, 64, 80, 96, 100, 128, 256, 512))
    also = f"pass: {{workload: elementwise, {shape}, dim: 100}}, early: {{{shape}, dim: 64, launch: dependent}}"
    also += f", rows: {{{shape}, dim: 64, batch: 20000}}"
    config = tmp_path / "m.yaml"
    config.write_text(f"results: {tmp_path}\ncases: {{{dims}, {also}}}\n", encoding="utf-8")
    on_no_device = {"d32", "d56", "d100", "d512"}
    for backend, refused in (
        ("auto", on_no_device),  # a GPU may run the dependent launch, a CPU the many rows
        ("cpu", on_no_device | {"early"}),
        ("cuda", on_no_device | {"rows"}),
    ):
        config_of = ("--configfile", str(config), "--config", f"backend={backend}")
        answer = json.loads(cases_command(*config_of, "--json").stdout)
        records.check(answer, "resolved_cases", "stdout")
        assert set(answer["unsupported"]) == refused
    lines = cases_command("--configfile", str(config)).stdout.splitlines()
    assert "d100: unsupported: dim 100 has no decode kernel; dims that have one: 64, 80, 96, 128, 256" in lines
    marked = {line.split()[0] for line in lines if line.endswith("unsupported")}
    assert marked == on_no_device


def test_importing_the_room_loads_no_heavy_library():
    program = (
        "import sys, elastickv.matrix; print(sorted({'jsonschema', 'rapidfuzz', 'numpy', 'yaml'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
