"""A sidecar, as whoever asks it for something sees it: HTTP over its unix socket.

Of the standard library only: a command that hands its work over starts in no time.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

from longshore.errors import SidecarUnavailable

_MAX_BYTES = 256 << 20  # of a result: far more than any has
_MAX_LINE = 64 << 10
_MAX_HEADERS = 100
_ANSWER_SECONDS = 20.0
_SILENT_SECONDS = 60.0  # a sidecar says every 15 seconds that it is there


class Lost(Exception):
    """The sidecar was there, and does not answer any more."""


class Sidecar:
    """A sidecar at a socket.

    Args:
        path: of the socket.
        owners: the users whose sidecar is believed; `None` if anybody's is.
    """

    def __init__(self, path: Path, owners: frozenset[int] | None = None) -> None:
        self.path = path
        self._owners = owners

    def owner(self) -> int | None:
        """Tell whose process listens; `None` if none does, or it may not be asked."""
        try:
            with _connected(self.path, _ANSWER_SECONDS) as asking:
                return _owner(asking)
        except OSError:
            return None

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        seconds: float = _ANSWER_SECONDS,
    ) -> tuple[int, dict[str, Any]]:
        """Ask for something, and return the answer's status and its document.

        Raises:
            Lost: there is no answer.
        """
        try:
            with closing(_Exchange(self.path, seconds, self._owners)) as exchange:
                status = exchange.ask(method, path, body, {})
                document = json.loads(exchange.read())
        except (OSError, ValueError) as error:
            raise Lost(str(error)) from error
        return status, document if isinstance(document, dict) else {}

    def events(
        self,
        path: str,
        after: str,
        *,
        seconds: float,
        opening: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Generator[tuple[str, str, dict[str, Any]], None, None]:
        """Hear events: the id of each, or an empty one, its name and its document.

        Args:
            after: the id of the last one that was heard.
            seconds: how long to listen at most.
            opening: is open while the connection is made; what it raises closes that.

        Raises:
            Lost: the connection is gone.
            TimeoutError: the time is over.
            SidecarUnavailable: it knows of no such events.
        """
        end = time.monotonic() + seconds
        try:
            if seconds <= 0:
                raise TimeoutError
            with ExitStack() as opened:
                with opening():
                    exchange = _Exchange(self.path, _ANSWER_SECONDS, self._owners)
                    opened.enter_context(closing(exchange))
                if exchange.ask("GET", path, None, {"Last-Event-ID": after}) != 200:
                    raise SidecarUnavailable(
                        f"the sidecar at {self.path} was started anew, and does not know of what"
                        " it was asked for; run it again"
                    )
                name = number = data = ""
                while True:
                    left = end - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    line = exchange.readline(min(left, _SILENT_SECONDS)).decode()
                    if not line:
                        raise Lost("the events ended")
                    field, _, value = line.rstrip("\n").partition(": ")
                    if field == "event":
                        name = value
                    elif field == "id":
                        number = value
                    elif field == "data":
                        data = value
                    elif not line.strip() and name:
                        yield number, name, json.loads(data)
                        name = number = data = ""
        except (OSError, ValueError) as error:
            if isinstance(error, TimeoutError) and time.monotonic() >= end:
                raise TimeoutError from error
            raise Lost(str(error)) from error


class _Exchange:
    """One request and its answer, as HTTP/1.0 has them: the answer ends with the connection.

    The standard library's client would take longer to import than a sidecar to answer.
    """

    def __init__(self, path: Path, seconds: float, owners: frozenset[int] | None) -> None:
        self._socket = _connected(path, seconds)
        self._file = self._socket.makefile("rb")
        if owners is not None and _owner(self._socket) not in owners:
            self.close()  # another came since it was asked who is there
            raise PermissionError(f"{path} is another user's now")

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> int:
        """Send a request, read the head of the answer, and return its status.

        Raises:
            ValueError: what answers does not speak HTTP.
        """
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.0", "Host: longshore", f"Content-Length: {len(data)}"]
        if body is not None:
            lines.append("Content-Type: application/json")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode() + data)
        version, _, rest = self._file.readline(_MAX_LINE).partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise ValueError("what answers does not speak HTTP")
        for _ in range(_MAX_HEADERS):
            if not self._file.readline(_MAX_LINE).strip():
                return int(rest[:3])
        raise ValueError("what answers has no end of headers")

    def read(self) -> bytes:
        """Read the rest."""
        return self._file.read(_MAX_BYTES)

    def readline(self, seconds: float) -> bytes:
        """Read a line, or what there is of it at the end; wait so long for each part of it."""
        self._socket.settimeout(seconds)
        return self._file.readline(_MAX_BYTES)

    def close(self) -> None:
        """Be done with it."""
        self._file.close()
        self._socket.close()


def _connected(path: Path, seconds: float | None) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(seconds)
        connected.connect(str(path))
    except BaseException:
        connected.close()
        raise
    return connected


def _owner(connected: socket.socket) -> int:
    """Tell whose process listens at the other end."""
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, user, _ = struct.unpack("3i", found)
    return int(user)
