"""Finds and loads the Python files of kernels, `kernels/<name>/<file>.py`."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from elastickv.errors import ElastickvError, UsageError

KERNELS = Path(__file__).resolve().parents[3] / "kernels"


def having(file: str) -> list[str]:
    """The kernels that have such a file, sorted."""
    return sorted(path.parent.name for path in KERNELS.glob(f"*/{file}"))


@cache
def module(kernel: str, file: str) -> ModuleType:
    """The module `kernels/<kernel>/<file>`. UsageError where it is not there or cannot be loaded."""
    path = KERNELS / kernel / file
    if not path.is_file():
        raise UsageError(f"{path} is missing")
    name = f"elastickv_kernels.{kernel}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # as an import does: annotations of its classes are looked up there
    try:
        spec.loader.exec_module(made)
    except ElastickvError:
        raise
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return made
