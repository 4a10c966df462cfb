"""Programmatic dependent launch gives the bits of plain launches.

Over a chain, too, in which each layer's query is the output of the layer before and every token is appended just before
it is attended. Needs a GPU of compute capability 9.0.
"""

from __future__ import annotations

import numpy as np
import pytest

from elastickv import matrix, workloads
from elastickv.cache import oracle
from elastickv.device.base import Mode

pytestmark = [pytest.mark.gpu, pytest.mark.parametrize("backend", ["cuda"], indirect=True)]
TOKENS = 12
CASES = {
    "full and elastic": {"seq": 1200, "compress": 4},
    "int4 of every token": {"seq": 2000, "compress": 1, "cache_dtype": "int4"},
    "grouped queries, int8": {"seq": 3000, "kv_heads": 2, "compress": 2, "cache_dtype": "int8"},
    "grouped queries": {"seq": 3000, "kv_heads": 2, "compress": 3, "bias": "log_count"},
    "no window": {"seq": 900, "window": 0, "sinks": 0, "compress": 3},
    "fp32": {"seq": 700, "dim": 64, "compress": 5, "dtype": "fp32"},
}


@pytest.fixture
def dependent(backend):
    if backend.launch_mode("auto") != "dependent":
        pytest.skip(f"compute capability {backend.facts()['compute_capability']} has no programmatic dependent launch")
    return backend


def chain_answers(backend, workload, arm: str, mode: Mode) -> np.ndarray:
    """What all layers answer for each of TOKENS tokens, as stored; outputs are poisoned before each token."""
    workload.restore()
    programs = [backend.program(workload.cycle_calls(arm, parity), mode) for parity in (0, 1)]
    answers = []
    for token in range(TOKENS):
        outputs = workload.chain_outputs(arm, token % 2)
        for address, nbytes in outputs:
            backend.fill_bytes(address, nbytes, 0xFF)
        backend.seconds(programs[token % 2])
        answers.append([backend.read(address, (nbytes,), np.uint8) for address, nbytes in outputs])
    return np.array(answers)


@pytest.mark.parametrize("name", CASES)
def test_a_chain_of_dependent_launches_gives_the_bits_of_plain_ones(dependent, name):
    shape = {
        "heads": 16,
        "dim": 128,
        "measure": {"decode_tokens": TOKENS},
        "workload": "decode",
        "backend": "cuda",
    } | CASES[name]
    workload = workloads.create(dependent, matrix.case_from_flags(shape))
    for arm in ("full", "elastic"):
        plain = chain_answers(dependent, workload, arm, Mode(graph=True))
        for graph in (True, False):
            for _ in range(3):
                np.testing.assert_array_equal(
                    chain_answers(dependent, workload, arm, Mode(graph, dependent=True)), plain
                )
        assert oracle.passes(workload.check_cycle()[arm])


@pytest.mark.parametrize("name", CASES)
def test_rotating_dependent_launches_give_the_bits_of_plain_ones(dependent, name):
    """Keys and values are read before the launch before has ended; partials go through one workspace."""
    shape = {"heads": 16, "dim": 128, "measure": {"decode_tokens": 0}, "workload": "decode", "backend": "cuda"} | CASES[
        name
    ]
    workload = workloads.create(dependent, matrix.case_from_flags(shape))
    for arm in ("full", "elastic"):
        calls = [workload.call(arm, layer) for layer in range(workload.layers)]
        nbytes = shape["heads"] * shape["dim"] * (4 if shape.get("dtype") == "fp32" else 2)
        answers = []
        for mode in (Mode(graph=True), Mode(True, dependent=True), Mode(False, dependent=True)):
            program = dependent.program(calls * 3, mode)
            for call in calls:
                dependent.fill_bytes(call.params.out, nbytes, 0xFF)
            dependent.seconds(program)
            answers.append([dependent.read(call.params.out, (nbytes,), np.uint8) for call in calls])
        np.testing.assert_array_equal(answers[1], answers[0])
        np.testing.assert_array_equal(answers[2], answers[0])


def test_dependent_elementwise_passes_read_what_the_pass_before_wrote(dependent):
    """One set of buffers alone: every pass reads the output of the one before it."""
    flags = {"workload": "elementwise", "seq": 512, "heads": 32, "dim": 128, "compress": 4, "backend": "cuda"}
    workload = workloads.create(dependent, matrix.case_from_flags(flags))
    answers = []
    for mode in (Mode(graph=True), Mode(True, dependent=True), Mode(False, dependent=True)):
        calls = [workload.call("elastic", workload.layers * turn) for turn in range(20)]
        for address in (calls[0].params.out, calls[0].params.previous):
            dependent.fill_bytes(address, workload.count * 4, 0)
        dependent.seconds(dependent.program(calls, mode))
        answers.append(dependent.read(calls[-1].params.out, workload.shape, np.uint32))
    np.testing.assert_array_equal(answers[1], answers[0])
    np.testing.assert_array_equal(answers[2], answers[0])
