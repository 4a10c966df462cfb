"""Compares one case with the peers in the worker: checks both kernels, interleaves them and computes the ratio."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from elastickv.cache import bytes_moved, oracle
from elastickv.device.base import Backend, Mode
from elastickv.measure import sampling, statistics
from elastickv.measure.steps import Rotation, choose_loops, rule
from elastickv.models.refusal import Refusal, one_line, status_of
from elastickv.peers import checking, views
from elastickv.peers.base import Inputs, Launch, Peer, elastic_refusal
from elastickv.peers.checking import Answer
from elastickv.peers.runners import Runner
from elastickv.schemas.case import DecodeCase
from elastickv.schemas.parts import Answer as Correctness
from elastickv.schemas.peers import Cache, Comparison, Controls, Entry, Ours, Resolved, Samples
from elastickv.workloads.decode import DecodeWorkload

FEWEST_ROUNDS = 3  # below it not even a range can be stated
SIDES = {"reference": "ours", "candidate": "peer"}  # what the sampler calls the arms of a comparison, and what we do
VIEWS: dict[str, Callable[[DecodeWorkload], Inputs]] = {"full": views.full, "elastic": views.elastic}


class Bench:
    """Our kernel on one case, with everything that all peers share: caches, references, rotations."""

    def __init__(self, backend: Backend, runner: Runner, case: DecodeCase, throttled: Callable[[], str | None]):
        self.backend, self.runner, self.case, self.throttled = backend, runner, case, throttled
        self.workload = DecodeWorkload(backend, case)
        self.graphs = backend.name == "cuda"
        modes = dict.fromkeys(["plain", backend.launch_mode("auto")])
        self.modes = {name: Mode(self.graphs, name == "dependent") for name in modes}
        self.loops = choose_loops(backend, self.workload, case.measure, self.modes["plain"], fixed=False)
        self._ours: dict[tuple[str, str], Rotation] = {}
        self._answers: dict[str, list[Answer]] = {}

    def resolved(self, cache: str, checked_seeds: list[int]) -> Resolved:
        """How a cache's samples are taken."""
        moved = self.workload.traffic[cache].total
        cold = bytes_moved.is_cold(moved, self.workload.layers, self.backend.facts()["last_level_cache_bytes"])
        launches = self.rotation(cache, "plain").launches
        return Resolved(
            layers=self.workload.layers,
            cold=cold,
            launches=launches,
            graphs=self.graphs,
            checked_seeds=checked_seeds,
        )

    def rotation(self, cache: str, mode: str) -> Rotation:
        """Our launches over all layers, checked. Raises Refusal when our own answer is wrong."""
        if (cache, mode) not in self._ours:
            made = Rotation(
                self.runner.ours,
                lambda i: self.workload.call(cache, i),
                self.loops,
                self.workload.period,
                self.modes[mode],
            )
            entry = self._check_ours(cache, made)
            if not oracle.passes(entry):
                raise Refusal("failed", f"our own kernel ({cache} cache, {mode}) is wrong: {checking.fault(entry)}")
            self._ours[cache, mode] = made
        return self._ours[cache, mode]

    @property
    def ends(self) -> set[int]:
        """The first and the last layer."""
        return {0, self.workload.layers - 1}

    def answers(self, cache: str, layers: Iterable[int]) -> list[Answer]:
        """The references of these layers, of what caches and queries hold now."""
        return [Answer(layer, *self.workload.reference(cache, layer)) for layer in sorted(layers)]

    def entry(self, answers: Sequence[Answer], wrote: Callable[[int], np.ndarray]) -> Correctness:
        """The `correctness` entry of outputs by layer, whatever their shape."""
        return oracle.worst(
            [
                oracle.check(wrote(layer).reshape(reference.shape), reference, self.case.dtype, anchors, [layer])
                for layer, reference, anchors in answers
            ]
        )

    def _check_ours(self, cache: str, rotation: Rotation) -> Correctness:
        if cache not in self._answers:  # of the inputs that are timed, the same for every peer
            self._answers[cache] = self.answers(cache, self.ends)
        for layer in self.ends:
            self.workload.poison(cache, layer)
        rotation.replay()
        self.backend.synchronize()
        return self.entry(self._answers[cache], lambda layer: self.workload.answer(cache, layer))

    def peer_rotation(self, launch_of: Callable[[int], Launch]) -> Rotation:
        """A peer's launches in the same rotation."""
        count = self.workload.layers
        return Rotation(
            self.runner, lambda i: launch_of(i % count), self.loops, self.workload.period, self.modes["plain"]
        )


def beside(bench: Bench, peer: Peer) -> Entry:
    """A peer's entry for one case: status and reason of its full cache, and what each cache came to."""
    refused = peer.supports(bench.case, bench.backend.name)
    full = without("unsupported", refused) if refused else _cache(bench, peer, "full")
    if full.status not in ("ok", "noisy"):
        # A wrong answer is one of the full cache: of the elastic one there is none to show.
        elastic = without("failed" if full.status == "incorrect" else full.status, full.reason)
    else:
        refused = elastic_refusal(bench.case)
        elastic = without("unsupported", refused) if refused else _cache(bench, peer, "elastic")
    return Entry(case=bench.case, status=full.status, reason=full.reason, full=full, elastic=elastic)


def without(status: str, reason: str, correctness: Correctness | None = None) -> Cache:
    """The entry of a cache without figures."""
    return Cache(status=status, reason=reason, correctness=correctness)


def _cache(bench: Bench, peer: Peer, cache: str) -> Cache:
    """One cache with one peer. Exceptions become a status; after errors of the device, the worker ends."""
    try:
        with peer.session():
            return _compared(bench, peer, cache)
    except checking.Wrong as wrong:
        return without("incorrect", str(wrong), wrong.correctness)
    except Refusal as refusal:
        return without(refusal.status, str(refusal))
    except Exception as error:
        bench.backend.synchronize()  # raises when the context is lost: then nothing here can be measured any more
        return without(status_of(error), one_line(error))
    finally:
        _free(bench)


def _free(bench: Bench) -> None:
    """Returns the memory of the peer's graphs to the device."""
    if bench.graphs:
        import torch

        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


def _compared(bench: Bench, peer: Peer, cache: str) -> Cache:
    """Checked on other inputs than those that are timed, timed, and checked once more on new queries."""
    check = checking.Check(bench, cache)
    check.refill()
    rotation = bench.peer_rotation(peer.prepare(VIEWS[cache](bench.workload)))
    check.run(rotation, bench.ends | check.any_layer())
    del rotation
    _free(bench)
    bench.workload.refill(bench.case.seed)
    rotation = bench.peer_rotation(peer.prepare(VIEWS[cache](bench.workload)))
    compared = {mode: _interleaved(bench, bench.rotation(cache, mode), rotation) for mode in bench.modes}
    stored = check.stores_answers(rotation)
    correctness = check.run(rotation, check.any_layer())
    moved = bench.workload.traffic[cache].total
    status, reason = _quality(bench, compared, moved)
    if stored:
        status, reason = "failed", stored
    entry = without(status, reason, correctness)
    if status == "failed":
        return entry
    ours = Ours(plain=compared["plain"], dependent=compared.get("dependent"))
    resolved = bench.resolved(cache, check.seeds)
    return entry.model_copy(update={"bytes": moved, "resolved": resolved, "ours": ours})


def _interleaved(bench: Bench, ours: Rotation, peer: Rotation) -> Comparison:
    """Rounds (ours, peer, both again) in rotating order, by the sampler of every measurement."""
    settings = bench.case.measure
    take = sampling.pair(ours.sample, peer.sample)
    when = rule(settings)
    sampling.warm_up(take, when)
    samples = sampling.interleave(take, when, disturbed=bench.throttled)
    taken, limit = len(samples), settings.max_seconds
    if taken < FEWEST_ROUNDS:
        dropped = f", {len(samples.dropped)} dropped ({samples.dropped[-1].reason})" if samples.dropped else ""
        raise Refusal("failed", f"{taken} rounds in {limit} s{dropped}: raise baselines.peers.max_seconds")
    return figures(samples, settings.truncate, settings.confidence)


def figures(samples: sampling.Samples, truncate: float, confidence: float) -> Comparison:
    """A comparison out of its rounds, in which ours is the reference and the peer the candidate."""
    taken = {side: samples.of(series) for series, side in SIDES.items()}
    return Comparison(
        peer=statistics.arm_statistics(taken["peer"], truncate),
        ours=statistics.arm_statistics(taken["ours"], truncate),
        ratio=statistics.median_interval(1 / samples.ratios(), confidence),
        controls=Controls(**{SIDES[series]: control for series, control in samples.controls(confidence).items()}),
        samples=samples.named(SIDES, Samples),
    )


def _quality(bench: Bench, compared: dict[str, Comparison], moved: int) -> tuple[str, str | None]:
    """`ok`, `noisy` or `failed`, as for a measurement: controls are the judge's."""
    peak = bench.backend.facts().get("peak_gbps")
    for mode, one in compared.items():
        for side, arm in {"peer": one.peer, "ours": one.ours}.items():
            reached = bytes_moved.gbps(moved, arm.median_us)
            if peak and reached > peak * bytes_moved.BEYOND_PEAK:
                return "failed", (
                    f"{side}, {mode}: {arm.median_us:.3g} us for {moved} bytes are {reached:.0f} GB/s, more than the "
                    f"device's peak of {peak:.0f}: not all of the cache was read, or it was not cold"
                )
        count, fewest = len(one.samples.order), statistics.FEWEST_FOR_BOOTSTRAP
        if count < fewest:
            return "noisy", f"{count} rounds are too few for an interval ({fewest}): raise baselines.peers.max_seconds"
    return "ok", None
