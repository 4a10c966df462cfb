"""How often the published interval holds the true speedup: made-up samples through the real sampler, many times over.

    python -m elastickv.measure.coverage [--trials 1000] [--seed 1] [--jobs 2] [--write docs/statistics.md]

Prints the table of docs/statistics.md (or puts it there); exit 1 where a row up to the strongest autocorrelation that
is promised covers too rarely. The common drift is in every cell: 30% over 100 rounds, and a slow wave beside it.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from elastickv.measure import sampling, statistics

SPEEDUP = 2.0
CONFIDENCE, PROMISED = 0.99, 0.98
STRONGEST_PROMISED = 0.5
REPS, PRECISION = 100, 0.005
SETTLE = 200  # values of a series before the first that is used
AUTOCORRELATIONS = (0.0, 0.3, 0.5, 0.7, 0.9)
BEGIN, END = "<!-- coverage table: python -m elastickv.measure.coverage -->", "<!-- end of the coverage table -->"


class Regime(NamedTuple):
    """`spread` of the log ratios (interquartile range / 1.349), and the rounds after which the time is up."""

    spread: float
    time_for: int


# Spreads at which the rule stops at its first look, on the way (where looking often costs most), or not before 100.
REGIMES = {
    "quiet": Regime(0.0015, 1000),
    "on the way": Regime(0.005, 1000),
    "late": Regime(0.008, 1000),
    "loud": Regime(0.05, 1000),
    "time for 24": Regime(0.05, 24),
    "time for 12": Regime(0.05, sampling.FEWEST_FOR_INTERVAL),
}


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.standard_normal(shape)


def _student(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.standard_t(3, shape)


def _contaminated(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.standard_normal(shape) * np.where(rng.random(shape) < 0.1, 10, 1)


NOISES = {"normal": _normal, "Student t, 3": _student, "one in ten 10 times as large": _contaminated}


class Cell(NamedTuple):
    """What one cell of the table simulates: names of noise and regime, AR(1) coefficient of the log ratios."""

    noise: str
    autocorrelation: float
    regime: str


class Outcome(NamedTuple):
    """Of a cell's trials: share whose interval holds the truth, median rounds, share reported as autocorrelated."""

    covered: float
    rounds: float
    reported: float


def log_ratios(cell: Cell, trials: int, rng: np.random.Generator) -> np.ndarray:
    """[trials, REPS]: logarithm of measured over true speedup of each round, an AR(1) process in each row."""
    from scipy.signal import lfilter

    drawn = NOISES[cell.noise](rng, (trials, SETTLE + REPS))
    series = lfilter([1], [1, -cell.autocorrelation], drawn, axis=1)[:, SETTLE:]
    spread = np.subtract(*np.quantile(series, [0.75, 0.25])) / 1.349
    return REGIMES[cell.regime].spread * series / spread


class Arms:
    """A made-up device: `take` and `clock` as the sampler wants them; noise is split between two arms of a round."""

    def __init__(self, speedup_noise: np.ndarray, control_noise: np.ndarray):
        noise = np.stack([speedup_noise / 2, -speedup_noise / 2, speedup_noise / 2 - control_noise])
        base = np.array([[20.0], [20.0 / SPEEDUP], [20.0]])
        self.times = dict(zip(sampling.SERIES, (base * np.exp(noise)).tolist(), strict=True))
        self.taken = 0

    def take(self, series: str) -> float:
        """Microseconds of the next sample: three make a round, and the machine slows down all the while."""
        index, self.taken = self.taken // 3, self.taken + 1
        drift = 1 + 0.001 * self.taken + 0.02 * np.sin(self.taken / 60)
        return self.times[series][index] * drift

    def clock(self) -> float:
        """One unit of time a round."""
        return self.taken / 3


def trial(speedup_noise: np.ndarray, control_noise: np.ndarray, time_for: int) -> tuple[bool, int, float]:
    """One measurement: whether its interval holds the truth, its rounds, the autocorrelation that it reports."""
    arms = Arms(speedup_noise, control_noise)
    rule = sampling.Rule(REPS, 0, PRECISION, time_for, CONFIDENCE)
    samples = sampling.interleave(arms.take, rule, clock=arms.clock)
    both = [samples.us[arm] for arm in sampling.ARMS]
    interval, ratios = statistics.ratio_interval(*both, CONFIDENCE), statistics.ratios(*both)
    return interval.low <= SPEEDUP <= interval.high, len(ratios), statistics.autocorrelation(ratios)


def simulate(cell: Cell, trials: int, seed: int) -> Outcome:
    """All trials of a cell; the seed and the cell decide every number."""
    place = [list(NOISES).index(cell.noise), round(100 * cell.autocorrelation), list(REGIMES).index(cell.regime)]
    rng = np.random.default_rng([seed, *place])
    both = log_ratios(cell, trials, rng), log_ratios(cell, trials, rng)
    done = [trial(*noises, REGIMES[cell.regime].time_for) for noises in zip(*both, strict=True)]
    covered, rounds, found = zip(*done, strict=True)
    reported = np.mean(np.array(found) > statistics.AUTOCORRELATED)
    return Outcome(float(np.mean(covered)), float(np.median(rounds)), float(reported))


def cells() -> list[Cell]:
    """Every cell of the table, row by row."""
    return [Cell(*place) for place in itertools.product(NOISES, AUTOCORRELATIONS, REGIMES)]


def too_rare(outcomes: dict[Cell, Outcome]) -> list[Cell]:
    """The cells that break the promise."""
    return [
        cell
        for cell, outcome in outcomes.items()
        if cell.autocorrelation <= STRONGEST_PROMISED and outcome.covered < PROMISED
    ]


def settings() -> str:
    """What the simulated intervals are made with: a table made with other settings is out of date."""
    return (
        f"{REPS} rounds at most, precision {PRECISION:.1%}, first look after {sampling.FEWEST_ROUNDS}, then every "
        f"{sampling.CHECK_EVERY}; {statistics.RESAMPLES} resamples, in looks {sampling.STOPPING_RESAMPLES}; at least "
        f"{statistics.FEWEST_BLOCKS} blocks and {statistics.FEWEST_FOR_BOOTSTRAP} rounds."
    )


def table(outcomes: dict[Cell, Outcome], trials: int, seed: int) -> str:
    """Markdown: share covered (median rounds) per noise, autocorrelation and regime."""
    lines = [f"{trials:,} trials a cell, seed {seed}. {settings()}", ""]
    lines += [f"| noise | AR(1) | {' | '.join(REGIMES)} | reported |", "|---|---" + "|---" * len(REGIMES) + "|---|"]
    lines += _rows(outcomes)
    return "\n".join(lines)


def _rows(outcomes: dict[Cell, Outcome]) -> Iterator[str]:
    for noise, coefficient in itertools.product(NOISES, AUTOCORRELATIONS):
        row = [outcomes[Cell(noise, coefficient, regime)] for regime in REGIMES]
        shares = " | ".join(f"{one.covered:.1%} ({one.rounds:.0f})" for one in row)
        reported = outcomes[Cell(noise, coefficient, "loud")].reported
        yield f"| {noise} | {coefficient:g} | {shares} | {reported:.0%} |"


def between(text: str, new: str | None = None) -> str:
    """The part of a document between the marks, or the document with `new` there. Raises ValueError without marks."""
    first, last = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[first:last].strip() if new is None else f"{text[:first]}\n{new}\n{text[last:]}"


def main(argv: list[str] | None = None) -> int:
    """Simulates, then prints or writes the table."""
    from concurrent.futures import ProcessPoolExecutor

    parser = argparse.ArgumentParser(
        prog="python -m elastickv.measure.coverage", description="coverage of the intervals"
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--write", metavar="FILE.md", help="put the table between the marks in this file")
    args = parser.parse_args(argv)
    with ProcessPoolExecutor(args.jobs) as pool:
        count = len(cells())
        done = pool.map(simulate, cells(), [args.trials] * count, [args.seed] * count)
        outcomes = dict(zip(cells(), done, strict=True))
    made = table(outcomes, args.trials, args.seed)
    if args.write:
        path = Path(args.write)
        path.write_text(between(path.read_text(encoding="utf-8"), made), encoding="utf-8")
    else:
        print(made)
    for cell in too_rare(outcomes):
        print(f"covers in {outcomes[cell].covered:.1%}, below {PROMISED:.0%}: {cell}", file=sys.stderr)
    return 1 if too_rare(outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
