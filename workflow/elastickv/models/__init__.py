"""Language-model baselines: whole engines with their own full cache on this device.

A supervisor (in the core environment) starts workers in the engine's environment and always writes a record. All
engines follow one protocol (`protocol.py`): the same text, statistics and definition of perplexity.
"""

from __future__ import annotations

import argparse


def run(args: argparse.Namespace) -> int:
    """`elastickv baseline ENGINE`."""
    from elastickv.models import supervisor

    return supervisor.run(args)
