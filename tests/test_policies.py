"""A policy's file declares its keys: config, cases, sweeps and messages take them from there."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from results_folder import elastickv, judged, planned, swept

from elastickv import cli, matrix, policies, records
from elastickv.audit import policy as audit_policy
from elastickv.audit import tables, traffic
from elastickv.audit.finding import About, Findings
from elastickv.errors import UsageError
from elastickv.measure import bench
from elastickv.policies import Policy
from elastickv.report import drawing_sweeps, inputs, phrases, sweeps
from elastickv.schemas import config as keys
from elastickv.schemas.case import DecodeCase, case_of, own_keys, policy_of
from elastickv.workloads.positions import extent

ROOT = Path(__file__).resolve().parents[1]
# Hashes of what the cases of config/config.yaml measure: results of theirs are found in record stores by them.
PINNED = {
    "4096_golden_ticket": "297cb2287617e1f91f8c2a79e81ba50879ef3931c3a7ea4aa2af1572b42ebf05",
    "1024_standard": "f6b67f369da412aafcf24bcd3b187f21c1633a4ca3e47347a1570a5a9ea8a479",
    "4096_batch8": "e8ee6cd0f525c0280698d5c6b6d773345b4938c81c517f5b0c3fc8af8655062a",
    "4096_int4": "e4b88b1e53c6df6f8595c50d25fecf2d97d4e1b9d5474512b7b3e0528012f9d0",
    "4096_elementwise": "7ccb75d6996803751692847c47c611ab37586ad8daa1f6e8ee90986b96731fff",
    "1024_elementwise": "8af9b223cde7815e6d8d4e661523666b486dfa973212a6f33668b12d14dec404",
}
SHAPE = {"seq": 300, "heads": 4, "kv_heads": 2, "dim": 64, "backend": "cpu"}
BUDGET = SHAPE | {"policy": "head_budget", "full_heads": 1}


def faults(**said) -> list[str]:
    with pytest.raises(UsageError) as raised:
        matrix.case_from_flags(said)
    return raised.value.problems


def test_cases_of_the_default_policy_are_known_by_the_same_hashes_as_ever():
    cases = matrix.load([matrix.CONFIG_DEFAULT]).cases
    assert {name: matrix.content_key(case) for name, case in cases.items() if name in PINNED} == PINNED


def test_a_case_has_its_policys_keys_and_no_others():
    case = matrix.case_from_flags(BUDGET)
    content = records.content(case)
    assert (case.policy, case.full_heads, case.sinks, case.window) == ("head_budget", 1, 4, 256)
    assert not hasattr(case, "compress") and not {"compress", "anchor", "bias"} & content.keys()
    records.check(content, "case", "here")
    assert isinstance(case, DecodeCase) and case_of(content) == case


def test_the_default_policy_goes_without_saying():
    said, implied = (matrix.case_from_flags(SHAPE | {"compress": 4} | more) for more in ({"policy": "grouped"}, {}))
    assert said == implied and said.policy == "grouped" and "policy" not in records.content(said)
    with pytest.raises(records.RecordError):
        records.check(records.content(said) | {"policy": "grouped"}, "case", "here")


def test_the_policy_of_a_case_has_its_values():
    made = policy_of(matrix.case_from_flags(BUDGET | {"window": 16}))
    assert made.values == {"full_heads": 1, "sinks": 4, "window": 16}
    assert [made.slots(head, 300) for head in (0, 1)] == [(300,), (20,)]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"compress": 4}, "--compress: does not apply to policy head_budget; keys that do: batch, seq"),
        ({"pass_order": "forward"}, "--pass_order: does not apply to workload decode"),
        ({"full_heads": 3}, "--full_heads: must be at most kv_heads (2), not 3"),
        ({"window": 0}, "--window: must be at least 1 for policy head_budget"),
        ({"cache_dtype": "int4"}, "--cache_dtype: must be dtype (fp16), not int4: policy head_budget keeps every slot"),
        ({"policy": "head_budgets"}, f"--policy: must be one of {', '.join(policies.every())}"),
        ({"full_heads": -1}, "--full_heads: must be an integer from 0 to 2147483647"),
        ({"ful_heads": 1}, "--ful_heads: unknown key; did you mean full_heads?"),
    ],
)
def test_messages_name_the_key_and_what_is_allowed(said, expected):
    (problem,) = faults(**(BUDGET | said))
    assert problem.startswith(f"bench: {expected}")


def test_a_key_without_a_default_has_to_be_said():
    said = {key: value for key, value in BUDGET.items() if key != "full_heads"}
    assert faults(**said) == ["bench: lacks full_heads: set it here or in defaults"]


def test_elementwise_has_no_policy():
    (problem,) = faults(workload="elementwise", seq=64, heads=2, dim=64, compress=2, policy="grouped")
    assert problem.startswith("bench: --policy: does not apply to workload elementwise")


def test_every_key_of_every_policy_is_a_key_of_cases():
    for name, made in policies.every().items():
        assert {*made.KEYS} <= {*own_keys("decode", name)} <= {*keys.CASE_KEYS}
        for key, one in made.KEYS.items():
            assert one.meaning and keys.CASE_KEYS[key][1] == (keys.MISSING if one.default is None else one.default)


def kept_by(tmp_path, sweep: str) -> dict[str, dict]:
    """What the cases of a sweep keep, by their ids."""
    path = tmp_path / "matrix.yaml"
    path.write_text(f"defaults: {{heads: 4, dim: 64, seq: 300}}\nmatrices: {{s: {sweep}}}\n", encoding="utf-8")
    said = {"policy", "compress", "full_heads", "window"}
    return {
        name: {key: value for key, value in records.content(case).items() if key in said}
        for name, case in matrix.load([path]).cases.items()
    }


def test_a_sweep_over_policies_gives_each_its_own_keys(tmp_path):
    axes = "{policy: [grouped, head_budget], compress: [2, 4], full_heads: [0, 4]}"
    assert kept_by(tmp_path, f"{{base: {{window: 16}}, axes: {axes}}}") == {
        "s-compress2-grouped": {"compress": 2, "window": 16},
        "s-compress4-grouped": {"compress": 4, "window": 16},
        "s-full_heads0-head_budget": {"policy": "head_budget", "full_heads": 0, "window": 16},
        "s-full_heads4-head_budget": {"policy": "head_budget", "full_heads": 4, "window": 16},
    }


def test_a_sweep_excludes_and_includes_by_policy(tmp_path):
    axes = "{policy: [grouped, head_budget], compress: [2, 4], full_heads: [0, 4]}"
    more = "exclude: [{policy: grouped, compress: 4}, {full_heads: 0}], include: [{policy: head_budget, window: 8}]"
    assert kept_by(tmp_path, f"{{axes: {axes}, {more}}}") == {
        "s-compress2-grouped": {"compress": 2, "window": 256},
        "s-full_heads4-head_budget": {"policy": "head_budget", "full_heads": 4, "window": 8},
    }


def test_a_sweep_has_no_key_of_a_policy_that_it_does_not_name(tmp_path):
    with pytest.raises(UsageError) as raised:
        kept_by(tmp_path, "{base: {full_heads: 1}, axes: {policy: [grouped], compress: [2]}}")
    (problem,) = raised.value.problems
    assert problem.endswith("matrices.s.base.full_heads: applies to no policy of this sweep: grouped")


def test_bench_has_a_flag_for_every_key():
    parser = cli.build_parser()
    said = ["bench", "--policy=head_budget", "--full_heads=2", "--window", "8", "--kv_heads=2", "--seq=64"]
    case = bench.case_of(parser.parse_args(said))
    assert (case.policy, case.full_heads, case.window, case.seq) == ("head_budget", 2, 8, 64)
    for key in policies.every_key():
        assert getattr(parser.parse_args(["bench", f"--{key}=1"]), key) in (1, "1")


def audited(**said) -> dict:
    return records.content(matrix.case_from_flags(said))


def test_verifying_counts_bytes_of_any_policys_slots():
    """Two heads: one keeps 300 tokens, one 4 and 16; of each key and value 64 numbers of 2 bytes. And two vectors."""
    case = audited(**BUDGET, window=16)
    output = 4 * 64 * 2
    slots = 300 + 20
    elastic = slots * 256 + 2 * output
    assert traffic.moved(case)[:3] == (2 * 300 * 256 + 2 * output, elastic, elastic)
    assert "counted by policy head_budget" in audit_policy.taken_from(case)
    assert audit_policy.taken_from(audited(**SHAPE, compress=4)) is None


@pytest.mark.parametrize(
    ("seq", "window", "compress"), [(300, 16, 4), (300, 0, 7), (3, 16, 4), (300, 295, 4), (299, 1, 1)]
)
def test_verifying_counts_the_default_policys_slots_as_its_file_does(seq, window, compress):
    case = matrix.case_from_flags(SHAPE | {"seq": seq, "window": window, "compress": compress, "cache_dtype": "int8"})
    content, made = records.content(case), policy_of(case)
    found = audit_policy.kept(content)
    assert [one.count for one in found.segments] == [2 * slots for slots in made.slots(0, seq)]
    assert [one.names for one in found.segments] == [(one.keys, one.values) for one in made.segments(seq)]
    assert (found.biased, audit_policy.period(content)) == (made.biased, made.period)


def of_budget(seq: int, full_heads: int, speedup: float) -> dict:
    """A record of a case of policy head_budget, made of one of the default policy."""
    record = swept(f"b-{seq}-{full_heads}", seq, 2, "fp16", speedup)
    kept = {key: value for key, value in record["case"].items() if key not in ("compress", "anchor", "bias")}
    record["case"] = kept | {"policy": "head_budget", "full_heads": full_heads, "window": 64}
    return record


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A folder with a sweep of policy head_budget, and a case of the default policy."""
    made = [of_budget(seq, heads, 1.5 + heads / 8 + seq / 1e4) for seq in (1024, 4096) for heads in (8, 16)]
    results = tmp_path_factory.mktemp("mixed") / "results"
    sweeps = {"b": [record["case"]["id"] for record in made]}
    return judged(planned(results, [*made, swept("alone", 1024, 2, "fp16", 1.5)], sweeps))


def test_a_table_has_the_columns_of_the_policies_in_it(mixed, tmp_path):
    rows = list(csv.DictReader(elastickv(["summarise"], mixed, "summary.csv").read_text(encoding="utf-8").splitlines()))
    stated = [(row["policy"], row["full_heads"], row["window"], row["compress"]) for row in rows]
    assert stated[:2] == [("head_budget", "8", "64", ""), ("head_budget", "16", "64", "")]
    assert stated[-1] == ("grouped", "", "256", "2")
    alone = judged(planned(tmp_path / "results", [swept("alone", 1024, 2, "fp16", 1.5)]))
    header = elastickv(["summarise"], alone, "summary.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert not {"policy", "full_heads"} & {*header} and "compress" in header


def test_verifying_reads_the_columns_of_every_policy(mixed):
    rows = csv.DictReader(elastickv(["summarise"], mixed, "summary.csv").read_text(encoding="utf-8").splitlines())
    row = next(row for row in rows if row["case"] == "b-1024-8")
    found = Findings()
    record = json.loads((mixed / "results_b-1024-8.json").read_text(encoding="utf-8"))
    tables.summary_row(About(found, "summary.csv", "tables"), row | {"full_heads": "7"}, record, {})
    assert [str(fault) for fault in found.faults] == ["summary.csv: b-1024-8.full_heads: found 7, expected 8"]


def test_a_report_says_what_each_policy_keeps_and_draws_its_sweep(mixed):
    report = elastickv(["report", "markdown"], mixed, "report.md").read_text(encoding="utf-8")
    assert "## What the elastic caches keep" in report
    assert f"- **head_budget**: {policies.of('head_budget').MEANING}. `b-1024-8`, `b-1024-16`" in report
    assert "policy head_budget, sinks 4, window 64" in report and "tokens, full_heads and cache dtype" in report
    loaded = inputs.load(mixed / ".plan/cases.json", mixed)
    (grid,) = sweeps.grids(loaded)
    assert (grid.key, grid.amounts, grid.seqs, grid.whole) == ("full_heads", [8, 16], [1024, 4096], set())
    figure = drawing_sweeps.heat_map(grid)
    assert "full_heads (heads)" in [axes.get_ylabel() for axes in figure.axes]


def test_a_phrase_says_what_a_policy_tells_of_its_keys(mixed):
    loaded = inputs.load(mixed / ".plan/cases.json", mixed)
    said = {case.id: phrases.shape(case) for case in loaded.cases}
    assert "x 128, head_budget, full_heads 8, window 64, fp16" in phrases.text_of(said["b-1024-8"])
    assert "x 128, compress 2, fp16" in phrases.text_of(said["alone"])
    fields = {number.fields for number in phrases.numbers_of(said["b-1024-8"])}
    assert {("/case/full_heads",), ("/case/window",)} <= fields


def test_posts_name_the_policy(mixed):
    posts = elastickv(["report", "social"], mixed, "posts.txt").read_text(encoding="utf-8")
    assert "head_budget, full_heads 16, window 64" in " ".join(posts.split())


EXAMPLE = ROOT / "docs/extending/policy/files"


def example() -> type[Policy]:
    """The policy of the example, loaded without being put in place."""
    path = EXAMPLE / "workflow/elastickv/policies/ladder.py"
    found = importlib.util.spec_from_file_location("ladder", path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.Ladder


ALL = {name: made for name, made in policies.every().items()} | {"ladder": example()}
TRIED = {
    "grouped": [{"compress": size} for size in (1, 2, 3, 7)],
    "head_budget": [{"full_heads": 0}, {"full_heads": 1}],
    "ladder": [{"finest": 1, "coarsest": 4}, {"finest": 3, "coarsest": 6}],
}


def made_of(name: str, **values) -> Policy:
    defaults = {key: one.default for key, one in ALL[name].KEYS.items()}
    return ALL[name](defaults | values, "fp16", "int8", "int4")


class _Tokens:
    """Which tokens each slot of one KV head's cache is made of, followed through runs and closings."""

    def __init__(self, made: Policy, head: int, tokens: int, capacity: int):
        self.made, self.head, self.tokens, self.capacity = made, head, tokens, capacity
        self.slots = {
            (run.segment, place): range(run.token + i * run.each, run.token + (i + 1) * run.each)
            for run in made.runs(head, tokens, capacity)
            for i, place in enumerate(run.places())
        }

    def live(self) -> dict[tuple[int, int], range]:
        found = enumerate(self.made.live(self.head, self.tokens, self.capacity))
        return {(segment, place): self.slots[segment, place] for segment, live in found for place in live.order()}

    def grow(self) -> None:
        """One token more, as kernels do it."""
        if not self.made.closes_newest:
            self._close()
        live = self.made.live(self.head, self.tokens, self.capacity)
        self.slots[0, live[0].next] = range(self.tokens, self.tokens + 1)
        if self.made.closes_newest:
            self._close()
        self.tokens += 1

    def _close(self) -> None:
        one = self.made.closing(self.head, self.tokens, self.capacity)
        if one.count:
            places = [one.head + (one.first + i) % one.ring for i in range(one.count)]
            assert [self.slots[0, place].start for place in places] == [*range(one.token, one.token + one.count)]
            self.slots[one.segment, one.slot] = range(one.token, one.token + one.count)


GROWN = [
    (name, one | {"sinks": sinks, "window": window})
    for name, tried in TRIED.items()
    for one in tried
    for sinks, window in ((0, 0), (0, 1), (2, 5), (50, 3))
    if window or name != "head_budget"  # which refuses it
]


@pytest.mark.parametrize(("name", "values"), GROWN)
def test_a_cache_that_grew_has_the_slots_of_one_that_was_built(name, values):
    made = made_of(name, **values)
    for head in range(3):
        for first in (1, 2, 7, 20):
            grown = _Tokens(made, head, first, 40)
            while grown.tokens < 40:
                grown.grow()
                built = _Tokens(made, head, grown.tokens, 40).live()
                assert grown.live() == built
                assert all(place < made.segments(40)[segment].slots for segment, place in built)
                live = made.live(head, grown.tokens, 40)
                assert tuple(one.slots for one in live) == made.slots(head, grown.tokens)
                for one, segment in zip(live, made.segments(40), strict=True):
                    assert max([place + 1 for place in one.order()], default=0) <= extent(one) <= segment.slots


@pytest.mark.parametrize(("name", "values"), [one for one in GROWN if one[0] != "ladder"])  # its heads have others
def test_as_many_tokens_as_the_period_says_close_one_group_or_none(name, values):
    made = made_of(name, **values)
    closes = [made.closing(0, tokens, 40).count > 0 for tokens in range(40)]
    within = [sum(closes[first : first + made.period]) for first in range(10, 40 - made.period)]
    assert set(within) == ({1} if any(closes) else {0})


def test_every_policy_is_tried():
    assert TRIED.keys() == ALL.keys()


def test_a_file_in_the_folder_is_all_that_a_policy_takes(tmp_path):
    """Config, schemas, docs/matrix.md, cases and flags of a checkout that has the example's files too."""
    shutil.copytree(ROOT / "workflow" / "elastickv", tmp_path / "workflow" / "elastickv")
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas")
    shutil.copytree(ROOT / "kernels", tmp_path / "kernels")
    (tmp_path / "docs").mkdir()
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    script = """
import json, sys
from elastickv import cli, matrix, records
from elastickv.measure import bench
from elastickv.schemas import generate
cases = matrix.load([sys.argv[1]]).cases
written = generate.contents()
assert all(path.read_text(encoding="utf-8") == text for path, text in written.items())
for case in cases.values():
    records.check(records.content(case), "case", case.id)
flags = cli.build_parser().parse_args(["bench", "--policy=ladder", "--coarsest=4", "--anchor=centre"])
try:
    bench.case_of(flags)
except Exception as error:
    stated = str(error)
default = matrix.load([sys.argv[2]]).cases["4096_golden_ticket"]
print(json.dumps({
    "files": [path.as_posix() for path, text in written.items() if "ladder" in text and "centre" in text],
    "cases": {name: records.content(case) for name, case in cases.items()},
    "stated": stated,
    "default": matrix.content_key(default),
}))
"""
    environment = {"PYTHONPATH": str(tmp_path / "workflow"), "PATH": "/usr/bin:/bin"}
    command = [
        sys.executable,
        "-P",
        "-c",
        script,
        str(EXAMPLE.parent / "matrix.yaml"),
        str(ROOT / matrix.CONFIG_DEFAULT),
    ]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"docs/matrix.md", "schemas/config.schema.json", "schemas/case.schema.json"} <= {*found["files"]}
    assert found["cases"]["decode_ladder"].items() >= {"policy": "ladder", "coarsest": 8, "finest": 1}.items()
    assert found["stated"].startswith("bench: --anchor: does not apply to policy ladder")
    assert found["default"] == PINNED["4096_golden_ticket"]


class _Unlike(policies.of("grouped")):
    """Means something else by `window`."""

    NAME = "unlike"
    KEYS: ClassVar = {"window": dataclasses.replace(policies.of("grouped").KEYS["window"], default=7)}


def test_unlike_keys_of_one_name_are_refused():
    found: dict[str, type[Policy]] = {"grouped": policies.of("grouped"), "unlike": _Unlike}
    with pytest.raises(UsageError, match=r"policies grouped and unlike declare the key window differently"):
        policies.combined(found)
