"""How often published intervals contain the true speedup: made-up samples through the real sampler, many times over.

    PYTHONPATH=workflow .venv/bin/python tools/interval_coverage.py docs/statistics.md

Writes its three tables between the marks of that file: one process, results judged by their controls, several
processes. Exit 1 where a row within the promise covers too rarely. Only the samples are made up; the sampler with its
stopping rule, the intervals, the pooling of processes and the judge are the product's own functions.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from elastickv.judge import noise as judge
from elastickv.measure import processes, sampling, statistics, sustained
from elastickv.schemas.config import Noise as Limits
from elastickv.schemas.measurement import Block
from elastickv.schemas.parts import Control, Interval

TRIALS, GROUPS, SEED = 400, 1000, 1  # measurements of a cell, groups of processes of a cell
SPEEDUP, CONFIDENCE, PROMISED = 2.0, 0.99, 0.98
REPS, PRECISION = 100, 0.005
SETTLE = 200  # values of a series before the first that is used
BEGIN, END = "<!-- coverage table: tools/interval_coverage.py -->\n", "\n<!-- end of the coverage table -->"

TITLES = ("One process", "Judged by the controls", "Several processes")
BACKENDS = {"cuda": "GPU", "cpu": "CPU"}

Draw = Callable[[np.random.Generator, int], np.ndarray]


# ---- noise of samples ----


def series(innovations: Callable[..., np.ndarray], coefficient: float = 0.0) -> Draw:
    """Each of the four series is an AR(1) process of its own over the rounds."""

    def draw(rng: np.random.Generator, trials: int) -> np.ndarray:
        drawn = innovations(rng, (len(sampling.SERIES), trials, SETTLE + REPS))
        return lfilter([1], [1, -coefficient], drawn, axis=-1)[..., SETTLE:]

    return draw


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal noise."""
    return rng.standard_normal(shape)


def student(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Student's t with 3 degrees of freedom: heavy tails."""
    return rng.standard_t(3, shape)


def slow_ones(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal, one value in ten with ten times the spread."""
    return rng.standard_normal(shape) * np.where(rng.random(shape) < 0.1, 10, 1)


def spikes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal, and one sample in five is slower by a lognormal amount, as when others take the core for a while."""
    return rng.standard_normal(shape) + np.where(rng.random(shape) < 0.2, rng.lognormal(1.5, 1, shape), 0)


def bimodal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Two speeds: three samples in ten are slower by six spreads, each by itself."""
    return rng.standard_normal(shape) + np.where(rng.random(shape) < 0.3, 6, 0)


def load(on_reference: float = 1.0) -> Draw:
    """Others work during a third of the rounds, in one stretch: these samples are slower and far noisier, those of the
    reference by so many times as much. The truth is that of the quiet machine."""

    def draw(rng: np.random.Generator, trials: int) -> np.ndarray:
        shape = (len(sampling.SERIES), trials, REPS)
        begins = rng.integers(0, REPS, size=(1, trials, 1))
        busy = (np.arange(REPS) - begins) % REPS < REPS / 3
        slowed = np.array([on_reference if one.startswith("reference") else 1.0 for one in sampling.SERIES])
        return rng.standard_normal(shape) + busy * rng.exponential(6, shape) * slowed[:, None, None]

    return draw


def states(stay: float, share: float = 0.3, step: float = 3.0) -> Draw:
    """The elastic arm changes between two speeds that last for several rounds (both of its samples are affected)."""

    def draw(rng: np.random.Generator, trials: int) -> np.ndarray:
        changes = rng.random((trials, SETTLE + REPS)) >= stay
        fresh = rng.random((trials, SETTLE + REPS)) < share
        latest = np.maximum.accumulate(np.where(changes, np.arange(SETTLE + REPS), 0), axis=1)
        slow = np.take_along_axis(fresh, latest, axis=1)[:, SETTLE:]
        affected = np.array([one.startswith("candidate") for one in sampling.SERIES])[:, None, None]
        return rng.standard_normal((len(sampling.SERIES), trials, REPS)) + step * slow * affected

    return draw


LOAD, UNEVEN = "others work in a third of the rounds", "others work in a third of the rounds, against one arm more"
NOISES: dict[str, Draw] = {
    "normal": series(normal),
    "normal, AR(1) 0.5": series(normal, 0.5),
    "normal, AR(1) 0.7": series(normal, 0.7),
    "normal, AR(1) 0.9": series(normal, 0.9),
    "Student t, 3": series(student),
    "Student t, 3, AR(1) 0.5": series(student, 0.5),
    "one in ten 10 times as large": series(slow_ones),
    "one in ten 10 times as large, AR(1) 0.5": series(slow_ones, 0.5),
    "two speeds, sample by sample": series(bimodal),
    "two speeds of one arm, for 3 rounds": states(2 / 3),
    "two speeds of one arm, for 10 rounds": states(0.9),
    "lognormal spikes": series(spikes),
    LOAD: load(),
    UNEVEN: load(1.5),
}
# Beyond the promise: strong autocorrelation, of which the report warns, and a load that changes the ratio itself.
BEYOND = {"normal, AR(1) 0.7", "normal, AR(1) 0.9", "two speeds of one arm, for 10 rounds", UNEVEN}
# Spread of the rounds' log ratios (interquartile range / 1.349), and the rounds after which the time is up. With these
# the rule stops at its first look, on the way (where looking often costs most), or not before a bound.
REGIMES = {
    "quiet": (0.001, 1000),
    "on the way": (0.004, 1000),
    "loud": (0.05, 1000),
    "time for 12": (0.05, sampling.FEWEST_FOR_INTERVAL),
}


def drawn(name: str, trials: int, rng: np.random.Generator) -> np.ndarray:
    """[series, trials, REPS]: logarithms of measured over true times; the round's log ratios have spread 1."""
    found = NOISES[name](rng, trials)
    return found / spread(log_ratios(found))


def log_ratios(noise: np.ndarray) -> np.ndarray:
    """[trials, REPS]: of each round, the logarithm of measured over true speedup."""
    signs = [1 if one.startswith("reference") else -1 for one in sampling.SERIES]
    return np.tensordot(signs, noise, 1) / 2


def spread(values: np.ndarray) -> float:
    """Interquartile range as a standard deviation."""
    return float(np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.349)


@cache
def centre(name: str) -> float:
    """The median log ratio of endless rounds, in units of the spread: 0 where both arms have the same noise."""
    if not name.startswith("two speeds of one arm"):
        return 0.0
    return float(np.median(log_ratios(drawn(name, 20_000, np.random.default_rng(SEED)))))


# ---- one process ----


class Machine:
    """A made-up device: `take` and `clock` as the sampler wants them, with a drift that affects all series alike.

    noise: [series, rounds], logarithms of measured over true times; bias: by what share the candidate's second sample
    of a round is slower than its first.
    """

    def __init__(self, noise: np.ndarray, bias: float):
        base = [20.0, 20.0 / SPEEDUP, 20.0, 20.0 / SPEEDUP * (1 + bias)]
        self.times = {
            one: (time * np.exp(row)).tolist() for one, time, row in zip(sampling.SERIES, base, noise, strict=True)
        }
        self.taken = 0

    def take(self, series: str) -> float:
        """Microseconds of the next sample: four make a round, and the machine slows down by 30% in 100 rounds."""
        index, self.taken = self.taken // 4, self.taken + 1
        return self.times[series][index] * (1 + 0.00075 * self.taken + 0.02 * math.sin(self.taken / 80))

    def clock(self) -> float:
        """One unit of time a round."""
        return self.taken / 4


class Measured(NamedTuple):
    """What a process measured; `truth` is the speedup of endless rounds."""

    truth: float
    rounds: int
    speedup: Interval
    autocorrelation: float
    samples: sampling.Samples


def measure(noise: np.ndarray, truth: float, time_for: float, bias: float = 0.0) -> Measured:
    """One measurement by the product's sampler, with its stopping rule. noise: [series, REPS]."""
    machine = Machine(noise, bias)
    rule = sampling.Rule(REPS, 0, PRECISION, time_for, CONFIDENCE, control=PRECISION)
    samples = sampling.interleave(machine.take, rule, clock=machine.clock)
    ratios = samples.ratios()
    interval = statistics.median_interval(ratios, CONFIDENCE)
    return Measured(truth, len(samples), interval, statistics.autocorrelation(ratios), samples)


def measurements(
    name: str,
    of: float,
    time_for: float,
    trials: int,
    seed: Sequence[int],
    bias: float = 0.0,
) -> list[Measured]:
    """Measurements with the noise of that name and the spread `of`. The seed and the cell decide every number."""
    noise = of * drawn(name, trials, np.random.default_rng([*seed, list(NOISES).index(name), round(of * 1e6)]))
    truth = SPEEDUP * math.exp(of * centre(name))
    return [measure(noise[:, trial], truth, time_for, bias) for trial in range(trials)]


def holds(interval: Interval, truth: float) -> bool:
    """Whether the interval contains the truth."""
    return interval.low <= truth <= interval.high


class Outcome(NamedTuple):
    """Of a cell's trials: share whose interval holds the truth, median rounds, share reported as autocorrelated."""

    covered: float
    rounds: float
    reported: float


def one_process(name: str, regime: str, trials: int = TRIALS, seed: int = SEED) -> Outcome:
    """All trials of a cell of the first table."""
    of, time_for = REGIMES[regime]
    done = measurements(name, of, time_for, trials, [seed, list(REGIMES).index(regime)])
    return Outcome(
        covered=float(np.mean([holds(one.speedup, one.truth) for one in done])),
        rounds=float(np.median([one.rounds for one in done])),
        reported=float(np.mean([one.autocorrelation > statistics.AUTOCORRELATED for one in done])),
    )


# ---- judged by the controls ----


class Judged(NamedTuple):
    """A row of the second table: spread of the rounds' log ratios, rounds until the time is up, the bias of one series
    as `Machine` has it; number of processes and the spread of their differences."""

    backend: str
    noise: str
    spread: float
    time_for: int
    bias: float = 0.0
    processes: int = 1
    between: float = 0.0

    def __str__(self) -> str:
        biased = f", second sample of one arm {self.bias:.0%} slower" if self.bias else ""
        several = f"; {self.processes} processes that differ by {self.between:.1%}" if self.processes > 1 else ""
        head = f"{BACKENDS[self.backend]}: {self.noise}, {self.spread:.1%}, at most {self.time_for} rounds"
        return head + biased + several


JUDGED = [
    Judged("cuda", "normal", 0.007, 100),
    Judged("cuda", "normal, AR(1) 0.5", 0.004, 100),
    Judged("cuda", "two speeds, sample by sample", 0.01, 100),
    Judged("cuda", "normal, AR(1) 0.5", 0.004, 100, processes=3, between=0.002),
    Judged("cuda", "normal, AR(1) 0.5", 0.004, 100, processes=5, between=0.002),
    Judged("cpu", "normal", 0.03, 24),
    Judged("cpu", "normal, AR(1) 0.5", 0.03, 40),
    Judged("cpu", "lognormal spikes", 0.025, 24),
    Judged("cpu", "lognormal spikes", 0.025, 12),
    Judged("cpu", LOAD, 0.04, 24),
    Judged("cpu", LOAD, 0.04, 60),
    Judged("cpu", LOAD, 0.04, 60, processes=3, between=0.03),
    Judged("cpu", LOAD, 0.04, 60, processes=5, between=0.03),
    Judged("cpu", UNEVEN, 0.04, 60),
    Judged("cpu", "lognormal spikes", 0.02, 60, 0.02),
    Judged("cpu", "lognormal spikes", 0.04, 60, 0.04),
]


class Verdicts(NamedTuple):
    """By status, how many results; by published status, the share that holds the truth (NaN of none). Of the imprecise
    ones the share if they were not widened, and their median half-width."""

    count: dict[str, int]
    covered: dict[str, float]
    unwidened: float
    half: float


def share(found: Sequence[bool]) -> float:
    """Of these, how many; NaN of none."""
    return float(np.mean(found)) if found else math.nan


Judgeable = tuple[Interval, dict[str, Control]]


def judged(row: Judged, trials: int = TRIALS, seed: int = SEED) -> Verdicts:
    """All trials of a row of the second table, judged by the default limits."""
    measured = judgeable(row.noise, row.spread, row.time_for, row.bias, trials, seed)
    truth = SPEEDUP * math.exp(row.spread * centre(row.noise))
    if row.processes > 1:
        measured = grouped(measured, row, np.random.default_rng([seed, 101, JUDGED.index(row)]))
    both = [(speedup, judge.judge(speedup, controls, row.backend, Limits())) for speedup, controls in measured]
    by = {status: [pair for pair in both if pair[1].status == status] for status in judge.ORDER}
    halves = [statistics.relative_half_width(found.interval) for _, found in by["imprecise"]]
    return Verdicts(
        count={status: len(pairs) for status, pairs in by.items()},
        covered={one: share([holds(found.interval, truth) for _, found in by[one]]) for one in judge.PUBLISHED},
        unwidened=share([holds(speedup, truth) for speedup, _ in by["imprecise"]]),
        half=float(np.median(halves)) if halves else math.nan,
    )


@cache
def judgeable(name: str, of: float, time_for: int, bias: float, trials: int, seed: int) -> list[Judgeable]:
    """The interval and the controls of each measurement by one process."""
    done = measurements(name, of, time_for, trials, [seed, 100, time_for], bias)
    return [(one.speedup, one.samples.controls(CONFIDENCE)) for one in done]


def grouped(measured: Sequence[Judgeable], row: Judged, rng: np.random.Generator) -> list[Judgeable]:
    """As many results of several processes, which are drawn from these: the pooled speedup, and all controls."""
    chosen = rng.integers(0, len(measured), size=(len(measured), row.processes))
    factors = np.exp(row.between * rng.standard_normal(chosen.shape))
    found = []
    for which, own in zip(chosen.tolist(), factors.tolist(), strict=True):
        speedups = [shifted(measured[one][0], factor) for one, factor in zip(which, own, strict=True)]
        controls = {f"{name} {place}": c for place, one in enumerate(which) for name, c in measured[one][1].items()}
        found.append((processes.pool(speedups[0], speedups, CONFIDENCE), controls))
    return found


def shifted(interval: Interval, factor: float) -> Interval:
    """The interval of a process whose ratios are all larger by a factor: so are the median and the bounds."""
    return interval.model_copy(update={end: getattr(interval, end) * factor for end in ("value", "low", "high")})


# ---- several processes ----


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Exponential: most are a little faster than the mean, few are much slower."""
    return 1 - rng.exponential(1, shape)


def one_slower(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """One process in five is slower, by two and a half spreads."""
    return -2.5 * ((rng.random(shape) < 0.2) - 0.2) + 0.05 * rng.standard_normal(shape)


def halves(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Every other process is slower, by two spreads."""
    return np.where(rng.random(shape) < 0.5, -1, 1) + 0.05 * rng.standard_normal(shape)


# Differences between processes, in spreads; their mean is 0.
BETWEEN = {
    "normal": normal,
    "Student t, 3": student,
    "skewed": skewed,
    "one in five slower": one_slower,
    "two speeds": halves,
}
# Name of the noise within a process, and spread of its log ratios.
WITHIN = {"quiet": ("normal", 0.001), "loud": ("lognormal spikes", 0.02)}


class Pooled(NamedTuple):
    """A row of the third table: noise within a process, kind and spread of the differences between processes."""

    within: str
    between: str
    spread: float
    promised: bool = True


POOLED = [
    *(Pooled(within, "normal", of) for within in WITHIN for of in (0.0005, 0.003, 0.01, 0.03)),
    Pooled("quiet", "skewed", 0.01, promised=False),
    Pooled("quiet", "Student t, 3", 0.003),
    Pooled("quiet", "Student t, 3", 0.03),
    Pooled("quiet", "one in five slower", 0.003, promised=False),
    Pooled("quiet", "two speeds", 0.003, promised=False),
    Pooled("quiet", "two speeds", 0.0005),
]
COUNTS = (1, 3, 5)
STEADY = 0.001  # spread of the time per launch of a block of steady work


@cache
def alone(within: str, trials: int, seed: int) -> list[Measured]:
    """Measurements by single processes that do not differ but by the noise within them."""
    name, of = WITHIN[within]
    return measurements(name, of, 1000, trials, [seed, 200])


def blocks(ratio: float, noise: Sequence[float]) -> list[Block]:
    """Steady work of one process; noise: logarithm of measured over true time of each block."""
    seconds = [
        1e-4 * (ratio if arm == "full" else 1) * math.exp(one) for arm, one in zip(sustained.ORDER, noise, strict=True)
    ]
    return [
        Block(arm=arm, launches=20_000, seconds=20_000 * one, busy=1, sm_mhz=None, power_w=None)
        for arm, one in zip(sustained.ORDER, seconds, strict=True)
    ]


class Intervals(NamedTuple):
    """Share of the intervals that hold the truth, and their median relative half-width."""

    covered: float
    half: float


def pooled(
    row: Pooled, trials: int = TRIALS, groups: int = GROUPS, seed: int = SEED
) -> dict[tuple[str, int], Intervals]:
    """A row of the third table, by kind of speedup and number of processes; `trials` single ones are drawn from."""
    pool, most = alone(row.within, trials, seed), max(COUNTS)
    rng = np.random.default_rng([seed, 300, POOLED.index(row)])
    factors = np.exp(row.spread * BETWEEN[row.between](rng, (groups, most)))
    chosen = rng.integers(0, len(pool), size=(groups, most))
    noise = STEADY * rng.standard_normal((groups, most, len(sustained.ORDER)))
    burst = [
        [shifted(pool[which].speedup, factor) for which, factor in zip(*both, strict=True)]
        for both in zip(chosen.tolist(), factors.tolist(), strict=True)
    ]
    steady = [
        [blocks(SPEEDUP * factor, own) for factor, own in zip(*both, strict=True)]
        for both in zip(factors.tolist(), noise.tolist(), strict=True)
    ]
    found = {}
    for count in COUNTS:
        found["burst", count] = summed(processes.pool(one[0], one[:count], CONFIDENCE) for one in burst)
        if count >= sustained.FEWEST_PROCESSES:
            taken = (sustained.over_processes(one[:count], 2, CONFIDENCE).speedup for one in steady)
            found["sustained", count] = summed(taken)
    return found


def summed(found: Iterable[Interval]) -> Intervals:
    """How often these intervals hold the true speedup, and how wide they are."""
    known = list(found)
    half = float(np.median([statistics.relative_half_width(one) for one in known]))
    return Intervals(share([holds(one, SPEEDUP) for one in known]), half)


# ---- the tables ----


class Tables(NamedTuple):
    """Everything that is simulated, by cell or row."""

    single: dict[tuple[str, str], Outcome]
    judged: list[Verdicts]
    pooled: list[dict[tuple[str, int], Intervals]]


def simulate() -> Tables:
    """All cells and rows, as the page has them."""
    return Tables(
        {(name, regime): one_process(name, regime) for name in NOISES for regime in REGIMES},
        [judged(row) for row in JUDGED],
        [pooled(row) for row in POOLED],
    )


def error(share: float, count: int) -> float:
    """Standard error of a share of so many trials."""
    return math.sqrt(share * (1 - share) / count)


def settings() -> str:
    """What the simulated intervals are made with: a table made with other settings is out of date."""
    limits = Limits()
    return (
        f"{TRIALS} trials a cell (standard error of a share of {PROMISED:.0%}: {error(PROMISED, TRIALS):.1%}), seed "
        f"{SEED}. {REPS} rounds at most, precision {PRECISION:.1%}, first look after {sampling.FEWEST_ROUNDS}, then "
        f"every {sampling.CHECK_EVERY}; {statistics.RESAMPLES} resamples, in looks {sampling.STOPPING_RESAMPLES}; at "
        f"least {statistics.FEWEST_BLOCKS} blocks and {statistics.FEWEST_FOR_BOOTSTRAP} rounds; limits of the controls "
        f"{limits.cuda:.1%} (GPU) and {limits.cpu:.0%} (CPU), widest {limits.widest:.0%}."
    )


def percent(value: float) -> str:
    """A share in percent, or a dash."""
    return "–" if math.isnan(value) else f"{value:.1%}"


def single_rows(found: Mapping[tuple[str, str], Outcome]) -> list[str]:
    """The first table: share covered (median rounds)."""
    lines = [f"| noise | {' | '.join(REGIMES)} | reported |", "|---" * (len(REGIMES) + 2) + "|"]
    for name in NOISES:
        row = [found[name, regime] for regime in REGIMES]
        shares = " | ".join(f"{one.covered:.1%} ({one.rounds:.0f})" for one in row)
        lines.append(f"| {name}{' *' if name in BEYOND else ''} | {shares} | {found[name, 'loud'].reported:.0%} |")
    return lines


def judged_rows(found: Sequence[Verdicts]) -> list[str]:
    """The second table: how many of each status, and the share covered."""
    head = "| noise | ok | imprecise | noisy | ok covers | imprecise covers | without widening | half-width |"
    lines = [head, "|---" * 8 + "|"]
    for row, one in zip(JUDGED, found, strict=True):
        shares = [f"{count / sum(one.count.values()):.0%}" for count in one.count.values()]
        covered = [percent(value) for value in (*one.covered.values(), one.unwidened, one.half)]
        lines.append(f"| {row}{' *' if beyond(row) else ''} | {' | '.join([*shares, *covered])} |")
    return lines


def pooled_rows(found: Sequence[Mapping[tuple[str, int], Intervals]]) -> list[str]:
    """The third table: share covered (median half-width)."""
    kinds = list(found[0])
    lines = ["| between processes | within | " + " | ".join(f"{kind} {count}" for kind, count in kinds) + " |"]
    lines.append("|---" * (len(kinds) + 2) + "|")
    for row, one in zip(POOLED, found, strict=True):
        cells = " | ".join(f"{one[kind].covered:.1%} (±{one[kind].half:.2%})" for kind in kinds)
        lines.append(f"| {row.between}, {row.spread:.2%}{'' if row.promised else ' *'} | {row.within} | {cells} |")
    return lines


def table(found: Tables) -> str:
    """Markdown of all three, with the settings on top."""
    parts = single_rows(found.single), judged_rows(found.judged), pooled_rows(found.pooled)
    return "\n\n".join(
        [settings(), *(f"**{title}**\n\n" + "\n".join(part) for title, part in zip(TITLES, parts, strict=True))]
    )


def beyond(row: Judged) -> bool:
    """Whether a row of the second table is beyond the promise."""
    return bool(row.bias) or row.noise in BEYOND


def rare(found: Tables) -> list[str]:
    """What is within the promise, and covers less often by more than two standard errors."""
    shares = [
        *((str(cell), one.covered, TRIALS) for cell, one in found.single.items() if cell[0] not in BEYOND),
        *(
            (f"{row}, {status}", share, one.count[status])
            for row, one in zip(JUDGED, found.judged, strict=True)
            for status, share in one.covered.items()
            if one.count[status] and not beyond(row)
        ),
        *(
            (f"{row}, {kind}", one.covered, GROUPS)
            for row, kinds in zip(POOLED, found.pooled, strict=True)
            for kind, one in kinds.items()
            if row.promised and kind[1] > 1
        ),
    ]
    return [
        f"covers in {covered:.1%}, below {PROMISED:.0%}: {name}"
        for name, covered, count in shares
        if covered < PROMISED - 2 * error(PROMISED, count)
    ]


def main() -> int:
    """Simulates and writes the tables."""
    path, found = Path(sys.argv[1]), simulate()
    text = path.read_text(encoding="utf-8")
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    path.write_text(head + table(found) + tail, encoding="utf-8")
    missed = rare(found)
    print("\n".join(missed), end="", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
