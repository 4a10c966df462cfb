"""Keys and values in different formats, and formats that keep something per KV head."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Checkout

from elastickv import device, formats, matrix
from elastickv.audit import traffic
from elastickv.cache import bytes_moved, oracle
from elastickv.device import limits
from elastickv.errors import UsageError
from elastickv.formats.base import Format, PerHead

EXAMPLE = Path(__file__).with_name("formats_example")
SHAPE = {"seq": 777, "heads": 4, "kv_heads": 2, "dim": 96, "compress": 3}


def example() -> Format:
    """The format of the example, loaded without being put in place."""
    found = importlib.util.spec_from_file_location("rotated5", EXAMPLE / "rotated5.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.FORMAT


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("said", "canonical"),
    [
        ({}, {"cache_dtype": "fp16"}),
        ({"cache_dtype": "int8"}, {"cache_dtype": "int8"}),
        ({"cache_dtype": "int8", "key_dtype": "int8"}, {"cache_dtype": "int8"}),
        ({"key_dtype": "int8", "value_dtype": "int8"}, {"cache_dtype": "int8"}),
        ({"cache_dtype": "int8", "value_dtype": "int4"}, {"cache_dtype": "int8", "value_dtype": "int4"}),
        ({"key_dtype": "int8"}, {"cache_dtype": "fp16", "key_dtype": "int8"}),
    ],
)
def test_a_case_says_formats_of_keys_and_values_only_where_they_differ(said, canonical):
    case = matrix.case_from_flags(SHAPE | said)
    found = {key: value for key, value in case.model_dump(mode="json").items() if key.endswith("_dtype")}
    assert found == canonical
    assert case.key_format == said.get("key_dtype", said.get("cache_dtype", "fp16"))
    assert case.value_format == said.get("value_dtype", said.get("cache_dtype", "fp16"))


def test_a_format_of_keys_is_one_for_middle_slots():
    with pytest.raises(UsageError, match="key_dtype: must be dtype"):
        matrix.case_from_flags(SHAPE | {"key_dtype": "fp32"})


@pytest.mark.parametrize(("key", "value"), [*itertools.product(["fp16", *formats.scaled()], repeat=2)])
def test_the_bytes_of_every_pair_by_two_independent_formulas_agree(key, value):
    case = matrix.case_from_flags(SHAPE | {"key_dtype": key, "value_dtype": value, "bias": "log_count"})
    moved, again = bytes_moved.traffic(case), traffic.moved(case.model_dump(mode="json"))
    assert moved["elastic"].total == again.elastic
    assert moved["slots_only"].total == again.slots_only
    apart = {"key_dtype": key, "value_dtype": key}, {"key_dtype": value, "value_dtype": value}
    both = [bytes_moved.traffic(matrix.case_from_flags(SHAPE | {"bias": "log_count"} | one)) for one in apart]
    assert 2 * moved["elastic"].total == sum(one["elastic"].total for one in both)


def test_the_example_stores_5_bits_a_value_and_reads_back_what_it_stored():
    stored, x = example(), normal(4, 7, 96)
    state = stored.state(96, 2, 5)
    assert state.nbytes == 2 * stored.state_bytes(96)
    words, scale = stored.store(x, state[[0, 1, 0, 1]])
    assert (words.dtype, words.shape, scale.shape) == (np.uint8, (4, 7, stored.words_of(96)), (4, 7))
    assert words.nbytes == 4 * 7 * 96 * 5 / 8
    np.testing.assert_array_equal(stored.encode(stored.decode(words)), words)
    for row in range(4):
        turned = stored.per_head.stored(state[row % 2], x[row])
        error = np.abs(stored.load(words, scale)[row] - turned) / scale[row, :, None].astype(np.float32)
        assert error.reshape(7, 12, 8)[..., :2].max() < 0.6
        assert error.reshape(7, 12, 8)[..., 2:].max() < 10


def test_a_format_that_keeps_something_per_head_needs_a_scale():
    with pytest.raises(UsageError, match="needs a scale"):
        formats.checked({"rotated5": dataclasses.replace(example(), largest=None)})


def test_a_format_may_refuse_dims_and_the_case_is_unsupported(monkeypatch):
    narrow = dataclasses.replace(formats.of("int8"), refuses=lambda dim: "dim must be 64" if dim != 64 else None)
    monkeypatch.setitem(formats.every(), "int8", narrow)
    refused = limits.anywhere(matrix.case_from_flags(SHAPE | {"key_dtype": "int8"}))
    assert refused == ("dim", "int8: dim must be 64", 64)
    assert limits.anywhere(matrix.case_from_flags(SHAPE | {"dim": 64, "key_dtype": "int8"})) is None
    assert limits.anywhere(matrix.case_from_flags(SHAPE | {"key_dtype": "int4"})) is None


MEAN = PerHead(
    floats=lambda dim: dim,
    state=lambda dim, kv_heads, seed: normal(kv_heads, dim, seed=seed),
    stored=lambda mean, x: x - mean,
    shift=lambda mean, q: q @ mean.astype(np.float64),
    answer=lambda mean, o: o + mean,
)


@pytest.mark.parametrize("keeps", [MEAN, example().per_head], ids=["mean", "matrix"])
def test_attention_over_parts_is_that_over_the_vectors_as_they_were(keeps):
    """Transforms of query and answer undo what is stored, together with a part without any and with a bias."""
    q, k, v, bias = normal(3, 32), normal(20, 32, seed=1), normal(20, 32, seed=2), normal(20, seed=3)
    ours = keeps.state(32, 1, 4)[0]
    theirs = keeps.state(32, 1, 5)[0]
    changed = oracle.Part(
        keeps.stored(ours, k[:9]), keeps.stored(theirs, v[:9]), bias[:9], (keeps, ours), (keeps, theirs)
    )
    found = oracle.attend(q, [changed, oracle.Part(k[9:], v[9:], bias[9:])])
    expected = oracle.decode_attention(q[None], k[None], v[None], bias[None])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_attention_over_parts_without_a_transform_is_that_over_all_slots():
    q, k, v = normal(3, 32), normal(20, 32, seed=1), normal(20, 32, seed=2)
    found = oracle.attend(q, [oracle.Part(k[:5], v[:5]), oracle.Part(k[5:5], v[5:5]), oracle.Part(k[5:], v[5:])])
    np.testing.assert_allclose(found, oracle.decode_attention(q[None], k[None], v[None])[0], rtol=0, atol=1e-14)


@pytest.fixture(scope="module")
def with_example(clone, tmp_path_factory) -> Checkout:
    """A checkout with the two files of the example, put in place as a user would, and its kernels built."""
    checkout = clone.copy(tmp_path_factory.mktemp("example") / "checkout")
    shutil.copy(EXAMPLE / "rotated5.py", checkout.root / "workflow/elastickv/formats")
    shutil.copy(EXAMPLE / "rotated5.h", checkout.root / "kernels/formats")
    run(checkout, "-m", "elastickv", "build", "cpu")
    return checkout


def run(checkout: Checkout, *arguments: str) -> str:
    """What Python prints in a checkout. It has to end well."""
    command = [sys.executable, "-P", *arguments]
    done = subprocess.run(
        command, cwd=checkout.root, env=checkout.environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_kernels_store_and_read_the_example_as_its_python_file_says(with_example):
    printed = run(with_example, "-m", "pytest", "-q", "-m", "not gpu", "tests/formats_example/check_kernels.py")
    assert printed.startswith("." * 7)


@pytest.mark.slow
def test_a_case_with_keys_of_the_example_is_measured_and_right(with_example):
    flags = {"seq": 2048, "heads": 4, "dim": 64, "compress": 2, "key_dtype": "rotated5", "value_dtype": "fp8_e4m3"}
    flags |= {"backend": "cpu", "reps": 10, "warmup": 2, "inner_loops": 2, "decode_tokens": 8}
    given = [f"--{name}={value}" for name, value in flags.items()]
    saved = with_example.root / "saved.npz"
    record = json.loads(
        run(with_example, "-m", "elastickv", "bench", *given, "--inference", "--json", f"--save-tensors={saved}")
    )
    assert record["status"] in ("ok", "imprecise", "noisy"), record["reason"]
    assert record["correctness"]["elastic"]["relative_error"] < 1e-3
    assert record["inference_cycle"]["correctness"]["elastic"]["relative_error"] < 1e-3
    case, tensors = record["case"], np.load(saved)
    assert (case["cache_dtype"], case["key_dtype"], case["value_dtype"]) == ("fp16", "rotated5", "fp8_e4m3")
    groups = (2048 - 4 - 256) // 2
    middle = groups * (64 * 5 // 8 + 2 + 64 + 2)
    exact = (2048 - 2 * groups) * 2 * 64 * 2
    assert record["bytes"]["elastic"] == 4 * (exact + middle + 64 * 64 * 4) + 2 * 4 * 64 * 2
    assert tensors["k_state"].shape == (4, 64, 64)
    assert (tensors["v_scale"] != 0).any()
    assert answer_of(tensors) < 1e-3


@pytest.mark.gpu
@pytest.mark.slow
def test_a_gpu_stores_and_reads_the_example_as_its_python_file_says(with_example):
    if not device.visible_gpus():
        pytest.skip("no NVIDIA GPU is visible")
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed (elastickv env cuda)")
    run(with_example, "-m", "elastickv", "build", "cuda", f"--architectures={cupy.cuda.Device(0).compute_capability}")
    printed = run(with_example, "-m", "pytest", "-q", "-m", "gpu", "tests/formats_example/check_kernels.py")
    assert printed.startswith("." * 6)


def answer_of(tensors: np.lib.npyio.NpzFile) -> float:
    """The relative error of the saved elastic answer against attention over the saved slots."""
    errors = []
    for head in range(4):
        q, middle = tensors["q"][0, head].astype(np.float64), tensors["middle"]
        turned = tensors["k_state"][head].astype(np.float64) @ q
        logits = np.where(middle, tensors["elastic_k"][0, head] @ turned, tensors["elastic_k"][0, head] @ q) / 8
        weights = np.exp(logits - logits.max())
        expected = weights @ tensors["elastic_v"][0, head] / weights.sum()
        errors.append(np.linalg.norm(tensors["elastic_out"][0, head] - expected) / np.linalg.norm(expected))
    return max(errors)
