"""Checks whether files can be read, for all commands that check or compare results folders.

Nothing here blocks: pipes are never opened.
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
    """An error's message without the path, which our messages include already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def remedy(error: BaseException) -> str:
    """The fix for a file that the system refuses to read, or refuses to write because of its permissions."""
    if isinstance(error, PermissionError):
        return "give this user access (chmod, chown), or run as the file's owner"
    return "check the file system that it is on"


def cannot_read(path: Path | str, error: OSError) -> MachineError:
    """The error for a `path` that the system refuses to read."""
    return MachineError(f"{path}: cannot be read: {reason(error)}", remedy(error))


def obstacle(path: Path) -> str | None:
    """Why `path` cannot be read as a file, in words (`nothing`, `a pipe`, `Permission denied`); None where it can."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return NOT_REGULAR.get(stat.S_IFMT(mode), "not a regular file")
        with path.open("rb"):
            return None
    except OSError as error:
        if error.errno in ABSENT:
            return "a link to nothing" if os.path.islink(path) else "nothing"  # also if the name is too long
        return reason(error)
    except ValueError as error:  # a path that contains a zero byte
        return str(error)


def listing(folder: Path) -> list[str]:
    """The sorted names in a folder. Raises UsageError if it is not a folder, MachineError if it cannot be listed."""
    try:
        names = sorted(os.listdir(folder))
        os.stat(f"{folder}/.")  # listing is not enough: the files must be accessible
    except (FileNotFoundError, NotADirectoryError) as error:
        problem = "not a folder" if isinstance(error, NotADirectoryError) else "does not exist"
        raise UsageError(f"{folder}: {problem}; give a results folder") from None
    except OSError as error:
        raise cannot_read(folder, error) from error
    return names


def obstacles(folder: Path) -> Iterator[tuple[str, str]]:
    """(relative path, reason) for each file that cannot be read and each folder that cannot be listed."""

    def closed(error: OSError) -> None:
        found.append((os.path.relpath(error.filename, folder), f"a folder that cannot be listed: {reason(error)}"))

    found: list[tuple[str, str]] = []
    for place, _, files in os.walk(folder, onerror=closed):
        paths = (Path(place, name) for name in files)
        found += [(path.relative_to(folder).as_posix(), why) for path in paths if (why := obstacle(path))]
    yield from sorted(found)
