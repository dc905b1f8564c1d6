"""A build context on the disk: read what is in it, and nothing else.

What is asked for comes from layers that anybody may have made. So no path leads out of the context:
each part of it is opened by itself, and links are not followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MAX_DEPTH = 100


class Checkout:
    """A folder that is built from. Used as a context; everything in it blocks.

    Raises:
        OSError: the folder cannot be opened.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._folder: tuple[str, int] = ("", self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()
        os.close(self._root)

    def look(self, path: str) -> os.stat_result | None:
        """Tell about a path, itself and not what it links to; `None` if it cannot be told."""
        folder, _, name = path.rpartition("/")
        if name in ("..", "."):
            return None
        try:
            return os.stat(name or ".", dir_fd=self._enter(folder), follow_symlinks=False)
        except (OSError, ValueError):
            return None

    def open(self, path: str) -> int | None:
        """Open a regular file for reading; `None` if that is not possible."""
        folder, _, name = path.rpartition("/")
        try:
            file = os.open(name, _FLAGS, dir_fd=self._enter(folder))
        except (OSError, ValueError):
            return None
        if stat.S_ISREG(os.fstat(file).st_mode):
            return file
        os.close(file)
        return None

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """Read a small file; `None` if it is not there, cannot be read or is larger."""
        file = self.open(path)
        if file is None:
            return None
        with open(file, "rb") as opened:
            data = opened.read(limit_bytes + 1)
        return data if len(data) <= limit_bytes else None

    def names(self, folder: str) -> list[tuple[str, Literal["file", "folder", "other"]]]:
        """List what is in a folder; nothing if it cannot be read."""
        try:
            with os.scandir(self._enter(folder)) as entries:
                return [(entry.name, _kind(entry)) for entry in entries]
        except (OSError, ValueError):
            return []

    def _enter(self, folder: str) -> int:
        """Open a folder below the root, one part after the other."""
        if not folder:
            return self._root
        if self._folder[0] == folder:
            return self._folder[1]
        self._leave()
        parts = folder.split("/")
        if len(parts) > _MAX_DEPTH or any(part in ("", ".", "..") for part in parts):
            raise ValueError("no plain path")
        at = self._root
        for part in parts:
            try:
                below = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=at)
            finally:
                if at != self._root:
                    os.close(at)
            at = below
        self._folder = (folder, at)
        return at

    def _leave(self) -> None:
        folder, at = self._folder
        self._folder = ("", self._root)
        if folder:
            with contextlib.suppress(OSError):
                os.close(at)


def _kind(entry: os.DirEntry[str]) -> Literal["file", "folder", "other"]:
    if entry.is_file(follow_symlinks=False):
        return "file"
    return "folder" if entry.is_dir(follow_symlinks=False) else "other"
