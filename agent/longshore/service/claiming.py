"""Whose a socket's place is: one sidecar's, even if several start at the same instant."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from io import FileIO
from pathlib import Path

from msgspec import Struct

from longshore.errors import UsageError

# Not through a link, which could name any file; and for reading alone a pipe there would block.
_HOW = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_MODE = 0o600
"""Of the lock: who may open it may keep sidecars from starting."""


class Claim(Struct):
    """A place for a socket that is this process's until it ends, or gives it back.

    What counts is a lock on a file beside the socket. The kernel ends it with the process, however
    that ends, so a file that was left behind stands for nothing. No other process has the
    descriptor: those of jobs are forked from one that was executed, which closes it.

    Attributes:
        lock: the locked file.
        made: device and inode of the socket that was made here.
    """

    path: Path
    lock: FileIO
    made: tuple[int, int] | None = None

    def release(self) -> None:
        """Remove the socket, if it still is the one that was made, and let go of the place."""
        with contextlib.suppress(OSError):
            if self.made is not None and _identity(self.path.lstat()) == self.made:
                self.path.unlink()
        # As long as it is locked it is nobody else's; who has it open already will notice.
        with contextlib.suppress(OSError):
            if _is_at(_lock_of(self.path), self.lock):
                _lock_of(self.path).unlink()
        self.lock.close()

    def note(self, found: os.stat_result) -> None:
        """Note which socket was made."""
        self.made = _identity(found)


def claim(path: Path) -> Claim:
    """Take a place for a socket; one where nobody listens any more is free. Blocks.

    Raises:
        UsageError: another sidecar has it, something else is there, or it cannot be taken.
    """
    taken = UsageError(
        f"another sidecar listens at {path}; end it, or name another socket with --socket"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        claimed = Claim(path, _locked(_lock_of(path)))
        try:
            if _is_taken(path):  # by one whose lock somebody has removed
                raise taken
        except BaseException:
            claimed.release()
            raise
    except BlockingIOError as error:
        raise taken from error
    except OSError as error:
        raise cannot_be_made(path, error) from error
    return claimed


def cannot_be_made(path: Path, error: OSError) -> UsageError:
    """Say that a socket cannot be made, and because of which file if it is another one."""
    file = f"{error.filename}: " if error.filename not in (None, str(path)) else ""
    return UsageError(
        f"the socket {path} cannot be made: {file}{error.strerror or error}; name another with"
        " --socket"
    )


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _locked(path: Path) -> FileIO:
    """Open and lock a file, which is made if it is missing.

    Raises:
        BlockingIOError: another process has locked it.
    """
    while True:
        with contextlib.ExitStack() as closing:
            lock = closing.enter_context(os.fdopen(os.open(path, _HOW, _MODE), "rb", buffering=0))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, lock):
                closing.pop_all()
                return lock
        # Whoever had it has removed it since: another one counts now.


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return _identity(path.lstat()) == _identity(os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _is_taken(path: Path) -> bool:
    """Tell whether somebody listens there.

    Raises:
        UsageError: there is something that is no socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} is there, and is no socket; name another with --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(5)
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True
