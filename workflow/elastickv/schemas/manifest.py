"""The manifest of a results folder: where `elastickv verify` starts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import MISSING

from elastickv.schemas.base import Count, Model, Sha256, Text, field, optional, version
from elastickv.schemas.provenance import Provenance


class File(Model):
    """A file with its size and hash."""

    path: Text = field("path relative to the results folder")
    sha256: Sha256
    bytes: Count = field("size", "bytes")


class Manifest(Model):
    """The resolved config and the hash of every input and output."""

    schema_: Literal["manifest/2"] = version("manifest/2")
    elastickv: Text = field("version of this package")
    run: Provenance
    config: dict[str, Any] | None = field("the resolved config")
    config_sha256: Sha256 | MISSING = optional("of the resolved config as canonical JSON")
    cases: list[dict[str, Any]] = field("canonical")
    sweeps: dict[str, list[str]] | MISSING = optional("by sweep: the ids of its cases")
    inputs: list[File] = field("the plan; empty for a folder that was published without its plan")
    outputs: list[File] = field("all other files in the results folder")


ROOT, TITLE = Manifest, "Manifest of a results folder"
