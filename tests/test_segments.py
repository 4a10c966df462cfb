"""Policies of any number of segments, whose KV heads may keep different slots: tables, NumPy reference, CPU kernels."""

from __future__ import annotations

import itertools
from typing import ClassVar

import numpy as np
import pytest
from kernel_caches import Caches, case_of

from elastickv import anchors, formats
from elastickv.cache.compact import anchors_right, compact, layout, nothing_compressed
from elastickv.device.cpu import CpuBackend
from elastickv.policies import Policy
from elastickv.policies.base import Live, Run, Segment
from elastickv.policies.grouped import Grouped
from elastickv.policies.head_budget import HeadBudget
from elastickv.workloads.positions import extent

CAPACITY = 40


class Tiers(Policy):
    """Sinks and the last `window` tokens exact, the `recent` ones before them as int8, groups of two of the rest."""

    NAME, MEANING, KEYS = "tiers", "for these tests", dict.fromkeys(("sinks", "window", "recent", "anchor"))
    EXACT, FINE, COARSE = 0, 1, 2
    finer: ClassVar[str] = "int8"

    def _ends(self, tokens: int) -> list[int]:
        """Where groups of two end, and the finer tier."""
        window = max(min(self.values["sinks"], tokens), tokens - self.values["window"])
        recent = max(min(self.values["sinks"], tokens), window - self.values["recent"])
        return [recent - (recent - min(self.values["sinks"], tokens)) % 2, window]

    def segments(self, capacity: int) -> tuple[Segment, ...]:
        return (
            Segment("exact", self.dtype, self.dtype, min(capacity, self.values["sinks"] + self.values["window"])),
            Segment("fine", self.finer, self.finer, min(capacity, self.values["recent"] + 1)),
            Segment("coarse", self.key_format, self.value_format, capacity // 2),
        )

    def live(self, head: int, tokens: int, capacity: int) -> tuple[Live, ...]:
        slots = [0, 0, 0]
        for run in self.runs(head, tokens, capacity):
            slots[run.segment] += run.slots
        return tuple(map(Live, slots))

    def runs(self, head: int, tokens: int, capacity: int) -> tuple[Run, ...]:
        sinks, (coarse, fine) = min(self.values["sinks"], tokens), self._ends(tokens)
        return (
            Run(self.EXACT, 0, sinks, 1, 0),
            Run(self.COARSE, 0, (coarse - sinks) // 2, 2, sinks),
            Run(self.FINE, 0, fine - coarse, 1, coarse),
            Run(self.EXACT, sinks, tokens - fine, 1, fine),
        )


def grouped(**values) -> Grouped:
    return Grouped({"compress": 3, "sinks": 2, "window": 5, "anchor": "mean", "bias": "none"} | values, *["fp16"] * 3)


def budget(**values) -> HeadBudget:
    return HeadBudget({"full_heads": 1, "sinks": 2, "window": 5} | values, *["fp16"] * 3)


def tiers(anchor: str = "value_norm", **values) -> Tiers:
    return Tiers({"sinks": 2, "window": 5, "recent": 7, "anchor": anchor} | values, "fp16", "int4", "int4")


POLICIES = {
    **{
        f"grouped {compress} {window} {sinks}": grouped(compress=compress, window=window, sinks=sinks)
        for compress, window, sinks in itertools.product((1, 2, 3, 7), (0, 1, 5), (0, 2, 50))
    },
    **{
        f"budget {full} {sinks} {window}": budget(full_heads=full, sinks=sinks, window=window)
        for full, sinks, window in itertools.product((0, 1), (0, 2, 50), (1, 5, 60))
    },
    "tiers": tiers(),
}
Held = dict[tuple[int, int], tuple[int, ...]]  # tokens of each segment and slot


def built(policy: Policy, head: int, tokens: int) -> Held:
    """What a cache built of a full one holds."""
    return {
        (run.segment, place): tuple(range(run.token + i * run.each, run.token + (i + 1) * run.each))
        for run in policy.runs(head, tokens, CAPACITY)
        for i, place in enumerate(run.places())
    }


def close(policy: Policy, head: int, tokens: int, held: Held) -> None:
    """The group that the next token completes becomes a slot."""
    made = policy.closing(head, tokens, CAPACITY)
    if made.count:
        group = [held[0, made.head + (made.first + i) % made.ring] for i in range(made.count)]
        held[made.segment, made.slot] = tuple(itertools.chain.from_iterable(group))
        assert held[made.segment, made.slot] == tuple(range(made.token, made.token + made.count))


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("head", [0, 1])
@pytest.mark.parametrize("start", [1, 2, 6, 13, 29])
def test_live_slots_are_those_of_a_cache_that_is_built_and_of_one_that_grew(name, head, start):
    policy, held = POLICIES[name], built(POLICIES[name], head, start)
    for tokens in range(start, CAPACITY):
        expected = built(policy, head, tokens)
        live = policy.live(head, tokens, CAPACITY)
        for number, (one, segment) in enumerate(zip(live, policy.segments(CAPACITY), strict=True)):
            assert {place for of, place in expected if of == number} == set(one.order())
            assert one.slots == len(one.order())
            assert max([place + 1 for place in one.order()], default=0) <= extent(one) <= segment.slots
        if name == "tiers":  # it does not grow
            continue
        assert {place: held[place] for place in expected} == expected
        if not policy.closes_newest:
            close(policy, head, tokens, held)
        held[0, live[0].next] = (tokens,)
        if policy.closes_newest:
            close(policy, head, tokens, held)


@pytest.mark.parametrize("name", POLICIES)
def test_as_many_tokens_as_the_period_says_close_one_group_or_none(name):
    policy = POLICIES[name]
    closes = [policy.closing(0, tokens, CAPACITY).count > 0 for tokens in range(CAPACITY)]
    within = [sum(closes[first : first + policy.period]) for first in range(10, CAPACITY - policy.period)]
    assert set(within) == ({1} if any(closes) else {0})


def vectors(rows: int, tokens: int, seed: int) -> np.ndarray:
    return formats.of("fp16").rounded(np.random.default_rng(seed).normal(size=(rows, tokens, 64)).astype(np.float32))


def test_heads_with_fewer_slots_are_padded():
    k, v = vectors(4, 20, 1), vectors(4, 20, 2)
    held = compact(k, v, budget(), heads=[0, 1, 0, 1])
    assert held.counts.tolist() == [20, 7, 20, 7]
    assert held.kept[0].tolist() == [*range(20)]
    assert held.kept[3].tolist() == [0, 1, *range(15, 20), *[-1] * 13]
    assert (held.k[2] == k[2]).all()
    assert (held.v[1, :7] == v[1, held.kept[1, :7]]).all()
    assert not held.v[1, 7:].any()
    assert not held.segment.any()


def test_slots_of_every_segment_are_stored_in_its_format_and_stand_in_token_order():
    k, v = vectors(2, 30, 1), vectors(2, 30, 2)
    held = compact(k, v, tiers(anchor="last"))
    # Of 30: two sinks, 8 groups of two, then the finer tier from 18 on, the window from 25 on.
    assert held.kept[0].tolist() == [0, 1, *range(3, 19, 2), *range(18, 30)]
    assert held.segment[1].tolist() == [0, 0, *[2] * 8, *[1] * 7, *[0] * 5]
    for number, name in enumerate(("fp16", "int8", "int4")):
        here = held.segment[0] == number
        exact = v[:, held.kept[0, here]]
        words, scale = formats.of(name).store(exact)
        np.testing.assert_array_equal(held.v[:, here], formats.of(name).load(words, scale))
        np.testing.assert_array_equal(held.v_scale[:, here], scale)


def test_a_choice_of_the_device_is_right_within_its_rules_tolerance_alone():
    policy, k, v = tiers(), vectors(1, 30, 1), vectors(1, 30, 2)
    kept = compact(k, v, policy).kept
    assert anchors_right(k, v, policy, [0], kept)
    groups = np.flatnonzero(layout(policy.runs(0, 30, 30)).segment == Tiers.COARSE)
    other = kept.copy()
    other[0, groups[0]] = 2 + (kept[0, groups[0]] == 2)
    assert not anchors_right(k, v, policy, [0], other)
    v[0, 3] = -v[0, 2]  # as long as the other: either may represent the group
    assert anchors_right(k, v, policy, [0], other) and anchors_right(k, v, policy, [0], kept)
    other[0, groups[0]] = 5  # of another group
    assert not anchors_right(k, v, policy, [0], other)


def test_nothing_is_compressed_where_every_head_keeps_every_token_as_it_was():
    assert nothing_compressed(budget(full_heads=2), 2, 30)
    assert not nothing_compressed(budget(full_heads=1), 2, 30)
    assert nothing_compressed(budget(full_heads=1), 2, 7)  # no longer than sinks and window
    assert not nothing_compressed(tiers(window=3, recent=40), 1, 30)  # every token kept, but not as it was


@pytest.fixture
def backend(cpu_build):
    backend = CpuBackend(cpu_build / "cpu")
    backend.use_threads(3)
    yield backend
    backend.free_all()


@pytest.mark.parametrize(
    "changes", [{}, {"dtype": "bf16", "heads": 12, "batch": 2}, {"dtype": "fp32", "dim": 80}, {"dim": 128}]
)
@pytest.mark.parametrize("anchor", anchors.every())
@pytest.mark.parametrize("tokens", [1, 3, 14, 301])
def test_kernels_read_and_make_any_number_of_segments(backend, changes, anchor, tokens):
    case = case_of(seq=tokens, cache_dtype="int4", **changes)
    values = {"sinks": 2, "window": 20, "recent": 70, "anchor": anchor}
    caches = Caches(backend, case, policy=Tiers(values, case.dtype, "int4", "int4"))
    caches.compress()
    caches.check_elastic(tokens)
    caches.check_decode("elastic", tokens)


@pytest.mark.parametrize("anchor", ["key_norm", "value_norm"])
def test_of_equal_norms_the_earliest_is_kept_and_a_nan_wins(backend, anchor):
    caches = Caches(backend, case_of(compress=4, anchor=anchor))
    judged = caches.k if anchor == "key_norm" else caches.v
    judged[:, 4:20] = judged[:, 4:5]
    judged[1, 9, 0] = judged[1, 10, 0] = np.nan
    judged[2, 14] *= 0.5 if anchor == "key_norm" else 2
    judged[3, 4:8] = 0
    caches.write_full()
    caches.compress()
    kept = caches.layer.read_kept(0, 4, 101)[:, 4:8]
    assert kept.tolist() == [[4, 8, 12, 16], [4, 9, 12, 16], [4, 8, 14, 16], [4, 8, 12, 16]]
