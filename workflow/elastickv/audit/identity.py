"""One hash of a results folder, to be published beside a claim, so that the folder cannot be changed later."""

from __future__ import annotations

import hashlib
from typing import Any

from elastickv import records


def of(manifest: dict[str, Any]) -> str:
    """The hash of a manifest, which holds those of all files, without the plan: it need not be published."""
    content = {key: value for key, value in manifest.items() if key != "inputs"}
    return hashlib.sha256(records.canonical_json(content).encode()).hexdigest()
