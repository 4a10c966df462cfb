"""Language-model baselines: what whole engines do with their own full cache on this device.

A supervisor (in the core environment) starts workers in the engine's environment and always writes a record. Workers
measure by one protocol (`protocol.py`), so that engines share text, statistics and the definition of perplexity.
"""

from __future__ import annotations

import argparse


def run(args: argparse.Namespace) -> int:
    """`elastickv baseline ENGINE`."""
    from elastickv.models import supervisor

    return supervisor.run(args)
