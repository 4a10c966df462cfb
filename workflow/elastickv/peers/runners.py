"""Repeats and times a peer's launches, with the same clock and stream as our kernels."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from elastickv.device import driver
from elastickv.device.base import Backend, Mode
from elastickv.models.refusal import Refusal
from elastickv.peers.base import Launch


class Runner(Protocol):
    """Programs of peers' launches. The first two methods are what `measure.steps.Rotation` needs of a backend.

    `ours` offers the same two for our own launches, replayed by the very same call.
    """

    ours: Any

    def program(self, calls: list[Launch], mode: Mode) -> Any:
        """A replayable sequence of launches."""

    def seconds(self, *programs: Any, lead: Sequence[Any] = ()) -> float:
        """Replays them once, after `lead`, which are not timed; waits, returns the time in seconds."""

    def answers(self, program: Any) -> list[np.ndarray]:
        """What each launch of a replay writes, float32, into memory that held NaN before."""


def open_runner(backend: Backend) -> Runner:
    """The runner for a backend. Imports torch after the backend's libraries are loaded."""
    return CpuRunner(backend) if backend.name == "cpu" else CudaRunner(backend)


def as_array(answer: Any) -> np.ndarray:
    """A copy of a tensor as float32 in host memory."""
    return np.array(answer.detach().float().cpu().numpy())


def _tensors(answers: Sequence[Any]) -> Sequence[Any]:
    """What launches returned. Raises Refusal for what is no plain tensor: it might be computed when it is read."""
    import torch

    for answer in answers:
        if type(answer) is not torch.Tensor:
            raise Refusal("failed", f"a launch returned a {type(answer).__name__}, not a torch.Tensor")
    return answers


class CpuRunner:
    """Calls from Python, on as many threads as our kernels; dispatching a call is part of what torch costs."""

    def __init__(self, backend: Backend):
        import torch

        self.ours = backend
        torch.set_num_threads(backend.facts()["threads"])

    def program(self, calls: list[Launch], mode: Mode) -> list[Launch]:
        """There are no graphs on a CPU: `mode` changes nothing."""
        return list(calls)

    def seconds(self, *programs: list[Launch], lead: Sequence[list[Launch]] = ()) -> float:
        """See Runner; there is no lead, as with our own kernels on a CPU."""
        began = time.perf_counter()
        for program in programs:
            for launch in program:
                launch()
        return time.perf_counter() - began

    def answers(self, program: list[Launch]) -> list[np.ndarray]:
        """While this runs, torch fills what it allocates with NaN; memory that launches keep is filled after a first
        replay."""
        import torch

        torch.use_deterministic_algorithms(True, warn_only=True)
        before, torch.utils.deterministic.fill_uninitialized_memory = (
            torch.utils.deterministic.fill_uninitialized_memory,
            True,
        )
        try:
            for kept in _tensors([launch() for launch in program]):
                kept.fill_(float("nan"))
            return [as_array(answer) for launch in program for answer in _tensors([launch()])]
        finally:
            torch.utils.deterministic.fill_uninitialized_memory = before
            torch.use_deterministic_algorithms(False)


class Replay:
    """An instantiated graph, launched by the driver: the same call for a peer's graph and for ours."""

    def __init__(self, driver: ctypes.CDLL, executable: int, keep: Any):
        self._driver, self._executable, self._keep = driver, ctypes.c_void_p(executable), keep

    def launch(self, stream: Any) -> None:
        """Enqueues the graph on a CuPy stream."""
        _checked(self._driver.cuGraphLaunch(self._executable, ctypes.c_void_p(stream.ptr)), "launching a graph")


class PeerReplay(Replay):
    """A graph that torch captured and kept, instantiated here.

    torch's own replay would first set up random numbers, by two small kernels, though no attention here draws any.
    """

    def __init__(self, driver: ctypes.CDLL, graph: Any):
        executable = ctypes.c_void_p()
        handle, flags = ctypes.c_void_p(graph.raw_cuda_graph()), ctypes.c_ulonglong(0)
        _checked(driver.cuGraphInstantiateWithFlags(ctypes.byref(executable), handle, flags), "instantiating a graph")
        super().__init__(driver, executable.value, graph)

    def __del__(self) -> None:
        if getattr(self, "_executable", None):
            self._driver.cuGraphExecDestroy(self._executable)


def _checked(code: int, what: str) -> None:
    if code:
        raise RuntimeError(f"{what} failed with CUDA error {code}")


class Captured(NamedTuple):
    """What `device.cuda.CudaBackend.seconds` replays (`graph`), and the tensors that its launches write.

    calls: what was captured, kept with the memory that it holds (gathered caches, workspaces), which a replay uses.
    """

    graph: Replay
    outputs: tuple[Any, ...] = ()
    calls: tuple[Launch, ...] = ()
    prepared: tuple[()] = ()


class OnDriver:
    """Our programs, with their graphs launched in the same way as a peer's."""

    def __init__(self, backend: Backend, driver: ctypes.CDLL):
        self._backend, self._driver = backend, driver
        self.seconds = backend.seconds

    def program(self, calls: list[Any], mode: Mode) -> Any:
        """The backend's own program where CuPy does not give its graph's handle."""
        made = self._backend.program(calls, mode)
        executable = getattr(made.graph, "graphExec", 0)
        return Captured(Replay(self._driver, executable, made)) if executable else made


class CudaRunner:
    """Launches captured by torch, whose allocator then keeps their buffers; replayed by our own backend."""

    def __init__(self, backend: Backend):
        import torch

        self._backend, self._driver = backend, driver.load()
        self.ours = OnDriver(backend, self._driver)
        torch.cuda.init()

    def program(self, calls: list[Launch], mode: Mode) -> Captured:
        """One graph of all launches. Before it a call: libraries set themselves up, which no capture allows."""
        import torch

        side = torch.cuda.Stream()
        torch.cuda.synchronize()  # plans and gathered caches come from another stream
        with torch.cuda.stream(side):
            for launch in calls[:2]:
                launch()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = tuple(launch() for launch in calls)
        return Captured(PeerReplay(self._driver, graph), tuple(_tensors(outputs)), tuple(calls))

    def seconds(self, *programs: Captured, lead: Sequence[Captured] = ()) -> float:
        """See Runner."""
        return self._backend.seconds(*programs, lead=lead)

    def answers(self, program: Captured) -> list[np.ndarray]:
        """The outputs of the very graph that is timed, filled with NaN before."""
        import torch

        for output in program.outputs:
            output.fill_(float("nan"))
        torch.cuda.synchronize()
        self.seconds(program)
        return [as_array(output) for output in program.outputs]
