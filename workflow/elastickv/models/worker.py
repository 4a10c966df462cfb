"""The process that holds a language model: reads a request, answers with one JSON file. It may crash.

Called as `python -m elastickv.models.worker REQUEST RESPONSE` by the interpreter of the engine's environment.
"""

from __future__ import annotations

import sys
import traceback
from importlib import import_module

from elastickv import records
from elastickv.jobs import worker
from elastickv.models import fetching, gpu, protocol
from elastickv.models.refusal import Refusal, one_line, status_of

ENGINES = {"transformers": "elastickv.models.transformers_engine", "gguf": "elastickv.models.gguf_engine"}


def _fetch(request: records.Json) -> records.Json:
    return fetching.fetch(request["settings"], request["engine"]).to_json()


def _look(request: records.Json) -> records.Json:
    return {"found": fetching.available(request["settings"], request["engine"])}


def _measure(request: records.Json) -> records.Json:
    settings, backend = protocol.Settings.of(request["settings"]), request["backend"]
    worker.show("loading")
    module = import_module(ENGINES[request["engine"]])
    engine = module.load(fetching.Fetched.of(request["fetched"]), settings, backend)
    measured = protocol.measure(engine, settings, worker.show)
    worker.show()
    found = gpu.facts()._asdict() if backend == "cuda" else None
    return {"measured": measured.to_json(), "software": module.software(), "gpu": found}


def _answering(task: worker.Task) -> worker.Task:
    """A task whose exceptions become an answer with a status and one line; their traceback goes to stderr."""

    def run(request: records.Json) -> records.Json:
        try:
            return task(request)
        except Refusal as refusal:
            return {"status": refusal.status, "reason": str(refusal)}
        except Exception as error:
            traceback.print_exc()
            return {"status": status_of(error), "reason": one_line(error)}

    return run


if __name__ == "__main__":
    sys.exit(worker.serve({"fetch": _answering(_fetch), "look": _answering(_look), "measure": _answering(_measure)}))
