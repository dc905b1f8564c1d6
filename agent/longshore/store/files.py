"""Files on a disk, safely: whole or not at all, flushed, and with errors that say what to do."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from longshore.errors import AccessDenied, ObjectMissing, StoreError, StoreUnavailable

_MKDIR_RACES = 50

# A symbolic link could lead out of the store, and opening a pipe would wait for its writer.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FLAGS = _WRITE_FLAGS | os.O_CREAT | os.O_EXCL


@contextmanager
def translated(verb: str, path: Path) -> Iterator[None]:
    """Let every `OSError` out as one of longshore's errors.

    Args:
        verb: as in "cannot write"; what is not there is `ObjectMissing` to "read" only.
    """
    try:
        yield
    except OSError as error:
        raise _translate(error, verb, path) from error


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a regular file for reading."""
    try:
        file = os.open(path, _READ_FLAGS)
    except (NotADirectoryError, IsADirectoryError) as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        yield file
    finally:
        os.close(file)


@contextmanager
def opened_for_writing(path: Path) -> Iterator[int]:
    """Open a file that is there already."""
    file = os.open(path, _WRITE_FLAGS)
    try:
        yield file
    finally:
        os.close(file)


def new_file(folder: Path) -> tuple[Path, int]:
    """Make an empty file with a name that nobody has, and open it for writing."""
    path = folder / secrets.token_hex(16)
    make_folders(folder)
    return path, os.open(path, _NEW_FLAGS, 0o666)


def publish(temporary: Path, path: Path) -> None:
    """Move a flushed file to where readers see it, such that it outlasts a power cut."""
    for attempt in range(1, _MKDIR_RACES + 1):
        try:
            make_folders(path.parent)
            temporary.replace(path)
        except FileNotFoundError:
            # Somebody deleted the last object of this folder, and the folder with it.
            if attempt == _MKDIR_RACES:
                raise
        else:
            with suppress(FileNotFoundError):
                flush_folder(path.parent)
            return


def read_all(file: int, start: int, length: int) -> bytes:
    """Read up to `length` bytes from `start`; fewer only if the file ends."""
    pieces = []
    while length > 0 and (piece := os.pread(file, length, start)):
        pieces.append(piece)
        start += len(piece)
        length -= len(piece)
    return b"".join(pieces)


def write_all(file: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest = rest[written:]
        offset += written


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, such that they outlast a power cut."""
    if folder.is_dir():
        return
    try:
        folder.mkdir()
    except FileNotFoundError:
        make_folders(folder.parent)
        make_folders(folder)
    except FileExistsError:
        return
    else:
        flush_folder(folder.parent)


def flush_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    except OSError as error:
        # Some network file systems cannot flush a folder, and have no need to.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise
    finally:
        os.close(file)


def modified_at(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, UTC)


def _translate(error: OSError, verb: str, path: Path) -> StoreError | ObjectMissing:
    reason = os.strerror(error.errno) if error.errno else str(error)
    failure = f"cannot {verb} {path}: {reason}"
    match error.errno:
        case errno.ENOENT | errno.ELOOP if verb == "read":
            return ObjectMissing(f"{path} is not in the store")
        case errno.EACCES | errno.EPERM:
            return AccessDenied(f"{failure}; check who owns the folder and its mode")
        case errno.EROFS:
            return StoreError(f"{failure}; mount it writable, or choose another --store")
        case errno.ENOSPC | errno.EDQUOT:
            return StoreError(f"{failure}; free some space, prune the cache or move it")
        case errno.EIO:
            return StoreError(f"{failure}; check the disk and the kernel's log")
        case errno.EMFILE | errno.ENFILE | errno.EAGAIN | errno.ETIMEDOUT | errno.ESTALE:
            return StoreUnavailable(f"{failure}; try again")
        case errno.ENOTDIR | errno.EISDIR | errno.EEXIST:
            return StoreError(f"{failure}; a file stands where a folder belongs, remove it")
        case _:
            return StoreError(f"{failure}; check --store")
