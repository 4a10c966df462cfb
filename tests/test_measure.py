"""The measuring path on real CPU kernels: right answers, and a record with a status for everything that goes wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import MISSING
from results_folder import example, typed

from elastickv import anchors, cli, formats, jobs, matrix, records, workloads
from elastickv.build import fingerprint
from elastickv.cache import oracle
from elastickv.device.base import Lap, Mode
from elastickv.device.cpu import CpuBackend
from elastickv.device.cpu_state import CpuState
from elastickv.measure import bench as bench_command
from elastickv.measure import cycle, record, sampling, steps, supervisor
from elastickv.schemas.base import given
from elastickv.schemas.case import AnyCase
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.parts import BuildUsed, Device

TINY = {"id": "tiny", "backend": "cpu", "seq": 300, "heads": 4, "kv_heads": 2, "dim": 64, "sinks": 4, "window": 32}
QUICK = {"reps": 3, "warmup": 1, "inner_loops": 2, "max_seconds": 5, "decode_tokens": 10}


def tiny_case(**changes) -> AnyCase:
    measure = {**QUICK, **changes.pop("measure", {})}
    groups = {} if "policy" in changes else {"compress": 4}
    return matrix.case_from_flags({**TINY, **groups, **changes, "measure": measure})


def measure_in_process(backend, case, state=None) -> Measurement:
    built = BuildUsed.model_validate(example("4096_cpu")["build"])
    blank = record.unmeasured(case, "cpu", built, Device.model_validate(backend.facts()))
    made, _ = steps.measure(backend, blank, {"reps", "warmup", "inner_loops"}, state or CpuState())
    records.check(made.model_dump(mode="json"), "measurement", made.status)
    return made


@pytest.fixture
def backend(cpu_build, monkeypatch):
    """The CPU library with a small last-level cache, so that a few layers of a tiny case are a whole rotation."""
    opened = CpuBackend(cpu_build / "cpu")
    facts = opened.facts() | {"last_level_cache_bytes": 1 << 20}
    monkeypatch.setattr(opened, "facts", lambda: facts)
    yield opened
    opened.free_all()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch": 3, "heads": 28, "kv_heads": 4, "dim": 128},
        {"dim": 80, "dtype": "bf16", "anchor": "mean", "bias": "log_count"},
        {"compress": 1, "cache_dtype": "int4", "dim": 128},
        {"seq": 20},
        {"anchor": "key_norm", "window": 0, "compress": 3, "cache_dtype": "int4", "dim": 128},
        {"policy": "head_budget", "full_heads": 1, "window": 16},
    ],
    ids=str,
)
def test_decode_and_its_inference_cycle_are_right_on_every_layer_checked(backend, changes):
    made = measure_in_process(backend, tiny_case(**changes))
    assert made.status in ("ok", "noisy"), made.reason
    for correctness in (made.correctness, made.inference_cycle.correctness):
        assert all(oracle.passes(answer) for _, answer in correctness)
    assert made.correctness.elastic.anchors == "right"
    assert len(made.samples.full_us) == 3
    taken = made.inference_cycle
    assert taken.decode_tokens == 10
    assert taken.tokens_per_sample == (1 if "policy" in changes else changes.get("compress", 4))


def elementwise_case(**changes) -> AnyCase:
    flags = {"id": "pass", "workload": "elementwise", "backend": "cpu", "seq": 101, "heads": 3, "dim": 64}
    measure = {key: QUICK[key] for key in ("reps", "warmup", "inner_loops")}
    return matrix.case_from_flags(flags | {"compress": 4, "measure": measure} | changes)


def test_passes_in_alternating_order_turn_round_with_every_visit_of_a_set(backend):
    for order, turns in (("forward", 0), ("alternating", 1)):
        workload = workloads.create(backend, elementwise_case(pass_order=order))
        for arm in ("full", "elastic"):
            launches = range(2 * workload.period)
            turned = [workload.call(arm, index).params.reverse for index in launches]
            assert turned == [index // workload.layers % 2 * turns for index in launches]
    backend.free_all()


@pytest.mark.parametrize(("compress", "pass_order"), [(1, "forward"), (4, "alternating"), (7, "forward")])
def test_elementwise_is_right(backend, compress, pass_order):
    made = measure_in_process(backend, elementwise_case(compress=compress, pass_order=pass_order))
    assert made.status in ("ok", "noisy"), made.reason
    assert made.inference_cycle is None


def test_too_few_rounds_make_no_published_interval(backend):
    """One round has a ratio and no spread: its interval would be the narrowest of all."""
    made = measure_in_process(backend, tiny_case(measure={"reps": 3, "decode_tokens": 0}))
    assert made.status == "noisy"
    assert "after 3 rounds" in made.reason and "raise measure.reps" in made.reason
    assert made.statistics.speedup.confidence == 0.75
    assert made.resolved.stopped == "reps"
    assert made.resolved.warm_up.stationary is None


def test_a_record_holds_its_controls_and_depends_on_no_limit_of_them(backend, monkeypatch):
    """A complete measurement is `ok` in its record for any controls; the judge's limits are not used."""
    controls = sampling.Samples.controls

    def strayed(samples: sampling.Samples, confidence: float) -> dict:
        off = {"ratio": 1.3, "low": 1.2, "high": 1.4}
        return {arm: control.model_copy(update=off) for arm, control in controls(samples, confidence).items()}

    monkeypatch.setattr(sampling.Samples, "controls", strayed)
    made = measure_in_process(backend, tiny_case(measure={"reps": 12, "decode_tokens": 0}))
    assert (made.status, made.reason) == ("ok", None)
    assert made.statistics.controls.full.low == 1.2


def test_the_control_that_sampling_waits_for_is_the_case_s_precision_s():
    """`test_sampling` shows what that does; no threshold of the judge decides how long a case is sampled."""
    settings = tiny_case(measure={"precision": 0.02}).measure
    assert steps.rule(settings, set()).control == settings.precision == 0.02


class Throttled(CpuState):
    """Slows down in every round from the second on, or in all of them."""

    def __init__(self, good: int):
        super().__init__()
        self.good = good

    def throttled(self) -> str | None:
        super().throttled()
        self.good -= 1
        return None if self.good >= 0 else "hardware thermal slowdown"


def test_all_rounds_dropped_is_noisy_with_its_reason_and_no_figure(backend):
    made = measure_in_process(backend, tiny_case(), Throttled(0))
    assert made.status == "noisy"
    assert made.reason == "all 3 rounds were dropped: hardware thermal slowdown"
    assert [entry.reason for entry in made.samples.dropped] == ["hardware thermal slowdown"] * 3
    assert made.throttling.dropped_rounds == 3
    assert given(made.statistics) is None


def test_a_throttled_round_is_dropped_and_counted_and_the_others_stay(backend):
    made = measure_in_process(backend, tiny_case(measure={"decode_tokens": 0}), Throttled(2))
    assert len(made.samples.full_us) == 2
    assert made.throttling.dropped_rounds == 1
    assert "(1 more dropped)" in made.reason


class WrongByOnePercent(CpuBackend):
    """Scales every query head's output: a fast kernel with a small error."""

    def launch(self, call):
        super().launch(call)
        if call.kernel == "decode":
            params = call.params
            shape = (params.cache.rows * params.group, params.cache.dim)
            out = self.read(params.out, shape, np.float16)
            self.write(params.out, (out.astype(np.float32) * 1.01).astype(np.float16))


class LeavesAHole(CpuBackend):
    """Forgets the last element of the output."""

    def launch(self, call):
        super().launch(call)
        if call.kernel == "decode":
            params = call.params
            last = params.cache.rows * params.group * params.cache.dim - 1
            self.fill_bytes(params.out + 2 * last, 2, 0xFF)


class KeepsAnotherToken(CpuBackend):
    """Compresses with `first` under every policy."""

    def launch(self, call):
        if call.kernel == "compress":
            call.params.cache.anchor = anchors.of("first").number
        super().launch(call)


@pytest.mark.parametrize(
    ("faulty", "reason"),
    [(WrongByOnePercent, "relative error"), (LeavesAHole, "NaN"), (KeepsAnotherToken, "other tokens")],
)
def test_a_wrong_kernel_is_incorrect_and_has_no_statistics(cpu_build, faulty, reason):
    backend = faulty(cpu_build / "cpu")
    made = measure_in_process(backend, tiny_case())
    backend.free_all()
    assert made.status == "incorrect"
    assert reason in made.reason
    assert made.statistics is MISSING
    assert made.samples is MISSING


def test_a_record_of_every_kind_fits_its_schema(cpu_build):
    ok = supervisor.measure_case(tiny_case(), str(cpu_build))
    assert ok.status in ("ok", "noisy")
    unsupported = supervisor.measure_case(tiny_case(dim=72), str(cpu_build))
    assert unsupported.status == "unsupported"
    assert "72" in unsupported.reason
    huge = supervisor.measure_case(tiny_case(seq=2**22, batch=64, heads=64, kv_heads=64, dim=256), str(cpu_build))
    assert huge.status == "out_of_memory"
    for made in (ok, unsupported, huge):
        records.check(made.model_dump(mode="json"), "measurement", made.status)


def test_a_worker_that_hangs_is_stopped(monkeypatch, tmp_path):
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(jobs.process, "interpreter", lambda _: str(sleeper))
    answer = supervisor.in_worker("cpu", {"task": "ceilings"}, 0.3, None)
    assert "no answer" in answer["reason"]


def test_a_finished_measurement_is_not_repeated_unless_asked(cpu_build, tmp_path):
    store = jobs.RecordStore(tmp_path / "store")
    case = tiny_case(measure={"decode_tokens": 0})
    first = supervisor.measure_case(case, str(cpu_build), store=store)
    again = supervisor.measure_case(case.model_copy(update={"id": "renamed"}), str(cpu_build), store=store)
    fresh = supervisor.measure_case(case, str(cpu_build), store=store, remeasure=True)
    other = supervisor.measure_case(tiny_case(seq=301, measure={"decode_tokens": 0}), str(cpu_build), store=store)
    assert again.started == first.started
    assert again.case.root.id == "renamed"
    assert fresh.started != first.started
    assert other.case.root.seq == 301


def test_a_damaged_stored_record_is_measured_again(cpu_build, tmp_path):
    store = jobs.RecordStore(tmp_path / "store")
    case = tiny_case(measure={"decode_tokens": 0})
    supervisor.measure_case(case, str(cpu_build), store=store)
    stored = next((tmp_path / "store").glob("*.json"))
    stored.write_text(stored.read_text()[:200])
    assert supervisor.measure_case(case, str(cpu_build), store=store).status in ("ok", "noisy")
    json.loads(stored.read_text())


def bench(cpu_build, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "elastickv", "bench", "--build", str(cpu_build), "--backend=cpu"]
    command += ["--max_seconds=3", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_bench_prints_one_json_object_and_takes_flags_both_ways(cpu_build):
    flags = ["--seq=256", "--heads", "4", "--dim=64", "--compress", "8", "--reps=4", "--warmup", "2"]
    flags += ["--inner_loops=3", "--truncate=5", "--paired-baseline", "--inference", "--decode_tokens=4"]
    flags += ["--no-graphs", "--json"]
    done = bench(cpu_build, *flags)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    records.check(record, "measurement", "bench")
    assert len(record["samples"]["elastic_us"]) == 4
    assert (record["resolved"]["inner_loops"], record["resolved"]["warmup"]) == (3, 2)
    assert record["inference_cycle"]["decode_tokens"] == 4


def test_bench_says_what_it_leaves_out_and_when_the_library_is_of_other_kernels(cpu_build, tmp_path, monkeypatch):
    flags = ["--seq=256", "--heads=2", "--dim=64", "--reps=3", "--warmup=0", "--inner_loops=1", "--json"]
    quiet = bench(cpu_build, *flags)
    shutil.copytree(Path(__file__).parents[1] / "kernels", tmp_path / "kernels")
    with (tmp_path / "kernels" / "decode" / "kernel.cpp").open("a") as source:
        source.write("int changed;\n")
    monkeypatch.chdir(tmp_path)
    stated = bench(cpu_build, *flags, "--decode_tokens=5")
    assert (quiet.returncode, stated.returncode) == (0, 0), stated.stderr
    assert "note" not in quiet.stderr
    assert f"{cpu_build}/cpu was not built from the current kernels/cpu: run elastickv build cpu" in stated.stderr
    assert "--decode_tokens has no effect without --inference" in stated.stderr
    assert json.loads(stated.stdout)["inference_cycle"] is None


@pytest.mark.parametrize("cycle_flags", [[], ["--inference", "--decode_tokens=12"]], ids=["attention", "cycle"])
def test_saved_tensors_let_anyone_recheck_the_answer(cpu_build, tmp_path, cycle_flags):
    file = tmp_path / "tensors.npz"
    flags = ["--seq=300", "--heads=4", "--kv_heads=2", "--dim=64", "--compress=4", "--window=32", "--reps=3",
             "--cache_dtype=int8", "--bias=log_count", "--warmup=1", "--inner_loops=1"]  # fmt: skip
    done = bench(cpu_build, *flags, *cycle_flags, f"--save-tensors={file}")
    assert done.returncode == 0, done.stderr
    saved = np.load(file)
    q = saved["q"].reshape(2, 2, 64)
    k, v, bias = saved["elastic_k"][0], saved["elastic_v"][0], saved["bias"][0]
    answer = oracle.decode_attention(q, k, v, bias)
    assert oracle.passes(oracle.check(saved["elastic_out"].reshape(2, 2, 64), answer, "fp16"))
    full = oracle.decode_attention(q, saved["k"][0], saved["v"][0])
    assert oracle.passes(oracle.check(saved["full_out"].reshape(2, 2, 64), full, "fp16"))
    middle = saved["middle"]
    kept = np.take_along_axis(saved["k"][0], saved["kept"][0][:, :, None], axis=1)
    assert (kept[:, ~middle] == k[:, ~middle]).all()
    int8 = formats.of("int8")
    words, scale = int8.store(kept[:, middle])
    assert (int8.load(words, scale) == k[:, middle]).all()
    assert (saved["k_scale"][0][:, middle] == scale).all()
    assert (saved["counts"] == middle.size).all()


def test_saved_tensors_of_heads_that_keep_fewer_slots_are_padded_and_say_how_many_count(cpu_build, tmp_path):
    file = tmp_path / "tensors.npz"
    flags = ["--policy=head_budget", "--full_heads=1", "--seq=300", "--heads=4", "--kv_heads=2", "--dim=64",
             "--batch=2", "--window=32", "--reps=3", "--warmup=1", "--inner_loops=1",
             f"--save-tensors={file}"]  # fmt: skip
    done = bench(cpu_build, *flags)
    assert done.returncode == 0, done.stderr
    saved = np.load(file)
    assert saved["counts"].tolist() == [[300, 36]] * 2
    assert saved["middle"].shape == (2, 2, 300) and not saved["middle"].any()
    assert "k_scale" not in saved
    assert (saved["kept"][:, 1, :36] == [*range(4), *range(268, 300)]).all()
    for entry in range(2):
        for head, slots in enumerate(saved["counts"][entry]):
            kept = saved["kept"][entry, head, :slots]
            k, v = (saved[name][entry, head, kept][None] for name in "kv")
            assert (saved["elastic_k"][entry, head, :slots] == k[0]).all()
            assert not saved["elastic_k"][entry, head, slots:].any()
            group = slice(2 * head, 2 * head + 2)
            answer = oracle.decode_attention(saved["q"][entry, group][None], k, v)
            assert oracle.passes(oracle.check(saved["elastic_out"][entry, group][None], answer, "fp16"))


def test_tensors_that_were_not_saved_are_told(cpu_build, tmp_path):
    file = tmp_path / "tensors.npz"
    file.write_text("of an earlier run")
    done = bench(cpu_build, "--dim=72", f"--save-tensors={file}")
    assert done.returncode == 0
    stated = "elastickv: note: --save-tensors: nothing was written"
    assert done.stderr.splitlines()[-1] == f"{stated}: unsupported"  # it may have had to wait for other tests' timing
    assert file.read_text() == "of an earlier run"
    saved = bench(cpu_build, "--seq=64", "--heads=2", "--dim=64", "--reps=3", f"--save-tensors={file}")
    assert (saved.returncode, stated in saved.stderr) == (0, False)
    assert "full_out" in np.load(file)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--dim=63"], "dim"),
        (["--pass_order=alternating"], "pass_order"),
        (["--splits=4"], "--splits: applies only to decode on a GPU"),
    ],
)
def test_bench_refuses_bad_flags_with_exit_2(cpu_build, flags, named):
    done = bench(cpu_build, *flags)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_every_flag_of_a_case_reaches_the_case():
    """A flag that the parser knows and nobody reads would be ignored in silence."""
    parser = cli.build_parser()
    words = {"workload": "elementwise", "pass_order": "alternating", "anchor": "mean", "bias": "log_count"}
    words |= {"dtype": "fp32", "cache_dtype": "int8", "launch": "plain", "backend": "cpu"}
    counts = ("batch", "seq", "heads", "kv_heads", "compress", "sinks", "window", "seed")
    numbers = dict.fromkeys(counts, 24) | {"dim": 96}
    decode = {key: value for key, value in (words | numbers).items() if key not in ("workload", "pass_order")}
    passes = {key: (words | numbers)[key] for key in ("workload", "pass_order", "seq", "heads", "dim", "compress")}
    pairs = {"heads": 24, "key_dtype": "int8", "value_dtype": "int4"}
    budget = {"heads": 24, "policy": "head_budget", "full_heads": 3}
    every = (decode, passes, pairs, budget)
    for said in every:
        case = bench_command.case_of(parser.parse_args(["bench", *(f"--{key}={value}" for key, value in said.items())]))
        assert said.items() <= case.model_dump(mode="json").items()
    assert set().union(*every) == set(bench_command.CASE_FLAGS)


def test_strict_turns_a_status_into_an_exit_code(cpu_build):
    assert bench(cpu_build, "--dim=72").returncode == 0
    assert bench(cpu_build, "--dim=72", "--strict").returncode == 1


def test_a_line_on_a_noisy_record_has_no_number_but_the_reason():
    noisy, ok = example("4096_noisy"), example("4096_cpu")
    assert supervisor.describe(typed(noisy)) == f"4096_noisy: noisy ({noisy['reason']})"
    speedup = ok["statistics"]["speedup"]
    assert "{value:.3f}x [{low:.3f}, {high:.3f}]".format_map(speedup) in supervisor.describe(typed(ok))


class Recorder:
    """A backend whose programs are strings of launches; notes what is replayed, and whether timed."""

    def __init__(self, name: str = "cuda"):
        self.name, self.replayed = name, []

    def program(self, calls, mode):
        return "".join(calls)

    def seconds(self, *programs, lead=()):
        self.replayed += [(program, False) for program in lead] + [(program, True) for program in programs]
        return sum(map(len, programs)) * 2e-6

    def laps(self, *programs, ahead):
        yield Lap(self.seconds(*programs), 0.0)

    @property
    def timed(self) -> str:
        return "".join(program for program, timed in self.replayed if timed)


@pytest.mark.parametrize("loops", [1, 2, 3, 5, 7, 10])
def test_a_rotation_goes_on_from_sample_to_sample(loops):
    """Whatever a sample holds, between two visits of a layer all others are visited."""
    backend = Recorder()
    rotation = steps.Rotation(backend, lambda index: "abcde"[index], loops, 5, Mode())
    assert [rotation.sample() for _ in range(10)] == pytest.approx([2.0] * 10)
    assert backend.timed == ("abcde" * 20)[: 10 * loops]


def test_a_sample_follows_an_untimed_replay_and_steady_work_counts_every_launch():
    """A sample must not begin in a way that depends on the arm before it."""
    backend = Recorder()
    rotation = steps.Rotation(backend, lambda index: "abcd"[index], 4, 4, Mode())
    assert rotation.sample() == pytest.approx(2.0)
    assert backend.replayed == [("abcd", False), ("abcd", True)]
    steady = rotation.steady()
    backend.replayed.clear()
    (done,) = steady.work()
    assert done.launches == 4 * 625  # as many rotations of 8 us as take 5 ms
    assert backend.replayed == 625 * [("abcd", True)]


def test_steady_work_visits_all_layers_where_a_sample_does_not():
    backend = Recorder("cpu")
    steady = steps.Rotation(backend, lambda index: "abcd"[index], 3, 4, Mode()).steady()
    backend.replayed.clear()
    (done,) = steady.work()
    assert (done.launches, set(backend.timed)) == (6 * 417, set("abcd"))
    assert done.launches == len(backend.timed)


class Launches:
    """A workload of `period` launches."""

    def __init__(self, period: int):
        self.period = period

    def call(self, arm: str, index: int) -> str:
        return "x"


@pytest.mark.parametrize(
    ("device", "period", "inner_loops", "fixed", "us", "expected"),
    [
        ("cuda", 11, 64, False, 2, 66),  # rounded up: 9 of the 64 launches would find their layer warm
        ("cuda", 11, 64, True, 2, 66),  # in `bench` too
        ("cuda", 11, 64, False, 1000, 44),  # as many rotations as take 50 ms
        ("cuda", 100, 64, False, 10_000, 100),  # never less than one
        ("cuda", 1, 5, False, 2, 20),  # a graph holds at least 20
        ("cpu", 143, 64, False, 10_000, 5),
        ("cpu", 143, 64, False, 90_000, 1),  # a single launch
        ("cpu", 143, 7, True, 90_000, 7),
    ],
)
def test_samples_are_whole_rotations_on_a_gpu_and_may_be_one_launch_on_a_cpu(
    device, period, inner_loops, fixed, us, expected
):
    class Timed(Recorder):
        def seconds(self, *programs, lead=()):
            return sum(map(len, programs)) * us * 1e-6

    settings = tiny_case(measure={"inner_loops": inner_loops}).measure
    graph = Mode(graph=device == "cuda")
    assert steps.choose_loops(Timed(device), Launches(period), settings, graph, fixed) == expected


@pytest.mark.parametrize(("reps", "expected"), [(10, 50), (100, 50), (1000, 5), (100_000, 1)])
def test_samples_of_a_cpu_are_so_short_that_all_rounds_fit_into_the_time(reps, expected):
    class Timed(Recorder):
        def seconds(self, *programs, lead=()):
            return sum(map(len, programs)) * 1e-3

    settings = tiny_case(measure={"inner_loops": 64, "reps": reps, "max_seconds": 20}).measure
    assert steps.choose_loops(Timed("cpu"), Launches(8), settings, Mode(), fixed=False) == expected


def test_a_record_states_the_shortest_reuse_distance_and_both_controls(backend):
    made = measure_in_process(backend, tiny_case(measure={"reps": 12, "decode_tokens": 0}))
    layers, moved = made.resolved.layers, made.bytes
    assert made.resolved.reuse_bytes.full == (layers - 1) * moved.full
    assert made.resolved.reuse_bytes.elastic == (layers - 1) * moved.elastic
    assert len(made.samples.elastic_again_us) == len(made.samples.rounds.seconds) == 12
    assert made.statistics.elastic.count == 24
    assert given(made.statistics.controls.elastic)


@pytest.mark.parametrize(("steps", "compress", "lengths"), [(10, 4, [4, 4, 2]), (64, 1, [1] * 64), (3, 8, [3])])
def test_samples_of_a_cycle_close_one_group_each(steps, compress, lengths):
    parts = cycle.blocks(steps, compress)
    assert [len(part) for part in parts] == lengths
    assert [token for part in parts for token in part] == list(range(steps))


@pytest.mark.parametrize("workload", ["decode", "elementwise"])
def test_a_case_launches_only_what_its_fingerprint_is_made_of(backend, monkeypatch, workload):
    """A kernel that `fingerprint.launched` does not name could change without the case being measured again."""
    launched, program = set(), backend.program

    def noted(calls, mode):
        launched.update(call.kernel for call in calls)
        return program(calls, mode)

    monkeypatch.setattr(backend, "program", noted)
    shape = {"seq": 300, "heads": 4, "dim": 64, "compress": 4}
    cycle = {"decode_tokens": QUICK["decode_tokens"] if workload == "decode" else 0}
    flags = {"id": "tiny", "backend": "cpu", "workload": workload, **shape, "measure": QUICK | cycle}
    measure_in_process(backend, matrix.case_from_flags(flags))
    assert {"stream", workload} <= launched <= set(fingerprint.launched()[workload])
