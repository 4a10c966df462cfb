"""What a model consists of: every shard that an engine loads and nothing else; damaged files are named."""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from pathlib import Path

import pytest
from model_files import LLAMA, gguf_bytes, safetensors_bytes, shard, string, write_folder, write_shards

from elastickv.jobs.job import key
from elastickv.measure.stopwatch import Stopwatch
from elastickv.models import fetching, supervisor
from elastickv.models.refusal import Refusal

GGUF, TRANSFORMERS = supervisor.ENGINES["gguf"], supervisor.ENGINES["transformers"]


def fetched(path: Path, engine: str, **pins: str) -> fetching.Fetched:
    return fetching.fetch({"model": str(path), **pins}, engine)


def refusal(path: Path, engine: str, **pins: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        fetched(path, engine, **pins)
    assert "\n" not in str(caught.value)
    return caught.value


def combined(paths: list[Path]) -> str:
    """The hash of what sha256sum prints of the files."""
    lines = "".join(f"{sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths)
    return sha256(lines.encode()).hexdigest()


def store_key(engine: supervisor.Engine, path: Path, found: fetching.Fetched) -> str:
    """What the store knows the record of a run with that model on this CPU by."""
    settings = supervisor.Settings(engine.settings(model=str(path)), "cpu")
    job = supervisor.Model(engine, settings, found, None, Stopwatch(), "cpu")
    return key(job, engine.name, None)


# split GGUF


def test_a_split_gguf_is_all_its_shards(tmp_path):
    paths = write_shards(tmp_path)
    found = fetched(paths[0], "gguf")
    assert found.model.file == "m-00001-of-00003.gguf (3 files)"
    assert (found.model.name, found.model.parameters) == ("m", 60)
    assert found.model.sha256 == combined(paths)
    assert found.gguf_file == "m-00001-of-00003.gguf"
    assert found.bytes == sum(path.stat().st_size for path in paths)


def test_a_shard_that_was_swapped_is_another_model(tmp_path):
    paths = write_shards(tmp_path)
    pinned = fetched(paths[0], "gguf")
    paths[1].write_bytes(shard(2, 3, 3, {"t2": 20}, fill=9))
    assert "is pinned" in str(refusal(paths[0], "gguf", sha256=pinned.model.sha256))
    other = fetched(paths[0], "gguf")
    assert store_key(GGUF, paths[0], other) != store_key(GGUF, paths[0], pinned)


def test_a_shard_that_is_not_the_first_names_the_first(tmp_path):
    path = write_shards(tmp_path)[1]
    assert "m-00002-of-00003.gguf: one of 3 shards; name the first, m-00001-of-00003.gguf" in str(refusal(path, "gguf"))


def test_a_shard_that_is_missing_or_cut_off_is_named(tmp_path):
    paths = write_shards(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[:-40])
    assert f"{paths[2]}: not a GGUF file, damaged or cut off" in str(refusal(paths[0], "gguf"))
    paths[2].unlink()
    assert "m-00003-of-00003.gguf" in str(refusal(paths[0], "gguf"))


def test_transformers_does_not_load_a_part_of_a_split_gguf(tmp_path):
    refused = refusal(write_shards(tmp_path)[0], "transformers")
    assert refused.status == "unsupported"
    assert "llama-gguf-split --merge m-00001-of-00003.gguf m.gguf" in str(refused)


# folders of safetensors


def test_only_what_transformers_loads_is_counted_and_hashed(tmp_path):
    folder = write_folder(tmp_path / "model")
    shards = sorted(folder.glob("model-*.safetensors"))
    (folder / "consolidated.safetensors").write_bytes(safetensors_bytes({"copy": 500}))
    model = fetched(folder, "transformers").model
    assert (model.parameters, model.sha256) == (30, combined(shards))
    assert model.file == "model-00001-of-00002.safetensors (2 files)"
    (folder / "model.safetensors").write_bytes(safetensors_bytes({"whole": 7}))  # goes before an index
    found = fetched(folder, "transformers")
    assert (found.model.parameters, found.model.file) == (7, "model.safetensors")
    assert found.model.sha256 == sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert found.bytes == (folder / "model.safetensors").stat().st_size


def test_another_configuration_or_tokenizer_is_another_model(tmp_path):
    folder = write_folder(tmp_path / "model")
    first = fetched(folder, "transformers")
    keys = set()
    for file, content in (
        ("config.json", json.dumps(LLAMA | {"rope_theta": 500})),
        ("tokenizer.json", '{"a": 1}'),
        ("merges.txt", "a b"),
    ):
        (folder / file).write_text(content, encoding="utf-8")
        found, pin = fetched(folder, "transformers"), first.model.config_sha256
        assert found.model.sha256 == first.model.sha256
        assert "its config_sha256 is" in str(refusal(folder, "transformers", config_sha256=pin))
        keys.add(store_key(TRANSFORMERS, folder, found))
    assert len(keys) == 3
    assert store_key(TRANSFORMERS, folder, first) not in keys


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, "there is no config.json, so this is not a Transformers model"),
        (INDEX, None, f"there is no model.safetensors and no {INDEX}: no safetensors weights (pickle files are never"),
        (INDEX, b"{", f"{INDEX} lists no weights"),
        (INDEX, b"{}", f"{INDEX} lists no weights"),
        ("model-00002-of-00002.safetensors", None, "model-00002-of-00002.safetensors: missing, damaged or cut off"),
        ("model-00002-of-00002.safetensors", safetensors_bytes({"t2": 4})[:-1], "missing, damaged or cut off"),
        ("model-00002-of-00002.safetensors", b"\xff" * 30, "missing, damaged or cut off"),
    ],
)
def test_a_damaged_folder_is_named_with_its_file(tmp_path, file, content, words):
    folder = write_folder(tmp_path / "model")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    assert words in str(refusal(folder, "transformers"))


# paths


def test_a_path_may_hold_spaces_and_a_home(tmp_path, monkeypatch):
    (tmp_path / "my models").mkdir()
    folder = write_folder(tmp_path / "my models" / "a model (v2)")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetched(folder, "transformers") == fetched(Path("~/my models/a model (v2)"), "transformers")


@pytest.mark.parametrize("name", ["~no-such-user/model", "/" + "x" * 300, "a b", "/dev/null"])
@pytest.mark.parametrize("engine", ["transformers", "gguf"])
def test_a_path_that_leads_nowhere_is_refused(name, engine):
    with pytest.raises(Refusal, match="(?s)^" + name[:10]):
        fetching.fetch({"model": name}, engine)


# GGUF headers


def test_a_header_gives_licence_parameters_and_the_type_of_most(tmp_path):
    license = [string("general.license") + struct.pack("<I", 8) + string("mit")]
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes(license, {"w": 300, "norm": 30}))
    found = fetched(path, "gguf")
    assert (found.model.license, found.model.parameters, found.dtype) == ("mit", 330, "F32")


@pytest.mark.parametrize("end", [0, 3, 40, -200])
def test_a_file_that_is_cut_off_is_refused(tmp_path, end):
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes([], {"w": 300, "norm": 30})[:end])
    assert f"{path}: not a GGUF file, damaged or cut off" in str(refusal(path, "gguf"))
