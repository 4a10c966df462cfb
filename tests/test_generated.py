"""What is generated from the models is current, and the models agree with the schemas."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from elastickv import matrix, records
from elastickv.jobs import process
from elastickv.schemas import generate
from elastickv.schemas.case import case_of

ROOT = Path(__file__).resolve().parents[1]
CONTENTS = generate.contents()


@pytest.mark.parametrize("path", CONTENTS, ids=str)
def test_generated_files_are_current(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert text == CONTENTS[path], "run: python -m elastickv.schemas.generate"


def test_every_key_of_a_config_has_a_meaning():
    """What the reference shows of a key: never an empty cell."""
    rows = [line for line in CONTENTS[Path("docs/matrix.md")].splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert not [row for row in rows if row.rstrip("| ").endswith("|") or row.split(" | ")[-1].strip(" |") == ""]


def test_no_schema_is_written_by_hand():
    schemas = {path.relative_to(ROOT) for path in (ROOT / "schemas").iterdir()}
    assert schemas == {path for path in CONTENTS if path.parts[0] == "schemas"}


def test_a_case_read_as_its_model_is_written_to_the_letter():
    """Keys of the record store are hashes of the text."""
    case = matrix.case_from_flags({"id": "a", "backend": "cpu", "seq": 300, "heads": 4, "dim": 64, "compress": 4})
    text = records.canonical_json(records.content(case))
    assert '"max_seconds":20,' in text
    assert records.canonical_json(records.content(case_of(json.loads(text)))) == text


def test_workers_of_language_models_need_no_pydantic():
    """They run in separate environments, with nothing of the core environment but this package."""
    modules = ("models.worker", "models.transformers_engine", "models.gguf_engine")
    code = "import sys; sys.modules['pydantic'] = None\n" + "".join(f"import elastickv.{name}\n" for name in modules)
    done = subprocess.run(
        [sys.executable, "-c", code], env=process.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
