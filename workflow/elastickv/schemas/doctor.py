"""The output of `elastickv doctor --json`."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import ConfigDict

from elastickv.schemas.base import Model, Text, field, version
from elastickv.schemas.rules import NULL, STRING, has, one_of, rules, when

# The modules under workflow/elastickv/doctor, in the order of their findings.
Theme = Literal[
    "interpreter", "environment", "peers", "compilers", "gpu", "images", "cases", "memory", "storage", "load", "hub"
]
THEMES = get_args(Theme)


class Finding(Model):
    """The result of one check."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            when(has(level=one_of("problem")), has(fix=STRING | {"minLength": 1})),
            when(has(level=one_of("ok")), has(fix=NULL)),
        )
    )

    theme: Theme = field("module under workflow/elastickv/doctor")
    check: Text
    level: Literal["ok", "note", "problem"]
    found: Text
    fix: str | None = field("command that fixes it; null if nothing needs fixing")


_PROBLEM = {"contains": has(level=one_of("problem"))}


class Doctor(Model):
    """Whether this machine can run a config."""

    model_config = ConfigDict(
        json_schema_extra=when(has(ready={"const": True}), has(findings={"not": _PROBLEM}), has(findings=_PROBLEM))
    )

    schema_: Literal["doctor/1"] = version("doctor/1")
    config: list[str] = field("config files; later ones take precedence", min_length=1)
    ready: bool = field("whether the machine has everything that the config needs")
    findings: list[Finding] = field("one finding per check", min_length=1)


ROOT, TITLE = Doctor, "What elastickv doctor found"
