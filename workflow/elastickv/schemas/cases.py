"""The case list of a plan."""

from __future__ import annotations

from typing import Literal

from elastickv.schemas.base import Model, field, version
from elastickv.schemas.config import Id


class Cases(Model):
    """Ids in the order of the matrix."""

    schema_: Literal["cases/1"] = version("cases/1")
    cases: list[Id] = field("ids of the cases", unique=True, min_length=1)


ROOT, TITLE = Cases, "Case list of a plan"
