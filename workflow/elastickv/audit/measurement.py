"""Checks that a measurement record is consistent: recomputes every derived figure from its raw samples."""

from __future__ import annotations

import statistics
from typing import Any

from elastickv.audit import (
    correctness,
    cycle,
    efficiency,
    energy,
    intervals,
    policy,
    processes,
    rates,
    series,
    stopping,
    sustained,
    traffic,
)
from elastickv.audit.finding import About

COLD = 4  # times the last-level cache that a rotation has to cover
MOST_LAYERS = 256
FEWEST_GRAPH_LAUNCHES = 20
ARMS = ("full", "elastic")


def check(about: About, record: dict[str, Any]) -> None:
    """Checks a record that matches its schema."""
    for taken in (policy.taken_from(record["case"]), traffic.taken_from(record["case"])):
        if taken:
            about.note(taken)
    rates.times(about, record)
    with about.recomputing("correctness"):
        correctness.check(about, record)
    bytes_moved = traffic.moved(record["case"])
    if record.get("bytes"):
        with about.recomputing("bytes"):
            _bytes(about, record["bytes"], bytes_moved)
    if record["status"] in ("ok", "noisy"):
        stated(about, record)
        with about.recomputing("samples"):
            if _samples(about, record) and record["samples"]["full_us"]:
                series.check(about, "samples", series.of(record["samples"]))
                _figures(about, record, bytes_moved)


def stated(about: About, record: dict[str, Any]) -> None:
    """A measured record states its device's state, or why it cannot: what cautions are made of."""
    for name in ("machine", "clocks", "throttling", "power", "energy"):
        about.require(bool(record.get(name)), name, "nothing", "readings, or the reason why there are none")


def _figures(about: About, record: dict[str, Any], bytes_moved: traffic.Moved) -> None:
    """Each topic by itself, so that what cannot be recomputed hides no other."""
    with about.recomputing("resolved"):
        _resolved(about, record, bytes_moved)
    with about.recomputing("efficiency"):
        efficiency.check(about, record, bytes_moved)
    topics = {"statistics": _statistics, "inference_cycle": cycle.check, "processes": processes.check}
    topics |= {"sustained": sustained.check, "resolved.stopped": stopping.check}
    for topic, recompute in (topics | {"energy": energy.check, "machine": energy.undisturbed}).items():
        with about.recomputing(topic):
            recompute(about, record)


def _bytes(about: About, found: dict[str, Any], expected: traffic.Moved) -> None:
    """Totals and the ceilings that follow from bytes alone."""
    figures = {
        "full": expected.full,
        "elastic": expected.elastic,
        "ceiling": expected.full / expected.elastic,
        "ceiling_slots": expected.full / expected.slots_only,
        "ceiling_bits": expected.slots_only / expected.elastic,
    }
    about.same("bytes", {key: found.get(key) for key in figures}, figures)


def _samples(about: About, record: dict[str, Any]) -> bool:
    """Whether the raw samples are complete; otherwise nothing can be computed from them."""
    samples = record["samples"]
    taken = [name for name in samples if name.endswith("_us")]
    counts = {name.removesuffix("_us"): len(samples[name]) for name in taken} | {"order": len(samples["order"])}
    whole = about.require(len(set(counts.values())) == 1, "samples", counts, "as many of each arm, and their order")
    wanted = sorted(name.removesuffix("_us") for name in taken)
    for index, order in enumerate(samples["order"]):
        about.require(sorted(order) == wanted, f"samples.order.{index}", order, f"each of {wanted} once")
    _rounds(about, record)
    if counts["order"] == 0:  # all were dropped
        about.require(not record.get("statistics"), "statistics", "figures", "null: there are no samples")
    about.same("throttling.dropped_rounds", record["throttling"].get("dropped_rounds"), len(samples["dropped"]))
    return whole


def _rounds(about: About, record: dict[str, Any]) -> None:
    """One reading for each kept round, in the order of time; how many of these ended under the power cap."""
    rounds, stated = record["samples"]["rounds"], record["throttling"].get("power_capped_rounds")
    counts, kept = {name: len(values) for name, values in rounds.items()}, len(record["samples"]["order"])
    about.require(set(counts.values()) <= {kept}, "samples.rounds", counts, f"{kept} of each, as many as rounds")
    about.require(
        rounds["seconds"] == sorted(rounds["seconds"]), "samples.rounds.seconds", "not ascending", "ascending"
    )
    capped = rounds.get("power_capped")
    expected = None if capped is None else capped.count(True)
    about.same("throttling.power_capped_rounds", stated, expected)


def _resolved(about: About, record: dict[str, Any], bytes_moved: traffic.Moved) -> None:
    """Compares the parameters that were used with the case's limits and the samples."""
    case, used, settings = record["case"], record["resolved"], record["case"]["measure"]
    fixed = used.get("fixed", [])
    samples = record["samples"]
    taken = len(samples["full_us"])
    about.same("resolved.reps", used["reps"], taken)
    attempts = {"reps": taken + len(samples["dropped"]), "warmup": used["warmup"], "inner_loops": used["inner_loops"]}
    least = {"reps": 1, "warmup": 0, "inner_loops": FEWEST_GRAPH_LAUNCHES if used["graphs"] else 1}
    if used["backend"] == "cuda":
        _whole_rotations(about, used, attempts.pop("inner_loops"), settings["inner_loops"])
    for key, count in attempts.items():
        most = max(settings[key], least[key])
        if key in fixed:
            about.same(f"resolved.{key}", count, settings[key])
        else:
            about.require(count <= most, f"resolved.{key}", count, f"at most {most}")
    if used["stopped"] == "reps":
        about.same("resolved.stopped", attempts["reps"], settings["reps"])
    if record["status"] == "ok":
        fewest = intervals.FEWEST
        about.require(taken >= fewest, "status", f"ok with {taken} rounds", f"noisy: an interval takes {fewest}")
    for key in ("backend", "launch"):
        if case[key] != "auto":
            about.same(f"resolved.{key}", used[key], case[key])
    cache = record["device"].get("last_level_cache_bytes")
    if cache:
        wanted = min(-(-COLD * cache // bytes_moved.elastic) + 1, MOST_LAYERS)
        about.require(1 <= used["layers"] <= wanted, "resolved.layers", used["layers"], f"1 to {wanted}")
        about.same("resolved.cold", used["cold"], (used["layers"] - 1) * bytes_moved.elastic >= COLD * cache)
    distance = {arm: (used["layers"] - 1) * getattr(bytes_moved, arm) for arm in ARMS}
    about.same("resolved.reuse_bytes", used["reuse_bytes"], distance)


def _whole_rotations(about: About, used: dict[str, Any], launches: int, limit: int) -> None:
    """On a GPU a sample is whole rotations over all layers: `limit` launches at most, rounded up to these.

    A workload may need two rotations until what a launch does repeats.
    """
    layers, least = used["layers"], FEWEST_GRAPH_LAUNCHES if used["graphs"] else 1
    about.require(launches % layers == 0, "resolved.inner_loops", launches, f"a multiple of the {layers} layers")
    rounded = [-(-limit // rotation) * rotation for rotation in (layers, 2 * layers)]
    if "inner_loops" in used.get("fixed", []):
        about.require(launches in rounded, "resolved.inner_loops", launches, f"{limit}, rounded up to whole rotations")
    else:
        most = max(*rounded, -(-least // (2 * layers)) * 2 * layers)
        about.require(launches <= most, "resolved.inner_loops", launches, f"at most {most}")


def _statistics(about: About, record: dict[str, Any]) -> None:
    """Each arm's times, the speedup and the A/A controls."""
    samples, settings, found = record["samples"], record["case"]["measure"], record["statistics"]
    for arm in ARMS:
        times = series.of_side(samples, arm)
        about.same(f"statistics.{arm}", found[arm], arm_figures(times, settings["truncate"]))
    ratios = series.ratios(samples, *ARMS)
    confidence, own = settings["confidence"], processes.own(record, "speedup", found["speedup"])
    intervals.check(about, "statistics.speedup", ratios, own, confidence)
    about.same("statistics.autocorrelation", found["autocorrelation"], intervals.autocorrelation(ratios))
    for arm, pair in series.controls(samples, ARMS).items():
        intervals.of_ratios(about, f"statistics.controls.{arm}", pair, found["controls"][arm], confidence)


def arm_figures(samples_us: list[float], truncate: float) -> dict[str, float]:
    """Median, means (us) and coefficients of variation, with the standard library alone.

    truncate: percent of the samples that is cut off each end for the trimmed ones.
    """
    ordered = sorted(samples_us)
    cut = int(len(ordered) * truncate / 100)
    kept = ordered[cut : len(ordered) - cut]
    return {
        "median_us": statistics.median(ordered),
        "mean_us": statistics.fmean(ordered),
        "trimmed_mean_us": statistics.fmean(kept),
        "cv": _variation(ordered),
        "cv_trimmed": _variation(kept),
        "count": len(ordered),
    }


def _variation(samples: list[float]) -> float:
    return statistics.stdev(samples) / statistics.fmean(samples) if len(samples) > 1 else 0.0
