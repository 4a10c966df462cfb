"""Loads a user's peer from the file that the config names. Only workers load it, since it may crash.

The bytes that were read are hashed and loaded, so that no compiled copy of an older file is used.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import sys
from pathlib import Path

from elastickv.models.refusal import Refusal, one_line
from elastickv.peers.base import Peer


class _AsRead(importlib.abc.SourceLoader):
    """Loads a module out of bytes that were read before."""

    def __init__(self, name: str, path: str, content: bytes):
        self.name, self._path, self._content = name, path, content

    def get_filename(self, fullname: str) -> str:
        return self._path

    def get_data(self, path: str) -> bytes:
        if path != self._path:  # a compiled copy
            raise OSError(path)
        return self._content


def load(path: str, sha256: str | None = None) -> tuple[Peer, str]:
    """The `PEER` of a file, and the file's sha256. Raises Refusal where there is none, with what the file raises.

    sha256: the hash that the file had before; a file edited since is refused.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise Refusal("failed", f"{path}: cannot be read: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 not in (None, found):
        raise Refusal("failed", f"{path}: was edited during the measurement: run again")
    loader = _AsRead(f"elastickv_own_{Path(path).stem}", str(Path(path).resolve()), content)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[module.__name__] = module
    try:
        loader.exec_module(module)
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
