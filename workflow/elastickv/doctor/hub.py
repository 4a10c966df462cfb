"""Language models that the config names beside the embedded one: can they be loaded, or does the hub have them."""

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
    """What is known of one model.

    present: a local model is there and can be loaded as far as its files tell, or a download is at hand. refused: why
    the baseline would refuse it. status: HTTP status of a HEAD request for its file, None where there was no answer;
    `silence` then says why.
    """

    model: Model
    present: bool
    status: int | None = None
    silence: str = ""
    refused: str = ""


@dataclass(frozen=True)
class Facts:
    """The models that the config names, and whether a token is at hand for the hub."""

    answers: tuple[Answer, ...]
    token: bool


def gather(needs: Needs, gpu: object) -> Facts:
    """Short HEAD requests for each model of the hub; local models are looked through."""
    token = _token()
    return Facts(tuple(_answer(model, token) for model in needs.models), bool(token))


def _home() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HF_HOME") or cache / "huggingface")


def _token() -> str:
    said = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if said:
        return said.strip()
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
        return Answer(model, present, silence=f"not asked: .envs/{ENGINES[model.engine]} is not made yet")
    files = f"{endpoint}/{model.name}/resolve/main"
    try:
        status = head(f"{files}/{model.file}", token)
        return Answer(model, present, status, refused=_weightless(model, files, token) if status < 400 else "")
    except (OSError, ValueError) as error:
        return Answer(model, present, silence=str(getattr(error, "reason", error)))


def _local(model: Model) -> Answer:
    """A model of this machine, looked through as the baseline does before it loads anything."""
    try:
        fetching.local(model.name, model.engine)
    except Refusal as refusal:
        return Answer(model, False, refused=str(refusal))
    return Answer(model, True)


def _weightless(model: Model, files: str, token: str) -> str:
    """Why Transformers loads no weights of a repository that is there: it has none, or pickled ones alone."""
    if model.engine != "transformers":
        return ""
    absent = all(head(f"{files}/{name}", token) == ABSENT for name in (weights.SINGLE, weights.INDEX))
    return f"{model.name}: {weights.NO_WEIGHTS}" if absent else ""


def _downloaded(name: str) -> bool:
    hub = Path(os.environ.get("HF_HUB_CACHE") or _home() / "hub")
    return any((hub / f"models--{name.replace('/', '--')}" / "snapshots").glob("*"))


def _endpoint(environment: str) -> str | None:
    """Where the hub is, as the library that will ask it says."""
    try:
        python = str(environments.interpreter(environment))
        return programs.run([python, "-c", ASK_ENDPOINT], f"{ELASTICKV} env {environment}").stdout.strip() or None
    except ElastickvError:
        return None


class _StayHere(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: the file's storage is not asked."""

    def redirect_request(self, *args: object) -> None:
        return None


def head(url: str, token: str) -> int:
    """HTTP status of a HEAD request. Raises OSError when there is no answer, ValueError when `url` is none."""
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
    """One model: there, to be had, or refused. A hub that does not answer is a note: the run goes on without it."""
    name, check = answer.model.name, f"model of {answer.model.engine}"
    instead = needs.make(f"baselines.{answer.model.engine}.model=smollm2")
    if answer.refused or answer.model.local:
        return problem(check, answer.refused, instead) if answer.refused else ok(check, name)
    if answer.status in REFUSED:
        said = "the hub refuses this HF_TOKEN" if token else "gated or private, and there is no HF_TOKEN"
        return problem(check, f"{name}: {said}", f"export HF_TOKEN=<a token that may read {name}>")
    if answer.status == ABSENT:
        return problem(check, f"{name}: the hub has no {answer.model.file} of that name", instead)
    if answer.status is not None and answer.status < 400:
        return ok(check, f"{name}: the hub has it" + (", and a download is at hand" if answer.present else ""))
    why = answer.silence or f"the hub answers with status {answer.status}"
    if answer.present:
        return ok(check, f"{name}: a download is at hand ({why})")
    fix = f"{ELASTICKV} env {ENGINES[answer.model.engine]}" if answer.silence.startswith("not asked") else instead
    return note(check, f"{name}: {why}; without it that baseline ends as failed, the rest goes on", fix)
