"""Networks that fail: a TCP proxy with faults, and a server that says what a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from tests.support.loop_thread import all_accepted

_CHUNK_BYTES = 64 * 1024

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the first `connections` connections; the ones after them are left alone.

    Args:
        cut_down: reset the connection after so many bytes from the server.
        cut_up: reset the connection after so many bytes to the server.
        stall_down: pass so many bytes from the server, then none, and keep the connection open.
        unavailable: answer 503 SlowDown in place of the server.
    """

    connections: int = 1
    cut_down: int | None = None
    cut_up: int | None = None
    stall_down: int | None = None
    unavailable: bool = False


_NO_FAULT = Fault(connections=0)


class LoopbackServer(ABC):
    """A TCP server on a free port of the loopback interface; no connection outlives it."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def endpoint_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        await all_accepted()
        self._server.close()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    @abstractmethod
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; it is closed afterwards."""

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine: what asyncio makes a task of it may be cancelled before it has begun,
        # and then nobody would close the connection.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # What is still to be written to a peer that does not read would keep it open.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
                await self.serve(reader, writer)
        finally:
            await _closed(writer)


class FaultProxy(LoopbackServer):
    """A TCP proxy with faults.

    Attributes:
        connections: how many were made to it.
        faults_hit: how many connections met the fault.
        bytes_up: how many bytes went to the server.
    """

    def __init__(self, host: str, port: int, fault: Fault | None = None) -> None:
        super().__init__()
        self._host = host
        self._port = port
        self._fault = fault
        self._moved = asyncio.Event()
        self.connections = 0
        self.faults_hit = 0
        self.bytes_up = 0

    def fail_open_connections(self, fault: Fault) -> None:
        """Let the connections that are open meet this fault, and no later ones."""
        self._fault = replace(fault, connections=self.connections)

    async def passed_up(self, limit: int) -> None:
        """Wait until so many bytes in all went to the server."""
        while self.bytes_up < limit:
            self._moved.clear()
            await self._moved.wait()

    def _fault_of(self, number: int) -> Fault:
        fault = self._fault
        return fault if fault is not None and number <= fault.connections else _NO_FAULT

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        if self._fault_of(number).unavailable:
            await self._refuse(reader, writer)
        else:
            await self._forward(reader, writer, number)

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        self.faults_hit += 1
        writer.write(http_answer(503, SLOW_DOWN))
        await writer.drain()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
        up = asyncio.create_task(self._pump(reader, server_writer, number, up=True))
        down = asyncio.create_task(self._pump(server_reader, writer, number, up=False))
        try:
            done, _ = await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            if any(
                not task.cancelled() and task.exception() is None and task.result() for task in done
            ):
                reset(writer)
                reset(server_writer)
        finally:
            # Before anything is waited for: the wait may be cancelled, too.
            server_writer.close()
            up.cancel()
            down.cancel()
            await asyncio.wait([up, down])
            await _closed(server_writer)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, number: int, *, up: bool
    ) -> bool:
        """Move bytes until there are no more, or a fault cuts the connection: then `True`."""
        passed, before = 0, self._fault_of(number)
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK_BYTES):
                fault = self._fault_of(number)
                if fault is not before:
                    passed, before = 0, fault
                cut = fault.cut_up if up else fault.cut_down
                limit = cut if up or cut is not None else fault.stall_down
                if limit is not None and passed + len(data) >= limit:
                    sink.write(data[: limit - passed])
                    await sink.drain()
                    self.faults_hit += 1
                    if cut is None:
                        await asyncio.Event().wait()  # until the client leaves
                    return True
                passed += len(data)
                if up:
                    self.bytes_up += len(data)
                    self._moved.set()
                sink.write(data)
                await sink.drain()
        return False


@dataclass(slots=True)
class Received:
    """A request, as the scripted server saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


class ScriptedServer(LoopbackServer):
    """An HTTP server that gives one answer after the other; the last one again and again.

    An answer is all the bytes of it, or a function that writes them. The connection is closed after
    each.
    """

    def __init__(self, answers: Sequence[Answer]) -> None:
        super().__init__()
        self._answers = list(answers)
        self.requests: list[Received] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await read_request(reader))
        answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
        else:
            await answer(writer)


async def read_request(reader: asyncio.StreamReader) -> Received:
    """Read one HTTP request, with its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    fields = (line.split(":", 1) for line in lines)
    headers = {name.strip().lower(): value.strip() for name, value in fields}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(method, path, headers, body)


def http_answer(
    status: int,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    content_length: int | None = None,
) -> bytes:
    """Write an HTTP answer.

    Args:
        content_length: to announce, if it is not the body's length.
    """
    fields = {
        "Content-Length": str(len(body) if content_length is None else content_length),
        "Content-Type": "application/xml",
        "Connection": "close",
        **(headers or {}),
    }
    head = f"HTTP/1.1 {status} Test\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode("latin-1") + b"\r\n" + body


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection such that its peer sees a reset."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()
