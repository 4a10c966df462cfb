"""What is timed, on a device: a module for each workload that its own file (`kinds`) does not describe whole."""

from __future__ import annotations

from importlib import import_module

from elastickv.device.base import Backend
from elastickv.kinds import Declared
from elastickv.schemas.case import AnyCase
from elastickv.workloads.base import Workload


def create(backend: Backend, case: AnyCase) -> Workload:
    """The workload of a canonical case, allocated and filled on `backend`. Raises MemoryError when it does not fit."""
    if isinstance(case.kind, Declared):
        from elastickv.workloads.declared import DeclaredWorkload

        return DeclaredWorkload(backend, case)
    return import_module(f"{__name__}.{case.workload}").WORKLOAD(backend, case)
