"""Read below one folder, and nowhere else.

What openat2(2) promises with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, for a walk that goes from
folder to folder by descriptors: no component of a path may be `..` or a symbolic link, so whatever
lies in the files of an image, no path leads out. Folders stay open while the next path shares them,
which is also faster than to resolve each path from its beginning.

Nothing is written, and only regular files are opened: to open a device or a pipe can have effects.
"""

from __future__ import annotations

import os
import stat
from types import TracebackType
from typing import Self

from longshore.errors import NotOnDisk

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_HERE = (b"", b".")
_NO_NAMES = (b"", b".", b"..")


class Beneath:
    """A folder to read below; close it, or use it as a context.

    One thread at a time may use it. `again` gives another one for another thread.
    """

    def __init__(self, path: str) -> None:
        self._top = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._names: list[bytes] = []
        self._folders: list[int] = []
        self._current: bytes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all that is open."""
        self._leave(0)
        if self._top >= 0:
            os.close(self._top)
            self._top = -1

    def below(self, folder: bytes) -> Beneath:
        """Open one of its folders, to read below that.

        Raises:
            OSError, NotOnDisk: there is no such folder here.
        """
        return self._made(self.enter(folder))

    def again(self) -> Beneath:
        """Open the same folder for another thread; any thread may ask for it."""
        return self._made(self._top)

    @staticmethod
    def _made(folder: int) -> Beneath:
        made = Beneath.__new__(Beneath)
        made._top = os.dup(folder)
        made._names, made._folders, made._current = [], [], None
        return made

    def enter(self, folder: bytes) -> int:
        """Return a descriptor of one of its folders, which stays open until the next call.

        Raises:
            OSError: a component of the path is not there, or is no folder.
            NotOnDisk: the path leads upwards.
        """
        if folder == self._current:
            return self._folders[-1] if self._folders else self._top
        names = [name for name in folder.split(b"/") if name not in _HERE]
        if b".." in names:
            raise NotOnDisk("a path leads upwards")
        shared = 0
        for ours, theirs in zip(self._names, names, strict=False):
            if ours != theirs:
                break
            shared += 1
        self._leave(shared)
        at = self._folders[-1] if self._folders else self._top
        for name in names[shared:]:
            at = os.open(name, _FOLDER, dir_fd=at)
            self._folders.append(at)
            self._names.append(name)
        self._current = folder
        return at

    def open(self, path: bytes) -> tuple[int, int]:
        """Open a regular file. Returns its descriptor, which is the caller's, and its size.

        Raises:
            OSError: it is not there, may not be read, or is a link.
            NotOnDisk: it is no regular file, or no path that stays below.
        """
        folder, _, name = path.rpartition(b"/")
        if name in _NO_NAMES:
            raise NotOnDisk("a path names no file")
        at = self.enter(folder)
        facts = os.stat(name, dir_fd=at, follow_symlinks=False)
        if not stat.S_ISREG(facts.st_mode):
            raise NotOnDisk("it is no regular file")
        return os.open(name, _FILE, dir_fd=at), facts.st_size

    def read(self, path: bytes, *, limit_bytes: int) -> bytes:
        """Read a small file.

        Raises:
            OSError: it cannot be read.
            NotOnDisk: it is no regular file, or larger than that.
        """
        number, size = self.open(path)
        try:
            if size > limit_bytes:
                raise NotOnDisk(f"it has more than {limit_bytes:,} bytes")
            view = memoryview(bytearray(size))
            read_into(number, view, 0)
            return bytes(view)
        finally:
            os.close(number)

    def read_pieces(self, view: memoryview, files: list[tuple[int, bytes, int, int]]) -> None:
        """Read pieces of files into their places: position, path, offset in the file, length.

        This is what a layer of many small files costs, so it says everything itself.

        Raises:
            OSError, NotOnDisk: a file is not there, is no regular file, or is shorter.
        """
        current, at = self._current, self._top if not self._folders else self._folders[-1]
        lstat, opened, readv, close, regular = os.stat, os.open, os.readv, os.close, stat.S_ISREG
        for position, path, offset, length in files:
            folder, _, name = path.rpartition(b"/")
            if folder != current:
                at = self.enter(folder)
                current = folder
            if name in _NO_NAMES:
                raise NotOnDisk("a path names no file")
            if not regular(lstat(name, dir_fd=at, follow_symlinks=False).st_mode):
                raise NotOnDisk("it is no regular file")
            number = opened(name, _FILE, dir_fd=at)
            try:
                place = view[position : position + length]
                if offset or readv(number, (place,)) != length:
                    read_into(number, place, offset)
            finally:
                close(number)

    def _leave(self, depth: int) -> None:
        self._current = None
        while len(self._folders) > depth:
            os.close(self._folders.pop())
            self._names.pop()


def read_into(number: int, view: memoryview, offset: int) -> None:
    """Fill a view from a file.

    Raises:
        NotOnDisk: the file ends before.
    """
    done = 0
    while done < len(view):
        got = os.preadv(number, (view[done:],), offset + done)
        if not got:
            raise NotOnDisk("it is shorter than it has to be")
        done += got
