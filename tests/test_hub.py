"""Models of the hub, fetched by the real client from a small server that answers as the hub does."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from model_files import safetensors_bytes, shard

from elastickv import environments
from elastickv.jobs import process

COMMIT = "a" * 40
WEIGHTS = safetensors_bytes({"t": 5})
CONFIG = b'{"model_type": "llama"}'
SHARDS = {f"part-{number}.safetensors": safetensors_bytes({f"t{number}": number}) for number in (1, 2)}
INDEX = json.dumps({"metadata": {}, "weight_map": {"t1": "part-1.safetensors", "t2": "part-2.safetensors"}}).encode()
SHARDED = {"config.json": CONFIG, "model.safetensors.index.json": INDEX}
SPLIT = {f"Q4/m-0000{number}-of-00002.gguf": shard(number, 2, 2, {f"t{number}": number}) for number in (1, 2)}
REPOSITORIES = {
    "open/model": {
        **{"model.safetensors": WEIGHTS, "config.json": CONFIG, "tokenizer.json": b"{}", "run.py": b"1"},
        "README.md": b"---\nlicense: mit\n---\nA model.\n",
    },
    "open/pickled": {"pytorch_model.bin": b"pickle", "config.json": b"{}"},
    "open/gguf": {"model.gguf": b"GGUF" + (3).to_bytes(4, "little") + bytes(16)},
    "open/sharded": {
        **SHARDED,
        **SHARDS,
        "consolidated.safetensors": WEIGHTS,
        "model-00001-of-00009.safetensors": WEIGHTS,
    },
    "open/both": {**SHARDED, **SHARDS, "model.safetensors": WEIGHTS},
    "open/split": SPLIT,
}


class Hub(BaseHTTPRequestHandler):
    """What the client requests: a repository's facts, then its files. `gated/model` needs the token `open-sesame`."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        path = self.path.split("?")[0].strip("/")
        self.server.requests.append(path)
        name = "/".join(path.removeprefix("api/models/").split("/")[:2])
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if name == "gated/model" and "/resolve/" in path and token != "open-sesame":
            return self.reply(403 if token else 401, headers={"X-Error-Code": "GatedRepo"})
        files = REPOSITORIES.get("open/model" if name == "gated/model" else name)
        unknown = any(f"/{part}/" in path for part in ("revision", "tree")) and not path.endswith(("/main", COMMIT))
        if files is None or unknown:
            return self.reply(404, headers={"X-Error-Code": "RevisionNotFound" if unknown else "RepoNotFound"})
        if path == f"api/models/{name}/tree/{COMMIT}":
            tree = [{"type": "file", "path": file, "size": len(files[file]), "oid": "b" * 40} for file in files]
            return self.reply(200, json.dumps(tree).encode())
        if path.startswith("api/"):
            about = {"id": name, "sha": COMMIT, "tags": [], "private": False}
            return self.reply(200, json.dumps(about | {"siblings": [{"rfilename": file} for file in files]}).encode())
        content = files.get(path.partition("/resolve/")[2].partition("/")[2])
        if content is None:
            return self.reply(404, headers={"X-Error-Code": "EntryNotFound"})
        return self.reply(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256(content).hexdigest()}"'})

    def reply(self, status: int, body: bytes = b"{}", headers: dict | None = None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def combined(files: dict[str, bytes]) -> str:
    """The hash of what sha256sum prints of the files."""
    lines = "".join(f"{sha256(content).hexdigest()}  {Path(name).name}\n" for name, content in files.items())
    return sha256(lines.encode()).hexdigest()


@pytest.fixture(scope="module")
def hub() -> Iterator[ThreadingHTTPServer]:
    environments.make("llm")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.requests = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def fetch(hub, home: Path, settings: dict, engine: str = "transformers", task: str = "fetch", **variables: str) -> dict:
    """The answer of a worker that downloads a model, or (task "look") only looks for it."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    clean |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [str(environments.interpreter("llm")), "-m", "elastickv.models.worker"]
    request = {"task": task, "engine": engine, "settings": settings}
    return process.ask(command, request, 120, clean | {"PYTHONPATH": process.environment()["PYTHONPATH"]} | variables)


def test_a_model_is_fetched_at_the_revision_that_is_recorded_and_found_again_offline(hub, tmp_path):
    hub.requests.clear()
    found = fetch(hub, tmp_path, {"model": "open/model"})
    assert found["model"] == {
        "name": "open/model", "file": "model.safetensors", "revision": COMMIT, "license": "mit", "parameters": 5,
        "sha256": sha256(WEIGHTS).hexdigest(),
        "config_sha256": combined({"config.json": CONFIG, "tokenizer.json": b"{}"}),
    }  # fmt: skip
    assert sorted(path.name for path in Path(found["folder"]).iterdir()) == [
        "README.md", "config.json", "model.safetensors", "tokenizer.json"
    ]  # fmt: skip
    assert not any("run.py" in path for path in hub.requests)
    assert fetch(hub, tmp_path, {"model": "open/model"}, HF_HUB_OFFLINE="1") == found


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"model": "open/pickled"},
            "open/pickled: there is no model.safetensors and no model.safetensors.index.json:"
            " no safetensors weights (pickle files are never loaded)",
        ),
        ({"model": "no/model"}, "no/model: not on the model hub, or private and HF_TOKEN is not set or not valid"),
        ({"model": "gated/model"}, "gated/model: request access on the hub and set HF_TOKEN"),
        ({"repo": "open/gguf", "file": "other.gguf"}, "open/gguf: the repository has no file other.gguf"),
        ({"model": "open/model", "revision": "c" * 40}, "open/model: the repository has no such revision"),
        (
            {"model": "open/model", "sha256": "0" * 64},
            f"open/model: its sha256 is {sha256(WEIGHTS).hexdigest()}, but {'0' * 64} is pinned",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_the_hub_refuses_has_a_reason(hub, tmp_path, settings, reason):
    engine = "gguf" if "repo" in settings else "transformers"
    assert fetch(hub, tmp_path, settings, engine) == {"status": "failed", "reason": reason}


def test_a_token_opens_what_is_gated(hub, tmp_path):
    assert fetch(hub, tmp_path, {"model": "gated/model"}, HF_TOKEN="open-sesame")["model"]["revision"] == COMMIT
    assert "HF_TOKEN" in fetch(hub, tmp_path / "b", {"model": "gated/model"}, HF_TOKEN="wrong")["reason"]


def test_the_shards_of_the_index_are_fetched_and_found_again_offline(hub, tmp_path):
    found = fetch(hub, tmp_path, {"model": "open/sharded"})
    assert found["model"]["sha256"] == combined(SHARDS)
    assert (found["model"]["file"], found["model"]["parameters"]) == ("part-1.safetensors (2 files)", 3)
    assert {path.name for path in Path(found["folder"]).iterdir()} == {*SHARDED, *SHARDS}
    assert fetch(hub, tmp_path, {"model": "open/sharded"}, HF_HUB_OFFLINE="1") == found
    (Path(found["folder"]) / "part-2.safetensors").unlink()
    lost = fetch(hub, tmp_path, {"model": "open/sharded"}, HF_HUB_OFFLINE="1")
    assert "it has not been downloaded before" in lost["reason"]


def test_weights_in_one_file_go_before_an_index(hub, tmp_path):
    found = fetch(hub, tmp_path, {"model": "open/both"})
    assert found["model"]["file"] == "model.safetensors"
    assert {path.name for path in Path(found["folder"]).iterdir()} == {*SHARDED, "model.safetensors"}


def test_all_shards_of_a_split_gguf_are_fetched_and_found_again_offline(hub, tmp_path):
    first, second = SPLIT
    found = fetch(hub, tmp_path, {"repo": "open/split", "file": first}, "gguf")
    assert found["model"].items() >= {"sha256": combined(SPLIT), "revision": COMMIT, "parameters": 3}.items()
    assert fetch(hub, tmp_path, {"repo": "open/split", "file": first}, "gguf", HF_HUB_OFFLINE="1") == found
    other = fetch(hub, tmp_path, {"repo": "open/split", "file": second}, "gguf")
    assert other["reason"] == f"{second}: one of 2 shards; name the first, {first}"


def test_a_pinned_revision_and_hash_are_what_comes_also_offline(hub, tmp_path):
    hub.requests.clear()
    pinned = {"model": "open/model", "revision": COMMIT, "sha256": sha256(WEIGHTS).hexdigest()}
    found = fetch(hub, tmp_path, pinned)
    assert found["model"].items() >= {"revision": COMMIT, "sha256": pinned["sha256"]}.items()
    assert not any("main" in path.split("/") for path in hub.requests)
    again = fetch(hub, tmp_path, pinned, HF_HUB_OFFLINE="1")
    assert again["model"]["sha256"] == pinned["sha256"]
    other = fetch(hub, tmp_path, pinned | {"revision": "c" * 40}, HF_HUB_OFFLINE="1")
    assert "it has not been downloaded before" in other["reason"]


def test_a_hub_that_is_not_there_is_said_so(hub, tmp_path):
    found = fetch(hub, tmp_path, {"model": "open/model"}, HF_ENDPOINT="http://127.0.0.1:9")
    assert found["reason"] == "open/model: the model hub is not reachable, and it has not been downloaded before"


# the doctor's look


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "open/model"}, "available on the hub"),
        ({"model": "open/pickled"}, "no safetensors weights"),
        ({"model": "gated/model"}, "request access on the hub and set HF_TOKEN"),
        ({"model": "no/model"}, "not on the model hub"),
        ({"repo": "open/gguf", "file": "other.gguf"}, "the repository has no such file"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_doctor_looks_for_a_model_without_downloading_it(hub, tmp_path, settings, words):
    hub.requests.clear()
    answer = fetch(hub, tmp_path, settings, "gguf" if "repo" in settings else "transformers", "look")
    assert words in answer.get("found", answer.get("reason"))
    assert not (tmp_path / "hub").exists()


def test_a_look_at_a_hub_that_is_not_there_says_whether_the_model_is_downloaded(hub, tmp_path):
    absent = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert "not reachable" in fetch(hub, tmp_path, {"model": "open/model"}, task="look", **absent)["reason"]
    fetch(hub, tmp_path, {"model": "open/model"})
    assert "already downloaded" in fetch(hub, tmp_path, {"model": "open/model"}, task="look", **absent)["found"]
