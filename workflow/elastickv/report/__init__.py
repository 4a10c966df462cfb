"""From records and verdicts to what people read: `elastickv report WHAT`."""

from __future__ import annotations

import argparse
from importlib import import_module


def run(args: argparse.Namespace) -> int:
    """Writes the report that `args.what` names, by the module of that name. Returns 0."""
    return import_module(f"elastickv.report.{args.what}").run(args)
