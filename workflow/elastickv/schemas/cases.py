"""The case list of a plan."""

from __future__ import annotations

from typing import Annotated, Literal

from elastickv.schemas.base import Model, field, version
from elastickv.schemas.config import Id


class Cases(Model):
    """The case ids in the order of the matrix, and the sweeps that some of them come from."""

    schema_: Literal["cases/2"] = version("cases/2")
    cases: list[Id] = field("ids of the cases", unique=True, min_length=1)
    sweeps: dict[str, Annotated[list[str], field(min_length=1)]] = field("by sweep: the ids of its cases")


ROOT, TITLE = Cases, "Case list of a plan"
