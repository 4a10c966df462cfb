"""`elastickv cases`: the resolved cases of a config, and those that no kernel supports."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from elastickv import kinds, matrix, policies, records
from elastickv.cache import bytes_moved
from elastickv.device import limits
from elastickv.schemas.case import AnyCase
from elastickv.schemas.config import CASE_KEYS
from elastickv.schemas.resolved_cases import ResolvedCases

SHAPE = ("workload", "batch", "seq", "heads", "kv_heads", "dim", "dtype", "cache_dtype")


def table(cases: Sequence[AnyCase]) -> str:
    """A table with one row per case: shape, policy keys and byte ceiling; below it, reasons of unsupported cases.

    Keys of policies and workloads are columns only if some case does not have their default.
    """
    from tabulate import tabulate

    refused, rows = unsupported(cases), []
    declared = ("policy", *policies.every_key(), *kinds.every_key())
    columns = [*SHAPE, *(key for key in declared if any(_is_set(case, key) for case in cases))]
    for case in cases:
        ceiling = bytes_moved.byte_ceilings(bytes_moved.traffic(case)).ceiling
        last = "unsupported" if case.id in refused else f"{ceiling:.2f}x"
        rows.append([case.id, *(_shown(case, column) for column in columns), last])
    shown = tabulate(rows, ["case", *columns, "byte ceiling"], disable_numparse=True)
    return "\n".join([shown, *(f"{case}: unsupported: {reason}" for case, reason in refused.items())])


def _is_set(case: AnyCase, key: str) -> bool:
    """Whether a case has a value for the key other than the default."""
    return getattr(case, key, CASE_KEYS[key][1]) != CASE_KEYS[key][1]


def _shown(case: AnyCase, column: str) -> str | int:
    """A key's value; for `cache_dtype`, both formats if keys and values differ."""
    return getattr(case, "stored_as" if column == "cache_dtype" else column, "")


def unsupported(cases: Sequence[AnyCase]) -> dict[str, str]:
    """The reason by id for each case that no device of its backend can run."""
    found = {case.id: limits.anywhere(case) for case in cases}
    return {case: limit.reason for case, limit in found.items() if limit}


def run(args: argparse.Namespace) -> int:
    """Prints a table, or with `--json` one object that matches schemas/resolved_cases.schema.json."""
    config = matrix.load(args.configfile or [matrix.CONFIG_DEFAULT], args.config)
    matrix.check_results_writable(config)
    cases = list(config.cases.values())
    if args.json:
        found = ResolvedCases(schema_="resolved_cases/1", cases=cases, unsupported=unsupported(cases))
        answer = records.content(found)
        records.check(answer, "resolved_cases", "elastickv cases --json")
        print(records.to_json(answer), end="")
    else:
        print(table(cases))
    return 0
