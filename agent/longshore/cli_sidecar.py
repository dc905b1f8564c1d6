"""A sidecar, as whoever asks it for something sees it: HTTP over its unix socket.

Of the standard library only: a command that hands its work over starts in no time.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from longshore.errors import SidecarUnavailable

_MAX_BYTES = 256 << 20  # of a result: far more than any has
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
        connection = _UnixConnection(self.path, seconds, self._owners)
        try:
            with _open(connection, method, path, body) as answer:
                data = answer.read(_MAX_BYTES)
            document = json.loads(data)
        except (OSError, HTTPException, ValueError) as error:
            raise Lost(str(error)) from error
        finally:
            connection.close()
        return answer.status, document if isinstance(document, dict) else {}

    def events(
        self, path: str, after: str, *, seconds: float
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Hear events: the id of each, or an empty one, its name and its document.

        Args:
            after: the id of the last one that was heard.
            seconds: how long to listen at most.

        Raises:
            Lost: the connection is gone.
            TimeoutError: the time is over.
            SidecarUnavailable: it knows of no such events.
        """
        end = time.monotonic() + seconds
        connection = _UnixConnection(self.path, _ANSWER_SECONDS, self._owners)
        try:
            if seconds <= 0:
                raise TimeoutError
            with _open(connection, "GET", path, None, {"Last-Event-ID": after}) as answer:
                if answer.status != 200:
                    raise SidecarUnavailable(
                        f"the sidecar at {self.path} was started anew, and does not know of what"
                        " it was asked for; run it again"
                    )
                name = number = data = ""
                while True:
                    left = end - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    connection.wait_for(min(left, _SILENT_SECONDS))
                    line = answer.readline(_MAX_BYTES).decode()
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
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, TimeoutError) and time.monotonic() >= end:
                raise TimeoutError from error
            raise Lost(str(error)) from error
        finally:
            connection.close()


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, seconds: float, owners: frozenset[int] | None) -> None:
        super().__init__("longshore", timeout=seconds)
        self._path = path
        self._owners = owners

    def connect(self) -> None:
        """Connect, and make sure again who is there: another may have come since."""
        self.sock = _connected(self._path, self.timeout)
        if self._owners is not None and _owner(self.sock) not in self._owners:
            raise PermissionError(f"{self._path} is another user's now")

    def wait_for(self, seconds: float) -> None:
        """Wait for further bytes so long."""
        if self.sock is not None:
            self.sock.settimeout(seconds)


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


def _open(
    connection: HTTPConnection,
    method: str,
    path: str,
    body: Mapping[str, Any] | None,
    headers: Mapping[str, str] | None = None,
) -> HTTPResponse:
    data = None if body is None else json.dumps(body).encode()
    kind = {} if body is None else {"Content-Type": "application/json"}
    connection.request(method, path, data, {**kind, **(headers or {})})
    return connection.getresponse()
