"""Faulty kernels, built from changed sources in a copy of the checkout and measured by the real DAG.

Each fault has a different head size, so that one build and one run hold them all together with a correct case.
"""

from __future__ import annotations

import json

import pytest
from conftest import Checkout

from elastickv import records
from elastickv.audit import verify
from elastickv.judge import noise

RESULTS = "results/faulty"
CONFIG = "config/faulty.yaml"
DECODE = "kernels/decode/kernel.cpp"
MEASURE = {"reps": 30, "warmup": 5, "inner_loops": 4, "decode_tokens": 0, "max_seconds": 3}
SHAPE = {"seq": 512, "heads": 4, "window": 32, "compress": 4}
CASES = {
    "writes_nan": SHAPE | {"dim": 64},
    "leaves_elements": SHAPE | {"dim": 80},
    "wrong_by_a_percent": SHAPE | {"dim": 96},
    "slow_in_one_arm": SHAPE | {"dim": 128, "measure": {"max_seconds": 10}},
    "crashes": SHAPE | {"dim": 256, "batch": 3},
    "sound": SHAPE | {"dim": 256},
}

# In write_row, after normalising: a NaN; an element that keeps what was there; one percent too much.
FAULTY_ANSWER = """
    if (c.dim == 64) states[head].out[5] = NAN;
    if (c.dim == 80 && row == 0 && head == 0) continue;
    if (c.dim == 96) for (int d = 0; d < c.dim; ++d) states[head].out[d] *= 1.01f;
    char* out = """
# At the start of decode: the elastic arm, which has middle slots, waits; three sequences at once read where nothing is.
FAULTY_START = """static void decode(const DecodeParams& p) {
  if (p.cache.dim == 128 && p.cache.segment_count > 1)
    for (const double until = omp_get_wtime() + 200e-6; omp_get_wtime() < until;) {}
  if (p.cache.dim == 256 && p.cache.rows == 12) *static_cast<volatile int*>(nullptr) = 1;
"""


@pytest.fixture(scope="module")
def faulty(clone: Checkout, best_target: str, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with faulty kernels in which every case has been measured and judged."""
    checkout = clone.copy(tmp_path_factory.mktemp("faulty") / "checkout")
    checkout.compile_for(best_target)
    checkout.edit(DECODE, "\n    char* out = ", FAULTY_ANSWER)
    checkout.edit(DECODE, "static void decode(const DecodeParams& p) {\n", FAULTY_START)
    config = {"results": RESULTS, "backend": "cpu", "measure": MEASURE, "cases": CASES}
    config["baselines"] = {"transformers": {"enable": False}}
    (checkout.root / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    targets = [f"{RESULTS}/{name}" for name in ("verdicts.json", "social_media_content.txt")]
    run = checkout.snakemake("--configfile", CONFIG, "--", *targets)
    assert run.code == 0, run.text
    return checkout


@pytest.fixture
def records_of(faulty: Checkout) -> dict[str, dict]:
    """Each case's record."""
    folder = faulty.root / RESULTS
    return {case: records.read(folder / f"results_{case}.json", "measurement") for case in CASES}


@pytest.fixture
def verdicts_of(faulty: Checkout) -> dict[str, dict]:
    """Each case's verdict."""
    return {one["case"]: one for one in records.read(faulty.root / RESULTS / "verdicts.json", "verdict")["cases"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "status", "reason"),
    [
        ("writes_nan", "incorrect", "the output contains NaN or infinity, or was not completely written"),
        ("leaves_elements", "incorrect", "the output contains NaN or infinity, or was not completely written"),
        ("wrong_by_a_percent", "incorrect", "relative error 0.01"),
        ("crashes", "failed", "the worker was killed by SIGSEGV"),
    ],
)
def test_a_wrong_kernel_has_a_status_and_no_number(records_of, verdicts_of, case, status, reason):
    record, verdict = records_of[case], verdicts_of[case]
    assert record["status"] == status
    assert reason in record["reason"]
    assert not {"samples", "statistics", "efficiency"} & record.keys()
    assert verdict["verdict"] == "invalid"
    assert {criterion["value"] for criterion in verdict["criteria"].values()} == {None}


@pytest.mark.slow
def test_a_slow_arm_is_a_speedup_below_one_and_called_slower(records_of, verdicts_of):
    record, verdict = records_of["slow_in_one_arm"], verdicts_of["slow_in_one_arm"]
    assert record["status"] in ("ok", "noisy"), record["reason"]
    assert record["statistics"]["elastic"]["median_us"] > 200
    assert record["statistics"]["speedup"]["value"] < 1
    if verdict["status"] in noise.PUBLISHED:
        assert record["statistics"]["speedup"]["high"] < 1
        assert verdict["verdict"] == "slower"
    assert verdict["verdict"] in ("slower", "invalid")  # invalid: other work on the machine made it noisy


@pytest.mark.slow
def test_the_sound_case_beside_them_is_measured_and_the_folder_is_clean(faulty, records_of):
    assert records_of["sound"]["status"] in ("ok", "noisy"), records_of["sound"]["reason"]
    assert records_of["sound"]["samples"]["full_us"]
    assert verify(faulty.root / RESULTS, unfinished=True).faults == []


@pytest.mark.slow
def test_no_post_calls_a_faulty_kernel_fast(faulty, verdicts_of):
    posts = (faulty.root / RESULTS / "social_media_content.txt").read_text(encoding="utf-8")
    sound = [entry for entry in verdicts_of.values() if entry["verdict"] not in ("invalid", "skipped")]
    assert ("no number to post" in posts) == (not sound)
    for dim in (64, 80, 96):
        assert f"x {dim}," not in posts
