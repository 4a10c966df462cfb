"""The process that holds a language model: reads a request, answers with one JSON file. It may crash.

Called as `python -m elastickv.models.worker REQUEST RESPONSE` by the interpreter of the engine's environment.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from elastickv import records
from elastickv.models import fetching, gpu, protocol
from elastickv.models.refusal import Refusal, one_line, status_of
from elastickv.system import orphans

ENGINES = {"transformers": "elastickv.models.transformers_engine", "gguf": "elastickv.models.gguf_engine"}
PHASES = 4  # loading, self-check, perplexity, warm-up; repetitions and further caches come on top


def _fetch(request: records.Json) -> records.Json:
    return fetching.fetch(request["settings"], request["engine"]).to_json()


def _look(request: records.Json) -> records.Json:
    return {"found": fetching.available(request["settings"], request["engine"])}


def _measure(request: records.Json) -> records.Json:
    settings, backend = protocol.Settings.of(request["settings"]), request["backend"]
    with _progress(PHASES + settings.reps + len(settings.caches[1:])) as progress:
        progress("loading")
        module = import_module(ENGINES[request["engine"]])
        engine = module.load(fetching.Fetched.of(request["fetched"]), settings, backend)
        measured = protocol.measure(engine, settings, progress)
    found = gpu.facts()._asdict() if backend == "cuda" else None
    return {"measured": measured.to_json(), "software": module.software(), "gpu": found}


@contextlib.contextmanager
def _progress(phases: int) -> Iterator[Callable[[str], None]]:
    """A function that shows the phase under way, on a terminal; nothing elsewhere."""
    from tqdm import tqdm

    with tqdm(
        total=phases, leave=False, disable=not sys.stderr.isatty(), bar_format="  {desc} |{bar}| {elapsed}"
    ) as bar:

        def show(phase: str) -> None:
            bar.update()
            bar.set_description_str(phase)

        yield show


TASKS = {"fetch": _fetch, "look": _look, "measure": _measure}


def main(request_file: str, response_file: str) -> int:
    """Runs one task. Whatever Python can catch is answered with a status and one line, its traceback on stderr."""
    orphans.die_with_parent()
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    try:
        response = TASKS[request["task"]](request)
    except Refusal as refusal:
        response = {"status": refusal.status, "reason": str(refusal)}
    except Exception as error:
        traceback.print_exc()
        response = {"status": status_of(error), "reason": one_line(error)}
    records.write_text(response_file, records.to_json(response))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
