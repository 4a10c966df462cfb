"""Replays the stopping rule at the last round: the reason to stop that a record states has to hold there.

Rounds taken out of a record, or a bound that was never reached, show here. It is not replayed at earlier rounds: that
would take one bootstrap for each of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from elastickv.audit import intervals, series
from elastickv.audit.finding import About

ARMS = ("full", "elastic")
FEWEST_ROUNDS = 30
RESAMPLES = 999  # of the interval that decides, fewer than the published one has


def check(about: About, record: dict[str, Any]) -> None:
    """Compares the reason with the time of the last round, and with the intervals of all rounds."""
    used, samples, settings = record["resolved"], record["samples"], record["case"]["measure"]
    count, dropped = len(samples["order"]), [entry["index"] for entry in samples["dropped"]]
    limit, stopped = settings["max_seconds"] / used["processes"], used["stopped"]
    last_kept = count + len(dropped) - 1 not in dropped  # only kept rounds have their time in the record
    took = samples["rounds"]["seconds"][-1]
    if stopped == "max_seconds" and last_kept:
        about.require(took >= limit, "resolved.stopped", f"max_seconds after {took:g} s", f"a time from {limit:g} s")
    if stopped == "precision":
        about.require(took < limit, "resolved.stopped", f"precision after {took:g} s", f"max_seconds, {limit:g} s")
        _precise(about, record, count, settings)


def _precise(about: About, record: dict[str, Any], count: int, settings: dict[str, Any]) -> None:
    """Rounds at which intervals are looked at, a ratio as narrow as wanted, and controls as near to 1."""
    every = max(10, 10 ** (len(str(count)) - 2))
    looked = count >= FEWEST_ROUNDS and count % every == 0
    expected = f"{FEWEST_ROUNDS} or more, a multiple of {every}"
    about.require(looked, "resolved.stopped", f"precision after {count} rounds", expected)
    wanted, samples = settings["precision"], record["samples"]
    ratios = series.ratios(samples, *ARMS)
    low, high = intervals.bounds(ratios, settings["confidence"], RESAMPLES)
    width = (high - low) / 2 / float(np.median(ratios))
    stated = f"precision with an interval of +-{width:.4g}"
    about.require(width < wanted, "resolved.stopped", stated, f"one below {wanted:g}")
    for arm, found in record["statistics"]["controls"].items():
        steady = 1 - wanted <= found["low"] and found["high"] <= 1 + wanted
        stated = f"precision with a control of the {arm} arm from {found['low']:.6g} to {found['high']:.6g}"
        about.require(steady, "resolved.stopped", stated, f"one within {wanted:g} of 1")
