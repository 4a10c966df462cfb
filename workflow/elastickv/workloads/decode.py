"""The `decode` workload: attention of one new token over a full cache and its elastic counterpart."""

from __future__ import annotations

import math

import numpy as np

from elastickv import formats
from elastickv.cache import bytes_moved, compact, oracle
from elastickv.device.base import Backend, Call
from elastickv.device.params import (
    AppendParams,
    CloseParams,
    CompressParams,
    DecodeParams,
    FillParams,
    Fresh,
    StreamParams,
)
from elastickv.schemas.case import DecodeCase
from elastickv.schemas.parts import Answer
from elastickv.workloads import rotation
from elastickv.workloads.cache import CacheShape, LayerCaches
from elastickv.workloads.positions import Positions

CHECK_CHUNK_BYTES = 64 << 20
APPEND_POOL = 16


class DecodeWorkload:
    """Rotates over `layers` caches per arm. Inputs are seeded and made on the device; nothing is warm when timed."""

    def __init__(self, backend: Backend, case: DecodeCase):
        self.backend, self.case = backend, case
        self.tokens = case.seq
        self.steps = case.measure.decode_tokens
        self.shape = CacheShape(case, self.tokens + self.steps)
        self.group = case.heads // case.kv_heads
        self.traffic = bytes_moved.decode_traffic(case)
        fitting = rotation.fitting(case, backend.facts()["last_level_cache_bytes"], backend.memory_budget())
        self.layers, self.cold = fitting.layers, fitting.cold
        places = (case.batch, case.kv_heads, self.tokens, self.steps)
        self.positions = {arm: Positions(backend, rule, *places) for arm, rule in self.shape.policies.items()}
        at = {arm: positions.at for arm, positions in self.positions.items()}
        self.caches = [LayerCaches(backend, self.shape, at) for _ in range(self.layers)]
        table = np.frombuffer(b"".join(bytes(cache.elastic) for cache in self.caches), np.uint8)
        self._table = backend.allocate(table.nbytes)
        backend.write(self._table, table)
        self._query_bytes = case.batch * case.heads * self.shape.vector
        self._q = [backend.allocate(self._query_bytes) for _ in range(self.layers)]
        self._out = {arm: [backend.allocate(self._query_bytes) for _ in self._q] for arm in ("full", "elastic")}
        # Two sets of chained outputs: token t writes set t % 2; layer 0 reads the last layer of the other set.
        self._chain = {
            arm: [[backend.allocate(self._query_bytes) for _ in self._q] for _ in range(2)] for arm in self._out
        }
        self._pool = [backend.allocate(APPEND_POOL * self.shape.rows * self.shape.vector) for _ in "kv"]
        self._sink = backend.allocate(256)
        self._pure_out = backend.allocate(self._query_bytes)
        needed = max(  # both bounds of the tokens that a launch may name: splits, so workspaces, depend on it
            backend.decode_workspace(self._decode_params(arm, 0, 0, 0, growing))
            for arm in self._out
            for growing in (False, True)
        )
        self._workspace = backend.allocate(max(needed, 256))
        backend.fill_bytes(self._workspace, max(needed, 256), 0xFF)
        self.refill(case.seed)

    def refill(self, seed: int) -> None:
        """Fills full caches and queries with a seed's values (the case's are timed); builds the elastic caches."""
        self._fill(seed)
        self.restore()

    def refill_queries(self, seed: int) -> None:
        """Fills the queries of `call` alone, in place."""
        self._fill(seed, queries_alone=True)
        self.backend.synchronize()

    def _fill(self, seed: int, queries_alone: bool = False) -> None:
        dtype, of_row = formats.of(self.case.dtype), self.shape.rows * self.shape.dim
        full = [cache.full.segments[0] for cache in self.caches]
        pieces = [
            (address, of_row * self.shape.capacity) for address in [one.k for one in full] + [one.v for one in full]
        ]
        pieces += [(address, self._query_bytes // dtype.vector_bytes(1)) for address in self._q]
        pieces += [(address, of_row * APPEND_POOL) for address in self._pool]
        streams = range(2 * self.layers, 3 * self.layers) if queries_alone else range(len(pieces))
        for stream in streams:
            self.backend.launch(Call("fill", FillParams(*pieces[stream], dtype.number, seed, stream, 0)))

    def restore(self) -> None:
        """Brings counters and elastic caches back to `seq` tokens, and the chain's first query to the seeded one."""
        for arm, positions in self.positions.items():
            positions.restore()
            first = self.backend.read(self._q[0], (self._query_bytes,), np.uint8)
            self.backend.write(self._chain[arm][1][-1], first)
        for layer in range(self.layers):
            self.backend.launch(self.compress_call(layer))
        self.backend.synchronize()

    def compress_call(self, layer: int) -> Call:
        """Builds layer `layer`'s elastic cache from its full one."""
        cache, built = self.caches[layer], self.positions["elastic"]
        source = cache.full.segments[0]
        sizes = self.shape.capacity, built.most_slots
        return Call("compress", CompressParams(cache.elastic, source.k, source.v, built.runs, *sizes))

    def _decode_params(self, arm: str, layer: int, q: int, out: int, growing: bool) -> DecodeParams:
        """growing: a token of the inference cycle is appended, by this launch or by one before it."""
        block = DecodeParams(q, out, getattr(self, "_workspace", 0), self.group, growing)
        block.cache = self.caches[layer].caches[arm]
        appends = growing and self._decode_appends(arm)
        block.scale = 1 / math.sqrt(self.shape.dim)
        block.waits = growing and (layer == 0 or not appends)  # for `close` or `advance`, or for `append`
        for number, slots in enumerate(self.positions[arm].touched(growing)):
            block.touched[number] = slots
        block.fresh = self._fresh(layer) if appends else Fresh()
        return block

    def _decode_appends(self, arm: str) -> bool:
        """Whether a decode appends its token itself; else the token may belong to a group that is closed with it."""
        return not self.shape.policies[arm].closes_newest

    def _fresh(self, layer: int) -> Fresh:
        """The token that a layer appends next."""
        return Fresh(*self._pool, APPEND_POOL, layer)

    def _close_calls(self, arm: str) -> list[Call]:
        """Before a token's first layer: the groups that it completes are closed, in all layers at once."""
        if not (self.positions[arm].closes and self._decode_appends(arm)):
            return []
        return [Call("close", CloseParams(self._table, self.layers, self.shape.rows))]

    def call(self, arm: str, index: int) -> Call:
        """Launch number `index` of an arm (`full` or `elastic`): layer index % layers."""
        layer = index % self.layers
        return Call("decode", self._decode_params(arm, layer, self._q[layer], self._out[arm][layer], False))

    def pure_call(self, arm: str, index: int) -> Call:
        """A pure pass with the arm's reads and writes over the arm's own cold bytes."""
        arena = self.caches[index % self.layers].arenas[arm]
        moved = self.traffic[arm]
        read = min(moved.read, arena.size) // 16 * 16
        return Call("stream", StreamParams(arena.address, read, self._pure_out, moved.write // 16 * 16, self._sink))

    @property
    def period(self) -> int:
        """Launches after which the rotation repeats."""
        return self.layers

    # -- the inference cycle -------------------------------------------------------------------------------------------

    @property
    def repeats(self) -> int:
        """Tokens after which what a step does repeats."""
        return self.shape.policy.period

    def cycle_calls(self, arm: str, parity: int, attend: bool = True) -> list[Call]:
        """One token through all layers: groups closed, then in each layer append, attend; an output is the next query.

        attend: if False, only closing groups and appending, launched separately.
        """
        calls, appends = self._close_calls(arm), self._decode_appends(arm)
        query = self._chain[arm][1 - parity][-1]
        for layer in range(self.layers):
            out = self._chain[arm][parity][layer]
            if not (attend and appends):
                closes = self.positions[arm].closes and not appends
                block = AppendParams(self.caches[layer].caches[arm], self._fresh(layer), closes)
                calls.append(Call("append", block))
            if attend:
                calls.append(Call("decode", self._decode_params(arm, layer, query, out, True)))
            query = out
        return [*calls, self.positions[arm].advance()]

    def chain_outputs(self, arm: str, parity: int) -> list[tuple[int, int]]:
        """Address and bytes of each layer's output for tokens of one parity."""
        return [(address, self._query_bytes) for address in self._chain[arm][parity]]

    def check_cycle(self) -> dict[str, Answer]:
        """Correctness of a finished cycle's last token: elastic anchors against the policy, answers against float64."""
        tokens, last = self.tokens + self.steps, (self.steps - 1) % 2
        results = {}
        for arm in ("full", "elastic"):
            entries = []
            for layer in sorted({0, self.layers - 1}):
                query = self._chain[arm][last][layer - 1] if layer else self._chain[arm][1 - last][-1]
                entries.append(self._check(arm, layer, query, self._chain[arm][last][layer], tokens))
            results[arm] = oracle.worst(entries)
        return results

    # -- correctness ---------------------------------------------------------------------------------------------------

    def check(self) -> dict[str, Answer]:
        """Correctness per arm on the first and the last layer, outputs poisoned with NaN beforehand."""
        results = {}
        layers = sorted({0, self.layers - 1})
        for arm in ("full", "elastic"):
            entries = []
            for layer in layers:
                self.poison(arm, layer)
                self.backend.launch(self.call(arm, layer))
                self.backend.synchronize()
                entries.append(self._check(arm, layer, self._q[layer], self._out[arm][layer], self.tokens))
            results[arm] = oracle.worst(entries)
        return results

    def query(self, layer: int) -> int:
        """Address of the query that `call` reads, [batch, heads, dim]."""
        return self._q[layer]

    def poison(self, arm: str, layer: int) -> None:
        """Fills the output that `call` writes with NaN."""
        self.backend.fill_bytes(self._out[arm][layer], self._query_bytes, 0xFF)

    def answer(self, arm: str, layer: int) -> np.ndarray:
        """What `call` wrote, float32 [rows, group, dim]; rows = batch * kv_heads."""
        return self._vectors(self._out[arm][layer])

    def reference(self, arm: str, layer: int) -> tuple[np.ndarray, str | None]:
        """What `call` should write, float64 [rows, group, dim], and whether the device's anchors are `right`."""
        return self._reference(arm, layer, self._vectors(self._q[layer]), self.tokens)

    def _vectors(self, address: int) -> np.ndarray:
        dtype = self.case.dtype
        shape = (self.shape.rows, self.group, self.shape.dim)
        return formats.of(dtype).decode(self.backend.read(address, shape, formats.of(dtype).words))

    def _chunks(self) -> list[tuple[int, int]]:
        rows = max(1, CHECK_CHUNK_BYTES // (self.shape.capacity * self.shape.dim * 4))
        return [(row, min(rows, self.shape.rows - row)) for row in range(0, self.shape.rows, rows)]

    def _check(self, arm: str, layer: int, query: int, out: int, tokens: int) -> Answer:
        reference, anchors = self._reference(arm, layer, self._vectors(query), tokens)
        return oracle.check(self._vectors(out), reference, self.case.dtype, anchors, [layer])

    def _reference(self, arm: str, layer: int, q: np.ndarray, tokens: int) -> tuple[np.ndarray, str | None]:
        reference = np.empty(q.shape, np.float64)
        anchors_right = True
        for row, rows in self._chunks():
            k, v = self.caches[layer].read_full(row, rows, tokens)
            some = slice(row, row + rows)
            if arm == "full":
                reference[some] = oracle.decode_attention(q[some], k, v)
                continue
            heads, kept = self.shape.heads(row, rows), self.caches[layer].read_kept(row, rows, tokens)
            anchors_right &= compact.anchors_right(k, v, self.shape.policy, heads, kept)
            held = compact.compact(k, v, self.shape.policy, heads, kept if anchors_right else None, self.shape.states)
            reference[some] = compact.attention(q[some], held, heads, self.shape.segments["elastic"], self.shape.states)
        return reference, None if arm == "full" else "right" if anchors_right else "wrong"

    def tensors(self) -> dict[str, np.ndarray]:
        """Layer 0 for `--save-tensors`: shapes and names as in the README."""
        self.restore()  # an inference cycle leaves its tokens behind
        case, rows, tokens = self.case, self.shape.rows, self.tokens
        heads = (case.batch, case.heads, case.dim)
        by_row = (case.batch, case.kv_heads, -1)
        cache, kv_heads = self.caches[0], self.shape.heads(0, rows)
        k, v = cache.read_full(0, rows, tokens)
        kept = cache.read_kept(0, rows, tokens)
        held = compact.compact(k, v, self.shape.policy, kv_heads, kept, self.shape.states)
        elastic_k, k_scale = cache.read_elastic("k", 0, rows, tokens)
        elastic_v, v_scale = cache.read_elastic("v", 0, rows, tokens)
        vectors = {"k": k, "v": v, "elastic_k": elastic_k, "elastic_v": elastic_v}
        saved = {name: x.reshape(case.batch, case.kv_heads, -1, case.dim) for name, x in vectors.items()}
        saved["q"] = self._vectors(self._q[0]).reshape(heads)
        saved["kept"], saved["bias"] = held.kept.reshape(by_row), held.bias.reshape(by_row)
        saved["counts"] = held.counts.reshape(by_row[:2])
        middle = held.segment > 0
        alike = (middle == middle[0]).all() and (held.counts == held.counts[0]).all()
        saved["middle"] = middle[0] if alike else middle.reshape(by_row)
        for name, scale, scaled in zip(("k_scale", "v_scale"), (k_scale, v_scale), self.shape.scaled, strict=True):
            if scaled:
                saved[name] = scale.reshape(by_row)
        for (number, field), state in self.shape.states.items():
            saved[field if number == 1 else f"{field}_{number}"] = state
        for arm in ("full", "elastic"):
            saved[f"{arm}_out"] = self._vectors(self._out[arm][0]).reshape(heads)
        return saved


WORKLOAD = DecodeWorkload
