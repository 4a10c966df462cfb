"""A user's kernel, compared with ours: named by its path, identified by its hash, refused if it cheats."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import re
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from fuzzing import share
from hypothesis import given
from hypothesis import strategies as st
from peer_records import entry, peer_record
from results_folder import example

from elastickv import matrix, records
from elastickv.audit.finding import Findings
from elastickv.audit.peers import check as audit
from elastickv.cache import bytes_moved, oracle
from elastickv.device.cpu import CpuBackend
from elastickv.errors import UsageError
from elastickv.matrix import peers as naming
from elastickv.models.refusal import Refusal
from elastickv.peers import base, checking, comparison, own, record
from elastickv.pipeline import plan
from elastickv.schemas import config as keys

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "docs/extending/peer/my_kernel.py"
CASE = {"id": "tiny", "backend": "cpu", "seq": 300, "heads": 4, "kv_heads": 2, "dim": 64, "window": 32, "compress": 4,
        "measure": {"reps": 12, "warmup": 1, "inner_loops": 2, "max_seconds": 5}}  # fmt: skip


# -- kernels that cheat, beside ours -----------------------------------------------------------------------------------


class TwoMicroseconds(CpuBackend):
    """Our kernel, which really runs, by a clock that reports two microseconds, and a datasheet's peak."""

    peak = None

    def seconds(self, *programs, lead=()):
        super().seconds(*programs, lead=lead)
        return 2e-6 * sum(program.length for program in programs)

    def facts(self):
        return super().facts() | {"peak_gbps": self.peak}


class Runner:
    """Calls launches for what they write, and reports `seconds` for each, or the time that the peer states."""

    def __init__(self, backend, seconds, peer):
        self.ours, self._seconds, self._peer = backend, seconds, peer

    def program(self, calls, mode):
        return calls

    def seconds(self, *programs, lead=()):
        if not hasattr(self._peer, "spent"):
            return self._seconds * sum(map(len, programs))
        self._peer.spent = 0.0
        for program in programs:
            self.answers(program)
        return self._peer.spent

    def answers(self, program):
        return [launch() for launch in program]


def in_place(workload, address: int, shape: tuple[int, ...]) -> np.ndarray:
    """An fp16 array of the device, sharing its memory."""
    nbytes = 2 * int(np.prod(shape))
    return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), np.float16).reshape(shape)


def inputs_of(cache: str):
    """Queries in place, [rows, group, dim]; keys and values [rows, slots, dim]."""

    def inputs(workload) -> base.Inputs:
        shape, tokens = workload.shape, workload.case.seq
        q = [in_place(workload, workload.query(i), (shape.rows, 2, shape.dim)) for i in range(workload.layers)]
        if cache == "full":
            k, v = zip(*(layer.read_full(0, shape.rows, tokens) for layer in workload.caches), strict=True)
        else:
            k, v = (
                [layer.read_elastic(which, 0, shape.rows, tokens)[0] for layer in workload.caches] for which in "kv"
            )
        return base.Inputs(q, list(k), list(v))

    return inputs


class Honest(base.Peer):
    times = "attention in NumPy"

    def session(self):
        return contextlib.nullcontext()

    def attention(self, inputs, layer):
        out = oracle.decode_attention(inputs.q[layer], inputs.k[layer], inputs.v[layer])
        return out.astype(np.float16).astype(np.float32)

    def prepare(self, inputs):
        return lambda layer: lambda: self.attention(inputs, layer)


class AnswersWhenPrepared(Honest):
    def prepare(self, inputs):
        stored = [self.attention(inputs, layer) for layer in range(len(inputs.q))]
        return lambda layer: lambda: stored[layer]


class KeepsItsThirdAnswer(Honest):
    """Right whenever it is checked before it is timed."""

    def __init__(self):
        self.launched, self.stored = {}, {}

    def attention(self, inputs, layer):
        self.launched[layer] = self.launched.get(layer, 0) + 1
        if self.launched[layer] <= 3:
            self.stored[layer] = super().attention(inputs, layer)
        return self.stored[layer]


class KnowsItsQueriesAgain(Honest):
    """Stores an answer for every query, and takes a third of the time for those that it has seen."""

    def __init__(self):
        self.spent, self.stored = 0.0, {}

    def attention(self, inputs, layer):
        key = (layer, inputs.q[layer].tobytes())
        self.spent += 1e-5 if key in self.stored else 3e-5
        if key not in self.stored:
            self.stored[key] = super().attention(inputs, layer)
        return self.stored[key]


class Zeros(Honest):
    def attention(self, inputs, layer):
        return np.zeros(inputs.q[layer].shape, np.float32)


class LeavesOutAToken(Honest):
    def attention(self, inputs, layer):
        k, v = (tensors[layer][:, :-1] for tensors in (inputs.k, inputs.v))
        return oracle.decode_attention(inputs.q[layer], k, v).astype(np.float32)


class OnlyTheEnds(Honest):
    def attention(self, inputs, layer):
        return super().attention(inputs, layer if layer in (0, len(inputs.q) - 1) else 0)


class LeavesAHole(Honest):
    def attention(self, inputs, layer):
        out = super().attention(inputs, layer)
        out[..., -1] = np.nan
        return out


class OursIsWrong(CpuBackend):
    """Our kernel, wrong by one percent."""

    def seconds(self, *programs, lead=()):
        taken = super().seconds(*programs)
        for call in itertools.chain.from_iterable(program.calls for program in programs):
            if call.kernel == "decode":
                shape = (call.params.cache.rows * call.params.group, call.params.cache.dim)
                out = self.read(call.params.out, shape, np.float16)
                self.write(call.params.out, (out.astype(np.float32) * 1.01).astype(np.float16))
        return taken


@pytest.fixture
def beside(cpu_build, monkeypatch):
    """What our kernel finds of a peer that takes `seconds` a launch, over three layers."""
    monkeypatch.setattr(bytes_moved, "MOST_LAYERS", 3)
    monkeypatch.setattr(comparison, "VIEWS", {cache: inputs_of(cache) for cache in comparison.VIEWS})
    monkeypatch.setattr(checking.secrets, "randbelow", lambda layers: layers // 2)
    opened = []

    def measured(peer, seconds=1e-5, peak=None, ours=TwoMicroseconds, throttled=lambda: None, **changes):
        opened.append(ours(cpu_build / "cpu"))
        opened[-1].peak = peak
        case = record.for_peers(matrix.case_from_flags(CASE | changes), keys.Peers(reps=12, max_seconds=5))
        bench = comparison.Bench(opened[-1], Runner(opened[-1], seconds, peer), case, throttled)
        return comparison.beside(bench, peer)

    yield measured
    for backend in opened:
        backend.free_all()


def test_a_right_answer_has_figures_for_both_caches(beside):
    entry = beside(Honest(), seconds=1.0)
    for found in (entry.full, entry.elastic):
        assert found.status in ("ok", "noisy"), found.reason
        assert oracle.passes(found.correctness)
        assert found.ours.plain.peer.median_us == pytest.approx(1e6)
        assert found.ours.plain.ours.median_us == pytest.approx(2)
        assert found.ours.plain.ratio.value == pytest.approx(5e5)
        assert found.ours.dependent is None
        assert {tuple(sorted(order)) for order in found.ours.plain.samples.order} == {
            ("ours", "ours_again", "peer", "peer_again")
        }
    assert entry.elastic.bytes < entry.full.bytes
    assert entry.elastic.correctness.anchors == "right"
    records.check(peer_record("torch_default", {"4096_cpu": entry.model_dump(mode="json")}), "peers", "right")


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("no kernel image"), "failed"), (MemoryError("9 GB"), "out_of_memory"),
     (Refusal("unsupported", "no such heads"), "unsupported")],
)  # fmt: skip
def test_what_a_peer_raises_becomes_a_status(beside, error, status):
    class Raises(Honest):
        def prepare(self, inputs):
            raise error

    found = beside(Raises())
    assert (found.status, str(error) in found.reason) == (status, True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cache_dtype": "int4"}, "int4 slots"),
        ({"bias": "log_count"}, "cannot add a bias"),
        ({"seq": 30}, "nothing is compressed"),
    ],
)
def test_elastic_slots_that_no_peer_takes_are_unsupported_and_the_full_cache_is_measured(beside, changes, reason):
    found = beside(Honest(), **changes)
    assert found.full.status in ("ok", "noisy")
    assert found.elastic.status == "unsupported" and reason in found.elastic.reason


def test_our_own_wrong_answer_and_too_few_rounds_have_no_figures(beside):
    found = beside(Honest(), ours=OursIsWrong)
    assert found.status == "failed"
    assert "our own kernel (full cache, plain) is wrong: relative error" in found.reason
    found = beside(Honest(), throttled=lambda: "hardware slowdown")
    assert (found.status, "dropped (hardware slowdown)" in found.reason) == ("failed", True)


def test_an_honest_kernel_is_checked_on_inputs_that_are_not_those_timed(beside):
    found = beside(Honest())
    for cache in (found.full, found.elastic):
        assert cache.status in ("ok", "noisy"), cache.reason
        seeds = cache.resolved.checked_seeds
        assert len(set(seeds)) == len(seeds) == 3 + checking.REPLAYS
        assert found.case.seed not in seeds
    assert found.full.resolved.checked_seeds != beside(Honest()).full.resolved.checked_seeds


@pytest.mark.parametrize("peer", [AnswersWhenPrepared, KeepsItsThirdAnswer])
def test_a_stored_answer_is_refused(beside, peer):
    found = beside(peer())
    assert (found.status, found.full.status) == ("incorrect", "incorrect")
    assert found.reason.endswith("the answer does not change with its inputs")
    assert "ours" not in found.full.model_dump()


def test_a_time_that_holds_only_for_queries_seen_before_is_refused(beside):
    found = beside(KnowsItsQueriesAgain())
    assert found.status == "failed"
    assert found.reason.startswith("10 us a launch on queries seen before, ")
    assert found.reason.endswith(" us on new ones: the kernel caches answers")


def test_zeros_are_refused_however_fast(beside):
    found = beside(Zeros(), seconds=1e-9)
    assert found.status == "incorrect"
    assert found.reason == "relative error 1, allowed 0.001: the answer does not change with its inputs"


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (LeavesOutAToken, "relative error .*, allowed 0.001"),
        (OnlyTheEnds, "relative error .*"),
        (LeavesAHole, ".*NaN.*"),
    ],
)
def test_work_that_is_left_out_is_refused(beside, peer, reason):
    found = beside(peer())
    assert found.status == "incorrect"
    assert re.fullmatch(reason, found.reason)
    records.check(peer_record("torch_default", {"4096_cpu": found.model_dump(mode="json")}), "peers", "incorrect")


def test_a_right_answer_in_less_time_than_its_bytes_take_is_refused(beside):
    found = beside(Honest(), seconds=1e-6, peak=100.0)
    moved = bytes_moved.decode_traffic(found.case)["full"].total
    assert moved / 2e-6 / 1e9 < 100 < moved / 1e-6 / 1e9
    assert found.status == "failed"
    assert f"peer, plain: 1 us for {moved} bytes are" in found.reason
    assert "more than the device's peak of 100" in found.reason
    assert beside(Honest(), seconds=1e-5, peak=100.0).status in ("ok", "noisy")


@pytest.mark.parametrize(("peak", "seeds", "fault"), [(10.0, [7], "median_us"), (None, [0, 7], "checked_seeds")])
def test_verify_finds_a_time_below_the_peak_and_a_check_on_the_timed_inputs(peak, seeds, fault):
    case = example("4096_golden_ticket")["case"]
    made = peer_record("torch_cudnn", {"4096_golden_ticket": entry(case, 21.0, 16.6)})
    made["device"]["peak_gbps"] = peak
    made["cases"][0]["full"]["resolved"]["checked_seeds"] = [case["seed"] if seed == 0 else seed for seed in seeds]
    findings = Findings()
    audit(findings.of("peers"), made)
    assert any(fault in str(found) for found in findings.faults), findings.faults


# -- the file ----------------------------------------------------------------------------------------------------------


def file_of(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


OWN = """
import contextlib
from elastickv.peers.base import Peer

class Mine(Peer):
    times = "one call of mine"

PEER = Mine()
"""


def test_a_file_offers_its_peer_and_is_known_by_its_bytes(tmp_path):
    path = file_of(tmp_path, OWN)
    peer, sha256 = own.load(path)
    assert (peer.times, peer.needs) == ("one call of mine", ("torch",))
    file_of(tmp_path, OWN.replace("of mine", "of miné"))
    with pytest.raises(Refusal, match="edited during the measurement"):
        own.load(path, sha256)
    assert own.load(path)[0].times == "one call of miné"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module_of_ours\nPEER = 1", "ModuleNotFoundError: No module named 'no_such_module_of_ours'"),
        ("import sys\nsys.exit(3)\nPEER = 1", "SystemExit: 3"),
        (OWN.replace("Mine()", "Mine"), "an instance of a subclass"),
        (OWN.replace('"one call of mine"', '""'), "PEER.times must be a sentence"),
        (OWN.replace("times =", "needs, times = 'torch',"), "PEER.needs must be a tuple"),
    ],
)
def test_a_file_that_offers_no_peer_is_refused_with_the_reason(tmp_path, text, reason):
    with pytest.raises(Refusal, match=r"mine\.py: ") as refused:
        own.load(file_of(tmp_path, text))
    assert reason in str(refused.value)


# -- names in a config -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("torch_cudn", None, "unknown peer; did you mean torch_cudnn? known: "),
        ("./nowhere/mine.py", None, "no such file"),
        ("~/mine.py", None, "'~' is not expanded"),
        ("./My-Kernel.py", OWN, "lower-case letters, digits and '_'"),
        ("./mine.txt", OWN, "ends in .py"),
        ("./torch_math.py", OWN, "the project's peer torch_math"),
        ("./mine.py", "def PEER(:", "cannot be read as Python: invalid syntax"),
        ("./mine.py", "peer = 1", "does not define PEER"),
        ("./folder.py/", None, "cannot be read: a folder"),
    ],
)
def test_what_is_no_peer_is_named_with_the_fix(tmp_path, monkeypatch, name, text, said):
    monkeypatch.chdir(tmp_path)
    Path("folder.py").mkdir()
    if text:
        Path(name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        config_of([name])
    assert "m.yaml:4: baselines.peers.names[0]: " in str(refused.value)
    assert said in str(refused.value)


def config_of(names: list[str] | None) -> matrix.Config:
    """A config in the current folder with these peers."""
    requested = f"names: {json.dumps(names)}" if names else "reps: 240"
    Path("m.yaml").write_text(
        "cases: {a: {seq: 64, heads: 2, dim: 64, compress: 2}}\nbaselines:\n  peers:\n"
        f"    {{enable: true, {requested}}}\n",
        encoding="utf-8",
    )
    return matrix.load(["m.yaml"])


@share(0.2)
@given(names=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300), max_size=3),
       ending=st.sampled_from(["", ".py", "/.py", "/../x.py"]))  # fmt: skip
@hypothesis.example(names=["a" * 400], ending="/b.py")
def test_whatever_is_named_is_a_peer_or_a_fault(names, ending):
    said = [name + ending for name in names]
    assert {index for index, _ in naming.faults(said)} == {*range(len(said))}


def test_two_files_of_one_name_would_share_a_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file_of(tmp_path / folder, OWN)
    with pytest.raises(UsageError, match=r"names\[1\]: b/mine.py: the record of names\[0\] has the same name mine"):
        config_of(["a/mine.py", "b/mine.py"])


def test_a_file_is_an_input_of_the_rule_and_its_stem_names_the_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    file_of(tmp_path / "own", OWN)
    made = plan.resolve(config_of(["torch_math", "./own//mine.py"]))
    assert made.peer_files == ("own/mine.py",)
    assert [path.name for path in made.peer_records] == ["peers_torch_math.json", "peers_mine.json"]


def test_without_names_every_peer_of_the_folder_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = config_of(None)
    assert config.baselines.peers.names == [*naming.offered()]
    assert plan.resolve(config).peer_files == ()


@pytest.fixture
def folder_of_libraries(tmp_path, monkeypatch):
    """A folder of libraries in place of ours."""
    monkeypatch.setattr(naming, "LIBRARIES", tmp_path)
    naming.offered.cache_clear()
    yield tmp_path
    naming.offered.cache_clear()


def test_a_library_is_found_by_being_there(folder_of_libraries):
    file_of(folder_of_libraries, 'import nothing_of_ours\nPEERS = {"b_two": 1, "b_one": 2}\n', "b.py")
    file_of(folder_of_libraries, 'PEERS = {"a": 1}\n', "a.py")
    file_of(folder_of_libraries, "", "__init__.py")
    assert naming.offered() == {"a": "a", "b_two": "b", "b_one": "b"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("PEERS = make()", "must define PEERS"), ("PEERS = {NAME: 1}", "quoted names"),
     ('PEERS = {"a": 1}', "a is also defined in a.py")],
)  # fmt: skip
def test_a_library_that_cannot_be_read_is_named(folder_of_libraries, text, said):
    file_of(folder_of_libraries, 'PEERS = {"a": 1}\n', "a.py")
    file_of(folder_of_libraries, text, "b.py")
    with pytest.raises(UsageError, match=r"b\.py: ") as refused:
        naming.offered()
    assert said in str(refused.value)


def test_the_template_is_a_file_that_a_config_may_name():
    assert list(naming.faults([str(TEMPLATE)])) == []
