"""A proxy before an S3 server, for which credentials expire after a number of requests."""

from __future__ import annotations

import asyncio

from tests.support.faults import LoopbackServer, Received, http_answer, read_request

EXPIRED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>ExpiredToken</Code>'
    b"<Message>The provided token has expired.</Message></Error>"
)


class ExpiringProxy(LoopbackServer):
    """Passes requests on, each over a connection of its own, as long as credentials are good.

    Args:
        good_for: how many requests are passed on; all, if it is `None`.

    Attributes:
        refused: methods and paths of what was answered with ExpiredToken.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._host = host
        self._port = port
        self.good_for: int | None = None
        self.passed = 0
        self.refused: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        if self.good_for is not None and self.passed >= self.good_for:
            self.refused.append(f"{request.method} {request.path}")
            writer.write(http_answer(400, b"" if request.method == "HEAD" else EXPIRED))
            await writer.drain()
            return
        self.passed += 1
        server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
        try:
            server_writer.write(_last(request))
            while data := await server_reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            server_writer.close()


def _last(request: Received) -> bytes:
    """Write a request so that the server closes its connection behind the answer."""
    headers = {**request.headers, "connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"{request.method} {request.path} HTTP/1.1\r\n{lines}\r\n"
    return head.encode("latin-1") + request.body
