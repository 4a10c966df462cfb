"""Checks `manifest.json`: the hash of every listed file, and files that are not listed."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from elastickv import records
from elastickv.audit.reading import Folder, is_record


def check(folder: Folder, manifest: dict[str, Any]) -> None:
    """Every listed file must exist and be unchanged; a record that is not listed is a fault, any other file a note."""
    listed = {"manifest.json"}
    for part in ("inputs", "outputs"):
        for index, entry in enumerate(manifest[part]):
            path = PurePosixPath(entry["path"])
            if path.is_absolute() or ".." in path.parts:
                about = folder.findings.of("manifest.json")
                about.fault(f"{part}.{index}.path", repr(entry["path"]), "a path inside the folder")
            elif folder.can_read(entry["path"], f"{part}.{index}"):
                _file(folder, f"{part}.{index}", entry)
            listed.add(entry["path"])
    for name in folder.names("**/*"):
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        if hidden or name in listed or (folder.path / name).is_dir():
            continue
        if is_record(name):
            folder.findings.of(name).fault("(file)", "a record", "nothing: manifest.json does not list it")
        else:
            folder.findings.notes.append(f"{name}: not listed in manifest.json, not checked")


def _file(folder: Folder, where: str, entry: dict[str, Any]) -> None:
    """One file of the results folder, by size and hash. The fault names the file, and where it is listed."""
    about, path = folder.findings.of(entry["path"], "sizes"), folder.path / entry["path"]
    nbytes = path.stat().st_size
    if about.require(nbytes == entry["bytes"], "bytes", nbytes, f"{entry['bytes']} (manifest.json: {where}.bytes)"):
        digest = records.sha256_file(path)
        folder.findings.checked["files hashed"] += 1
        about.require(digest == entry["sha256"], "sha256", digest, f"{entry['sha256']} (manifest.json: {where}.sha256)")
