"""What `elastickv doctor --json` prints."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from elastickv.schemas.base import Model, Text, field, version
from elastickv.schemas.rules import NULL, STRING, has, one_of, rules, when


class Finding(Model):
    """One thing that was looked at."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            when(has(level=one_of("problem")), has(fix=STRING | {"minLength": 1})),
            when(has(level=one_of("ok")), has(fix=NULL)),
        )
    )

    theme: Literal[
        "interpreter", "environment", "peers", "compilers", "gpu", "images", "cases", "memory", "storage", "load", "hub"
    ] = field("the module under workflow/elastickv/doctor")
    check: Text
    level: Literal["ok", "note", "problem"]
    found: Text
    fix: str | None = field("the command that mends it; null where there is nothing to mend")


_PROBLEM = {"contains": has(level=one_of("problem"))}


class Doctor(Model):
    """What this machine has and lacks for a config."""

    model_config = ConfigDict(
        json_schema_extra=when(has(ready={"const": True}), has(findings={"not": _PROBLEM}), has(findings=_PROBLEM))
    )

    schema_: Literal["doctor/1"] = version("doctor/1")
    config: list[str] = field("the config files, later ones win", min_length=1)
    ready: bool = field("nothing that the config needs is missing")
    findings: list[Finding] = field("one for each check", min_length=1)


ROOT, TITLE = Doctor, "What elastickv doctor found"
