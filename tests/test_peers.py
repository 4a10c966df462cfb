"""Our kernels and those of other libraries: the same check and sampler for all, and a record in every case."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from peer_records import correctness, entry, peer_record
from results_folder import elastickv, example, judged, make, planned

from elastickv import device, environments, jobs, matrix, peers, records
from elastickv.cache import oracle
from elastickv.errors import MachineError, UsageError
from elastickv.matrix import peers as naming
from elastickv.peers import base, comparison, runners, supervisor
from elastickv.peers.record import case_entry, for_peers
from elastickv.pipeline import plan
from elastickv.report import markdown
from elastickv.report.inputs import load
from elastickv.schemas import config as keys
from elastickv.schemas.case import AnyCase, DecodeCase
from elastickv.schemas.case import case_of as case_of_record
from elastickv.schemas.parts import Answer
from elastickv.schemas.peers import Settings

ROOT = Path(__file__).resolve().parents[1]
QUICK = {"reps": 12, "warmup": 1, "inner_loops": 2, "max_seconds": 5, "decode_tokens": 10}
TINY = {"id": "tiny", "backend": "cpu", "seq": 300, "heads": 4, "kv_heads": 2, "dim": 64, "window": 32, "compress": 4}
SETTINGS = keys.Peers(reps=12, max_seconds=5)


def case_of(**changes) -> DecodeCase:
    return matrix.case_from_flags({**TINY, "measure": QUICK, **changes})


# -- adapters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", naming.offered())
def test_every_adapter_is_a_peer_and_says_what_it_times_and_needs(name):
    peer = peers.load(name)
    assert isinstance(peer, base.Peer)
    assert "one call" in peer.times or "run" in peer.times
    assert "torch" in peer.needs
    if name.startswith("flashinfer") or name in ("torch_cudnn", "torch_efficient"):
        assert "only on NVIDIA GPUs" in peer.supports(case_of(), "cpu")


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("flashinfer_single", {"batch": 2}, "one sequence, not 2"),
        ("flashinfer_batch_tensor", {"dim": 80}, "not 80"),
        ("torch_cudnn", {"dtype": "fp32"}, "not fp32"),
        ("torch_grouped", {"kv_heads": 4}, "the same as torch_default"),
        ("torch_grouped", {}, None),
    ],
)
def test_adapters_say_what_they_do_not_take(name, changes, reason):
    said = peers.load(name).supports(case_of(**changes), "cuda")
    assert said is None if reason is None else reason in said


# -- the supervisor, with another program in the worker's place -------------------------------------------------------

STAND_IN = f"""#!/bin/sh
exec {sys.executable} - "$3" "$4" <<'END'
import hashlib, json, os, pathlib, signal, sys
request = json.load(open(sys.argv[1]))
progress = pathlib.Path(request.get("progress", "/dev/null"))
state = {{"device": {{"name": "a CPU"}}, "software": {{"elastickv": "0"}}, "current": None, "done": {{}}}}
entry = json.load(open(os.environ["ENTRY"]))
def answer(content):
    json.dump(content, open(sys.argv[2], "w"))
if request["task"] == "describe":
    each = {{"times": "one call", "needs": ["torch"], "versions": json.loads(os.environ["VERSIONS"]), "refused": {{}}}}
    def sha256(file):
        return file and hashlib.sha256(pathlib.Path(file["path"]).read_bytes()).hexdigest()
    files = {{name: {{"sha256": sha256(request["files"].get(name))}} for name in request["names"]}}
    answer({{"described": {{name: each | file for name, file in files.items()}}}})
else:
    with open(os.environ["ASKED"], "a") as file:
        print(request["case"]["id"], *request["names"], file=file)
    for name in request["names"]:
        state["current"] = name
        progress.write_text(json.dumps(state))
        if name == os.environ.get("CRASHES"):
            os.kill(os.getpid(), signal.SIGSEGV)
        state["done"][name], state["current"] = entry, None
        progress.write_text(json.dumps(state))
    answer({{"finished": True}})
END
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch, cpu_build):
    """A worker that needs no torch and describes every peer in the same way. Returns its requests, line by line."""
    program, requested = tmp_path / "interpreter", tmp_path / "requested"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    (tmp_path / "entry.json").write_text(json.dumps(entry(case_of().model_dump(mode="json"), 20.0, 10.0)))
    monkeypatch.setattr(environments, "interpreter", lambda name: program)
    monkeypatch.setenv("ENTRY", str(tmp_path / "entry.json"))
    monkeypatch.setenv("ASKED", str(requested))
    monkeypatch.setenv("VERSIONS", json.dumps({"torch": "2.13.0"}))
    return lambda: requested.read_text().splitlines() if requested.exists() else []


def run_of(*cases: DecodeCase, **more) -> dict[str, dict]:
    names = more.pop("names", ["torch_default", "torch_flash", "torch_math"])
    settings = keys.Peers(names=names)
    made = supervisor.compare(settings, "cpu", cases or [case_of()], str(ROOT / "build"), **more)
    found = {name: one.model_dump(mode="json") for name, one in made.items()}
    for name, made in found.items():
        records.check(made, "peers", name)
    return found


def test_a_crash_fails_the_peer_under_way_alone(stand_in, monkeypatch):
    monkeypatch.setenv("CRASHES", "torch_flash")
    found = run_of(case_of(), case_of(id="second"))
    assert {name: made["status"] for name, made in found.items()} == {
        "torch_default": "ok", "torch_flash": "failed", "torch_math": "ok",
    }  # fmt: skip
    assert "SIGSEGV" in found["torch_flash"]["reason"]
    one = ["torch_default torch_flash torch_math", "torch_math"]
    assert stand_in() == [f"{case} {names}" for case in ("tiny", "second") for names in one]
    assert found["torch_default"]["device"] == {"name": "a CPU"}
    assert [one["case"]["id"] for one in found["torch_default"]["cases"]] == ["tiny", "second"]


def test_a_worker_that_dies_before_any_peer_fails_them_all(tmp_path, monkeypatch, stand_in):
    broken = tmp_path / "broken"
    broken.write_text(STAND_IN.replace('with open(os.environ["ASKED"], "a")', "os._exit(7)\n    with open('')"))
    broken.chmod(0o755)
    monkeypatch.setattr(environments, "interpreter", lambda name: broken)
    for made in run_of().values():
        assert made["status"] == "failed"
        assert "exit code 7" in made["reason"]


def test_a_missing_library_is_unsupported_with_the_fix(stand_in, monkeypatch):
    monkeypatch.setenv("VERSIONS", "{}")
    for made in run_of().values():
        assert made["status"] == "unsupported"
        assert "torch is not installed" in made["reason"]
        assert "uv pip install" in made["reason"]
    assert stand_in() == []


def test_a_missing_environment_is_unsupported_with_the_fix(tmp_path, monkeypatch, cpu_build):
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setitem(environments.NEEDED, "peers", ("no_such_module_of_ours",))
    made = run_of()["torch_default"]
    assert made["status"] == "unsupported"
    assert "elastickv env peers" in made["reason"]


def test_cuda_without_a_gpu_is_unsupported():
    if device.visible_gpus():
        pytest.skip("this machine has a GPU")
    for made in supervisor.compare(keys.Peers(), "cuda", [case_of()], str(ROOT / "build")).values():
        records.check(made.model_dump(mode="json"), "peers", made.peer)
        assert made.status == "unsupported"
        assert "no NVIDIA GPU" in made.reason


def test_what_is_finished_is_not_timed_again_unless_it_is_something_else(stand_in, tmp_path, monkeypatch):
    store = jobs.RecordStore(tmp_path / "store")
    names = ["torch_default", "torch_flash"]
    first = run_of(names=names, store=store)
    renamed = run_of(case_of(id="renamed"), names=names, store=store)
    assert len(stand_in()) == 1
    assert renamed["torch_flash"]["started"] == first["torch_flash"]["started"]
    assert renamed["torch_flash"]["cases"][0]["case"]["id"] == "renamed"
    sampling = case_of().measure.model_copy(update={"decode_tokens": 7, "max_seconds": 3})
    unlike = case_of().model_copy(update={"launch": "plain", "measure": sampling})
    same = run_of(unlike, names=names, store=store)  # what is measured with peers is the same
    assert len(stand_in()) == 1
    measured = same["torch_flash"]["cases"][0]["case"]
    limits = {"decode_tokens": 0, **keys.Peers().model_dump(include={"reps", "max_seconds"})}
    case = case_of().model_dump(mode="json")
    assert measured == {**case, "launch": "auto", "measure": {**case["measure"], **limits}}
    run_of(names=[*names, "torch_math"], store=store)
    run_of(case_of(seq=301), names=names, store=store)
    run_of(names=names, store=store, remeasure=True)
    monkeypatch.setenv("VERSIONS", json.dumps({"torch": "2.14.0"}))
    run_of(names=names, store=store)
    both = "tiny torch_default torch_flash"
    assert stand_in() == [both, "tiny torch_math", both, both, both]


def test_a_users_file_is_recorded_with_its_hash_and_an_edit_times_it_alone_again(stand_in, tmp_path):
    store, path = jobs.RecordStore(tmp_path / "store"), tmp_path / "mine.py"
    names = ["torch_default", str(path)]
    path.write_text("PEER = 1\n", encoding="utf-8")
    first = run_of(names=names, store=store)
    assert first["mine"]["file"] == {"path": str(path), "sha256": hashlib.sha256(b"PEER = 1\n").hexdigest()}
    assert (first["mine"]["times"], first["torch_default"]["file"]) == ("one call", None)
    run_of(names=names, store=store)
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere/mine.py")
    again = run_of(names=["torch_default", str(moved)], store=store)
    assert again["mine"]["file"]["path"] == str(moved)
    assert stand_in() == ["tiny torch_default", "tiny mine"]
    moved.write_text("PEER = 2\n", encoding="utf-8")
    run_of(names=["torch_default", str(moved)], store=store)
    assert stand_in()[2:] == ["tiny mine"]


# -- settings, plan, command -------------------------------------------------------------------------------------------


def settings_file(folder: Path, **said) -> str:
    path = folder / "settings.json"
    path.write_text(json.dumps(said), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("said", "named"),
    [({"names": []}, "names"), ({"backend": "tpu"}, "backend"), ({"max_second": 3}, "max_second")],
)
def test_bad_settings_are_named(tmp_path, said, named):
    with pytest.raises(UsageError, match=named):
        jobs.read_settings(settings_file(tmp_path, **said), keys.Peers)


def config_of(folder: Path, text: str) -> matrix.Config:
    path = folder / "matrix.yaml"
    path.write_text(text, encoding="utf-8")
    return matrix.load([path])


CASES = """
cases:
  attention: {seq: 300, heads: 4, dim: 64, compress: 4}
  other: {workload: elementwise, seq: 300, heads: 4, dim: 64, compress: 4}
"""


def test_peers_are_off_unless_asked_for_and_measure_attention_alone(tmp_path):
    off = plan.resolve(config_of(tmp_path, CASES))
    requested = "baselines: {transformers: {enable: false}, peers: {enable: true, names: [torch_math, torch_flash]}}\n"
    on = plan.resolve(config_of(tmp_path, requested + CASES))
    assert (off.peers, off.peer_cases, off.peer_records) == ((), (), [])
    assert (on.peers, on.peer_cases) == (("torch_math", "torch_flash"), ("attention",))
    assert [path.name for path in on.peer_records] == ["peers_torch_math.json", "peers_torch_flash.json"]
    assert "peers" in plan.needed_environments(on)
    assert "peers" not in plan.needed_environments(off)


def test_records_of_peers_that_are_no_longer_asked_for_leave_the_results_folder(tmp_path):
    (tmp_path / "results").mkdir()
    for name in ("torch_math", "torch_flash"):
        (tmp_path / f"results/peers_{name}.json").write_text(name)
    text = f"results: {tmp_path}/results\nbaselines: {{peers: {{enable: true, names: [torch_math]}}}}\n"
    plan.retire(plan.resolve(config_of(tmp_path, text + CASES)))
    assert [path.name for path in (tmp_path / "results").glob("*.json")] == ["peers_torch_math.json"]
    assert (tmp_path / "results/.retired/peers_torch_flash.json").read_text() == "torch_flash"


def test_what_needs_a_gpu_is_added_once_there_is_one_and_is_optional(tmp_path, monkeypatch, capsys):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/peers.txt").write_text("")
    (tmp_path / "envs/peers.gpu.in").write_text("no-such-package-of-ours==9\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environments, "WITH_TORCH", ())
    monkeypatch.setattr(device, "visible_gpus", lambda: [])
    environments.make("peers")
    assert "no-such-package" not in capsys.readouterr().err
    monkeypatch.setattr(device, "visible_gpus", lambda: ["GPU-1"])
    environments.make("peers")
    said = capsys.readouterr().err
    assert "MB more" in said
    assert "continuing without no-such-package-of-ours==9" in said
    environments.make("peers")
    assert "MB" not in capsys.readouterr().err
    assert environments.is_current("peers")


# -- report ------------------------------------------------------------------------------------------------------------

GOLDEN, STANDARD = "4096_golden_ticket", "1024_standard"


@pytest.fixture
def reported(tmp_path):
    """Report and summary of a folder with these peers' records."""

    def of(*made: dict) -> tuple[str, dict[str, dict[str, str]]]:
        results = make(Path(tempfile.mkdtemp(dir=tmp_path)) / "results", (GOLDEN, STANDARD))
        for one in made:
            records.write(results / f"peers_{one['peer']}.json", one, "peers")
        summary = elastickv(["summarise"], results, "summary.csv")
        text = markdown.report(load(judged(results) / ".plan/cases.json", results))
        with summary.open(encoding="utf-8", newline="") as file:
            return text, {row["case"]: row for row in csv.DictReader(file)}

    return of


def section_of(text: str, title: str, level: str = "###") -> str:
    return text.partition(f"{level} {title}\n")[2].partition("\n#")[0]


def line_of(text: str, *cells: str) -> str:
    return next(line for line in text.splitlines() if all(f"`{cell}`" in line for cell in cells))


def case(name: str) -> dict:
    return example(name)["case"]


def test_the_report_shows_the_fastest_peer_plain_and_dependent_and_says_where_ours_is_slower(reported):
    text, summary = reported(
        peer_record("torch_cudnn", {GOLDEN: entry(case(GOLDEN), 22.0, 18.0, 16.0),
                                    STANDARD: entry(case(STANDARD), 6.0, 6.3, 6.0)}),
        peer_record("torch_flash", {GOLDEN: entry(case(GOLDEN), 27.0, 18.0, 16.0),
                                    STANDARD: entry(case(STANDARD), 9.0, 6.3, 6.0)}),
    )  # fmt: skip
    fastest = section_of(text, "Full cache")
    golden, standard = line_of(fastest, GOLDEN), line_of(fastest, STANDARD)
    assert "`torch_cudnn`" in golden and "| 22 " in golden and "| 18 " in golden and "| 16 " in golden
    assert "1.222x" in golden and "1.375x" in golden and "slower" not in golden
    assert "0.952x" in standard and "(slower)" in standard and "(same)" in standard
    every = section_of(text, "Every peer")
    assert "1.50x" in line_of(every, GOLDEN, "torch_flash") or "1.500x" in line_of(every, GOLDEN, "torch_flash")
    assert float(summary[GOLDEN]["peer_ratio"]) == pytest.approx(22 / 18, rel=1e-3)
    assert float(summary[GOLDEN]["peer_ratio_dependent"]) == pytest.approx(22 / 16, rel=1e-3)
    assert summary[GOLDEN]["peer"] == "torch_cudnn"


def test_the_fastest_peer_in_any_type_stands_beside(tmp_path):
    """A type that a library computes slowly is no measure of the library."""
    cases = {name: example("4096_cpu") for name in ("fp16", "fp32")}
    for name, record in cases.items():
        record["case"] |= {"id": name, "dtype": name, "cache_dtype": name}
    made = peer_record("torch_default", {"4096_cpu": entry(case("4096_cpu"), 27900.0, 2560.0)})
    times = {"fp16": (27900.0, 2560.0), "fp32": (10200.0, 5000.0)}
    settings = Settings(reps=60, max_seconds=10)

    def stated(*names: str) -> str:
        results = planned(tmp_path / "-".join(names), [cases[name] for name in names])
        contents = [for_peers(case_of_record(cases[name]["case"]), settings) for name in names]
        entries = [case_entry(one, entry(cases[one.id]["case"], *times[one.id])) for one in contents]
        entries = [one.model_dump(mode="json") for one in entries]
        records.write(results / "peers_torch_default.json", made | {"cases": entries}, "peers")
        return section_of(markdown.report(load(judged(results) / ".plan/cases.json", results)), "Full cache")

    both = stated("fp16", "fp32")
    assert "fp32 `torch_default`: 10,200 (3.98x ours)" in line_of(both, "fp16")
    assert "fp32 `torch_default`: 10,200 (2.04x ours)" in line_of(both, "fp32")
    assert "fp16 only" in line_of(stated("fp16"), "fp16")


def test_a_peer_without_figures_has_no_number_but_its_reason(reported):
    wrong = Answer(**correctness(0.02))
    incorrect = {"status": "incorrect", "reason": "relative error 0.02, allowed 0.001",
                 "full": comparison.without("incorrect", "relative error 0.02, allowed 0.001", wrong),
                 "elastic": comparison.without("failed", "relative error 0.02, allowed 0.001")}  # fmt: skip
    text, summary = reported(peer_record("torch_cudnn", {GOLDEN: incorrect}))
    stated = section_of(text, "Comparison with other libraries' kernels", "##") + section_of(
        text, "Peers without figures"
    )
    assert "incorrect" in stated and "relative error 0.02" in stated
    assert "### Every peer" not in text
    assert summary[GOLDEN]["peer"] == summary[GOLDEN]["peer_ratio"] == ""


def test_what_another_device_measured_is_marked_and_never_the_fastest(reported):
    elsewhere = {**example(GOLDEN)["device"], "name": "another GPU"}
    text, summary = reported(
        peer_record("torch_cudnn", {GOLDEN: entry(case(GOLDEN), 1.0, 18.0)}, device=elsewhere),
        peer_record("torch_flash", {GOLDEN: entry(case(GOLDEN), 27.0, 18.0)}),
    )
    assert "`torch_flash`" in line_of(section_of(text, "Full cache"), GOLDEN)
    assert "‡ another GPU" in line_of(section_of(text, "Every peer"), GOLDEN, "torch_cudnn")
    assert summary[GOLDEN]["peer"] == "torch_flash"


def test_a_peer_of_a_case_that_has_changed_since_is_left_out(reported):
    old = {**case(GOLDEN), "seq": 4095}
    made = peer_record("torch_cudnn", {GOLDEN: entry(case(GOLDEN), 22.0, 18.0)})
    made["cases"][0]["case"] = old
    text, summary = reported(made)
    assert "No peer has figures" in text
    assert summary[GOLDEN]["peer"] == ""


def test_a_users_file_is_named_with_its_hash_though_it_has_no_figures(reported):
    failed = {"status": "failed", "reason": "mine/k.py: NameError: x"}
    made = peer_record("torch_math", {GOLDEN: failed}, peer="k", file={"path": "mine/k.py", "sha256": "ab" * 32})
    text, _ = reported(made)
    assert "mine/k.py (sha256 abababababab), torch 2.13.0" in text
    unread = {**made, "peer": "gone", "file": {"path": "mine/gone.py", "sha256": None}}
    unread["library"] = {"name": "torch", "version": None}
    assert "What is timed" not in reported(unread)[0]


# -- torch itself ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def torch_environment() -> None:
    """The environment with torch, made if it is not there."""
    environments.make("peers")


def command(folder: Path, *cases: AnyCase, **settings) -> subprocess.CompletedProcess:
    """`elastickv baseline peers` on these cases, into `folder`."""
    files = []
    for one in cases:
        files.append(folder / f"{one.id}.json")
        files[-1].write_text(one.model_dump_json(), encoding="utf-8")
    line = [sys.executable, "-m", "elastickv", "baseline", "peers", "--settings", settings_file(folder, **settings)]
    line += ["--cases", *map(str, files), "--results", str(folder), "--store", str(folder / "store")]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ)


def right(entry_of_cache: dict) -> bool:
    return entry_of_cache["status"] in ("ok", "noisy") and oracle.passes(Answer(**entry_of_cache["correctness"]))


@pytest.mark.slow  # it installs torch
def test_torch_answers_right_from_the_same_memory_and_is_timed_once(torch_environment, cpu_build, tmp_path):
    grouped = case_of(anchor="mean", compress=3, batch=2, dtype="bf16", measure={**QUICK, "inner_loops": 64})
    settings = {"backend": "cpu", "names": ["torch_grouped", "torch_cudnn"], "reps": 3, "max_seconds": 5}
    done = command(tmp_path, grouped, **settings)
    assert done.returncode == 0, done.stderr
    made = {name: records.read(tmp_path / f"peers_{name}.json", "peers") for name in settings["names"]}
    assert made["torch_cudnn"]["status"] == "unsupported"
    found = made["torch_grouped"]["cases"][0]
    assert right(found["full"]) and right(found["elastic"]), made["torch_grouped"]["reason"]
    assert found["full"]["ours"]["plain"]["ratio"]["value"] > 0
    assert made["torch_grouped"]["library"]["version"].startswith("2.")
    for name in settings["names"]:
        (tmp_path / f"peers_{name}.json").unlink()
    assert command(tmp_path, grouped, **settings).returncode == 0
    again = records.read(tmp_path / "peers_torch_grouped.json", "peers")
    assert again["started"] == made["torch_grouped"]["started"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "fp32", "dim": 80, "seq": 777, "heads": 28, "kv_heads": 4, "batch": 3, "anchor": "last"},
        {"seq": 1, "kv_heads": 4},
        {"sinks": 0, "window": 0, "compress": 7, "dtype": "bf16"},
    ],
    ids=str,
)
def test_every_cpu_peer_is_right_on_odd_shapes(torch_environment, cpu_build, tmp_path, changes):
    names = ["torch_default", "torch_math", "torch_grouped"]
    odd = case_of(**changes, measure={**QUICK, "inner_loops": 64})
    done = command(tmp_path, odd, backend="cpu", names=names, reps=3, max_seconds=60)
    assert done.returncode == 0, done.stderr
    for name in names:
        made = records.read(tmp_path / f"peers_{name}.json", "peers")
        found = made["cases"][0]
        if peers.load(name).supports(odd, "cpu"):
            assert made["status"] == "unsupported"
            continue
        assert right(found["full"]), (name, found["reason"])
        assert right(found["elastic"]) or found["elastic"]["status"] == "unsupported", found["elastic"]["reason"]
        assert (found["elastic"]["status"] == "unsupported") == bool(base.elastic_refusal(odd))


CHEATS = {
    "keeps_its_answer": """
stored = {}

def attention(layer, q, k, v):
    if layer not in stored:
        stored[layer] = sdpa(q, k, v)
    return stored[layer].clone()
""",
    "zeros": """
def attention(layer, q, k, v):
    return torch.zeros_like(q)
""",
    "fewer_tokens": """
def attention(layer, q, k, v):
    return sdpa(q, k[:, :, 1:], v[:, :, 1:])
""",
    "when_it_is_read": """
class Later:
    def __init__(self, *inputs):
        self.inputs = inputs

    def fill_(self, value):
        return self

    def detach(self):
        return sdpa(*self.inputs)

def attention(layer, q, k, v):
    return Later(q, k, v)
""",
    "crashes": """
def attention(layer, q, k, v):
    import os, signal
    os.kill(os.getpid(), signal.SIGSEGV)
""",
    "honest": """
def attention(layer, q, k, v):
    return sdpa(q, k, v)
""",
}
CHEAT = """
import torch
from elastickv.peers.base import Peer

def sdpa(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q.unsqueeze(2), k, v, enable_gqa=True)
{cheat}
class Mine(Peer):
    times = "one call"

    def prepare(self, inputs):
        return lambda layer: lambda: attention(layer, inputs.q[layer], inputs.k[layer], inputs.v[layer])

PEER = Mine()
"""


@pytest.mark.slow
def test_users_files_run_beside_ours_and_those_that_cheat_are_refused(torch_environment, cpu_build, tmp_path):
    paths = [tmp_path / f"{name}.py" for name in CHEATS]
    for path in paths:
        path.write_text(CHEAT.format(cheat=CHEATS[path.stem]), encoding="utf-8")
    names = [*map(str, paths), "docs/extending/peer/my_kernel.py"]
    done = command(tmp_path, case_of(), backend="cpu", names=names, reps=3, max_seconds=5)
    assert done.returncode == 0, done.stderr
    made = {name: records.read(tmp_path / f"peers_{name}.json", "peers") for name in [*CHEATS, "my_kernel"]}
    unchanged = "the answer does not change with its inputs"
    for name, stated in {"keeps_its_answer": unchanged, "zeros": unchanged, "fewer_tokens": "relative error"}.items():
        assert made[name]["status"] == "incorrect", made[name]["reason"]
        assert stated in made[name]["reason"]
        assert "ours" not in made[name]["cases"][0]["full"]
    for name, stated in {"crashes": "SIGSEGV", "when_it_is_read": "returned a Later, not a torch.Tensor"}.items():
        assert made[name]["status"] == "failed" and stated in made[name]["reason"]
    for name in ("honest", "my_kernel"):
        assert right(made[name]["cases"][0]["full"]) and right(made[name]["cases"][0]["elastic"]), made[name]["reason"]
        assert len(made[name]["file"]["sha256"]) == 64


@pytest.mark.slow
def test_the_doctor_loads_users_files_and_names_what_each_lacks(torch_environment, tmp_path):
    mine = CHEAT.format(cheat=CHEATS["honest"])
    texts = {"mine": mine, "wants": mine.replace("times =", 'needs = ("no-such-library", "torch")\n    times ='),
             "broken": "import no_such_module_of_ours\n" + mine}  # fmt: skip
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    names = ["torch_math", "torch_cudnn", *(str(tmp_path / f"{name}.py") for name in texts)]
    config = {"backend": "cpu", "cases": {"a": {"seq": 64, "heads": 2, "dim": 64, "compress": 2}},
              "baselines": {"transformers": {"enable": False}, "peers": {"enable": True, "names": names}}}  # fmt: skip
    (tmp_path / "m.yaml").write_text(json.dumps(config), encoding="utf-8")
    line = [sys.executable, "-m", "elastickv", "doctor", "--json", "--configfile", str(tmp_path / "m.yaml")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
    findings = {one["check"]: one for one in json.loads(done.stdout)["findings"] if one["theme"] == "peers"}
    assert done.returncode == 3
    assert {name.removeprefix("peer "): one["level"] for name, one in findings.items()} == {
        "torch_math": "ok", "torch_cudnn": "note", "mine": "ok", "wants": "problem", "broken": "problem",
    }  # fmt: skip
    fix = findings["peer wants"]["fix"]
    assert "uv pip install --python .envs/peers/bin/python" in fix and fix.endswith(" no-such-library")
    assert "No module named 'no_such_module_of_ours'" in findings["peer broken"]["found"]


@pytest.mark.parametrize("said", [{"names": ["cudnn"]}, {"backend": "cpu"}])
def test_bad_use_ends_with_exit_2(tmp_path, said):
    elementwise = matrix.case_from_flags({"workload": "elementwise"})
    done = command(tmp_path, elementwise, **said)
    assert done.returncode == 2
    assert "names" in done.stderr or "no case of the workload decode" in done.stderr
    assert "Traceback" not in done.stderr


class Driver:
    """libcuda as far as replays call it; `code` is what it answers."""

    def __init__(self, code: int = 0):
        self.code, self.called = code, []

    def cuGraphInstantiateWithFlags(self, executable, graph, flags):
        executable._obj.value = 77
        self.called.append(("instantiate", graph.value, flags.value))
        return self.code

    def cuGraphLaunch(self, executable, stream):
        self.called.append(("launch", executable.value, stream.value))
        return self.code

    def cuGraphExecDestroy(self, executable):
        self.called.append(("destroy", executable.value))
        return 0


def test_a_peers_graph_and_ours_are_launched_by_the_same_call_and_only_the_peers_is_destroyed_here():
    driver, stream = Driver(), SimpleNamespace(ptr=5)
    peer = runners.PeerReplay(driver, SimpleNamespace(raw_cuda_graph=lambda: 42))
    backend = SimpleNamespace(
        seconds=None, program=lambda calls, mode: SimpleNamespace(graph=SimpleNamespace(graphExec=99))
    )
    ours = runners.OnDriver(backend, driver).program([], None)
    peer.launch(stream)
    ours.graph.launch(stream)
    assert driver.called == [("instantiate", 42, 0), ("launch", 77, 5), ("launch", 99, 5)]
    del peer, ours
    assert driver.called[3:] == [("destroy", 77)]


# -- our timer beside others ---------------------------------------------------------------------------------------

# As NVBench 0.3.0 writes a state, cut to a few of its summaries.
STATE = {
    "is_skipped": False,
    "summaries": [
        {"tag": "nv/cold/sample_size", "data": [{"name": "value", "type": "int64", "value": "1058"}]},
        {"tag": "nv/batch/sample_size", "data": [{"name": "value", "type": "int64", "value": "1100"}]},
        {"tag": "nv/batch/time/gpu/mean", "hint": "duration",
         "data": [{"name": "value", "type": "float64", "value": "0.00047012345"}]},
        {"tag": "nv/json/bin:nv/cold/sample_times",
         "data": [{"name": "filename", "type": "string", "value": "x.bin"}, {"name": "size", "value": "1058"}]},
    ],
}  # fmt: skip


def test_nvbench_json_is_read_in_microseconds_and_timers_agree_within_one_percent(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    crosscheck = import_module("crosscheck")
    assert crosscheck.read_nvbench(STATE) == (pytest.approx(470.12345), 1100)
    with pytest.raises(LookupError, match="too slow"):
        crosscheck.read_nvbench({**STATE, "is_skipped": True, "skip_reason": "too slow"})
    assert crosscheck.compared(472.0, 470.0, "cupti (1)") == "cupti (1): 470.00 us, ours 472.00 us, +0.43%"
    with pytest.raises(AssertionError, match=r"ours 480\.00 us, \+2\.13%"):
        crosscheck.compared(480.0, 470.0, "cupti (1)")


@pytest.mark.gpu
@pytest.mark.parametrize("timer", ["cupti", "nvbench"])
def test_our_timer_is_within_one_percent_of_others(timer):
    if not device.visible_gpus():
        pytest.skip("no NVIDIA GPU is visible")
    try:
        line = [environments.interpreter("peers"), "tools/crosscheck.py", timer]
    except MachineError as error:
        pytest.skip(str(error))
    variables = os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT, env=variables)
    assert done.returncode == 0, done.stdout + done.stderr


MATRIX = """
results: results/beside
backend: cpu
measure: {reps: 12, warmup: 2, inner_loops: 64, decode_tokens: 0, max_seconds: 2}
cases:
  attention: {seq: 2048, heads: 4, dim: 64, compress: 4}
  other: {workload: elementwise, seq: 512, heads: 2, dim: 64, compress: 4}
baselines:
  transformers: {enable: false}
  peers: {enable: true, names: [torch_default, torch_cudnn, ./mine/my_kernel.py], reps: 12, max_seconds: 3}
"""


@pytest.mark.slow
def test_a_run_measures_peers_reports_them_verifies_and_does_nothing_twice(clone, tmp_path):
    checkout = clone.copy(tmp_path / "checkout")
    (checkout.root / "config/beside.yaml").write_text(MATRIX, encoding="utf-8")
    own = checkout.root / "mine/my_kernel.py"
    own.parent.mkdir()
    shutil.copy(ROOT / "docs/extending/peer/my_kernel.py", own)
    first = checkout.snakemake("--configfile", "config/beside.yaml")
    assert first.code == 0, first.text
    assert {"make .envs/peers", "measure peers' kernels", "measure attention", "measure other"} <= first.jobs
    results = checkout.root / "results/beside"
    made = records.read(results / "peers_torch_default.json", "peers")
    assert [one["case"]["id"] for one in made["cases"]] == ["attention"]
    assert right(made["cases"][0]["full"])
    mine = records.read(results / "peers_my_kernel.json", "peers")
    assert right(mine["cases"][0]["full"])
    assert mine["file"] == {"path": "mine/my_kernel.py", "sha256": hashlib.sha256(own.read_bytes()).hexdigest()}
    assert "mine/my_kernel.py" in (results / "report.md").read_text(encoding="utf-8")
    assert "Comparison with other libraries' kernels" in (results / "report.md").read_text(encoding="utf-8")
    verified = checkout.elastickv("verify", str(results))
    assert verified.code == 0, verified.text
    assert checkout.snakemake("--configfile", "config/beside.yaml").jobs == set()
    (results / "peers_torch_default.json").unlink()
    again = checkout.snakemake("--configfile", "config/beside.yaml")
    assert "measure peers' kernels" in again.jobs
    assert records.read(results / "peers_torch_default.json", "peers")["started"] == made["started"]
    own.write_text(own.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    edited = checkout.snakemake("--configfile", "config/beside.yaml")
    assert "measure peers' kernels" in edited.jobs
    assert records.read(results / "peers_torch_default.json", "peers")["started"] == made["started"]
    assert records.read(results / "peers_my_kernel.json", "peers")["started"] != mine["started"]


# -- on a GPU ----------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize(
    "changes",
    [{}, {"kv_heads": 8, "seq": 5003, "batch": 3, "dtype": "bf16"}, {"dim": 64, "anchor": "mean", "compress": 2}],
    ids=str,
)
def test_every_gpu_peer_is_right_cold_and_inside_graphs(tmp_path, changes):
    if not device.visible_gpus():
        pytest.skip("no NVIDIA GPU is visible")
    if not (ROOT / "build/cuda/elastickv.fatbin").is_file():
        pytest.skip("build/cuda/elastickv.fatbin is not built (elastickv build cuda)")
    shape = {"seq": 4096, "heads": 32, "kv_heads": 32, "dim": 128, "window": 256, "compress": 4, "backend": "cuda"}
    measured = matrix.case_from_flags({"id": "gpu", **shape, **changes, "measure": {**QUICK, "inner_loops": 64}})
    done = command(tmp_path, measured, backend="cuda", max_seconds=1)
    assert done.returncode == 0, done.stderr
    if "environment peers is missing" in (tmp_path / "peers_torch_default.json").read_text(encoding="utf-8"):
        pytest.skip("torch is not there (elastickv env peers)")
    for name in naming.offered():
        found = records.read(tmp_path / f"peers_{name}.json", "peers")["cases"][0]
        assert found["status"] in ("ok", "noisy", "unsupported"), (name, found["reason"])
        if found["status"] != "unsupported":
            assert right(found["full"]) and right(found["elastic"]), (name, found["elastic"]["reason"])
            assert found["full"]["resolved"]["graphs"]
            assert found["full"]["resolved"]["launches"] >= 20
    assert records.read(tmp_path / "peers_torch_math.json", "peers")["status"] in ("ok", "noisy")
