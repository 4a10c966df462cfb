"""Records of peers out of made-up rounds, as a run would leave them."""

from __future__ import annotations

from typing import Any

import numpy as np
from results_folder import example

from elastickv import peers
from elastickv.cache import bytes_moved
from elastickv.measure import sampling
from elastickv.peers import comparison, record
from elastickv.schemas import config as keys
from elastickv.schemas.case import case_of

ROUNDS = 24


def samples(ours_us: float, peer_us: float) -> sampling.Samples:
    """Rounds that scatter by a thousandth around these medians; no series is a copy of another."""
    made, rng = sampling.Samples(), np.random.default_rng([int(1000 * ours_us), int(1000 * peer_us)])
    centres = {"reference": ours_us, "candidate": peer_us, "reference_again": ours_us, "candidate_again": peer_us}
    for series, centre in centres.items():
        scatter = rng.uniform(1e-5, 1e-3, ROUNDS // 2 - 1)
        times = centre * (1 + np.concatenate([scatter, -scatter, [0, 0]]))
        made.us[series] = rng.permutation(times).tolist()
    made.order = [list(sampling.ORDERS[index % len(sampling.ORDERS)]) for index in range(ROUNDS)]
    return made


def figures(ours_us: float, peer_us: float) -> dict[str, Any]:
    """A comparison of rounds with these medians."""
    return comparison.figures(samples(ours_us, peer_us), 5, 0.99).model_dump(mode="json")


def correctness(error: float = 2e-4) -> dict[str, Any]:
    """A right answer of fp16."""
    return {
        "reference": "float64", "max_abs_error": error, "relative_error": error, "tolerance": 1e-3, "finite": True,
        "written": True, "anchors": None, "layers_checked": [0, 11],
    }  # fmt: skip


def cache(
    case: dict[str, Any], arm: str, peer_us: float, plain_us: float, dependent_us: float | None
) -> dict[str, Any]:
    """The entry of one cache with figures."""
    compared = {"plain": figures(plain_us, peer_us), "dependent": None}
    if dependent_us:
        compared["dependent"] = figures(dependent_us, peer_us)
    return {
        "status": "ok",
        "reason": None,
        "correctness": correctness(),
        "bytes": bytes_moved.traffic(case_of(case))[arm].total,
        "resolved": {"layers": 12, "cold": True, "launches": 64, "graphs": True, "checked_seeds": [7, 8]},
        "ours": compared,
    }


def entry(case: dict[str, Any], peer_us: float, plain_us: float, dependent_us: float | None = None) -> dict[str, Any]:
    """A case whose full cache has figures; no peer takes the elastic one."""
    full = cache(case, "full", peer_us, plain_us, dependent_us)
    elastic = comparison.without("unsupported", "no such slots").model_dump(mode="json")
    return {"status": "ok", "reason": None, "full": full, "elastic": elastic}


def peer_record(name: str, entries: dict[str, dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """The record of a peer, of entries by the name of an example record, whose case, device and build they take."""
    peer, about = peers.load(name), example(next(iter(entries)))
    library = peer.needs[0]
    settings = keys.Peers(reps=60, max_seconds=10)
    head = {
        "peer": name,
        "times": peer.times,
        "file": None,
        "backend": about["resolved"]["backend"],
        "settings": {"reps": settings.reps, "max_seconds": settings.max_seconds},
        "library": {"name": library, "version": "2.13.0"},
        **{key: about[key] for key in ("device", "software", "build", "started", "ended")},
        **changes,
    }
    measured = {case: record.for_peers(case_of(example(case)["case"]), settings) for case in entries}
    cases = [record.case_entry(measured[case], content) for case, content in entries.items()]
    return record.compose(head, cases).model_dump(mode="json")
