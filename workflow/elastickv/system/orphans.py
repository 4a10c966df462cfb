"""Child processes end with the run that started them: the kernel kills them when their parent dies (Linux only).

The parent puts its process id into `ELASTICKV_DIE_WITH_PARENT`; the child reads it at start-up. The command has to be
the direct child: `shell: "exec python -m elastickv ..."`, since without `exec` the shell in between is the parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import MutableMapping

VARIABLE = "ELASTICKV_DIE_WITH_PARENT"
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def adopt_children(environment: MutableMapping[str, str] = os.environ) -> None:
    """From now on the elastickv commands that this process starts die with it."""
    environment[VARIABLE] = str(os.getpid())


def kill_me_with_my_parent(by: signal.Signals = signal.SIGKILL, parent: int | None = None) -> None:
    """Asks for a signal at the parent's death; kept over exec, so it serves as `preexec_fn` for foreign programs too.

    The kernel watches the parent's *thread*: start children from one that lives as long as they do.
    parent: ends this process at once where that is not its parent, which then died before the request.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, by, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def die_with_parent(and_descendants: bool = False) -> None:
    """Ties this process to the parent named in `ELASTICKV_DIE_WITH_PARENT`, and its own children to it.

    A parent that died before the request would be missed, so the process ends here if that one is gone.
    and_descendants: for commands that start foreign programs (compilers, installers), which start their own; the
    signal is then SIGTERM, handled between two steps of Python. Without it, it is SIGKILL, also amid a native call.
    """
    expected = os.environ.get(VARIABLE, "")
    if not expected.isdecimal():
        return
    if and_descendants:
        signal.signal(signal.SIGTERM, _end_with_descendants)
    kill_me_with_my_parent(signal.SIGTERM if and_descendants else signal.SIGKILL)
    if os.getppid() != int(expected) and not _alive(int(expected)):
        os.kill(os.getpid(), signal.SIGKILL)
    adopt_children()


def _end_with_descendants(signal_number: int, _frame: object) -> None:
    kill_descendants(os.getpid())
    os._exit(128 + signal_number)


def kill_descendants(process: int) -> None:
    """Kills all descendants of a process, stopped first: while there are some that run, they may start others."""
    import psutil

    stopped: set[psutil.Process] = set()
    with contextlib.suppress(psutil.NoSuchProcess):
        while running := set(psutil.Process(process).children(recursive=True)) - stopped:
            for descendant in running:
                with contextlib.suppress(psutil.NoSuchProcess):
                    descendant.suspend()
            stopped |= running
    for descendant in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            descendant.kill()


def _alive(process: int) -> bool:
    """Whether a process runs. One that ended but was not waited for yet (a zombie) does not."""
    import psutil

    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
