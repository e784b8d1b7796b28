"""Locks on files, which the system lets go of when their holder dies."""

import fcntl
from pathlib import Path
from typing import IO


def locked(path: Path) -> IO[bytes]:
    """The file, locked until it is closed.

    Raises:
        BlockingIOError: Somebody else has it.
        OSError: It cannot be opened, or the file system has no locks.
    """
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock
