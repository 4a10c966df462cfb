"""The case list of a plan."""

from __future__ import annotations

from typing import Annotated, Literal

from elastickv.schemas.base import Model, field, version
from elastickv.schemas.config import Id


class Cases(Model):
    """Ids in the order of the matrix, and which of them a sweep became."""

    schema_: Literal["cases/2"] = version("cases/2")
    cases: list[Id] = field("ids of the cases", unique=True, min_length=1)
    sweeps: dict[str, Annotated[list[str], field(min_length=1)]] = field("ids of its cases by the name of each sweep")


ROOT, TITLE = Cases, "Case list of a plan"
