"""Checks answers: error, tolerance, checked layers and the record's status must agree."""

from __future__ import annotations

from typing import Any

from elastickv.audit.finding import About

# Relative L2 error that the definitions allow against float64, by the dtype of the output.
TOLERANCES = {"fp32": 1e-5, "fp16": 1e-3, "bf16": 5e-3}
IN_THE_CYCLE = "at the end of the inference cycle"


def check(about: About, record: dict[str, Any]) -> None:
    """Every arm's answer, after the timed launches and after the inference cycle, against the record's status."""
    wrong = _wrong_arms(about, record, "correctness", record.get("correctness"))
    cycle = record.get("inference_cycle") or {}
    wrong += _wrong_arms(about, record, "inference_cycle.correctness", cycle.get("correctness"))
    status = record["status"]
    if status in ("ok", "noisy"):
        about.require(not wrong, "status", f"{status} although {', '.join(wrong)} is wrong", "incorrect")
        elsewhere = cycle and not cycle.get("correctness")
        about.require(not elsewhere, "inference_cycle.correctness", "nothing", "the answers of both arms")
    elif status == "incorrect":
        stated = wrong or IN_THE_CYCLE in record["reason"]  # wrong answers of the cycle are not stored
        about.require(bool(stated), "status", "incorrect although every answer is within its tolerance", "ok or noisy")


def _wrong_arms(about: About, record: dict[str, Any], where: str, answers: dict[str, Any] | None) -> list[str]:
    """The arms whose answer is wrong, after checking that each entry agrees with itself."""
    layers = record["resolved"].get("layers")
    dtype = record["case"]["dtype"]
    return [
        f"{where}.{arm}"
        for arm, answer in (answers or {}).items()
        if not agrees(about, f"{where}.{arm}", answer, dtype, layers)
    ]


def agrees(about: About, place: str, answer: dict[str, Any], dtype: str, layers: int | None) -> bool:
    """Checks that the entry of an answer is consistent; returns whether the answer is correct."""
    about.same(f"{place}.tolerance", answer["tolerance"], TOLERANCES[dtype])
    error, finite = answer["relative_error"], answer["finite"]
    wanted = "a number exactly where the answer is finite"
    about.require((error is not None) == finite, f"{place}.relative_error", error, wanted)
    unwritten = "false: an element that was never written is NaN"
    about.require(answer["written"] or not finite, f"{place}.finite", finite, unwritten)
    if layers and "layers_checked" in answer:
        about.same(f"{place}.layers_checked", answer["layers_checked"], sorted({0, layers - 1}))
    return right(answer)


def right(answer: dict[str, Any]) -> bool:
    """Whether one arm's answer is correct."""
    error = answer["relative_error"]
    whole = answer["finite"] and answer["written"] and error is not None
    kept = answer.get("anchors") != "wrong" and answer.get("repeatable") is not False
    return bool(whole and kept and error <= answer["tolerance"])
