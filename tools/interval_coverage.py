"""How often the published interval holds the true speedup: made-up samples through the real sampler, many times over.

    PYTHONPATH=workflow .venv/bin/python tools/interval_coverage.py docs/statistics.md

Puts its table between the marks of that file; exit 1 where a cell within the promise covers too rarely. The common
drift is in every cell: 30% over 100 rounds, and a slow wave beside it.
"""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from elastickv.measure import sampling, statistics

TRIALS, SEED = 1000, 1
SPEEDUP = 2.0
CONFIDENCE, PROMISED, STRONGEST_PROMISED = 0.99, 0.98, 0.5
REPS, PRECISION = 100, 0.005
SETTLE = 200  # values of a series before the first that is used
AUTOCORRELATIONS = (0.0, 0.3, 0.5, 0.7, 0.9)
BEGIN, END = "<!-- coverage table: tools/interval_coverage.py -->\n", "\n<!-- end of the coverage table -->"
NOISES = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "Student t, 3": lambda rng, shape: rng.standard_t(3, shape),
    "one in ten 10 times as large": lambda rng, shape: (
        rng.standard_normal(shape) * np.where(rng.random(shape) < 0.1, 10, 1)
    ),
}
# Spread of the log ratios (interquartile range / 1.349), and the rounds after which the time is up. With these spreads
# the rule stops at its first look, on the way (where looking often costs most), or not before 100.
REGIMES = {
    "quiet": (0.0015, 1000),
    "on the way": (0.005, 1000),
    "late": (0.008, 1000),
    "loud": (0.05, 1000),
    "time for 24": (0.05, 24),
    "time for 12": (0.05, sampling.FEWEST_FOR_INTERVAL),
}


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
    return REGIMES[cell.regime][0] * series / spread


class Arms:
    """A made-up device: `take` and `clock` as the sampler wants them.

    The speedup's noise is split between the arms of a round, that of the controls between the two samples of an arm.
    """

    def __init__(self, speedup_noise: np.ndarray, control_noise: np.ndarray):
        half, apart = speedup_noise / 2, control_noise / 2
        noise = np.stack([half + apart, -half + apart, half - apart, -half - apart])
        base = np.array([[20.0], [20.0 / SPEEDUP], [20.0], [20.0 / SPEEDUP]])
        self.times = dict(zip(sampling.SERIES, (base * np.exp(noise)).tolist(), strict=True))
        self.taken = 0

    def take(self, series: str) -> float:
        """Microseconds of the next sample: four make a round, and the machine slows down all the while."""
        index, self.taken = self.taken // len(sampling.SERIES), self.taken + 1
        drift = 1 + 0.00075 * self.taken + 0.02 * np.sin(self.taken / 80)
        return self.times[series][index] * drift

    def clock(self) -> float:
        """One unit of time a round."""
        return self.taken / len(sampling.SERIES)


def trial(speedup_noise: np.ndarray, control_noise: np.ndarray, time_for: int) -> tuple[bool, int, float]:
    """One measurement: whether its interval holds the truth, its rounds, the autocorrelation that it reports."""
    arms = Arms(speedup_noise, control_noise)
    rule = sampling.Rule(REPS, 0, PRECISION, time_for, CONFIDENCE)
    samples = sampling.interleave(arms.take, rule, clock=arms.clock)
    ratios = samples.ratios()
    interval = statistics.median_interval(ratios, CONFIDENCE)
    return interval.low <= SPEEDUP <= interval.high, len(ratios), statistics.autocorrelation(ratios)


def simulate(cell: Cell, trials: int = TRIALS, seed: int = SEED) -> Outcome:
    """All trials of a cell; the seed and the cell decide every number."""
    place = [list(NOISES).index(cell.noise), round(100 * cell.autocorrelation), list(REGIMES).index(cell.regime)]
    rng = np.random.default_rng([seed, *place])
    both = log_ratios(cell, trials, rng), log_ratios(cell, trials, rng)
    done = [trial(*noises, REGIMES[cell.regime][1]) for noises in zip(*both, strict=True)]
    covered, rounds, found = zip(*done, strict=True)
    reported = np.mean(np.array(found) > statistics.AUTOCORRELATED)
    return Outcome(float(np.mean(covered)), float(np.median(rounds)), float(reported))


def settings() -> str:
    """What the simulated intervals are made with: a table made with other settings is out of date."""
    return (
        f"{TRIALS:,} trials a cell, seed {SEED}. {REPS} rounds at most, precision {PRECISION:.1%}, first look after "
        f"{sampling.FEWEST_ROUNDS}, then every {sampling.CHECK_EVERY}; {statistics.RESAMPLES} resamples, in looks "
        f"{sampling.STOPPING_RESAMPLES}; at least {statistics.FEWEST_BLOCKS} blocks and "
        f"{statistics.FEWEST_FOR_BOOTSTRAP} rounds."
    )


def table(outcomes: dict[Cell, Outcome]) -> str:
    """Markdown: share covered (median rounds) per noise, autocorrelation and regime."""
    lines = [settings(), "", f"| noise | AR(1) | {' | '.join(REGIMES)} | reported |", "|---" * (len(REGIMES) + 3) + "|"]
    for noise, coefficient in itertools.product(NOISES, AUTOCORRELATIONS):
        row = [outcomes[Cell(noise, coefficient, regime)] for regime in REGIMES]
        shares = " | ".join(f"{one.covered:.1%} ({one.rounds:.0f})" for one in row)
        reported = outcomes[Cell(noise, coefficient, "loud")].reported
        lines.append(f"| {noise} | {coefficient:g} | {shares} | {reported:.0%} |")
    return "\n".join(lines)


def main() -> int:
    """Simulates and writes the table."""
    path = Path(sys.argv[1])
    cells = [Cell(*place) for place in itertools.product(NOISES, AUTOCORRELATIONS, REGIMES)]
    with ProcessPoolExecutor() as pool:
        outcomes = dict(zip(cells, pool.map(simulate, cells), strict=True))
    text = path.read_text(encoding="utf-8")
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    path.write_text(head + table(outcomes) + tail, encoding="utf-8")
    rare = [
        f"covers in {outcome.covered:.1%}, below {PROMISED:.0%}: {cell}"
        for cell, outcome in outcomes.items()
        if cell.autocorrelation <= STRONGEST_PROMISED and outcome.covered < PROMISED
    ]
    print("\n".join(rare), end="", file=sys.stderr)
    return 1 if rare else 0


if __name__ == "__main__":
    sys.exit(main())
