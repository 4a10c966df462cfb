"""Policies of any number of segments, whose KV heads may keep different slots: tables, NumPy reference, CPU kernels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from kernel_caches import Caches, case_of

from elastickv import anchors, formats
from elastickv.cache.compact import anchors_right, compact, layout, nothing_compressed
from elastickv.policies import Policy
from elastickv.policies.base import Live, Run, Segment
from elastickv.policies.head_budget import HeadBudget


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


def budget(**values) -> HeadBudget:
    return HeadBudget({"full_heads": 1, "sinks": 2, "window": 5} | values, *["fp16"] * 3)


def tiers(anchor: str = "value_norm", **values) -> Tiers:
    return Tiers({"sinks": 2, "window": 5, "recent": 7, "anchor": anchor} | values, "fp16", "int4", "int4")


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


CHANGES = [{}, {"dtype": "bf16", "heads": 12, "batch": 2}, {"dtype": "fp32", "dim": 80}, {"dim": 128}]


@pytest.mark.parametrize(
    ("tokens", "anchor", "changes"),
    [
        *((tokens, "value_norm", changes) for tokens in (1, 3, 14, 301) for changes in CHANGES),
        *((301, anchor, CHANGES[0]) for anchor in anchors.every() if anchor != "value_norm"),
    ],
)
def test_kernels_read_and_make_any_number_of_segments(backend, tokens, anchor, changes):
    case = case_of(seq=tokens, cache_dtype="int4", **changes)
    values = {"sinks": 2, "window": 20, "recent": 70, "anchor": anchor}
    caches = Caches(backend, case, policy=Tiers(values, case.dtype, "int4", "int4"))
    caches.compress()
    caches.check_both()
