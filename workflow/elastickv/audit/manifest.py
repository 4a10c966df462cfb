"""Checks `manifest.json`: the hash of every listed file, the copy of the plan, and files that are not listed."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from elastickv import records
from elastickv.audit.finding import About
from elastickv.audit.reading import Folder, schema_of
from elastickv.system import readable


def check(folder: Folder, manifest: dict[str, Any]) -> None:
    """Every listed file must exist and be unchanged."""
    about = folder.findings.of("manifest.json", "fields of the plan")
    listed: set[str] = set()
    for part in ("inputs", "outputs"):
        for index, entry in enumerate(manifest[part]):
            where = f"{part}.{index}"
            if not _inside(entry["path"]):
                about.fault(f"{where}.path", repr(entry["path"]), "a path inside the folder")
            else:
                about.require(entry["path"] not in listed, f"{where}.path", f"{entry['path']} twice", "each file once")
                listed.add(entry["path"])
                _file(folder, where, entry)
    _plan(folder, about, manifest)
    _unlisted(folder, listed)


def listed(manifest: dict[str, Any]) -> set[str]:
    """The files of the results folder that a manifest lists."""
    return {e["path"] for part in ("inputs", "outputs") for e in manifest[part]}


def _inside(path: str) -> bool:
    return not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts


def _file(folder: Folder, where: str, entry: dict[str, Any]) -> None:
    """One file of the results folder, by size and hash. The fault names the file, and where it is listed."""
    about = folder.findings.of(entry["path"], "sizes")
    path = folder.path / entry["path"]
    found = readable.obstacle(path)
    if entry["path"] in folder.unreadable:
        return  # a fault already
    if not about.require(found is None, "(file)", found, f"the file that manifest.json lists ({where})"):
        return
    nbytes = path.stat().st_size
    if about.require(nbytes == entry["bytes"], "bytes", nbytes, f"{entry['bytes']} (manifest.json: {where}.bytes)"):
        digest = records.sha256_file(path)
        folder.findings.checked["files hashed"] += 1
        about.require(digest == entry["sha256"], "sha256", digest, f"{entry['sha256']} (manifest.json: {where}.sha256)")


def _plan(folder: Folder, about: About, manifest: dict[str, Any]) -> None:
    """Run, config and cases that the manifest repeats, against the plan's files."""
    planned = folder.record(".plan/cases.json") if folder.has(".plan/cases.json") else None
    if planned:
        about.same("cases", [case.get("id") for case in manifest["cases"]], planned["cases"])
        for index, case in enumerate(manifest["cases"]):
            name = f".plan/cases/{case.get('id')}.json"
            if folder.has(name) and (content := folder.record(name)):
                about.same(f"cases.{index}", case, content)
    run = folder.record(".plan/run.json") if folder.has(".plan/run.json") else None
    if run is not None:
        about.same("run", manifest["run"], run)
    config = folder.config()
    if config is not None:
        about.same("config", manifest["config"], config)


def _unlisted(folder: Folder, listed: set[str]) -> None:
    """A record that the manifest does not list is a fault, any other file a note."""
    for name in folder.names("**/*"):
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        known = hidden or name in listed or name == "manifest.json" or name in folder.unreadable
        if known or not (folder.path / name).is_file():
            continue
        if schema_of(name):
            folder.findings.of(name).fault("(file)", "a record", "nothing: manifest.json does not list it")
        else:
            folder.findings.notes.append(f"{name}: not listed in manifest.json, not checked")
