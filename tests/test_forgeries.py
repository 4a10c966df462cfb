"""Forged results folders with every hash rewritten: what `elastickv verify` finds, and what it cannot find.

docs/forgeries.md has the table of them; a test compares it with the list below.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import results_folder
from conftest import ROOT

from elastickv.audit import verify
from elastickv.audit.finding import Findings
from elastickv.audit.measurement import check
from elastickv.build import sources

GOLDEN, STANDARD = "results_4096_golden_ticket.json", "results_1024_standard.json"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished folder. Not to be changed."""
    folder = tmp_path_factory.mktemp("original") / "results"
    results = results_folder.make(folder, results_folder.GPU_CASES, "ceilings", "transformers_baseline")
    edit(results, ".plan/run.json", lambda run: run.update(sources=sources.sha256(ROOT)))
    trend = {"stationary": False, "ended": "warmup"}  # which the report has a caution for
    edit(results, STANDARD, lambda record: record["resolved"]["warm_up"].update(trend))
    results_folder.published(results)
    assert verify(results).faults == []
    return results


# The forger's tools


def edit(results: Path, name: str, change: Callable[[Any], None]) -> None:
    content = json.loads((results / name).read_text(encoding="utf-8"))
    change(content)
    (results / name).write_text(json.dumps(content), encoding="utf-8")


def rewrite(results: Path, name: str, old: str, new: str) -> None:
    text = (results / name).read_text(encoding="utf-8")
    assert old in text
    (results / name).write_text(text.replace(old, new), encoding="utf-8")


def refigure(results: Path, name: str) -> None:
    """Computes every derived figure again: verify itself says what each has to be."""
    record = json.loads((results / name).read_text(encoding="utf-8"))
    for _ in range(6):
        findings = Findings()
        check(findings.of(name), record)
        for fault in findings.faults:
            *path, last = (int(part) if part.isdigit() else part for part in fault.field.split("."))
            place: Any = record
            for part in path:
                place = place[part]
            with contextlib.suppress(ValueError, SyntaxError):  # what is expected may be no value that can be written
                place[last] = ast.literal_eval(fault.expected.replace("null", "None"))
        if not findings.faults:
            break
    (results / name).write_text(json.dumps(record), encoding="utf-8")


def publish(results: Path) -> None:
    """Judges and reports again, and rewrites every hash."""
    results_folder.published(results)


def reseal(results: Path) -> None:
    """Rewrites size and hash of every file."""
    results_folder.elastickv(["report", "manifest"], results, "manifest.json")


# The forgeries


def scale_samples_of_one_process(results: Path) -> None:
    edit(results, GOLDEN, lambda record: scale(record["samples"], 0.9))
    publish(results)


def scale_samples_of_all_processes(results: Path) -> None:
    def change(record: Json) -> None:
        for samples in all_samples(record):
            scale(samples, 0.9)
        for block in (one for blocks in record["statistics"]["sustained"]["runs"] for one in blocks):
            if block["arm"] == "elastic":
                block["launches"] = round(block["launches"] / 0.9)
        record["energy"]["arms"]["elastic"]["seconds"] *= 0.9

    edit(results, GOLDEN, change)
    refigure(results, GOLDEN)
    publish(results)


def all_samples(record: Json) -> list[Json]:
    """The samples of the record and those of every process."""
    return [record["samples"], *record["processes"]["runs"]]


def scale(samples: Json, factor: float) -> None:
    """Makes both series of the elastic arm faster."""
    for name in ("elastic_us", "elastic_again_us"):
        samples[name] = [value * factor for value in samples[name]]


def remove_case(results: Path) -> None:
    (results / STANDARD).unlink()
    (results / ".plan/cases/1024_standard.json").unlink()
    results_folder.list_cases(results, [case for case in results_folder.GPU_CASES if case != "1024_standard"])
    publish(results)


def remove_case_but_not_from_config(results: Path) -> None:
    cases = {
        case: json.loads((results / f".plan/cases/{case}.json").read_text(encoding="utf-8"))
        for case in results_folder.GPU_CASES
    }
    edit(results, ".plan/config.json", lambda config: config.update(cases=cases))
    remove_case(results)


def lower_thresholds_of_verdicts(results: Path) -> None:
    edit(results, "verdicts.json", lambda verdicts: verdicts["thresholds"].update(speedup=1.2))
    reseal(results)


def lower_thresholds_everywhere(results: Path) -> None:
    edit(results, ".plan/golden.json", lambda golden: golden.update(speedup=1.2))
    edit(results, ".plan/config.json", lambda config: config["golden"].update(speedup=1.2))
    publish(results)


def rename_device(results: Path) -> None:
    for name in (
        *(path.name for path in results.glob("results_*.json")),
        "ceilings.json",
        "transformers_baseline.json",
    ):
        edit(results, name, lambda record: record["device"].update(name="NVIDIA B300"))
    publish(results)


def erase_rounds(record: Json, count: int) -> None:
    """Takes the rounds with the slowest elastic arm out of every process, and the power cap out of the record."""
    for samples in all_samples(record):
        ratios = [full / elastic for full, elastic in zip(samples["full_us"], samples["elastic_us"], strict=True)]
        kept = sorted(sorted(range(len(ratios)), key=ratios.__getitem__)[count:])
        series = samples | samples.get("rounds", {})
        for name in [name for name in samples if name == "order" or name.endswith("_us")]:
            samples[name] = [samples[name][index] for index in kept]
        for name in samples.get("rounds", {}):
            samples["rounds"][name] = [series[name][index] for index in kept]
    record["samples"]["rounds"]["power_capped"] = [False] * len(kept)
    record["throttling"].update(reasons={}, readings=len(kept), power_capped_rounds=0)


def erase_worst_rounds(results: Path) -> None:
    edit(results, GOLDEN, lambda record: erase_rounds(record, 3))
    refigure(results, GOLDEN)
    publish(results)


def erase_as_many_rounds_as_the_rule_allows(results: Path) -> None:
    edit(results, GOLDEN, lambda record: erase_rounds(record, 10))
    refigure(results, GOLDEN)
    publish(results)


def change_errors_and_perplexity(results: Path) -> None:
    edit(results, GOLDEN, lambda record: record["correctness"]["elastic"].update(relative_error=1e-6))
    edit(results, "transformers_baseline.json", lambda record: record.update(perplexity=record["perplexity"] * 0.9))
    publish(results)


def change_energy(results: Path) -> None:
    def change(record: Json) -> None:
        record["energy"]["arms"]["elastic"]["watts"] *= 0.5

    edit(results, GOLDEN, change)
    publish(results)


def change_energy_and_what_follows(results: Path) -> None:
    change_energy(results)
    refigure(results, GOLDEN)
    publish(results)


def change_fingerprint(results: Path) -> None:
    edit(results, GOLDEN, lambda record: record["build"].update(fingerprint="0" * 64))
    publish(results)


def change_notebook(results: Path) -> None:
    results_folder.elastickv(["report", "notebook"], results, "elastic_kv_benchmark.ipynb")
    rewrite(results, "elastic_kv_benchmark.ipynb", "Elastic", "Lossless")
    reseal(results)


def swap_figure(results: Path) -> None:
    results_folder.elastickv(["report", "figures"], results, "figures")
    shutil.copy(results / "figures/samples.svg", results / "figures/speedup.svg")
    reseal(results)


def relabel_anchor(results: Path) -> None:
    for name in (GOLDEN, ".plan/cases/4096_golden_ticket.json"):
        edit(results, name, lambda content: content.get("case", content).update(anchor="mean"))
    publish(results)


def copy_control(results: Path) -> None:
    def change(record: Json) -> None:
        for samples in all_samples(record):
            samples["elastic_again_us"] = samples["elastic_us"]

    edit(results, GOLDEN, change)
    refigure(results, GOLDEN)
    publish(results)


def add_prose(results: Path) -> None:
    with (results / "report.md").open("a", encoding="utf-8") as file:
        file.write("\nLossless end-to-end.\n")
    rewrite(results, "social_media_content.txt", "=== LinkedIn ===\n", "=== LinkedIn ===\nLossless end-to-end. ")
    reseal(results)


def delete_cautions(results: Path) -> None:
    text = (results / "report.md").read_text(encoding="utf-8")
    caution = next(line for line in text.splitlines(keepends=True) if "times still had a trend" in line)
    rewrite(results, "report.md", caution, "")
    reseal(results)


def delete_machine_state(results: Path) -> None:
    edit(results, GOLDEN, lambda record: record.pop("machine"))
    publish(results)


def delete_manifest(results: Path) -> None:
    (results / "manifest.json").unlink()


def swap_records(results: Path) -> None:
    first, second = (json.loads((results / name).read_text(encoding="utf-8")) for name in (GOLDEN, STANDARD))
    first["case"]["id"], second["case"]["id"] = second["case"]["id"], first["case"]["id"]
    (results / GOLDEN).write_text(json.dumps(second), encoding="utf-8")
    (results / STANDARD).write_text(json.dumps(first), encoding="utf-8")
    publish(results)


class Forgery(NamedTuple):
    """fault: the beginning of a fault that verify states; empty if no check of consistency can find it. why: so.

    against: the beginning of one that only `--against COMMIT` states (test_against.py).
    """

    name: str
    commit: Callable[[Path], None]
    fault: str
    why: str
    against: str = ""


FORGERIES = [
    Forgery("samples of the published process scaled", scale_samples_of_one_process,
            f"{GOLDEN}: samples.elastic_us.0: ",
            "the record has the samples of every process, from which the published ones are taken"),
    Forgery("samples of all processes scaled, every figure computed again", scale_samples_of_all_processes, "",
            "the samples are what everything else is computed from; only a second measurement contradicts them"),
    Forgery("a case removed from plan and records", remove_case, "",
            "what is left is a complete run of a smaller matrix; that of the commit has the case",
            "manifest.json: config.cases.1024_standard: found nothing"),
    Forgery("a case removed, its config kept", remove_case_but_not_from_config, "manifest.json: cases.1024_standard: ",
            "the manifest's cases are those of the recorded config"),
    Forgery("thresholds of the verdicts lowered", lower_thresholds_of_verdicts, "verdicts.json: thresholds.speedup: ",
            "the recorded config states them too"),
    Forgery("thresholds lowered in the config, everything judged again", lower_thresholds_everywhere, "",
            "it is a run with other thresholds; those of the commit differ, unless the recorded command overrides them",
            "manifest.json: config.golden.speedup: found 1.2"),
    Forgery("the device renamed everywhere", rename_device, "",
            "the name is only stated; nothing measured depends on it"),
    Forgery("the worst rounds and the power cap erased, every figure computed again", erase_worst_rounds,
            f"{GOLDEN}: resolved.stopped: ",
            "the stopping rule looks at its intervals after certain numbers of rounds only"),
    Forgery("as many rounds erased as the stopping rule allows", erase_as_many_rounds_as_the_rule_allows, "",
            "fewer rounds are a shorter measurement; nothing outside the record counts them"),
    Forgery("relative errors and perplexity edited", change_errors_and_perplexity, "",
            "measured values that no other value of the folder depends on; `bench --save-tensors` repeats them"),
    Forgery("energy edited", change_energy, f"{GOLDEN}: energy.arms.elastic.joules_per_launch: ",
            "joules follow from watts, seconds and launches"),
    Forgery("energy edited with the power that it follows from", change_energy_and_what_follows, "",
            "the device's counter was read once; no other reading repeats it"),
    Forgery("a record's fingerprint of its kernels edited", change_fingerprint, "",
            "it is the hash of sources that the folder does not hold, but the commit does",
            f"{GOLDEN}: build.fingerprint: found 0000"),
    Forgery("the notebook edited", change_notebook, "elastic_kv_benchmark.ipynb: (file): ",
            "the sources give the same notebook byte by byte; of another version only a note is given"),
    Forgery("a figure replaced", swap_figure, "figures/speedup.svg: (file): ",
            "the records give the same figure byte by byte"),
    Forgery("an anchor relabelled in plan and record", relabel_anchor, "",
            "all anchor rules keep as many bytes; the matrix of the commit has the other rule",
            "manifest.json: config.cases.4096_golden_ticket.anchor: "),
    Forgery("the control copied from its arm", copy_control, f"{GOLDEN}: samples.elastic_again_us: found a copy",
            "two series of times are never equal in order, in size or up to a factor"),
    Forgery("prose added to report and posts", add_prose, "report.md: (lines): ",
            "texts are written again and compared byte by byte"),
    Forgery("a caution of the report deleted", delete_cautions, "report.md: (lines): ",
            "cautions follow from the records; texts are written again and compared"),
    Forgery("the state of the machine deleted", delete_machine_state, f"{GOLDEN}: machine: ",
            "every measured record states it (invented readings cannot be told from real ones)"),
    Forgery("the manifest deleted", delete_manifest, "manifest.json: (file): ",
            "only an unfinished run has none, which `--unfinished` accepts"),
    Forgery("records of two cases swapped", swap_records, f"{GOLDEN}: case.seq: ",
            "a record holds its whole case, which the plan has too"),
]  # fmt: skip


@pytest.mark.parametrize("forgery", [one for one in FORGERIES if one.fault], ids=lambda forgery: forgery.name)
def test_a_forgery_with_all_hashes_rewritten(original: Path, tmp_path: Path, forgery: Forgery):
    """What verify finds; test_against.py has the others."""
    results = shutil.copytree(original, tmp_path / "results", copy_function=shutil.copy2)
    forgery.commit(results)
    found = [str(fault) for fault in verify(results).faults]
    assert any(fault.startswith(forgery.fault) for fault in found), "\n".join(found[:20])


def table() -> str:
    def stated(found: str, otherwise: str) -> str:
        return "found" if found else otherwise

    rows = [
        f"| {forgery.name} | {stated(forgery.fault, 'cannot be found by any check of consistency')} "
        f"| {stated(forgery.fault or forgery.against, 'cannot be found')} | {forgery.why} |"
        for forgery in FORGERIES
    ]
    return "\n".join(["| forgery | `elastickv verify` | with `--against COMMIT` | why |", "|---|---|---|---|", *rows])


def test_the_table_of_the_documentation_is_that_of_the_forgeries():
    text = (ROOT / "docs/forgeries.md").read_text(encoding="utf-8")
    assert re.search(r"^\|.*\|$(?:\n\|.*\|$)+", text, re.MULTILINE)[0] == table()
