"""Loads a user's peer from the file that the config names. Only workers load it, since it may crash.

The bytes that were read are hashed and loaded, so that no compiled copy of an older file is used.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

from elastickv.models.refusal import Refusal, one_line
from elastickv.peers.base import Peer


def load(path: str, sha256: str | None = None) -> tuple[Peer, str]:
    """The `PEER` of a file, and the file's sha256. Raises Refusal where there is none, with what the file raises.

    sha256: what the file has to have still.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise Refusal("failed", f"{path}: cannot be read: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 not in (None, found):
        raise Refusal("failed", f"{path}: was edited during the measurement: run again")
    module = ModuleType(f"elastickv_own_{Path(path).stem}")
    module.__file__ = str(Path(path).resolve())
    sys.modules[module.__name__] = module
    try:
        exec(compile(content, module.__file__, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise Refusal("failed", f"{path}: {one_line(error)}") from error
    peer = getattr(module, "PEER", None)
    if not isinstance(peer, Peer):
        raise Refusal("failed", f"{path}: PEER must be an instance of a subclass of elastickv.peers.base.Peer")
    if not (peer.times and isinstance(peer.times, str)):
        raise Refusal("failed", f"{path}: PEER.times must be a sentence on what one launch covers")
    if not (isinstance(peer.needs, tuple) and peer.needs and all(isinstance(one, str) for one in peer.needs)):
        raise Refusal("failed", f"{path}: PEER.needs must be a tuple of distributions, such as ('torch',)")
    return peer, found
