"""The YAML matrix: strictly read, validated as a whole, resolved to a list of canonical cases with stable ids."""

from __future__ import annotations

from elastickv.matrix.cases import NO_CYCLE, content_key
from elastickv.matrix.config import CONFIG_DEFAULT, Config, case_from_flags, check_results_writable, load

__all__ = [
    "CONFIG_DEFAULT",
    "NO_CYCLE",
    "Config",
    "case_from_flags",
    "check_results_writable",
    "content_key",
    "load",
]
