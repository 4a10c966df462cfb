"""How small a regression `compare` and `ab` find, and how often they raise a false alarm: made-up pairs of runs.

    PYTHONPATH=workflow .venv/bin/python tools/comparison_power.py docs/statistics.md

Puts its table between the marks of that file; exit 1 where a promise of that page is broken.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from elastickv.judge import changes
from elastickv.judge.changes import RECORDED, Change, Group, Pair, Side

TRIALS, SEED, CASES = 1000, 1, 6
POWER, ALARMS = 0.8, 0.01
REGRESSIONS = (0.005, 0.006, 0.007, 0.008, 0.009, 0.01, 0.012, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1)
AB_SPREAD, AB_TOLERANCE = 0.005, 0.01  # between repetitions on a CPU
BEGIN, END = "<!-- power table: tools/comparison_power.py -->\n", "\n<!-- end of the power table -->"


class Setting(NamedTuple):
    """A comparison: its command, backend, processes (or repetitions) of a case, and the largest allowed regression."""

    command: str
    backend: str
    processes: int
    promised: float | None

    @property
    def name(self) -> str:
        """Its row in the table."""
        unit = "repetitions" if self.command == "ab" else "processes" if self.processes > 1 else "process"
        return f"`{self.command}`, {self.backend}, {self.processes} {unit}"


SETTINGS = (
    Setting("compare", "cuda", 5, 0.01),
    Setting("compare", "cuda", 3, 0.01),
    Setting("compare", "cuda", 1, 0.01),
    Setting("compare", "cpu", 1, None),
    Setting("ab", "cpu", 5, 0.03),
    Setting("ab", "cpu", 3, 0.03),
)


def regressed(setting: Setting, regression: float, rng: np.random.Generator) -> tuple[bool, bool]:
    """One pair of runs with the elastic arm of the first case slower by `regression`.

    Whether that was found, and whether anything was reported that is not there.
    """
    if setting.command == "ab":
        noise = rng.normal(0, AB_SPREAD, (2 * CASES, setting.processes))
        noise[0] += np.log1p(regression)
        judged = changes.judge_pairs([Pair(tuple(row), 0.0) for row in noise], AB_TOLERANCE)
        outcomes = [one.outcome for one in judged]
        slower = {0}
    else:
        made, slower = _changes(setting, regression, rng)
        sides = [side for change in made for side in (change.old, change.new)]
        outcomes = [one.outcome for one in changes.judge(made, changes.pooled(sides), None)]
    reported = {index for index, outcome in enumerate(outcomes) if outcome in ("regressed", "improved")}
    return bool(reported & slower), bool(reported - slower)


def _changes(setting: Setting, regression: float, rng: np.random.Generator) -> tuple[list[Change], set[int]]:
    """Both arms' times (on a GPU) and the speedup of every case; which of them really changed."""
    kinds = ("time", "time", "ratio") if setting.backend == "cuda" else ("ratio",)
    made, slower = [], set()
    for case in range(CASES):
        for place, kind in enumerate(kinds):
            spread = RECORDED[setting.backend, kind]
            group = Group(setting.backend, "device", kind)
            real = 0.0
            if case == 0 and (kind == "ratio" or place == 1):
                real = np.log1p(regression) * (-1 if kind == "ratio" else 1)
                slower.add(len(made))
            old, new = (rng.normal(mean, spread, setting.processes) for mean in (0.0, real))
            made.append(Change(Side(tuple(old), 0.0, group), Side(tuple(new), 0.0, group), kind))
    return made, slower


class Outcome(NamedTuple):
    """Share of pairs of equal builds with an alarm; smallest regression found in 80% of the trials, if any was."""

    alarms: float
    smallest: float | None


def simulate(setting: Setting, trials: int = TRIALS, seed: int = SEED) -> Outcome:
    """All trials of a row; the seed decides every number."""
    rng = np.random.default_rng([seed, SETTINGS.index(setting)])
    alarms = np.mean([any(regressed(setting, 0.0, rng)) for _ in range(trials)])
    for regression in REGRESSIONS:
        if np.mean([regressed(setting, regression, rng)[0] for _ in range(trials)]) >= POWER:
            return Outcome(float(alarms), regression)
    return Outcome(float(alarms), None)


def settings() -> str:
    """What the table is made with: a table made with other settings is out of date."""
    recorded = ", ".join(f"{backend} {kind} {value:.2%}" for (backend, kind), value in RECORDED.items())
    return (
        f"{TRIALS:,} pairs of runs a cell, seed {SEED}, {CASES} cases. Spreads: {recorded}; `ab` {AB_SPREAD:.2%} "
        f"between repetitions, tolerance {AB_TOLERANCE:.0%}. Confidence {changes.CONFIDENCE:.0%} by Holm."
    )


def table(outcomes: dict[Setting, Outcome]) -> str:
    """Markdown: false alarms and the smallest regression found, by setting."""
    head = ["| comparison | pairs of equal builds with an alarm | smallest regression found in 80% |", "|---|---|---|"]
    rows = [
        f"| {setting.name} | {one.alarms:.1%} | {'none tried' if one.smallest is None else f'{one.smallest:.1%}'} |"
        for setting, one in outcomes.items()
    ]
    return "\n".join([settings(), "", *head, *rows])


def broken(outcomes: dict[Setting, Outcome]) -> list[str]:
    """Every promise that does not hold, in words."""
    alarms = [f"alarms in {one.alarms:.1%}: {setting.name}" for setting, one in outcomes.items() if one.alarms > ALARMS]
    late = [
        f"finds no regression of {setting.promised:.0%}: {setting.name}"
        for setting, one in outcomes.items()
        if setting.promised is not None and (one.smallest is None or one.smallest > setting.promised)
    ]
    return alarms + late


def main() -> int:
    """Simulates and writes the table."""
    path = Path(sys.argv[1])
    outcomes = {setting: simulate(setting) for setting in SETTINGS}
    text = path.read_text(encoding="utf-8")
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    path.write_text(head + table(outcomes) + tail, encoding="utf-8")
    found = broken(outcomes)
    print("\n".join(found), end="", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
