"""A server that quotes in its answers all that it is sent, as debugging proxies do."""

from __future__ import annotations

import asyncio
import html
import json
from urllib.parse import quote

from tests.support.faults import LoopbackServer, http_answer, read_request

_LISTING = (
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
    "<IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
)
_ITEM = (
    "<Contents><Key>{key}</Key><LastModified>2026-11-01T10:00:00.000Z</LastModified>"
    "<ETag>&quot;x&quot;</ETag><Size>100</Size></Contents>"
)


class EchoingServer(LoopbackServer):
    """Refuses every request, with the request in its words.

    Args:
        statuses: of the answers, one after the other, again and again.
        keys: what listings tell of, so that it is asked for; `None` if they are refused, too.
    """

    def __init__(self, statuses: tuple[int, ...], keys: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self._statuses = statuses
        self._keys = keys
        self.answered = 0
        self.seen = ""
        """All that it was sent."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        self.seen += "\n".join([request.path, *lines, request.body.decode("latin-1"), ""])
        if self._keys is not None and "list-type=2" in request.path:
            items = "".join(_ITEM.format(key=key) for key in self._keys)
            listing = _LISTING.format(items=items).encode()
            date = {"Date": "Sun, 01 Nov 2026 10:00:00 GMT", "Content-Type": "text/xml"}
            writer.write(http_answer(200, listing, date))
            await writer.drain()
            return
        status = self._statuses[self.answered % len(self._statuses)]
        way = self.answered // len(self._statuses) % 4
        self.answered += 1
        values = [request.path, *request.headers.values()]
        told = {
            0: "\n".join([*lines, request.body.decode("latin-1")[:400]]),
            1: json.dumps(request.headers),
            2: "&".join(quote(value, safe="") for value in values),
            3: "; ".join(values[::-1]),
        }[way]
        body = (
            f"<Error><Code>Nope</Code><Message>{html.escape(told)}</Message>"
            f"<Token>{html.escape(told)}</Token></Error>"
        )
        fields = {"X-Amz-Bucket-Region": quote(told)[:200], "Content-Type": "text/xml"}
        data = b"" if request.method == "HEAD" else body.encode()
        writer.write(http_answer(status, data, fields))
        await writer.drain()
