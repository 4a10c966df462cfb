"""Reports for people, made from records and verdicts: `elastickv report WHAT`."""

from __future__ import annotations

import argparse
from importlib import import_module


def run(args: argparse.Namespace) -> int:
    """Writes the report named `args.what`, with the module of the same name. Returns 0."""
    return import_module(f"elastickv.report.{args.what}").run(args)
