"""The NumPy reference of the cache: what is kept, in which order, with which bias, in how many bytes."""

import dataclasses
import math
import re

import numpy as np
import pytest

from elastickv import anchors, formats, matrix
from elastickv.cache import bytes_moved, numerics, oracle
from elastickv.cache.compact import compact, nothing_compressed
from elastickv.errors import UsageError
from elastickv.policies.grouped import Grouped
from elastickv.schemas.case import AnyCase


def grouped(dtype: str = "fp16", cache_dtype: str = "fp16", **changes) -> Grouped:
    values = {"sinks": 4, "window": 8, "compress": 3, "anchor": "value_norm", "bias": "none"} | changes
    return Grouped(values, dtype, cache_dtype, cache_dtype)


PLAIN = grouped()


def vectors(rows: int, tokens: int, dim: int, stream: int = 0) -> np.ndarray:
    return formats.of("fp16").rounded(numerics.seeded_values(rows * tokens * dim, 0, stream)).reshape(rows, tokens, dim)


def test_slots_are_sinks_groups_and_the_exact_rest():
    # 50 tokens: 38 in the middle, 12 closed groups of 3, an open group of 2, a window of 8.
    assert PLAIN.slots(0, 50) == (4 + 2 + 8, 12)


@pytest.mark.parametrize("tokens", [1, 4, 12])
def test_short_sequences_have_no_middle(tokens):
    assert PLAIN.slots(0, tokens) == (tokens, 0)
    assert compact(*[vectors(1, tokens, 64)] * 2, PLAIN).kept.tolist() == [list(range(tokens))]


def test_kept_tokens_are_in_token_order_and_one_per_group():
    cache = compact(vectors(2, 50, 64), vectors(2, 50, 64, 1), PLAIN)
    assert (np.diff(cache.kept, axis=1) > 0).all()
    groups = (cache.kept[cache.segment == 1].reshape(2, -1) - 4) // 3
    assert (groups == np.arange(12)).all()


def test_value_norm_keeps_the_largest_value_and_the_earliest_of_equals():
    v = vectors(1, 30, 64)
    v[0, 5] = 100
    v[0, 8] = v[0, 9] = 50
    assert compact(vectors(1, 30, 64, 1), v, PLAIN).kept[0, 4:6].tolist() == [5, 8]


@pytest.mark.parametrize(("anchor", "first"), [("first", 4), ("last", 6), ("mean", 4)])
def test_positional_anchors(anchor, first):
    assert compact(*[vectors(1, 30, 64)] * 2, grouped(anchor=anchor)).kept[0, 4] == first


def test_mean_stores_the_groups_mean():
    rule = grouped(anchor="mean", dtype="fp32", cache_dtype="fp32")
    k = vectors(1, 50, 64)
    cache = compact(k, k, rule)
    assert np.allclose(cache.k[0, 4], k[0, 4:7].mean(axis=0), atol=1e-6)


def test_log_count_bias_stands_on_anchors_only():
    cache = compact(*[vectors(1, 50, 64)] * 2, grouped(bias="log_count"))
    assert np.allclose(cache.bias[cache.segment == 1], math.log(3))
    assert (cache.bias[cache.segment == 0] == 0).all()


def test_compress_1_without_quantisation_is_the_full_cache():
    rule = grouped(compress=1)
    k, v = vectors(1, 50, 64), vectors(1, 50, 64, 1)
    cache = compact(k, v, rule)
    assert (cache.k == k).all()
    assert nothing_compressed(rule, 1, 50)
    assert not nothing_compressed(grouped(compress=1, cache_dtype="int8"), 1, 50)
    assert not nothing_compressed(PLAIN, 1, 50)
    assert nothing_compressed(PLAIN, 1, 14)  # no group is whole yet


def test_philox_matches_its_published_test_vector():
    # Random123 known answers: counter and key all zero.
    words = numerics._philox4x32(np.zeros((1, 4), np.uint32), 0, 0)[0]
    assert [f"{word:08x}" for word in words] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def test_oracle_is_softmax_attention():
    q, k, v = vectors(1, 2, 64), vectors(1, 5, 64, 1), vectors(1, 5, 64, 2)
    logits = (q[0].astype(float) @ k[0].T.astype(float)) / 8
    weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(oracle.decode_attention(q, k, v)[0], weights @ v[0], rtol=1e-12)


def test_a_biased_anchor_weighs_like_that_many_equal_tokens():
    k, v = vectors(1, 4, 64), vectors(1, 4, 64, 1)
    k[0, 1:4], v[0, 1:4] = k[0, 1], v[0, 1]
    q = vectors(1, 1, 64, 2)
    full = oracle.decode_attention(q, k, v)
    short = oracle.decode_attention(q, k[:, :2], v[:, :2], np.float32([[0, math.log(3)]]))
    assert np.allclose(full, short, rtol=1e-6)


def test_nan_and_unwritten_outputs_never_pass():
    right = np.ones((1, 1, 4))
    assert oracle.passes(oracle.check(np.ones((1, 1, 4), np.float32), right, "fp32"))
    poisoned = np.float32([[[1, 1, np.nan, 1]]])
    assert not oracle.passes(oracle.check(poisoned, right, "fp32"))
    assert not oracle.passes(oracle.check(np.float32([[[1, 1, np.inf, 1]]]), right, "fp32"))
    assert not oracle.passes(oracle.check(np.float32([[[1, 1, 1.001, 1]]]), right, "fp32"))


def test_elementwise_oracle_copies_decay_from_the_groups_anchor():
    q = k = np.zeros((1, 5, 4), np.float32)
    v, previous = np.full((1, 5, 4), 3, np.float32), np.arange(20, dtype=np.float32).reshape(1, 5, 4)
    out = oracle.elementwise(q, k, v, previous, 2)
    assert (out[0, [0, 2, 4]] == 3).all()
    assert np.allclose(out[0, 1], 0.95 * previous[0, 0])
    assert np.allclose(out[0, 3], 0.95 * previous[0, 2])


def decode_case(**changes) -> AnyCase:
    shape = {"seq": 4096, "heads": 32, "dim": 128, "compress": 4, "sinks": 4, "window": 256, "anchor": "last"}
    return matrix.case_from_flags({**shape, **changes})


def test_decode_bytes_by_hand():
    # 3836 middle tokens -> 959 closed groups; exact: 4 + 256.
    query = 32 * 128 * 2
    moved = bytes_moved.byte_ceilings(bytes_moved.decode_traffic(decode_case()))
    assert moved.full == 32 * 4096 * 512 + 2 * query
    assert moved.elastic == 32 * (260 + 959) * 512 + 2 * query
    int4 = bytes_moved.byte_ceilings(bytes_moved.decode_traffic(decode_case(compress=1, cache_dtype="int4")))
    assert int4.elastic == 32 * (260 * 512 + 3836 * (128 + 4)) + 2 * query
    assert int4.ceiling_slots == 1
    assert int4.ceiling_bits == pytest.approx(int4.ceiling)
    biased = bytes_moved.byte_ceilings(bytes_moved.decode_traffic(decode_case(bias="log_count")))
    assert biased.elastic - moved.elastic == 32 * 1219 * 4


@pytest.mark.parametrize(("compress", "ceiling"), [(4, 2.0), (2, 4 / 3), (8, 8 / 3)])
def test_elementwise_byte_ceilings_of_the_design(compress, ceiling):
    shape = {"workload": "elementwise", "seq": 4096, "heads": 32, "dim": 128, "compress": compress}
    case = matrix.case_from_flags(shape)
    assert bytes_moved.byte_ceilings(bytes_moved.traffic(case)).ceiling == pytest.approx(ceiling)


def test_layers_flush_the_last_level_cache_or_say_that_they_do_not():
    assert bytes_moved.layers(20 << 20, 100 << 20, 60 << 20, 100 << 30) == 13
    assert bytes_moved.layers(20 << 20, 100 << 20, 60 << 20, 250 << 20) == 2
    assert not bytes_moved.is_cold(20 << 20, 2, 60 << 20)
    assert bytes_moved.layers(20 << 20, 100 << 20, 60 << 20, 50 << 20) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "median"}, "anchors/quiet.py declares the anchor rule median; give both one name"),
        ({"number": 2}, "anchors/quiet.py and value_norm.py both have the number 2; 3 is free"),
    ],
)
def test_files_of_anchor_rules_that_contradict_each_other_are_refused(changes, words):
    """Whichever file is read first, both are named: either may be the new one."""
    quiet = dataclasses.replace(anchors.of("value_norm"), **({"name": "quiet", "number": 7} | changes))
    with pytest.raises(UsageError, match=re.escape(words)):
        anchors.checked({"quiet": quiet, "value_norm": anchors.of("value_norm")})
