"""The YAML matrix: read strictly, validated as a whole, and resolved to a list of canonical cases with stable ids."""

from __future__ import annotations

from elastickv.matrix.cases import content_key, no_cycle
from elastickv.matrix.config import CONFIG_DEFAULT, Config, case_from_flags, check_results_writable, load

__all__ = [
    "CONFIG_DEFAULT",
    "Config",
    "case_from_flags",
    "check_results_writable",
    "content_key",
    "load",
    "no_cycle",
]
