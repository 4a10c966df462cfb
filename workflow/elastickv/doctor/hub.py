"""Language models of the config other than the embedded one: whether they can be loaded or are on the hub."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from elastickv import environments
from elastickv.doctor.finding import Finding, note, ok, problem
from elastickv.doctor.needs import ELASTICKV, Model, Needs
from elastickv.errors import ElastickvError
from elastickv.models import fetching, weights
from elastickv.models.refusal import Refusal
from elastickv.system import programs

TIMEOUT_SECONDS = 4
ENGINES = {"transformers": "llm", "gguf": "gguf"}
ASK_ENDPOINT = "from huggingface_hub import constants; print(constants.ENDPOINT)"
REFUSED, ABSENT = (401, 403), 404


@dataclass(frozen=True)
class Answer:
    """What is known about one model.

    present: whether a local model exists and looks loadable, or the hub's model is already downloaded. refused: why the
    baseline would refuse it. status: HTTP status of a HEAD request for its file, None without a response; `silence` is
    then the reason.
    """

    model: Model
    present: bool
    status: int | None = None
    silence: str = ""
    refused: str = ""


@dataclass(frozen=True)
class Facts:
    """The models that the config names, and whether a hub token is set."""

    answers: tuple[Answer, ...]
    token: bool


def gather(needs: Needs, gpu: object) -> Facts:
    """Sends a HEAD request for each hub model and inspects the files of each local model."""
    token = _token()
    return Facts(tuple(_answer(model, token) for model in needs.models), bool(token))


def _home() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HF_HOME") or cache / "huggingface")


def _token() -> str:
    text = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if text:
        return text.strip()
    try:
        return Path(os.environ.get("HF_TOKEN_PATH") or _home() / "token").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _answer(model: Model, token: str) -> Answer:
    if model.local:
        return _local(model)
    present = _downloaded(model.name)
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return Answer(model, present, silence="HF_HUB_OFFLINE is set")
    endpoint = os.environ.get("HF_ENDPOINT") or _endpoint(ENGINES[model.engine])
    if not endpoint:
        return Answer(model, present, silence=f"not checked: .envs/{ENGINES[model.engine]} does not exist yet")
    files = f"{endpoint}/{model.name}/resolve/main"
    try:
        status = head(f"{files}/{model.file}", token)
        return Answer(model, present, status, refused=_weightless(model, files, token) if status < 400 else "")
    except (OSError, ValueError) as error:
        return Answer(model, present, silence=str(getattr(error, "reason", error)))


def _local(model: Model) -> Answer:
    """Inspects a local model in the same way as the baseline does before loading it."""
    try:
        fetching.local(model.name, model.engine)
    except Refusal as refusal:
        return Answer(model, False, refused=str(refusal))
    return Answer(model, True)


def _weightless(model: Model, files: str, token: str) -> str:
    """Why Transformers cannot load the weights of an existing repository: none, or only pickled ones."""
    if model.engine != "transformers":
        return ""
    absent = all(head(f"{files}/{name}", token) == ABSENT for name in (weights.SINGLE, weights.INDEX))
    return f"{model.name}: {weights.NO_WEIGHTS}" if absent else ""


def _downloaded(name: str) -> bool:
    hub = Path(os.environ.get("HF_HUB_CACHE") or _home() / "hub")
    return any((hub / f"models--{name.replace('/', '--')}" / "snapshots").glob("*"))


def _endpoint(environment: str) -> str | None:
    """The address of the hub, from the library that will download from it."""
    try:
        python = str(environments.interpreter(environment))
        return programs.run([python, "-c", ASK_ENDPOINT], f"{ELASTICKV} env {environment}").stdout.strip() or None
    except ElastickvError:
        return None


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects: a redirect already shows that the file exists."""

    def redirect_request(self, *args: object) -> None:
        return None


def head(url: str, token: str) -> int:
    """HTTP status of a HEAD request. Raises OSError without a response, ValueError if `url` is not a URL."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, method="HEAD", headers=headers)
    try:
        with urllib.request.build_opener(_StayHere).open(request, timeout=TIMEOUT_SECONDS) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    return [model(one, facts.token, needs) for one in facts.answers]


def model(answer: Answer, token: bool, needs: Needs) -> Finding:
    """The finding for one model. A hub that does not respond is a note: the run continues without the model."""
    name, check = answer.model.name, f"model of {answer.model.engine}"
    instead = needs.make(f"baselines.{answer.model.engine}.model=smollm2")
    if answer.refused or answer.model.local:
        return problem(check, answer.refused, instead) if answer.refused else ok(check, name)
    if answer.status in REFUSED:
        text = "the hub rejects this HF_TOKEN" if token else "gated or private, and HF_TOKEN is not set"
        return problem(check, f"{name}: {text}", f"export HF_TOKEN=<a token that may read {name}>")
    if answer.status == ABSENT:
        return problem(check, f"{name}: the hub has no file {answer.model.file} for it", instead)
    if answer.status is not None and answer.status < 400:
        return ok(check, f"{name}: available on the hub" + (", already downloaded" if answer.present else ""))
    why = answer.silence or f"the hub responds with status {answer.status}"
    if answer.present:
        return ok(check, f"{name}: already downloaded ({why})")
    fix = f"{ELASTICKV} env {ENGINES[answer.model.engine]}" if answer.silence.startswith("not checked") else instead
    return note(check, f"{name}: {why}; without the model this baseline fails, but the run continues", fix)
