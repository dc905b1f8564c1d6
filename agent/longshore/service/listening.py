"""Where the sidecar listens: a unix socket, and a loopback address if that is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from longshore.config_values import Listen
from longshore.errors import UsageError

_MODE = 0o660
"""Of the socket: who may write to it may use the cache with the sidecar's credentials."""
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class SocketFile:
    """The file of a socket that was made here."""

    path: Path
    device: int
    inode: int

    def remove(self) -> None:
        """Remove it, if it still is the one that was made."""
        with contextlib.suppress(OSError):
            there = self.path.lstat()
            if (there.st_dev, there.st_ino) == (self.device, self.inode):
                self.path.unlink()


async def listen_at(runner: web.AppRunner, path: Path) -> SocketFile:
    """Serve on a unix socket; one that a sidecar left behind is replaced.

    Raises:
        UsageError: it cannot be made, or another sidecar listens there.
    """
    try:
        if await asyncio.to_thread(_is_taken, path):
            raise UsageError(
                f"another sidecar listens at {path}; end it, or name another socket with --socket"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made = _bind(listening, path)
            await web.SockSite(runner, listening, backlog=_BACKLOG).start()
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise UsageError(
            f"the socket {path} cannot be made: {error.strerror or error}; name another with"
            " --socket"
        ) from error
    return made


async def listen_on(runner: web.AppRunner, address: Listen) -> int:
    """Serve on a loopback address, and return the port.

    Raises:
        UsageError: it is taken, or not to be had.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address.host, address.port))
        await web.SockSite(runner, listening, backlog=_BACKLOG).start()
    except OSError as error:
        listening.close()
        raise UsageError(
            f"{address.host}:{address.port} cannot be listened on: {error.strerror or error};"
            " give another address with --listen"
        ) from error
    port: int = listening.getsockname()[1]
    return port


def _bind(listening: socket.socket, path: Path) -> SocketFile:
    """Bind under a name of our own first: nobody finds a socket whose mode is not set yet."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    listening.bind(str(temporary))
    try:
        temporary.chmod(_MODE)
        listening.listen(_BACKLOG)
        there = temporary.lstat()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return SocketFile(path, there.st_dev, there.st_ino)


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
