"""`elastickv doctor`: what this machine has, what the config needs of it, and the command that mends what is missing.

Each theme is one module: `gather(needs, gpu)` looks at the machine and never raises for what it lacks, `checks(facts,
needs)` judges made-up facts as well as real ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from importlib import import_module
from typing import Any

from elastickv import matrix, records
from elastickv.doctor import gpu as gpus
from elastickv.doctor.finding import Finding, note
from elastickv.doctor.needs import Needs, of_config
from elastickv.schemas.doctor import Doctor

THEMES = (
    "interpreter", "environment", "peers", "compilers", "gpu", "images", "cases", "memory", "storage", "load", "hub",
)  # fmt: skip
MISSING = 3
WIDTHS = {"found": 58, "fix": 52}


def run(args: argparse.Namespace) -> int:
    """Prints the table, or with `--json` one object. 0 when nothing that the config needs is missing, else 3."""
    files = args.configfile or [matrix.CONFIG_DEFAULT]
    needs = of_config(matrix.load(files, args.config), args.configfile or [], args.config)
    findings = diagnose(needs)
    found = [dataclasses.asdict(finding) for finding in findings]
    report = Doctor(config=list(map(str, files)), ready=ready(findings), findings=found)
    records.check(records.content(report), "doctor", "elastickv doctor")
    print(
        records.to_json(records.content(report)) if args.json else f"{table(findings)}\n\n{summary(findings, files)}",
        end="",
    )
    if not args.json:
        print()
    return 0 if report.ready else MISSING


def diagnose(needs: Needs) -> list[Finding]:
    """The findings of every theme. One that cannot be looked at is a note: a doctor must not die of what it finds."""
    findings, gpu = [], gpus.Facts()
    try:
        gpu = gpus.gather()
    except Exception as error:
        findings.append(dataclasses.replace(_unseen("gpu", error), theme="gpu"))
    for theme in THEMES:
        module = import_module(f"elastickv.doctor.{theme}")
        try:
            facts = gpu if module is gpus else module.gather(needs, gpu)
            found = module.checks(facts, needs)
        except Exception as error:
            found = [_unseen(theme, error)]
        findings += [dataclasses.replace(finding, theme=theme) for finding in found]
    return findings


def _unseen(theme: str, error: Exception) -> Finding:
    return note(theme, f"could not be looked at: {type(error).__name__}: {error}")


def ready(findings: list[Finding]) -> bool:
    """Whether nothing that the config needs is missing."""
    return not any(finding.level == "problem" for finding in findings)


def table(findings: list[Finding]) -> str:
    """One row a finding, problems and notes with their fix."""
    from tabulate import tabulate

    rows = [
        [finding.level, finding.check, _folded(finding.found, "found"), _folded(finding.fix or "", "fix")]
        for finding in findings
    ]
    return tabulate(rows, ["", "check", "found", "fix"], disable_numparse=True, tablefmt="simple")


def _folded(text: str, column: str) -> str:
    return textwrap.fill(text, WIDTHS[column], break_long_words=False, break_on_hyphens=False)


def summary(findings: list[Finding], files: list[Any]) -> str:
    """The last line."""
    problems = sum(finding.level == "problem" for finding in findings)
    what = " + ".join(map(str, files))
    if not problems:
        return f"{what} lacks nothing here"
    return f"{what} lacks {problems} thing{'s' if problems > 1 else ''} here: see the fixes above"
