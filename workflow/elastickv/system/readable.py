"""Whether files can be read at all, decided in one place for all that checks or compares results folders.

Nothing here waits: a pipe, which would keep a reader waiting for ever, is never opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from elastickv.errors import MachineError, UsageError

ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
NOT_REGULAR = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def refused(error: BaseException) -> bool:
    """Whether the system refuses to read what is there: no permission, a broken disk. Not where nothing is there."""
    return isinstance(error, OSError) and error.errno not in ABSENT


def reason(error: BaseException) -> str:
    """An error's words without the path, which messages name anyway."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def remedy(error: BaseException) -> str:
    """What to do about a file that the system refuses to read (or, by its permissions, to write)."""
    if isinstance(error, PermissionError):
        return "give this user the right to it (chmod, chown), or run as its owner"
    return "look at the file system that it lies on"


def cannot_read(path: Path | str, error: OSError) -> MachineError:
    """What to say when the system refuses to read `path`."""
    return MachineError(f"{path}: cannot be read: {reason(error)}", remedy(error))


def obstacle(path: Path) -> str | None:
    """Why `path` cannot be read as a file, in words (`nothing`, `a pipe`, `Permission denied`); None where it can."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return NOT_REGULAR.get(stat.S_IFMT(mode), "no regular file")
        with path.open("rb"):
            return None
    except OSError as error:
        if error.errno in ABSENT:
            return "a link to nothing" if os.path.islink(path) else "nothing"  # also of a name that is too long
        return reason(error)
    except ValueError as error:  # a path that holds a zero byte
        return str(error)


def listing(folder: Path) -> list[str]:
    """The names in a folder that a user named, sorted. UsageError when it is none, MachineError when it is closed."""
    try:
        names = sorted(os.listdir(folder))
        os.stat(f"{folder}/.")  # names alone do not help: files in it have to be opened
    except (FileNotFoundError, NotADirectoryError) as error:
        told = "not a folder" if isinstance(error, NotADirectoryError) else "does not exist"
        raise UsageError(f"{folder}: {told}: a results folder is needed") from None
    except OSError as error:
        raise cannot_read(folder, error) from error
    return names


def obstacles(folder: Path) -> Iterator[tuple[str, str]]:
    """(path within the folder, why) for each file below it that cannot be read, and each folder that is closed."""

    def closed(error: OSError) -> None:
        found.append((os.path.relpath(error.filename, folder), f"a folder that cannot be listed: {reason(error)}"))

    found: list[tuple[str, str]] = []
    for place, _, files in os.walk(folder, onerror=closed):
        paths = (Path(place, name) for name in files)
        found += [(path.relative_to(folder).as_posix(), why) for path in paths if (why := obstacle(path))]
    yield from sorted(found)
