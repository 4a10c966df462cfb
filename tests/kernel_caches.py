"""Caches to run kernels on, and their check against the NumPy reference and the oracle: the same for CPU and CUDA."""

from __future__ import annotations

import math

import numpy as np

from elastickv import numerics, oracle
from elastickv.backends.base import Backend, Call
from elastickv.backends.params import ANCHORS, CompressParams, DecodeParams, ElementwiseParams
from elastickv.policy import choose_anchors, compact
from elastickv.workloads.cache import CacheShape, LayerCaches

POISON = 0xFF


def case_of(**changes) -> dict:
    """A decode case; cache_dtype defaults to dtype."""
    case = {"workload": "decode", "launch": "plain", "batch": 1, "seq": 101, "heads": 4, "kv_heads": 4, "dim": 64}
    case |= {"dtype": "fp16", "sinks": 4, "window": 16, "compress": 4, "anchor": "value_norm", "bias": "none"}
    case.update(changes)
    return {"cache_dtype": case["dtype"], **case}


def workspace_for(backend: Backend, launches: list[DecodeParams]) -> int:
    """Address of a workspace, prepared as launches want it, that serves them all."""
    nbytes = max(map(backend.decode_workspace, launches))
    address = backend.allocate(nbytes)
    backend.fill_bytes(address, nbytes, 0xFF)
    return address


class Caches:
    """A full cache of seeded keys and values and its elastic counterpart, poisoned before it was built."""

    def __init__(self, backend: Backend, case: dict, tokens: int | None = None, capacity: int | None = None):
        self.backend, self.case = backend, case
        self.tokens = case["seq"] if tokens is None else tokens
        self.shape = CacheShape(case, capacity or case["seq"])
        self.policy = self.shape.policy
        self.counter = backend.allocate(4)
        backend.write(self.counter, np.array([self.tokens], np.int32))
        self.layer = LayerCaches(backend, self.shape, {"baseline": self.counter, "elastic": self.counter})
        rows, dim = self.shape.rows, self.shape.dim
        self.k, self.v = (self.vectors((rows, self.shape.capacity, dim), stream) for stream in (1, 2))
        self.write_full()

    def vectors(self, shape: tuple[int, ...], stream: int) -> np.ndarray:
        values = numerics.seeded_values(math.prod(shape), 7, stream).reshape(shape)
        return numerics.round_to(values, self.case["dtype"])

    def write_full(self) -> None:
        for address, values in ((self.layer.full.exact_k, self.k), (self.layer.full.exact_v, self.v)):
            self.backend.write(address, numerics.encode(values, self.case["dtype"]))

    def compress(self) -> None:
        arena = self.layer.elastic_arena
        self.backend.fill_bytes(arena.address, arena.size, POISON)
        full, rule = self.layer.full, self.policy
        params = CompressParams(
            self.layer.elastic, full.exact_k, full.exact_v, self.shape.capacity, self.tokens, ANCHORS[rule.anchor],
            rule.anchor_bias,
        )  # fmt: skip
        self.backend.launch(Call("compress", params))

    def check_elastic(self, tokens: int) -> None:
        """The elastic cache holds, bit for bit, what the policy makes of the first `tokens` tokens."""
        expected = compact(self.k[:, :tokens], self.v[:, :tokens], self.policy)
        rows, groups = self.shape.rows, self.policy.closed_groups(tokens)
        anchors = self.layer.read_anchors(0, rows, tokens)
        np.testing.assert_array_equal(anchors, choose_anchors(self.v[:, :tokens], self.policy))
        for which, values, scales in (("k", expected.k, expected.k_scale), ("v", expected.v, expected.v_scale)):
            stored, stored_scales = self.layer.read_elastic(which, 0, rows, tokens)
            np.testing.assert_array_equal(stored, values)
            np.testing.assert_array_equal(stored_scales.view(np.uint16), scales.view(np.uint16))
        if self.shape.biased:
            bias = self.backend.read(self.layer.elastic.middle_bias, (rows, self.shape.middle), np.float32)
            assert (bias[:, :groups] == np.float32(self.policy.anchor_bias)).all()

    def decode(self, arm: str = "elastic", pending: int = 0, q: np.ndarray | None = None) -> np.ndarray:
        """float32 [rows, group, dim], the output poisoned beforehand."""
        group, dtype = self.case["heads"] // self.case["kv_heads"], self.case["dtype"]
        shape = (self.shape.rows, group, self.shape.dim)
        self.q = self.vectors(shape, 3) if q is None else q
        query, out = (self.backend.allocate(math.prod(shape) * numerics.BYTES[dtype]) for _ in range(2))
        self.backend.write(query, numerics.encode(self.q, dtype))
        self.backend.fill_bytes(out, math.prod(shape) * numerics.BYTES[dtype], POISON)
        cache = self.layer.full if arm == "baseline" else self.layer.elastic
        scale = 1 / math.sqrt(self.shape.dim)
        params = DecodeParams(cache, query, out, None, group, pending, scale, self.shape.capacity)
        params.workspace = workspace_for(self.backend, [params])
        self.backend.launch(Call("decode", params))
        return numerics.decode(self.backend.read(out, shape, numerics.STORAGE[dtype]), dtype)

    def check_decode(self, arm: str, tokens: int, pending: int = 0) -> None:
        k, v, bias = self.k[:, :tokens], self.v[:, :tokens], None
        if arm == "elastic":
            expected = compact(k, v, self.policy)
            k, v, bias = expected.k, expected.v, expected.bias
        answer = self.decode(arm, pending)
        correctness = oracle.compare(answer, oracle.decode_attention(self.q, k, v, bias), self.case["dtype"])
        print(f"{arm}: relative error {correctness['relative_error']}, worst {correctness['max_abs_error']}")
        assert oracle.passes(correctness), correctness


def check_elementwise(backend: Backend, shape: tuple[int, int, int], compress: int, reverse: int = 0) -> None:
    """One pass over [heads, seq, dim], its output poisoned beforehand, against the oracle."""
    arrays = [numerics.seeded_values(math.prod(shape), 1, stream).reshape(shape) for stream in range(4)]
    arrays[0] *= 5  # logits up to about 40
    addresses = [backend.allocate(arrays[0].nbytes) for _ in range(5)]
    for address, array in zip(addresses, arrays, strict=False):
        backend.write(address, array)
    backend.fill_bytes(addresses[4], arrays[0].nbytes, POISON)
    scale = 1 / math.sqrt(shape[-1])
    backend.launch(Call("elementwise", ElementwiseParams(*addresses, *shape, compress, scale, reverse)))
    answer = backend.read(addresses[4], shape, np.float32)
    correctness = oracle.compare(answer, oracle.elementwise(*arrays, compress), "fp32")
    print(f"relative error {correctness['relative_error']}")
    assert oracle.passes(correctness), correctness


SHAPES = {
    "plain": {},
    "batch 3, 28 heads on 4": {"batch": 3, "heads": 28, "kv_heads": 4, "dim": 128, "seq": 301},
    "dim 64 int8": {"seq": 333, "cache_dtype": "int8"},
    "int4, nothing dropped": {"dim": 128, "compress": 1, "cache_dtype": "int4", "seq": 500},
    "int4, dim 80": {"dim": 80, "compress": 2, "cache_dtype": "int4", "seq": 200},
    "int8 of bf16": {"dtype": "bf16", "cache_dtype": "int8", "dim": 96, "seq": 200},
    "int8 of fp32": {"dtype": "fp32", "cache_dtype": "int8", "dim": 80, "seq": 200},
    "int4 of fp32": {"dtype": "fp32", "cache_dtype": "int4", "dim": 256, "seq": 400},
    "dim 80 bf16": {"dim": 80, "dtype": "bf16", "heads": 6, "kv_heads": 3},
    "compress 8, prime length": {"compress": 8, "seq": 1009, "heads": 2, "kv_heads": 1},
    "71 heads": {"heads": 71, "kv_heads": 71, "seq": 64},
    "71 heads on one": {"heads": 71, "kv_heads": 1, "seq": 150},
    "dim 96 fp32": {"dim": 96, "dtype": "fp32", "seq": 700},
    "dim 256": {"dim": 256, "heads": 5, "kv_heads": 1, "seq": 130},
    "dim 256 fp32": {"dim": 256, "heads": 3, "kv_heads": 1, "dtype": "fp32", "seq": 130},
    "one token": {"seq": 1},
    "as many tokens as sinks": {"seq": 4},
    "no middle": {"seq": 20},
    "one closed group": {"seq": 24},
    "mean": {"anchor": "mean", "compress": 3},
    "mean int8": {"anchor": "mean", "compress": 3, "cache_dtype": "int8", "dtype": "bf16"},
    "mean fp32": {"anchor": "mean", "compress": 7, "dtype": "fp32"},
    "first": {"anchor": "first"},
    "last int4": {"anchor": "last", "cache_dtype": "int4"},
    "biased": {"bias": "log_count", "heads": 8},
    "biased int8": {"bias": "log_count", "cache_dtype": "int8"},
    "no window": {"window": 0},
    "no sinks": {"sinks": 0},
    "neither": {"sinks": 0, "window": 0, "compress": 5, "seq": 100},
}  # fmt: skip
