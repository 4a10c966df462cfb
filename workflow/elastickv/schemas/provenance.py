"""The provenance of a result, which is part of the manifest and of each record's build."""

from __future__ import annotations

from elastickv.schemas.base import Model, Sha256, field


class Provenance(Model):
    """The provenance of a result: commit, sources and command."""

    commit: str | None = field("commit of the checkout; null without a repository", pattern="^[0-9a-f]{40,64}$")
    dirty: bool | None = field("whether files that affect results differ from the commit; null if unknown")
    sources: Sha256 = field("sha256 of all sources: kernels without comments, package, schemas, locks, default matrix")
    command: list[str] = field("its words", min_length=1)


ROOT, TITLE = Provenance, "Provenance"
