"""Whatever a record's file holds, reading it ends in a valid record or a RecordError; a valid one can be published."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from fuzzing import share
from hypothesis import example as given_example
from hypothesis import given
from hypothesis import strategies as st
from results_folder import LIMITS, example, shortened

from elastickv import records
from elastickv.judge import folder, noise, verdict
from elastickv.measure import supervisor
from elastickv.models.record import as_judged
from elastickv.report import explanation, markdown, social, summary
from elastickv.report.inputs import Baseline, Case, Inputs
from elastickv.schemas import baseline
from elastickv.schemas.base import Model
from elastickv.schemas.ceilings import Ceilings
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.verdict import Verdicts

EXAMPLES = {
    "measurement": ("4096_golden_ticket", "4096_cpu", "4096_noisy", "4096_incorrect", "4096_failed", "4096_dim72"),
    "ceilings": ("ceilings",),
    "baseline": ("transformers_baseline", "gguf_baseline"),
}
MODELS = {"measurement": Measurement, "ceilings": Ceilings, "baseline": baseline.Baseline}
LEAVES = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 1, 2, 10**6, 2**53, 1e-300, 1e300, 0.5, -0.0, "ok", "noisy", "failed", "", "x" * 3000])
    | st.sampled_from(["<script>", "a|b", "\n# x", "`", "\u202e", "\0", "\ud7ff", "$(x)", "../../x", "cpu", "cuda"])
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
KEYS = st.sampled_from(["status", "reason", "case", "value", "low", "high", "statistics", "name", "", "é"])
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of everything in a record."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inside for place in places(item, (*path, key)))]


RECORDS = {
    (schema, name): shortened(example(name)) for schema, names in EXAMPLES.items() for name in names
}  # fmt: skip
PLACES = {key: [place for place in places(record) if place] for key, record in RECORDS.items()}


def read(tmp_path: Path, content: bytes, schema: str) -> Model | None:
    """The record, or None when it was refused. Any error but RecordError is a defect and fails the test by itself."""
    path = tmp_path / "record.json"
    path.write_bytes(content)
    try:
        return records.load(path, MODELS[schema])
    except records.RecordError as error:
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)
        return None


def publish(schema: str, record: Any) -> None:
    """Everything that is published of a valid record: line, verdict, table, report, notebook and posts."""
    cases, baselines, ceilings = [], [], None
    if schema == "measurement":
        judged = verdict.judge(record, LIMITS)
        verdicts = Verdicts(schema_="verdicts/2", thresholds=LIMITS, cases=[judged])
        records.check(records.content(verdicts), "verdict", "judged")
        content = record.case.root
        summary.to_csv([summary.row(folder.Entry(content.id, record), LIMITS.noise)])
        record = noise.as_judged(record, LIMITS.noise)
        cases = [Case(content.id, record, judged, content)]
        assert "\n" not in supervisor.describe(record)
    elif schema == "baseline":
        baselines = [Baseline("transformers", as_judged(record), None)]
    else:
        ceilings = record
    device, backend = (record.device, "cpu") if record.device else (None, None)
    inputs = Inputs(cases, LIMITS, ceilings, None, baselines, device, backend)
    posts = (post.text for _, post in social.posts(inputs).posts)
    for text in (markdown.report(inputs), explanation.markdown(inputs), *posts):
        assert "<script" not in text
        assert "\u202e" not in text
        text.encode()


@share(0.2)
@given(
    content=st.binary(max_size=60)
    | st.text(alphabet=st.sampled_from(list('{}[]",:0123456789eE+-.\\u dtrue falsenull \n\0é')), max_size=60).map(
        str.encode
    ),
    schema=st.sampled_from(sorted(EXAMPLES)),
)
@given_example(content=b"", schema="measurement")
@given_example(content=b"\xff\xfe", schema="measurement")
@given_example(content=b"[" * 100_000, schema="measurement")
@given_example(content=b'{"a":' * 100_000, schema="measurement")
@given_example(content=b"[" * 500 + b"]" * 500, schema="measurement")
@given_example(content=b"1" * 10_000, schema="ceilings")
@given_example(content=b'{"a": 1e999}', schema="ceilings")
@given_example(content=b'"\\ud800"', schema="ceilings")
@given_example(content=b'{"schema": "ceilings/1", "schema": "ceilings/1"}', schema="ceilings")
def test_any_bytes_are_a_record_or_refused(tmp_path, content, schema):
    assert read(tmp_path, content, schema) is None


@share(0.2)
@given(tree=TREES, schema=st.sampled_from(sorted(EXAMPLES)))
def test_any_json_is_a_record_or_refused(tmp_path, tree, schema):
    assert read(tmp_path, json.dumps(tree).encode(), schema) is None


@share(0.6)
@given(data=st.data())
def test_a_valid_record_changed_anywhere_is_refused_or_can_be_published(tmp_path, data):
    key = data.draw(st.sampled_from(sorted(RECORDS)))
    record = copy.deepcopy(RECORDS[key])
    for place in data.draw(st.lists(st.sampled_from(PLACES[key]), min_size=1, max_size=2)):
        change(record, place, data)
    found = read(tmp_path, json.dumps(record).encode(), key[0])
    if found is not None:
        publish(key[0], found)


def change(record: Any, place: tuple, data: st.DataObject) -> None:
    """Drops, replaces or doubles the value at a place (if an earlier change has left it there)."""
    *way, last = place
    try:
        for key in way:
            record = record[key]
        record[last]
    except (KeyError, IndexError, TypeError):
        return
    if isinstance(record, str):
        return
    match data.draw(st.sampled_from(["replace", "replace", "drop", "move"])):
        case "replace":
            record[last] = data.draw(TREES)
        case "drop":
            del record[last]
        case "move" if isinstance(record, dict):
            record[data.draw(KEYS)] = record.pop(last)


@pytest.mark.parametrize("key", sorted(RECORDS), ids=lambda key: key[1])
def test_the_unchanged_records_are_read_and_published(tmp_path, key):
    publish(key[0], read(tmp_path, json.dumps(RECORDS[key]).encode(), key[0]))
