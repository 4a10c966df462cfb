"""What a model consists of: every shard that an engine loads and nothing else; damaged files are named."""

from __future__ import annotations

import json
import random
import struct
from hashlib import sha256
from pathlib import Path

import pytest
from model_files import LLAMA, gguf_bytes, pair, safetensors_bytes, shard, string, write_folder, write_shards

from elastickv import environments
from elastickv.jobs.job import key
from elastickv.measure.stopwatch import Stopwatch
from elastickv.models import fetching, gguf_header, supervisor
from elastickv.models.refusal import Refusal

GGUF, TRANSFORMERS = supervisor.ENGINES["gguf"], supervisor.ENGINES["transformers"]


def fetched(path: Path, engine: str, **pins: str) -> fetching.Fetched:
    return fetching.fetch(fetching.Wanted(model=str(path), **pins), engine)


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


@pytest.mark.parametrize("number", [2, 3])
def test_a_shard_that_is_not_the_first_names_the_first(tmp_path, number):
    path = write_shards(tmp_path)[number - 1]
    assert f"shard {number} of 3; name the first, m-00001-of-00003.gguf" in str(refusal(path, "gguf"))
    renamed = path.rename(tmp_path / "whole.gguf")
    assert f"shard {number} of 3; name the first" in str(refusal(renamed, "gguf"))


def test_a_first_shard_with_another_name_is_refused_with_the_name_that_it_needs(tmp_path):
    paths = write_shards(tmp_path)
    renamed = paths[0].rename(tmp_path / "whole.gguf")
    assert "has to be named like whole-00001-of-00003.gguf" in str(refusal(renamed, "gguf"))


def broken(kind: str, paths: list[Path]) -> None:
    """Shards of which one is wrong."""
    if kind == "missing":
        paths[2].unlink()
    elif kind == "of another number":
        paths[2].write_bytes(paths[1].read_bytes())
    elif kind == "of another count":
        paths[1].write_bytes(shard(2, 4, 3, {"t2": 20}))
    elif kind == "no shard":
        paths[1].write_bytes(gguf_bytes(tensors={"t2": 20}))
    elif kind == "cut off":
        paths[2].write_bytes(paths[2].read_bytes()[:-40])
    elif kind == "a tensor short":
        paths[1].write_bytes(shard(2, 3, 3, {}))
    elif kind == "a tensor twice":
        paths[1].write_bytes(shard(2, 3, 3, {"t1": 20}))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "m-00003-of-00003.gguf: no such file"),
        ("of another number", "m-00003-of-00003.gguf: its header states shard 2 of 3, but its name 3 of 3"),
        ("of another count", "m-00002-of-00003.gguf: its header states shard 2 of 4, but its name 2 of 3"),
        ("no shard", "m-00002-of-00003.gguf: its header states no shard of a split model"),
        ("cut off", "m-00003-of-00003.gguf: cut off"),
        ("a tensor short", "its 3 shards hold 2 tensors; it needs 3"),
        ("a tensor twice", "its 3 shards hold 2 tensors, 1 of them twice; it needs 3"),
    ],
)
def test_a_shard_that_does_not_belong_is_named(tmp_path, kind, said):
    paths = write_shards(tmp_path)
    broken(kind, paths)
    assert said in str(refusal(paths[0], "gguf"))


def test_transformers_does_not_load_a_part_of_a_split_gguf(tmp_path):
    refused = refusal(write_shards(tmp_path)[0], "transformers")
    assert refused.status == "unsupported"
    assert "llama-gguf-split --merge m-00001-of-00003.gguf m.gguf" in str(refused)
    alone = tmp_path / "alone.gguf"
    alone.write_bytes(shard(1, 1, 1, {"t": 5}))
    assert fetched(alone, "transformers").model.parameters == 5


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
    ("file", "content", "said"),
    [
        ("config.json", b"{", "config.json cannot be read as JSON"),
        ("config.json", b"\xff", "config.json cannot be read as JSON"),
        ("config.json", b"[" * 100_000, "config.json cannot be read as JSON"),
        ("config.json", b"[]", "config.json is not a JSON object"),
        ("config.json", b"{}", "config.json has no model_type"),
        ("config.json", b'{"transformers_weights": "x.safetensors"}', "transformers_weights: x.safetensors"),
        (INDEX, b"{", f"{INDEX} cannot be read as JSON"),
        (INDEX, b"{}", f"{INDEX} has no weight_map"),
        (INDEX, b'{"weight_map": {"t": 1}}', f"{INDEX} has no weight_map"),
        (INDEX, b'{"weight_map": {"t": "a"}}', f"{INDEX} has no metadata"),
        (INDEX, b'{"metadata": {}, "weight_map": {"t": "a.safetensors"}}', "a.safetensors not there"),
        (INDEX, b'{"metadata": {}, "weight_map": {"t": "../a"}}', "../a, which is not a file within the model"),
        (INDEX, b'{"metadata": {}, "weight_map": {"t": "/a"}}', "/a, which is not a file within the model"),
        ("model-00002-of-00002.safetensors", safetensors_bytes({"t3": 4}), "lists t2, which no shard holds"),
        ("model-00002-of-00002.safetensors", safetensors_bytes({"t2": 4})[:-1], "damaged or cut off: its tensors take"),
        ("model-00002-of-00002.safetensors", b"", "damaged or cut off"),
        ("model-00002-of-00002.safetensors", b"\xff" * 30, "damaged or cut off"),
        ("model-00002-of-00002.safetensors", b"\2\0\0\0\0\0\0\0[]", "damaged or cut off"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_named_with_its_file(tmp_path, file, content, said):
    folder = write_folder(tmp_path / "model")
    (folder / file).write_bytes(content)
    assert said in str(refusal(folder, "transformers"))


def test_shards_without_their_index_are_not_called_pickled(tmp_path):
    folder = write_folder(tmp_path / "model")
    (folder / INDEX).unlink()
    said = str(refusal(folder, "transformers"))
    assert f"model-00001-of-00002.safetensors is not loaded without model.safetensors or {INDEX}" in said


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
        fetching.fetch(fetching.Wanted(model=name), engine)


# GGUF headers

WHOLE = gguf_bytes(
    [
        string("tokens") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("bc"),
        pair("scores", "IQ2f", 9, 6, 2, 0.5, 1.5),
        string("general.license") + struct.pack("<I", 8) + string("mit"),
        pair("context_length", "I", 4, 2048),
    ],
    {"w": 300, "norm": 30},
)


def header_of(path: Path, content: bytes) -> gguf_header.Header | None:
    """The header; None where reading ends as it may, with the file's name in one line."""
    path.write_bytes(content)
    try:
        return gguf_header.read(path)
    except (ValueError, OSError) as error:
        assert path.name in str(error) and "\n" not in str(error), error
        return None


def test_a_header_tells_licence_parameters_and_the_type_of_most(tmp_path):
    quantised = string("w") + struct.pack("<I2QIQ", 2, 32, 10, 3, 0)
    content = b"GGUF" + struct.pack("<IQQ", 3, 2, 2) + pair("general.license", "Q3s", 8, 3, b"mit")
    content += pair("n", "I", 4, 7) + quantised + string("norm") + struct.pack("<IQIQ", 1, 32, 0, 224)
    (tmp_path / "m.gguf").write_bytes(content)
    header = gguf_header.read(tmp_path / "m.gguf")
    assert (header.license, header.parameters, header.dtype) == ("mit", 352, "Q4_1")
    assert header.metadata == {"general.license": "mit", "n": 7}
    assert header.end == -(-len(content) // 32) * 32 + 224 + 128


def test_a_header_cut_anywhere_is_refused_with_the_file(tmp_path):
    length = len(WHOLE) - 4 * 330
    whole = header_of(tmp_path / "m.gguf", WHOLE)
    assert (whole.parameters, whole.dtype, whole.license, whole.end) == (330, "F32", "mit", len(WHOLE) - 8)
    for end in range(length - 64):
        assert header_of(tmp_path / "m.gguf", WHOLE[:end]) is None


def test_a_header_with_wrong_bytes_is_refused_or_read(tmp_path):
    source = random.Random(0)
    for _ in range(3000):
        content = bytearray(WHOLE)
        for _ in range(source.randint(1, 4)):
            content[source.randrange(4, len(WHOLE) - 4 * 330)] = source.choice((0, 1, 127, 128, 255, 8, 9, 10))
        header_of(tmp_path / "m.gguf", bytes(content))


def with_pair(entry: bytes) -> bytes:
    return gguf_bytes([entry], {"w": 8})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (with_pair(pair("tokens", "IQ", 9, 8, 2**63)), "tokens states 9223372036854775808 entries"),
        (with_pair(pair("tokens", "IQ", 9, 6, 2**63)), "tokens does not end within the file"),
        (with_pair(pair("tokens", "IQ", 9, 9, 1)), "tokens has a value of the unknown type 9"),
        (with_pair(pair("name", "Q", 8, 2**63)), "name does not end within the file"),
        (with_pair(pair("x", "I", 13, 1)), "x has a value of the unknown type 13"),
        (with_pair(pair("general.alignment", "I", 4, 0)), "general.alignment is 0; it must be a power of two"),
        (with_pair(string("x") + struct.pack("<IQ", 8, 1) + b"\xff"), "x is not UTF-8 text"),
        (gguf_bytes([pair("x", "I", 4, 1), pair("x", "I", 4, 2)], {"w": 8}), "is x, which occurs twice"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "states 9223372036854775808 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "states 9223372036854775808 metadata entries"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + string("w") + struct.pack("<I3Q", 2**31, 0, 0, 0),
            "tensor w has 2147483648 dimensions; at most 4 are possible",
        ),
        (gguf_bytes([pair("a\n" + "b" * 99, "I", 13, 1)], {"w": 8}), r"'a\nbbb"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + string("w") + struct.pack("<I2QIQ", 2, 2**40, 2**40, 0, 0),
            "tensor w has the shape",
        ),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 1), "big-endian GGUF; only little-endian files are supported"),
        (b"GGUF" + struct.pack("<IQQ", 1, 1, 1), "GGUF version 1; versions 2 and 3 are supported"),
        (b"", "is not a GGUF file"),
    ],
)  # fmt: skip
def test_a_header_is_refused_with_the_field(tmp_path, content, said):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        gguf_header.read(path)
    assert said in str(caught.value) and str(path) in str(caught.value)


def test_a_file_cut_within_its_tensors_is_refused(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(WHOLE[: len(WHOLE) // 2])
    assert f"cut off: its tensors end at byte {len(WHOLE) - 8}" in str(refusal(path, "gguf"))


def test_sizes_of_tensor_types_are_those_of_the_gguf_package(tmp_path):
    """Not all are known to both; those that are agree."""
    import subprocess

    ask = "import json; from gguf.constants import GGML_QUANT_SIZES as s; "
    ask += "print(json.dumps({t.value: [t.name, *size] for t, size in s.items()}))"
    done = subprocess.run([str(environments.make("llm")), "-c", ask], capture_output=True, text=True, check=True)
    theirs = {int(number): tuple(about) for number, about in json.loads(done.stdout).items()}
    assert gguf_header.TENSOR_BLOCKS.items() <= theirs.items()
