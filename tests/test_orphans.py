"""No process outlives its run; a run's lock drops with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import filelock
import psutil
import pytest

from elastickv.pipeline import runlock
from elastickv.system import orphans

CHILD = """
from elastickv.system import orphans
orphans.die_with_parent()
import time
print('up', flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys
from elastickv.system import orphans
orphans.adopt_children()
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
FOREIGN = """
import subprocess, time
from elastickv.system import orphans
child = subprocess.Popen(["sleep", "60"], preexec_fn=orphans.kill_me_with_my_parent)
print(child.pid, flush=True)
child.wait()
"""
GRANDCHILD = """
import subprocess, sys
from elastickv.system import orphans
orphans.adopt_children()
family = '''
import subprocess
from elastickv.system import orphans
orphans.die_with_parent(and_descendants=True)
shell = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"])
shell.wait()
'''
child = subprocess.Popen([sys.executable, "-c", family])
child.wait()
"""
HOLDER = """
import sys, time
import filelock
from elastickv.pipeline import runlock
lock = filelock.FileLock(sys.argv[1])
print(runlock.take(lock), flush=True)
time.sleep(60)
"""


def gone(process: int, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.parametrize(
    "program", [PARENT, FOREIGN, GRANDCHILD], ids=["own command", "foreign program", "its children"]
)
def test_a_child_dies_with_its_killed_parent(program: str):
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(child)


def test_a_parent_that_is_already_dead_ends_the_child():
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    environment = os.environ | {orphans.VARIABLE: str(dead.pid)}
    child = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, check=False, timeout=50)
    assert child.returncode == -signal.SIGKILL
    assert child.stdout == b""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.parametrize(("parent", "code"), [("os.getppid()", 0), ("os.getpid()", -signal.SIGKILL)])
def test_a_foreign_program_whose_parent_died_before_the_request_ends_at_once(parent: str, code: int):
    program = f"import os; from elastickv.system import orphans; orphans.kill_me_with_my_parent(parent={parent})"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == code


def test_a_live_parent_further_up_is_no_reason_to_end():
    program = "from elastickv.system import orphans; orphans.die_with_parent(); print('up')"
    environment = os.environ | {orphans.VARIABLE: str(os.getpid())}
    command = ["sh", "-c", f'"{sys.executable}" -c "{program}"; exit $?']
    done = subprocess.run(command, env=environment, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stdout) == (0, "up\n")


def test_the_lock_drops_with_a_killed_holder(tmp_path):
    path = tmp_path / "build" / ".run.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    lock = filelock.FileLock(path)
    assert not runlock.take(lock)
    assert not lock.is_locked
    assert str(runlock.refusal(path)).startswith(f"a run is in progress in this checkout (process {holder.pid}): ")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert runlock.take(lock)
    assert lock.is_locked


def test_a_parent_that_died_and_was_not_waited_for_yet_is_gone():
    """A zombie still has its number, so asking for the number alone would leave its child an orphan."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as parent:
        while psutil.Process(parent.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.05)
        environment = {**os.environ, orphans.VARIABLE: str(parent.pid)}
        child = subprocess.run([sys.executable, "-c", CHILD], env=environment, check=False, timeout=30)
    assert child.returncode == -signal.SIGKILL
