"""Language models of the config other than the embedded one: whether their baseline finds them and accepts them."""

from __future__ import annotations

from dataclasses import dataclass

from elastickv import jobs
from elastickv.doctor.finding import Finding, note, ok, problem
from elastickv.doctor.needs import ELASTICKV, Needs
from elastickv.errors import MachineError
from elastickv.models import fetching, supervisor
from elastickv.models.refusal import Refusal

LOOK_SECONDS = 60


@dataclass(frozen=True)
class Model:
    """A model, and what a worker answers about it; None if the engine's environment does not exist yet."""

    engine: supervisor.Engine
    name: str
    answer: jobs.Answer | None


def gather(needs: Needs, gpu: object) -> list[Model]:
    """Asks a worker of the engine's environment about each model; nothing is downloaded."""
    models = ((supervisor.ENGINES[engine], supervisor.Settings(section)) for engine, section in needs.models)
    return [Model(engine, settings.wanted, _answer(engine, settings)) for engine, settings in models]


def _answer(engine: supervisor.Engine, settings: supervisor.Settings) -> jobs.Answer | None:
    content = settings.to_json()
    try:
        if fetching.hub_repository(content, engine.name) is None:
            fetching.path_of(content["model"], engine.name)
        return supervisor.ask(engine, {"task": "look", "settings": content}, LOOK_SECONDS)
    except Refusal as refusal:
        return {"status": refusal.status, "reason": str(refusal)}
    except MachineError:
        return None


def checks(facts: list[Model], needs: Needs) -> list[Finding]:
    return [model(one, needs) for one in facts]


def model(one: Model, needs: Needs) -> Finding:
    """The finding for one model. A hub that does not respond is a note: the run continues without the model."""
    check, instead = f"model of {one.engine.name}", needs.make(f"baselines.{one.engine.name}.model=smollm2")
    if one.answer is None:
        make = f"{ELASTICKV} env {one.engine.environment}"
        return note(check, f"{one.name}: can be checked once the baseline's environment is installed", make)
    if "found" in one.answer:
        return ok(check, f"{one.name}: {one.answer['found']}")
    _, reason = jobs.ended(one.answer)
    if fetching.UNREACHABLE in reason:
        return note(check, f"{reason}; without the model this baseline fails, but the run continues", instead)
    token = f"export HF_TOKEN=<a token that may read {one.name}>"
    return problem(check, reason, token if "HF_TOKEN" in reason else instead)
