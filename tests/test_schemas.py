"""The status decides which fields may exist; records are strict JSON."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from results_folder import BROKEN_CASES, GPU_CASES, RECORDS, example

from elastickv import records
from elastickv.schemas.base import at, given
from elastickv.schemas.measurement import Measurement

MEASURED = (*GPU_CASES, "4096_cpu", "4096_noisy")
UNMEASURED = BROKEN_CASES


def valid(record, schema="measurement"):
    try:
        records.check(record, schema, "test")
    except records.RecordError:
        return False
    return True


@pytest.mark.parametrize("path", sorted(records.SCHEMAS.glob("*.schema.json")), ids=lambda path: path.name)
def test_schemas_are_schemas(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(content)
    assert content["$id"] == path.name


def test_examples_are_valid_and_cover_every_status():
    examples = [example(name) for name in (*MEASURED, *UNMEASURED)]
    assert all(map(valid, examples))
    statuses = {record["status"] for record in examples}
    assert statuses == set(records.schema("measurement")["properties"]["status"]["enum"])


@pytest.mark.parametrize("name", ["4096_golden_ticket", "4096_noisy"])
@pytest.mark.parametrize("field", ["statistics", "samples", "bytes", "efficiency", "correctness", "inference_cycle"])
def test_what_was_timed_has_everything(name, field):
    record = example(name)
    del record[field]
    assert not valid(record)


def without(record, path):
    """The record without the field at a dotted path."""
    *within, last = path.split(".")
    found = record
    for name in within:
        found = found[int(name) if name.isdigit() else name]
    del found[last]
    return record


@pytest.mark.parametrize(
    "path",
    [
        *(f"resolved.{name}" for name in ("reuse_bytes", "processes", "stopped")),
        *(f"samples.{name}" for name in ("elastic_again_us", "rounds")),
        *(f"statistics.{name}" for name in ("sustained", "controls.elastic")),
        *(f"processes.{name}" for name in ("cv", "runs.0.cv", "runs.0.elastic_again_us")),
        *("processes.runs.1.layer_steps_per_second", "energy.arms.full.busy", "case.measure.sustained_seconds"),
    ],
)
def test_a_record_of_a_gpu_has_what_its_figures_are_checked_by(path):
    assert not valid(without(example("4096_golden_ticket"), path))


def test_only_a_gpu_has_steady_work():
    record = example("4096_cpu")
    assert valid(record) and "sustained" not in record["statistics"]


def test_a_baseline_states_the_sources_that_measured_it():
    assert not valid(without(example("transformers_baseline"), "provenance"), "baseline")


def all_dropped():
    """A noisy record of which the device throttled in every round."""
    record = example("4096_noisy")
    for field in ("statistics", "bytes", "efficiency", "inference_cycle", "original_score"):
        record[field] = None
    record["samples"] |= {"order": [], "full_us": [], "elastic_us": [], "full_again_us": [], "elastic_again_us": []}
    record["samples"]["dropped"] = [{"index": index, "reason": "thermal"} for index in range(60)]
    record["throttling"], record["resolved"]["reps"] = {"dropped_rounds": 60}, 0
    return record


def test_noisy_without_a_round_has_a_reason_and_what_was_dropped_but_no_figure():
    assert valid(all_dropped())
    for field in ("statistics", "bytes", "efficiency", "original_score"):
        assert not valid(all_dropped() | {field: example("4096_golden_ticket")[field]})
    record = all_dropped()
    record["samples"]["dropped"] = []
    assert not valid(record)
    assert not valid(all_dropped() | {"status": "ok", "reason": None})


@pytest.mark.parametrize("name", UNMEASURED)
@pytest.mark.parametrize("field", ["statistics", "original_score"])
def test_what_was_not_timed_has_no_figures(name, field):
    record = example(name) | {field: example("4096_golden_ticket")[field]}
    assert not valid(record)


def test_incorrect_may_not_even_name_statistics_and_needs_the_answers():
    record = example("4096_incorrect")
    assert not valid(record | {"statistics": None})
    del record["correctness"]
    assert not valid(record)


def test_ok_needs_finite_written_answers():
    for key in ("finite", "written"):
        record = example("4096_cpu")
        record["correctness"]["elastic"][key] = False
        assert not valid(record)


@pytest.mark.parametrize("name", ["4096_noisy", *UNMEASURED])
def test_everything_but_ok_needs_a_reason(name):
    assert not valid(example(name) | {"reason": None})
    assert not valid(example(name) | {"reason": ""})
    assert not valid(example("4096_cpu") | {"reason": "fine"})


def test_a_missing_reading_needs_its_reason():
    assert not valid(example("4096_cpu") | {"power": {"value": None}})


@pytest.mark.parametrize(
    "change",
    [
        {"status": "fast"},
        {"note": "an extra field"},
        {"started": "yesterday"},
        {"build": {"fingerprint": "abc", "sha256": "abc"}},
        {"device": {}},
        {"original_score": True},
    ],
)
def test_measurement_refuses(change):
    assert not valid(example("4096_golden_ticket") | change)


@pytest.mark.parametrize("bad", ["NaN", "-Infinity", "1e999", '"2.0"', "-1", "null"])
def test_speedups_are_finite_positive_numbers(tmp_path, bad):
    text = (RECORDS / "4096_golden_ticket.json").read_text(encoding="utf-8")
    value = json.dumps(example("4096_golden_ticket")["statistics"]["speedup"]["value"])
    path = tmp_path / "results_x.json"
    path.write_text(text.replace(value, bad, 1), encoding="utf-8")
    assert text.count(value) == 1
    with pytest.raises(records.RecordError, match=r"results_x\.json"):
        records.read(path, "measurement")


def test_nan_is_never_written(tmp_path):
    record = example("4096_golden_ticket")
    record["statistics"]["speedup"]["value"] = float("nan")
    with pytest.raises(ValueError, match="JSON compliant"):
        records.write(tmp_path / "r.json", record, "measurement")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "schema"), [("ceilings", "ceilings"), ("transformers_baseline", "baseline"), ("gguf_baseline", "baseline")]
)
def test_other_examples_are_valid(name, schema):
    assert valid(example(name), schema)


def test_a_failed_baseline_has_no_figures():
    assert not valid(example("gguf_baseline") | {"perplexity": 12.0}, "baseline")
    assert not valid(example("transformers_baseline") | {"perplexity": None}, "baseline")


def test_a_baseline_with_figures_states_its_self_check():
    record = example("transformers_baseline")
    assert valid(record, "baseline")
    del record["self_check"]
    assert not valid(record, "baseline")


def test_ceilings_without_a_curve_need_a_reason():
    empty = {"points": [], "read_gbps": None, "copy_gbps": None}
    assert not valid(example("ceilings") | empty, "ceilings")
    assert valid(example("ceilings") | empty | {"status": "failed", "reason": "no library"}, "ceilings")


def test_examples_are_what_the_script_makes(tmp_path, monkeypatch):
    import importlib.util

    spec = importlib.util.spec_from_file_location("make_records", Path(__file__).parent / "fixtures/make_records.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    monkeypatch.setattr(maker, "FOLDER", tmp_path)
    maker.main()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in RECORDS.iterdir()}
    for path in tmp_path.iterdir():
        made = json.loads(path.read_text(encoding="utf-8"))
        if "statistics" in made:
            assert made["statistics"]["speedup"]["value"] == pytest.approx(
                example(path.stem)["statistics"]["speedup"]["value"]
            )
        else:
            assert made == example(path.stem)


def test_a_typed_record_is_the_one_that_was_written(tmp_path):
    record, path = example("4096_golden_ticket"), tmp_path / "record.json"
    records.write(path, record, "measurement")
    found = records.load(path, Measurement)
    assert (found.case.root.seq, found.statistics.speedup.value) == (4096, record["statistics"]["speedup"]["value"])
    assert found.model_dump() == record
    assert at(found, ("statistics", "speedup", "low")) == record["statistics"]["speedup"]["low"]
    assert at(found, ("case", "dim")) == 128
    assert at(found, ("processes", "spread", "low")) == record["processes"]["spread"]["low"]
    alone = records.load(RECORDS / "4096_cpu.json", Measurement)
    assert at(alone, ("processes", "spread")) is None and given(alone.processes) is None


LONG = ("_us", "seconds", "_mhz", "power_capped")  # in the names of arrays of numbers


def test_arrays_of_numbers_and_whatever_fits_are_on_one_line(tmp_path):
    record, path = example("4096_golden_ticket"), tmp_path / "record.json"
    record["samples"]["full_us"] = [value / 7 for value in range(1, 61)]
    records.write(path, record, "measurement")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert json.loads("\n".join(lines)) == record
    assert "".join(lines[1:]).count('"order": [') == 1
    assert len([line for line in lines if line.lstrip().startswith('"full_us": [0.14')]) == 1
    assert max(len(line) for line in lines if not any(name in line for name in LONG)) <= 160


def test_an_integer_beyond_all_integers_is_refused_by_name(tmp_path):
    """The schema takes 1e300 for an integer; no field can hold it as one."""
    record, path = example("4096_golden_ticket"), tmp_path / "record.json"
    record["bytes"]["full"] = 1e300
    records.write(path, record, "measurement")
    with pytest.raises(records.RecordError, match=r"record.json: not a valid measurement record: bytes.full: "):
        records.load(path, Measurement)
