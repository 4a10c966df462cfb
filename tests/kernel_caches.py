"""Caches to run kernels on, and their check against the NumPy reference and the oracle: the same for CPU and CUDA."""

from __future__ import annotations

import ctypes
import math

import numpy as np

from elastickv import formats, matrix
from elastickv.cache import numerics, oracle
from elastickv.cache.compact import attention, compact
from elastickv.device.base import Backend, Call, Mode
from elastickv.device.params import (
    MOST_SEGMENTS,
    AppendParams,
    Cache,
    CloseParams,
    CompressParams,
    DecodeParams,
    ElementwiseParams,
    Fresh,
)
from elastickv.policies import Policy
from elastickv.schemas.case import DecodeCase
from elastickv.workloads.cache import CacheShape, LayerCaches
from elastickv.workloads.positions import Positions

POISON = 0xFF


def case_of(**changes) -> DecodeCase:
    """A decode case; cache_dtype defaults to dtype, policy to the one that makes groups."""
    case = {"launch": "plain", "seq": 101, "heads": 4, "kv_heads": 4, "dim": 64, "window": 16}
    return matrix.case_from_flags(case | ({} if "policy" in changes else {"compress": 4}) | changes)


def workspace_for(backend: Backend, launches: list[DecodeParams]) -> int:
    """Address of a workspace, prepared as launches want it, that serves them all."""
    nbytes = max(map(backend.decode_workspace, launches))
    address = backend.allocate(nbytes)
    backend.fill_bytes(address, nbytes, 0xFF)
    return address


class Caches:
    """A full cache of seeded keys and values and its elastic counterpart, poisoned before it was built."""

    def __init__(
        self,
        backend: Backend,
        case: DecodeCase,
        tokens: int | None = None,
        capacity: int | None = None,
        policy: Policy | None = None,
    ):
        self.backend, self.case = backend, case
        self.tokens = case.seq if tokens is None else tokens
        self.shape = CacheShape(case, capacity or case.seq, policy)
        self.policy = self.shape.policy
        places = (case.batch, case.kv_heads, self.tokens, self.shape.capacity - self.tokens)
        self.positions = {arm: Positions(backend, rule, *places) for arm, rule in self.shape.policies.items()}
        for positions in self.positions.values():
            positions.restore()
        self.layer = LayerCaches(backend, self.shape, {arm: made.at for arm, made in self.positions.items()})
        rows, dim = self.shape.rows, self.shape.dim
        self.heads = self.shape.heads(0, rows)
        self.k, self.v = (self.vectors((rows, self.shape.capacity, dim), stream) for stream in (1, 2))
        self.write_full()

    def vectors(self, shape: tuple[int, ...], stream: int) -> np.ndarray:
        values = numerics.seeded_values(math.prod(shape), 7, stream).reshape(shape)
        return formats.of(self.case.dtype).rounded(values)

    def write_full(self) -> None:
        full = self.layer.full.segments[0]
        for address, values in ((full.k, self.k), (full.v, self.v)):
            self.backend.write(address, formats.of(self.case.dtype).encode(values))

    def compress(self) -> None:
        arena = self.layer.arenas["elastic"]
        self.backend.fill_bytes(arena.address, arena.size, POISON)
        self.layer.write_states()
        full, built = self.layer.full.segments[0], self.positions["elastic"]
        sizes = self.shape.capacity, built.most_slots
        params = CompressParams(self.layer.elastic, full.k, full.v, built.runs, *sizes)
        self.backend.launch(Call("compress", params))

    def compact(self, tokens: int):
        """What the policy makes of the first `tokens` tokens."""
        full = self.k[:, :tokens], self.v[:, :tokens]
        return compact(*full, self.policy, self.heads, states=self.shape.states)

    def check_elastic(self, tokens: int) -> None:
        """The elastic cache holds, bit for bit, what the policy makes of the first `tokens` tokens."""
        expected = self.compact(tokens)
        rows = self.shape.rows
        np.testing.assert_array_equal(self.layer.read_kept(0, rows, tokens), expected.kept)
        for which, values, scales in (("k", expected.k, expected.k_scale), ("v", expected.v, expected.v_scale)):
            stored, stored_scales = self.layer.read_elastic(which, 0, rows, tokens)
            np.testing.assert_array_equal(stored, values)
            np.testing.assert_array_equal(stored_scales.view(np.uint16), scales.view(np.uint16))
        if self.policy.biased:
            np.testing.assert_array_equal(self.biases(tokens), expected.bias)

    def biases(self, tokens: int) -> np.ndarray:
        """The slots' biases in memory, float32 [rows, slots] in token order."""
        segments = self.layer.elastic.segments[: self.layer.elastic.segment_count]
        rows = self.shape.rows
        held = [self.backend.read(one.bias, (rows, one.capacity), np.float32) for one in segments]
        found = np.zeros(self.layer.read_kept(0, rows, tokens).shape, np.float32)
        for layout, members in self.shape.layouts(0, rows, tokens):
            for slot, (segment, place) in enumerate(zip(layout.segment, layout.place, strict=True)):
                found[members, slot] = held[segment][members, place]
        return found

    def decode(self, arm: str = "elastic") -> np.ndarray:
        """float32 [rows, group, dim], the output poisoned beforehand."""
        group, dtype = self.case.heads // self.case.kv_heads, self.case.dtype
        shape = (self.shape.rows, group, self.shape.dim)
        self.q = self.vectors(shape, 3)
        query, out = (self.backend.allocate(math.prod(shape) * formats.of(dtype).vector_bytes(1)) for _ in range(2))
        self.backend.write(query, formats.of(dtype).encode(self.q))
        self.backend.fill_bytes(out, math.prod(shape) * formats.of(dtype).vector_bytes(1), POISON)
        params = DecodeParams(query, out, None, group, 0, 1 / math.sqrt(self.shape.dim), cache=self.layer.caches[arm])
        params.touched[:] = self.touched(arm, growing=False)
        params.workspace = workspace_for(self.backend, [params])
        self.backend.launch(Call("decode", params))
        return formats.of(dtype).decode(self.backend.read(out, shape, formats.of(dtype).words))

    def touched(self, arm: str, growing: bool) -> list[int]:
        """Of every segment that a cache could have."""
        found = self.positions[arm].touched(growing)
        return found + [0] * (MOST_SEGMENTS - len(found))

    def check_decode(self, arm: str, tokens: int) -> None:
        answer = self.decode(arm)
        correctness = oracle.check(answer, self.attention(self.q, arm, tokens), self.case.dtype)
        print(f"{arm}: relative error {correctness.relative_error}, worst {correctness.max_abs_error}")
        assert oracle.passes(correctness), correctness

    def check_both(self) -> None:
        """The elastic cache, and what both arms answer."""
        self.check_elastic(self.tokens)
        for arm in self.layer.caches:
            self.check_decode(arm, self.tokens)

    def attention(self, q: np.ndarray, arm: str, tokens: int) -> np.ndarray:
        """The float64 answer over the first `tokens` tokens."""
        if arm == "full":
            return oracle.decode_attention(q, self.k[:, :tokens], self.v[:, :tokens])
        held = self.compact(tokens)
        return attention(q, held, self.heads, self.shape.segments["elastic"], self.shape.states)


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
    correctness = oracle.check(answer, oracle.elementwise(*arrays, compress), "fp32")
    print(f"relative error {correctness.relative_error}")
    assert oracle.passes(correctness), correctness


SHAPES = {
    "plain": {},
    "batch 3, 28 heads on 4": {"batch": 3, "heads": 28, "kv_heads": 4, "dim": 128, "seq": 301},
    "dim 64 int8": {"seq": 333, "cache_dtype": "int8"},
    "int4, nothing dropped": {"dim": 128, "compress": 1, "cache_dtype": "int4", "seq": 500},
    "int4, dim 80": {"dim": 80, "compress": 2, "cache_dtype": "int4", "seq": 200},
    "fp8": {"cache_dtype": "fp8_e4m3", "seq": 333},
    "fp8, nothing dropped": {"dim": 128, "compress": 1, "cache_dtype": "fp8_e4m3", "seq": 500, "heads": 12},
    "fp8 of bf16, dim 80": {"dtype": "bf16", "dim": 80, "compress": 2, "cache_dtype": "fp8_e4m3", "seq": 201},
    "fp8 of fp32, dim 96": {"dtype": "fp32", "dim": 96, "compress": 3, "cache_dtype": "fp8_e4m3", "seq": 777},
    "fp8, dim 256": {"dim": 256, "heads": 5, "kv_heads": 1, "cache_dtype": "fp8_e4m3", "seq": 131, "bias": "log_count"},
    "mean fp8": {"anchor": "mean", "compress": 7, "cache_dtype": "fp8_e4m3"},
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
    "smallest keys": {"anchor": "key_norm", "heads": 8, "seq": 333},
    "smallest keys, int8 of fp32": {"anchor": "key_norm", "dtype": "fp32", "cache_dtype": "int8", "compress": 7},
    "a head of four keeps all": {"policy": "head_budget", "full_heads": 1, "seq": 300, "batch": 2, "heads": 12},
    "no head keeps all": {"policy": "head_budget", "full_heads": 0, "dim": 128, "dtype": "bf16"},
    "every head keeps all": {"policy": "head_budget", "full_heads": 4, "window": 0},
    "heads that keep all, fewer tokens than sinks": {"policy": "head_budget", "full_heads": 2, "sinks": 9, "seq": 5},
    "heads of a long cache and a window of one": {"policy": "head_budget", "full_heads": 3, "sinks": 0, "window": 1,
                                                  "seq": 1009, "dtype": "fp32", "dim": 80},
    "biased": {"bias": "log_count", "heads": 8},
    "biased int8": {"bias": "log_count", "cache_dtype": "int8"},
    "no window": {"window": 0},
    "no sinks": {"sinks": 0},
    "neither": {"sinks": 0, "window": 0, "compress": 5, "seq": 100},
    "int8 keys, int4 values": {"key_dtype": "int8", "value_dtype": "int4", "compress": 1, "seq": 1500, "heads": 8},
    "int4 keys, fp8 values of fp32": {"key_dtype": "int4", "value_dtype": "fp8_e4m3", "dtype": "fp32", "dim": 96,
                                      "seq": 777, "bias": "log_count"},
    "exact keys, int8 values": {"value_dtype": "int8", "dtype": "bf16", "dim": 80, "heads": 71, "kv_heads": 1},
    "fp8 keys, exact values": {"key_dtype": "fp8_e4m3", "anchor": "mean", "dim": 256, "heads": 5, "kv_heads": 1},
    "int4 keys, int8 values, several batches": {"key_dtype": "int4", "value_dtype": "int8", "dim": 128, "batch": 3,
                                                "heads": 28, "window": 0, "seq": 301},
}  # fmt: skip


class GrowingCaches:
    """Caches at `start` tokens and one captured token step: close, advance, append, decode.

    together: a decode appends, where it can; else a launch of its own does.
    """

    def __init__(
        self, backend: Backend, changes: dict, start: int, steps: int, together: bool, pool: int = 16, shift: int = 3,
        policy: Policy | None = None,
    ):  # fmt: skip
        case = case_of(seq=start, **changes)
        self.backend, self.caches = backend, Caches(backend, case, capacity=start + steps, policy=policy)
        caches, dtype = self.caches, case.dtype
        self.group, self.dtype = case.heads // case.kv_heads, dtype
        vectors = [caches.vectors((pool, caches.shape.rows, caches.shape.dim), stream) for stream in (4, 5)]
        for token in range(start, start + steps):
            caches.k[:, token], caches.v[:, token] = (x[(token + shift) % pool] for x in vectors)
        fresh, appends = Fresh(*map(self.upload, vectors), pool, shift), together and not caches.policy.closes_newest
        self.query = caches.vectors((caches.shape.rows, self.group, caches.shape.dim), 3)
        q = self.upload(self.query)
        self.out = {arm: self.upload(self.query) for arm in ("elastic", "full")}
        calls, closes = [], caches.positions["elastic"].closes
        if closes and not caches.policy.closes_newest:
            table = backend.allocate(ctypes.sizeof(Cache))
            backend.write(table, np.frombuffer(bytes(caches.layer.elastic), np.uint8))
            calls.append(Call("close", CloseParams(table, 1, caches.shape.rows)))
        for arm, cache in caches.layer.caches.items():
            block = DecodeParams(q, self.out[arm], None, self.group, 1, 1 / math.sqrt(caches.shape.dim), 1, cache=cache)
            block.touched[:] = caches.touched(arm, growing=True)
            if appends or (together and arm == "full"):
                block.fresh = fresh
            else:
                closing = arm == "elastic" and closes and caches.policy.closes_newest
                calls.append(Call("append", AppendParams(cache, fresh, closing)))
            block.workspace = workspace_for(backend, [block])
            calls += [Call("decode", block), caches.positions[arm].advance()]
        caches.compress()
        self.step = backend.program(calls, Mode(graph=True))

    def upload(self, values: np.ndarray) -> int:
        words = formats.of(self.dtype).encode(values)
        address = self.backend.allocate(words.nbytes)
        self.backend.write(address, words)
        return address

    def answer(self, arm: str) -> np.ndarray:
        words = self.backend.read(self.out[arm], self.query.shape, formats.of(self.dtype).words)
        return formats.of(self.dtype).decode(words)

    def check_answers(self, tokens: int) -> None:
        for arm in self.out:
            expected = self.caches.attention(self.query, arm, tokens)
            correctness = oracle.check(self.answer(arm), expected, self.dtype)
            assert oracle.passes(correctness), (arm, tokens, correctness)


def grow(backend: Backend, changes: dict, start: int, steps: int, together: bool, policy: Policy | None = None) -> None:
    """Tokens appended one by one, the ring wrapping and groups closing, against the policy on all tokens so far."""
    growing = GrowingCaches(backend, changes, start, steps, together, policy=policy)
    for token in range(start, start + steps):
        for address in growing.out.values():
            backend.fill_bytes(address, growing.query.size * formats.of(growing.dtype).vector_bytes(1), POISON)
        backend.seconds(growing.step)
        growing.check_answers(token + 1)
        growing.caches.check_elastic(token + 1)
    for positions in growing.caches.positions.values():
        assert backend.read(positions.at.tokens, (1,), np.int32)[0] == start + steps
    k, v = growing.caches.layer.read_full(0, growing.caches.shape.rows, start + steps)
    np.testing.assert_array_equal(k, growing.caches.k)
    np.testing.assert_array_equal(v, growing.caches.v)


GROWING = {
    "plain": {},
    "grouped queries with a bias": {"heads": 12, "bias": "log_count"},
    "no window, no sinks": {"window": 0, "sinks": 0, "compress": 3},
    "no window, groups of one": {"window": 0, "compress": 1, "cache_dtype": "int8", "bias": "log_count"},
    "int8, biased": {"window": 5, "compress": 7, "cache_dtype": "int8", "bias": "log_count"},
    "every token fp8": {"window": 3, "compress": 1, "cache_dtype": "fp8_e4m3", "dtype": "bf16"},
    "fp8 of dim 128, no window": {"dim": 128, "window": 0, "compress": 3, "cache_dtype": "fp8_e4m3", "heads": 30},
    "every token int4": {"window": 3, "compress": 1, "cache_dtype": "int4", "dtype": "bf16"},
    "mean of fp32": {"window": 6, "compress": 4, "anchor": "mean", "dtype": "fp32"},
    "mean of int4, several tiles": {"window": 6, "compress": 5, "anchor": "mean", "cache_dtype": "int4", "dim": 128,
                                    "heads": 30},
    "grouped queries of dim 128": {"dim": 128, "heads": 30, "anchor": "last"},
    "int8 of dim 128": {"dim": 128, "cache_dtype": "int8", "heads": 3},
    "int4 of dim 256": {"dim": 256, "cache_dtype": "int4", "anchor": "first"},
    "dim 80, grouped": {"dim": 80, "heads": 9, "cache_dtype": "int8", "dtype": "bf16"},
    "sinks alone": {"sinks": 200},
    "int8 keys, int4 values, biased": {"key_dtype": "int8", "value_dtype": "int4", "window": 5, "bias": "log_count"},
    "exact keys, fp8 values, no window": {"value_dtype": "fp8_e4m3", "window": 0, "compress": 3, "dtype": "bf16"},
    "int4 keys, exact values, grouped": {"key_dtype": "int4", "compress": 1, "window": 3, "dim": 96, "heads": 30},
    "smallest keys": {"anchor": "key_norm", "window": 5, "compress": 3, "cache_dtype": "int8"},
    "smallest keys, no window": {"anchor": "key_norm", "window": 0, "compress": 6},
    "a head of three keeps all": {"policy": "head_budget", "full_heads": 1, "window": 7},
    "no head keeps all": {"policy": "head_budget", "full_heads": 0, "sinks": 0, "window": 13, "dim": 128, "heads": 30},
    "every head keeps all": {"policy": "head_budget", "full_heads": 3},
    "heads with a window never full": {"policy": "head_budget", "full_heads": 2, "window": 300, "dtype": "fp32"},
}  # fmt: skip
