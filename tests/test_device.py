"""What the machine reports and what follows from it: a driver's GPUs, NVML, load and quota of a CPU, energy."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest
from pydantic import MISSING
from results_folder import example

from elastickv import device, matrix, records
from elastickv.device import cgroup, cpu_state, throttle
from elastickv.device.base import Lap
from elastickv.device.cpu_state import CpuState
from elastickv.device.gpu_state import GpuState
from elastickv.device.nvml import Nvml
from elastickv.measure import energy, machine, supervisor
from elastickv.measure.steady import Replays
from elastickv.schemas.measurement import Drawn, Measurement, Range
from elastickv.schemas.parts import Others, Process, Setting, Unavailable

BOARD = "GPU-00112233-4455-6677-8899-aabbccddeeff"
INSTANCE = "MIG-01112233-4455-6677-8899-aabbccddeeff"


# The driver.

DRIVER = """
#include <string.h>
static const unsigned char board[16] = {0x00,0x11,0x22,0x33,0x44,0x55,0x66,0x77,
 0x88,0x99,0xaa,0xbb,0xcc,0xdd,0xee,0xff};
extern "C" int cuInit(unsigned) { return 0; }
extern "C" int cuDeviceGetCount(int* count) { *count = 1; return 0; }
extern "C" int cuDeviceGetUuid(unsigned char* uuid, int) { memcpy(uuid, board, 16); return 0; }
"""
SECOND_VERSION = """
extern "C" int cuDeviceGetUuid_v2(unsigned char* uuid, int) { memcpy(uuid, board, 16); uuid[0] = %d; return 0; }
"""


@pytest.mark.parametrize(
    ("more", "found"),
    [("", (BOARD, BOARD)), (SECOND_VERSION % 0, (BOARD, BOARD)), (SECOND_VERSION % 1, (INSTANCE, BOARD))],
    ids=["an old driver", "a whole board", "a MIG instance"],
)
def test_a_gpu_is_known_by_its_own_uuid_and_its_boards(tmp_path, more, found):
    program = "from elastickv import device; print(*device.gpus()[0][:2], device.visible_gpus()[0])"
    assert with_driver(tmp_path, DRIVER + more, program).split() == [*found, found[0]]


def with_driver(folder: Path, source: str, program: str) -> str:
    """What a Python program prints where this C++ source is the CUDA driver library."""
    if not shutil.which("g++"):
        pytest.skip("no g++")
    (folder / "driver.cpp").write_text(source, encoding="ascii")
    library = folder / "libcuda.so.1"
    subprocess.run(["g++", "-shared", "-fPIC", "-o", library, folder / "driver.cpp"], check=True)
    variables = os.environ | {"LD_LIBRARY_PATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    return done.stdout


ANSWERS = """
extern "C" int cuDeviceGetName(char* name, int, int) { strcpy(name, "Some GPU"); return 0; }
extern "C" int cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = 80000000000; return 0; }
extern "C" int cuDeviceGetAttribute(int* value, int which, int) { *value = 1000 * which; return which == 38 ? 1 : 0; }
extern "C" int cuDriverGetVersion(int* version) { *version = 12040; return 0; }
"""


def test_the_doctor_and_the_clocks_are_told_what_the_driver_says(tmp_path):
    """Attribute 38, the L2 cache, is refused: that is 0, and no reason to stop."""
    program = """
from elastickv.device import driver, gpu_names
from elastickv.doctor import gpu
facts = gpu.gather()
(one,) = facts.gpus
print(facts.init, facts.cuda, gpu_names(), end=" ")
print(one.name, one.capability, one.total, one.l2_bytes, driver.rated_mhz(one.uuid))
"""
    found = with_driver(tmp_path, DRIVER + ANSWERS, program)
    assert found == "0 (12, 4) ['Some GPU'] Some GPU (75000, 76000) 80000000000 0 {'SM': 13, 'memory': 36}\n"


def test_a_driver_that_sees_no_gpu_is_asked_nothing_more(tmp_path):
    program = "from elastickv.doctor import gpu; facts = gpu.gather(); print(facts.init, facts.gpus, facts.cuda)"
    failing = DRIVER.replace("cuInit(unsigned) { return 0; }", "cuInit(unsigned) { return 100; }")
    assert with_driver(tmp_path, failing, program) == "100 () None\n"


# Throttling.


@pytest.mark.parametrize(
    ("bits", "reason"),
    [
        (0, None),
        (0x4, None),  # the power cap, at whatever clock: what this load does on this device
        (0x2, None),  # as slow as a user wants it
        (0x40, "hardware thermal slowdown"),
        (0x24, "software thermal slowdown"),
        (0x8042, "hardware thermal slowdown"),  # a reason without a name beside it
    ],
)
def test_a_round_is_dropped_for_a_disturbance_and_not_for_the_power_cap(bits, reason):
    assert throttle.slowed(bits) == reason


# NVML. There is none here: this answers as its Python binding does.


class FakeNvml:
    """Answers of pynvml for one board, and one instance on it; what is missing is not supported."""

    class NVMLError(Exception):
        pass

    class NVMLLibraryMismatchError(Exception):
        pass

    def __init__(self, **answers):
        self.answers = {
            "MaxClockInfo": {1: 1980, 2: 3201},
            "ClockInfo": {1: 1980, 2: 3201},
            "Temperature": {0: 40},
            "PowerUsage": 350_000,
            "TotalEnergyConsumption": 1_000_000,
            "CurrentClocksThrottleReasons": 0,
            "ComputeRunningProcesses": [],
            "EccMode": (1, 1),
            "PersistenceMode": 1,
            "MigMode": (0, 0),
            "ComputeMode": 0,
            "EnforcedPowerLimit": 700_000,
        } | answers

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return uuid

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, instance):
        return BOARD

    def nvmlSystemGetProcessName(self, pid):
        return f"/opt/bin/program{pid} --flag"

    def __getattr__(self, name):
        key = name.removeprefix("nvmlDeviceGet")
        if not name.startswith("nvmlDeviceGet"):
            raise AttributeError(name)

        def answer(handle, *arguments):
            inspect.signature(getattr(pynvml, name)).bind(handle, *arguments)  # the real one takes the same
            if key not in self.answers:
                raise self.NVMLError("Not Supported")
            found = self.answers[key]
            if callable(found):
                return found(handle, *arguments)
            return found[arguments[0]] if isinstance(found, dict) else found

        return answer


def gpu(library: FakeNvml, uuid: str = BOARD) -> GpuState:
    return GpuState(uuid, Nvml(uuid, library))


def process(pid: int, memory: int | None = 1 << 30) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=memory)


def sample(pid: int, percent: int, at: int) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, smUtil=percent, timeStamp=at)


def test_settings_have_a_value_or_a_reason():
    settings = gpu(FakeNvml()).settings()
    assert settings["ecc"] == settings["persistence"] == Setting(value=True)
    assert settings["mig"] == Setting(value=False)
    assert settings["compute_mode"] == Setting(value="default")
    assert settings["power_limit_w"] == Setting(value=700.0)
    assert settings["performance_state"] == Setting(value=None, reason="NVML: Not Supported")


def test_without_nvml_everything_has_the_same_reason():
    state = GpuState(BOARD, Nvml(BOARD, SimpleNamespace(nvmlInit=raise_missing, NVMLError=FakeNvml.NVMLError)))
    assert {reading.reason for reading in state.settings().values()} == {"NVML: no driver"}
    assert state.others() == Others(value=None, reason="NVML: no driver")
    assert state.throttled() is None
    assert state.seen().reasons == Unavailable(value=None, reason="NVML: no driver")
    assert state.energy() is None
    assert state.energy_reason == state.power_reason == "NVML: no driver"


def raise_missing():
    raise FakeNvml.NVMLError("no driver")


def test_readings_after_samples_are_kept_as_ranges_and_reasons():
    library = FakeNvml(CurrentClocksThrottleReasons=0x4)
    state = gpu(library)
    assert records.content(state.seen()) == {}
    assert state.throttled() is None
    library.answers |= {"ClockInfo": {1: 1300, 2: 3201}, "CurrentClocksThrottleReasons": 0x44}
    assert "thermal" in state.throttled()
    del library.answers["Temperature"]
    assert state.throttled()
    assert [(one["sm_mhz"], one["power_capped"]) for one in state.rounds()] == [
        (1980, True),
        (1300, True),
        (1300, True),
    ]
    seen = state.seen()
    assert seen.readings == 3
    assert seen.reasons == {"hardware thermal slowdown": 2, "software power cap": 3}
    assert seen.ranges["sm_mhz"] == Range(low=1300, median=1300, high=1980)
    assert seen.ranges["temperature_c"] == Range(low=40, median=40, high=40)


def test_a_mig_instance_takes_its_boards_clocks_but_not_its_energy():
    requested = []
    library = FakeNvml(ClockInfo=lambda handle, kind: requested.append(handle) or 1980)
    state = gpu(library, INSTANCE)
    assert state.snapshot().sm_mhz == 1980
    assert set(requested) == {BOARD}
    assert state.energy() is None
    assert "MIG instance" in state.energy_reason
    library.answers["ComputeRunningProcesses"] = lambda handle: [process(7)] if handle == INSTANCE else []
    assert [other.pid for other in state.others().value] == [7]


def test_other_processes_are_told_from_this_one_also_in_a_container():
    library = FakeNvml(ComputeRunningProcesses=[process(4242)], ProcessUtilization=[sample(4242, 90, 5)])
    state = gpu(library)
    library.answers["ComputeRunningProcesses"] = [process(4242), process(777)]  # 777: this process, on the host
    state.opened()
    library.answers["ProcessUtilization"] = lambda _, since: [sample(4242, 12, 9), sample(4242, 35, 10)][since != 5 :]
    library.answers["ComputeRunningProcesses"] = [process(4242), process(777), process(88, None)]
    assert state.others().value == [
        Process(pid=4242, name="program4242", memory_bytes=1 << 30, sm_percent=35),
        Process(pid=88, name="program88", memory_bytes=None, sm_percent=0),
    ]


class NoSamples(FakeNvml):
    """What NVML answers when no process used the GPU since."""

    def nvmlDeviceGetProcessUtilization(self, handle, since):
        error = self.NVMLError("Not Found")
        error.value = 6
        raise error


def test_a_process_that_computed_nothing_is_known_to_be_idle():
    state = gpu(NoSamples(ComputeRunningProcesses=[process(5)]))
    assert [other.sm_percent for other in state.others().value] == [0]


def test_this_process_is_no_other():
    library = FakeNvml(ComputeRunningProcesses=[])
    state = gpu(library)
    library.answers["ComputeRunningProcesses"] = [process(os.getpid()), process(5)]
    state.opened()
    assert [(other.pid, other.sm_percent) for other in state.others().value] == [(5, None)]


# What that does to a record.


def reported(value: object) -> dict:
    """A reading as a record states it."""
    return {"value": value}


def unavailable(reason: str) -> dict:
    """One that could not be taken."""
    return {"value": None, "reason": reason}


LOAD = {"seconds": 2.0, "others_cores": 0.0, "own_cores": 1.9, "stolen_cores": 0.0, "busiest": []}
BUSY = LOAD | {"others_cores": 1.3, "busiest": [{"pid": 9, "name": "make", "cores": 1.2}]}
NOISY = {"status": "noisy", "reason": "the A/A control is off"}


def record(others=None, load=LOAD, **more) -> Measurement:
    settings = {"cpu": {"usable_cores": reported(2)}} | ({"gpu": {}, "others_on_gpu": others} if others else {})
    changes = {"clocks": {"after": {"load": load}}, "throttling": {}, "machine": settings}
    return Measurement.model_validate(example("4096_cpu") | changes | more)


def other(percent: int | None) -> dict:
    return {"pid": 4711, "name": "python3", "memory_bytes": 1, "sm_percent": percent}


@pytest.mark.parametrize(
    ("before", "status", "reason"),
    [
        (record(), "ok", None),
        (
            record(load=BUSY, **NOISY),
            "noisy",
            "the A/A control is off; meanwhile other processes kept 1.3 of 2 cores busy: make (9)",
        ),
        (
            record(load=LOAD | {"stolen_cores": 0.5}, throttling={"quota": {"periods": 3, "seconds": 0.25}}, **NOISY),
            "noisy",
            "the A/A control is off; meanwhile the hypervisor gave 0.5 of 2 cores to others; "
            "the container's CPU quota stopped it for 0.25 s",
        ),
        (record(load=unavailable("too short"), **NOISY), "noisy", "the A/A control is off"),
        (record(unavailable("NVML: no driver")), "ok", None),
        (record(reported([other(0)])), "ok", None),  # holds memory, computes nothing
        (
            record(reported([other(45), other(0)])),
            "noisy",
            "the GPU was shared: process 4711 (python3) computed on it, up to 45% of the time",
        ),
        (
            record(reported([other(None)]), **NOISY),
            "noisy",
            "the GPU was shared: process 4711 (python3) was on it, computing or not; the A/A control is off",
        ),
        (record(reported([other(45)]), status="failed", reason="roofline 1.4"), "failed", "roofline 1.4"),
    ],
)
def test_a_shared_machine_is_named(before, status, reason):
    after = machine.disturbed(before)
    assert (after.status, after.reason) == (status, reason)


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [
        (record(load=BUSY), "other processes kept 1.3 of 2 cores busy: make (9)"),
        (record(load=BUSY, **NOISY), "other processes kept 1.3 of 2 cores busy: make (9)"),
        (record(), None),
        (record(reported([])), MISSING),  # on a GPU the host's load is no reason
    ],
)
def test_a_record_of_a_cpu_names_what_kept_it_busy_whatever_its_status(before, meanwhile):
    assert machine.disturbed(before).machine.meanwhile == meanwhile


# The CPU.


def burn(seconds: float) -> None:
    ended = time.process_time() + seconds
    while time.process_time() < ended:
        sum(range(1000))


def test_the_load_of_others_does_not_hold_this_process():
    burner = multiprocessing.get_context("spawn").Process(target=burn, args=(60.0,))
    burner.start()
    try:
        state, before = CpuState(), cpu_state.times()
        began = time.monotonic()
        while time.monotonic() - began < 0.6:
            burn(0.01)
        load, after = state.snapshot().load, cpu_state.times()
    finally:
        burner.kill()
        burner.join()
    (key,) = (key for key in after.processes if key[0] == burner.pid)
    assert after.processes[key][1] > before.processes.get(key, ("", 0.0))[1]
    assert os.getpid() not in [pid for pid, _ in after.processes]
    assert load.own_cores > 0
    assert load.others_cores > 0
    assert load.own_cores + load.others_cores <= len(cpu_state.usable_cpus()) + 0.5


def times(at: float, busy: float, own: float, stolen: float = 0.0, **processes: float) -> cpu_state.Times:
    named = {(int(name[1:]), 0.0): (name, spent) for name, spent in processes.items()}
    return cpu_state.Times(at, busy, own, stolen, named)


def test_load_is_cpu_time_over_time():
    load = cpu_state.load_between(times(10, 100, 50, p1=5, p2=3), times(14, 106, 52, 1, p1=8, p2=3.1, p3=0.4))
    assert load.others_cores == pytest.approx(1.0)
    assert load.own_cores == pytest.approx(0.5)
    assert load.stolen_cores == pytest.approx(0.25)
    assert [(one.pid, one.cores) for one in load.busiest] == [(1, 0.75), (3, 0.1)]
    assert "too short" in cpu_state.load_between(times(1, 0, 0), times(1.1, 0, 0)).reason


def test_how_the_cpu_is_set_is_read_from_sysfs(tmp_path):
    for number in cpu_state.usable_cpus():
        folder = tmp_path / f"cpu{number}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text("powersave\n")
    for name, text in {"smt/active": "1", "intel_pstate/no_turbo": "1", "cpufreq/boost": "1"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    settings = cpu_state.settings(tmp_path)
    assert settings["governor"] == Setting(value="powersave")
    assert settings["smt"] == Setting(value=True)
    assert settings["turbo"] == Setting(value=False)
    (tmp_path / "intel_pstate/no_turbo").unlink()
    assert cpu_state.settings(tmp_path)["turbo"] == Setting(value=True)
    bare = cpu_state.settings(tmp_path / "nothing")
    assert all(bare[key].value is None and bare[key].reason for key in ("governor", "turbo", "smt"))


def groups(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("of_process", "files", "quota", "stopped"),
    [
        ("0::/", {}, None, None),
        ("0::/a/b", {"a/cpu.max": "150000 100000", "cpu.max": "250000 100000", "a/b/cpu.max": "max 100000"}, 1.5, None),
        ("0::/hidden/by/the/container", {"cpu.max": "200000 100000"}, 2.0, None),
        ("0::/", {"cpu.stat": "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000"}, None, (3, 2.5)),
        (
            "4:cpu,cpuacct:/pod\n0::/",
            {
                "cpu/pod/cpu.cfs_quota_us": "50000",
                "cpu/pod/cpu.cfs_period_us": "100000",
                "cpu/pod/cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 1500000000",
            },
            0.5,
            (4, 1.5),
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, None),
    ],
)
def test_quotas_of_control_groups_are_found(tmp_path, of_process, files, quota, stopped):
    root, said = tmp_path / "cgroup", tmp_path / "self"
    groups(root, files)
    said.write_text(of_process + "\n")
    assert cgroup.cpu_quota(root, said) == quota
    assert cgroup.throttling(root, said) == stopped


@pytest.mark.parametrize(
    ("of_process", "files", "room"),
    [
        ("0::/a/b", {"a/b/memory.max": "500", "a/b/memory.current": "50", "a/memory.max": "900"}, 450),
        ("5:memory:/pod", {"memory/pod/memory.limit_in_bytes": "800", "memory/pod/memory.usage_in_bytes": "1"}, 799),
        ("5:memory:/pod", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, None),
        ("0::/", {}, None),
    ],
)
def test_the_tightest_memory_limit_of_all_control_groups_counts(tmp_path, of_process, files, room):
    root, said = tmp_path / "cgroup", tmp_path / "self"
    groups(root, files)
    said.write_text(of_process + "\n")
    assert cgroup.memory_room(root, said) == room


# Energy.


class Meter:
    """A device that draws `watts` while it works, on a made-up clock; its counter moves every `period` seconds.

    busy: share of the time in which it works.
    """

    def __init__(self, watts: float, period: float = 0.05, busy: float = 1.0):
        self.now, self.worked, self.watts, self.period, self.busy = 0.0, 0.0, watts, period, busy

    def seconds(self, *programs, lead=()) -> float:
        return 0.0013

    def laps(self, *programs, ahead):
        while True:
            took = len(programs) * 0.0013
            self.now += took / self.busy
            self.worked += took
            yield Lap(took, took / self.busy - took)

    def counter(self) -> float:
        moved = self.now // self.period * self.period
        return moved * self.busy * self.watts + 1e5

    def clock(self) -> float:
        return self.now

    def drawn(self):
        return energy.of_arm(Replays(self, ["graph"], 64), self.counter, self.clock)


def test_energy_of_a_launch_is_right_whatever_the_counters_period():
    for watts, period in ((100.0, 0.02), (640.0, 0.1)):
        taken = Meter(watts, period).drawn()
        assert taken.watts == pytest.approx(watts, rel=1e-2)
        assert taken.joules_per_launch == pytest.approx(watts * 0.0013 / 64, rel=1e-2)
        assert taken.seconds >= energy.SECONDS - 0.01
        assert taken.busy == 1.0


def test_energy_of_a_device_that_idles_is_none_and_the_share_is_recorded():
    taken = Meter(300.0, busy=0.65).drawn()
    assert taken.value is None
    assert taken.busy == pytest.approx(0.65)
    assert taken.reason == "the device worked 65.0% of the time, at least 95% needed"
    assert Meter(300.0, busy=0.96).drawn().joules_per_launch == pytest.approx(300.0 * 0.0013 / 64, rel=1e-2)


def test_a_counter_too_slow_to_tell_is_said_to_be():
    meter = Meter(300.0, period=2.0)
    taken = meter.drawn()
    assert taken.value is None
    assert "too few updates" in taken.reason
    assert meter.now < energy.LONGEST_SECONDS + 0.1


def test_energy_per_token_is_of_one_sequence_and_of_decode_only(monkeypatch):
    def drawn(joules, counter):
        return Drawn(joules_per_launch=joules, watts=100.0, seconds=1.0, launches=64, busy=1.0)

    monkeypatch.setattr(energy, "of_arm", drawn)
    state = SimpleNamespace(energy=lambda: 1.0, energy_reason=None)
    arms = {"full": lambda: 8.0, "elastic": lambda: 2.0}
    assert energy.of_arms(arms, state, 4).joules_per_token.model_dump() == {"full": 2.0, "elastic": 0.5}
    assert energy.of_arms(arms, state, None).joules_per_token.value is None
    unavailable = Unavailable(value=None, reason="too seldom")
    monkeypatch.setattr(energy, "of_arm", lambda joules, counter: Drawn(value=None, reason="too seldom"))
    assert energy.of_arms(arms, state, 4).joules_per_token.model_dump() == unavailable.model_dump()
    unread = {"value": None, "reason": cpu_state.NO_ENERGY}
    assert energy.of_arms(arms, CpuState(), 4).model_dump() == unread


# On a GPU.


def needs_gpu() -> str:
    gpus = device.visible_gpus()
    if not gpus:
        pytest.skip("no NVIDIA GPU is visible")
    return gpus[0]


@pytest.mark.gpu
def test_a_gpu_tells_its_state():
    state = GpuState(needs_gpu())
    snapshot, settings = state.snapshot(), state.settings()
    assert snapshot.sm_mhz > 0 and snapshot.memory_mhz > 0 and snapshot.power_w > 0
    assert {"ecc", "persistence", "mig"} <= set(settings)
    assert all(reading.value is not None or reading.reason for reading in settings.values())
    assert state.others().value is not None or state.others().reason


def test_a_record_of_a_cpu_tells_its_machine(cpu_build):
    quick = {"reps": 3, "warmup": 1, "inner_loops": 2, "max_seconds": 5, "decode_tokens": 0}
    case = {"id": "tiny", "backend": "cpu", "seq": 300, "heads": 4, "dim": 64, "window": 32, "compress": 4}
    made = supervisor.measure_case(matrix.case_from_flags({**case, "measure": quick}), str(cpu_build))
    record = made.model_dump(mode="json")
    records.check(record, "measurement", "a record")
    assert record["machine"]["cpu"]["cpus"] == reported(cpu_state.ranges(cpu_state.usable_cpus()))
    assert "gpu" not in record["machine"]
    for when in ("before", "after"):
        load = record["clocks"][when]["load"]
        assert "others_cores" in load or "too short" in load["reason"]
    assert record["energy"]["value"] is None and record["energy"]["reason"]
    assert record["throttling"]["reasons"]["reason"]
