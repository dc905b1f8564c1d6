"""A build context on the disk: read what is in it, and nothing else.

What is asked for comes from layers that anybody may have made, so no path leads out of the context,
and links are not followed: `Beneath` sees to that.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from longshore.engine.beneath import Beneath

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MAX_DEPTH = 100


class Checkout:
    """A folder that is built from. Used as a context; everything in it blocks.

    Raises:
        OSError: the folder cannot be opened.
    """

    def __init__(self, root: Path) -> None:
        self._beneath = Beneath(os.fspath(root))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._beneath.close()

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
            # What a walk keeps open can be entered, and not listed.
            here = os.open(".", _FLAGS | os.O_DIRECTORY, dir_fd=self._enter(folder))
        except (OSError, ValueError):
            return []
        try:
            with os.scandir(here) as entries:
                return [(entry.name, _kind(entry)) for entry in entries]
        except OSError:
            return []
        finally:
            os.close(here)

    def _enter(self, folder: str) -> int:
        """Open a folder below the root; it stays open until the next one is."""
        parts = folder.split("/") if folder else []
        if len(parts) > _MAX_DEPTH or any(part in ("", ".", "..") for part in parts):
            raise ValueError("no plain path")
        return self._beneath.enter(os.fsencode(folder))


def _kind(entry: os.DirEntry[str]) -> Literal["file", "folder", "other"]:
    if entry.is_file(follow_symlinks=False):
        return "file"
    return "folder" if entry.is_dir(follow_symlinks=False) else "other"
