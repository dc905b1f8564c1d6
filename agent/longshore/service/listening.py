"""Where the sidecar listens: a unix socket, and a loopback address if that is asked for."""

from __future__ import annotations

import contextlib
import os
import socket

from aiohttp import web

from longshore.config_values import Listen
from longshore.errors import UsageError
from longshore.service.claiming import Claim, cannot_be_made

_MODE = 0o660
"""Of the socket: who may write to it may use the cache with the sidecar's credentials."""
_BACKLOG = 128


async def listen_at(runner: web.AppRunner, claimed: Claim) -> None:
    """Serve on a unix socket at a place that was claimed; `release` removes it again.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _bind(listening, claimed)
            await web.SockSite(runner, listening, backlog=_BACKLOG).start()
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise cannot_be_made(claimed.path, error) from error


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


def _bind(listening: socket.socket, claimed: Claim) -> None:
    """Bind under a name of our own first: nobody finds a socket whose mode is not set yet."""
    temporary = claimed.path.with_name(f".{claimed.path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    listening.bind(str(temporary))
    try:
        temporary.chmod(_MODE)
        listening.listen(_BACKLOG)
        claimed.note(temporary.lstat())
        temporary.replace(claimed.path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
