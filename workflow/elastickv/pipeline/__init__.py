"""One run of the DAG: its plan, its start under Snakemake, and the resources of each rule."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from elastickv.errors import ElastickvError


@contextmanager
def message_alone() -> Iterator[None]:
    """Ends the process with an error's message and exit code: Snakemake would put a traceback around it."""
    try:
        yield
    except ElastickvError as error:
        print(f"elastickv: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error
