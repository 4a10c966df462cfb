"""The output of `elastickv bench --once --json`."""

from __future__ import annotations

from typing import Literal

from elastickv.schemas.base import Model, field, version
from elastickv.schemas.case import Case
from elastickv.schemas.parts import OnBackend


class Once(Model):
    """One launch of the elastic arm for a profiler: nothing was measured."""

    schema_: Literal["once/1"] = version("once/1")
    case: Case
    backend: OnBackend
    launched: Literal[1] = field("launches")


ROOT, TITLE = Once, "One launch"
