"""Storage formats: what each stores, that it reads back, and that a file in the folder is all that declares one."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from elastickv import formats, matrix
from elastickv.audit import traffic
from elastickv.cache import bytes_moved, numerics
from elastickv.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
EVERY = [*formats.every().values()]
SCALED = [one for one in EVERY if one.scaled and one.plain]
NAME = {"ids": lambda one: one.name}


def vectors(*shape: int, stream: int = 0) -> np.ndarray:
    return numerics.seeded_values(int(np.prod(shape)), 0, stream).reshape(shape)


@pytest.mark.parametrize("stored", EVERY, **NAME)
def test_what_is_stored_has_the_stated_bytes_and_reads_back_unchanged(stored):
    words, scale = stored.store(vectors(3, 5, 96), stored.state(96, 3, 0))
    assert words.dtype == stored.words
    assert words.shape == (3, 5, stored.words_of(96))
    assert words.nbytes == 15 * stored.vector_bytes(96)
    assert (scale.dtype, scale.shape) == (np.float16, (3, 5))
    assert bool(scale.any()) == stored.scaled
    values = stored.decode(words)
    assert (values.dtype, values.shape) == (np.float32, (3, 5, 96))
    np.testing.assert_array_equal(stored.decode(stored.encode(values)), values)


@pytest.mark.parametrize("stored", SCALED, **NAME)
def test_a_scale_makes_the_largest_value_the_largest_that_the_format_holds(stored):
    words, _ = stored.store(vectors(40, 96))
    assert (np.abs(stored.decode(words)).max(axis=1) == stored.largest).all()
    none, zero = stored.store(np.zeros((2, 64), np.float32))
    assert (zero == 0).all()
    assert (stored.load(none, zero) == 0).all()
    assert stored.store(np.full((1, 64), 1e30, np.float32))[1][0] == 65504


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_whole_numbers_are_within_half_a_step(name):
    stored, x = formats.of(name), vectors(40, 96)
    words, scale = stored.store(x)
    # fp16 rounds the scale (2^-11), so the largest element may sit that much further away.
    assert (np.abs(stored.load(words, scale) - x) <= scale[:, None] * (0.5 + stored.largest * 2**-11)).all()


def test_int4_holds_even_dims_in_low_nibbles():
    codes = np.arange(-7, 9, dtype=np.float32)[:14].reshape(1, 14)
    packed = formats.of("int4").encode(codes)
    assert packed.tolist() == [[int(codes[0, 2 * j] + 8) | int(codes[0, 2 * j + 1] + 8) << 4 for j in range(7)]]


def test_bf16_rounds_to_nearest_even_and_keeps_nan():
    bf16 = formats.of("bf16")
    assert bf16.rounded(np.float32([1.00390625]))[0] == 1.0  # halfway between two: to even
    assert bf16.rounded(np.float32([1.01171875]))[0] == 1.015625
    assert np.isnan(bf16.rounded(np.float32([np.nan])))[0]


def e4m3(code: int) -> Fraction:
    """The value of a byte, from the definition of its fields."""
    exponent, mantissa = code >> 3 & 15, code & 7
    size = Fraction(mantissa, 8) / 64 if exponent == 0 else (1 + Fraction(mantissa, 8)) * Fraction(2) ** (exponent - 7)
    return -size if code & 128 else size


def nearest_e4m3(value: float) -> int:
    """The byte of the nearest value, the even one of two, by trying all; 448 for what is beyond (127 is a NaN)."""
    size = abs(Fraction(value))
    code = min(range(127), key=lambda code: (abs(e4m3(code) - size), code & 1))
    return code | (128 if np.signbit(value) else 0)


def test_fp8_reads_every_byte_as_the_format_defines_it():
    codes = [code for code in range(256) if code & 127 != 127]
    values = formats.of("fp8_e4m3").decode(np.array(codes, np.uint8))
    assert values.tolist() == [float(e4m3(code)) for code in codes]


def test_fp8_rounds_to_the_nearest_and_ties_to_even_from_subnormals_to_saturation():
    exact = [float(e4m3(code)) for code in range(127)]
    halfway = [(low + high) / 2 for low, high in pairwise(exact)]
    sizes = np.array([*exact, *halfway, 449, 463, 464, 1e4, 1e38, 1e-45, 1e-30, 2**-10], np.float32)
    around = np.concatenate([sizes, np.nextafter(sizes, np.float32(0)), np.nextafter(sizes, np.float32(np.inf))])
    values = np.concatenate([around, -around, np.random.default_rng(0).normal(0, 30, 500).astype(np.float32)])
    found = formats.of("fp8_e4m3").encode(values)
    assert found.tolist() == [nearest_e4m3(float(value)) for value in values]


def test_fp8_saturates_infinities_and_leaves_a_nan_to_the_scale():
    stored = formats.of("fp8_e4m3")
    assert stored.encode(np.float32([np.inf, -np.inf])).tolist() == [126, 254]
    words, scale = stored.store(np.float32([[1, np.nan, 2, 3]]))
    assert np.isnan(stored.load(words, scale)).all()


@pytest.mark.parametrize("stored", EVERY, **NAME)
@pytest.mark.parametrize("dtype", formats.exact())
def test_the_bytes_of_every_format_by_two_independent_formulas_agree(stored, dtype):
    if not stored.scaled and stored.name != dtype:
        return
    case = matrix.case_from_flags({"seq": 777, "heads": 4, "kv_heads": 2, "dim": 96, "compress": 3, "dtype": dtype,
                                   "cache_dtype": stored.name, "bias": "log_count"})  # fmt: skip
    moved, again = bytes_moved.traffic(case), traffic.moved(case.model_dump(mode="json"))
    assert [moved[arm].total for arm in ("full", "elastic", "slots_only")] == [
        again.full,
        again.elastic,
        again.slots_only,
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "int9"}, "declares the format int9"),
        ({"bits": 4}, "first number"),
        ({"number": 1}, "formats/fp16.py and int8.py both have the number 1; 2 is free"),
    ],
)
def test_files_that_contradict_each_other_are_refused(changes, words):
    changed = dataclasses.replace(formats.of("int8"), **changes)
    with pytest.raises(UsageError, match=words):
        formats.checked({"fp16": formats.of("fp16"), "int8": changed})


EXAMPLE = ROOT / "docs/extending/format/files/workflow/elastickv/formats/fp8_e5m2.py"


def test_a_file_in_the_folder_is_all_that_a_format_takes(tmp_path):
    """Schemas, the reference of config files, the rules of cases and the order of formats know the example."""
    package = shutil.copytree(ROOT / "workflow" / "elastickv", tmp_path / "workflow" / "elastickv")
    for folder in ("schemas", "kernels"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "docs").mkdir()
    shutil.copy(EXAMPLE, package / "formats")
    script = """
import json
from elastickv import formats, matrix
from elastickv.schemas import generate
written = generate.contents()
case = matrix.case_from_flags({"seq": 64, "heads": 4, "dim": 64, "compress": 4, "cache_dtype": "fp8_e5m2"})
assert all(path.read_text(encoding="utf-8") == text for path, text in written.items())
kept = [path.as_posix() for path, text in written.items() if "fp8_e5m2" in text]
print(json.dumps({"order": [*formats.every()], "case": case.cache_dtype, "files": kept}))
"""
    environment = {"PYTHONPATH": str(tmp_path / "workflow"), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["order"].index("fp8_e5m2") == found["order"].index("int8") - 1
    assert found["case"] == "fp8_e5m2"
    assert {"docs/matrix.md", "schemas/config.schema.json", "schemas/case.schema.json"} <= set(found["files"])
