"""`elastickv cases`: the resolved cases of a config."""

from __future__ import annotations

import argparse
from typing import Any

from elastickv import matrix, records, roofline

COLUMNS = ("workload", "batch", "seq", "heads", "kv_heads", "dim", "dtype", "cache_dtype", "compress", "anchor", "bias")


def table(cases: list[dict[str, Any]]) -> str:
    """One row a case: its shape, and the largest speedup that its bytes allow."""
    from tabulate import tabulate

    rows = []
    for case in cases:
        ceiling = roofline.byte_ceilings(roofline.traffic(case))["ceiling"]
        rows.append([case["id"], *(case.get(column, "") for column in COLUMNS), f"{ceiling:.2f}x"])
    return tabulate(rows, ["case", *COLUMNS, "byte ceiling"], disable_numparse=True)


def run(args: argparse.Namespace) -> int:
    """Prints a table, or with `--json` one object, as schemas/resolved_cases.schema.json describes it."""
    config = matrix.load(args.configfile or [matrix.CONFIG_DEFAULT], args.config)
    matrix.check_results_writable(config)
    cases = list(config.cases.values())
    if args.json:
        answer = {"schema": "resolved_cases/1", "cases": cases}
        records.check(answer, "resolved_cases", "elastickv cases --json")
        print(records.to_json(answer), end="")
    else:
        print(table(cases))
    return 0
