"""What `elastickv cases --json` prints."""

from __future__ import annotations

from typing import Literal

from elastickv.schemas.base import Model, Text, field, version
from elastickv.schemas.case import Case


class ResolvedCases(Model):
    """The canonical cases of a config in the order of the matrix, and which of them no kernel can run."""

    schema_: Literal["resolved_cases/1"] = version("resolved_cases/1")
    cases: list[Case] = field("canonical cases", min_length=1)
    unsupported: dict[str, Text] = field("by id: why a case runs on no device that its backend may mean")


ROOT, TITLE = ResolvedCases, "What `elastickv cases --json` prints"
