"""The output of `elastickv cases --json`."""

from __future__ import annotations

from typing import Literal

from elastickv.schemas.base import Model, Text, field, version
from elastickv.schemas.case import Case


class ResolvedCases(Model):
    """The canonical cases of a config in the order of the matrix, and the cases that no kernel supports."""

    schema_: Literal["resolved_cases/1"] = version("resolved_cases/1")
    cases: list[Case] = field("canonical cases", min_length=1)
    unsupported: dict[str, Text] = field("by id: why no device of the case's backend can run it")


ROOT, TITLE = ResolvedCases, "What `elastickv cases --json` prints"
