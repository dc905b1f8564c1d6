"""Separate a tar into its header stream and its payload stream, and join them again.

Both halves are driven by `TarWalk`. Any bytes survive, tar or not, whole or damaged.
"""

from __future__ import annotations

from longshore.core.tarwalk import TarWalk
from longshore.errors import CorruptData


class TarSplitter:
    """Sort the bytes of a tar into headers and payload as they pass."""

    __slots__ = ("_block", "_walk")

    def __init__(self) -> None:
        self._walk = TarWalk()
        self._block = bytearray()  # the beginning of a block that has to be parsed

    def feed(self, data: bytes | memoryview) -> tuple[list[memoryview], list[memoryview]]:
        """Sort more bytes. Returns views of `data`: header pieces, payload pieces."""
        walk, view = self._walk, memoryview(data)
        headers: list[memoryview] = []
        payloads: list[memoryview] = []
        position, end, header_start = 0, len(view), 0
        while position < end:
            if walk.payload:
                stop = min(position + walk.payload, end)
                if position > header_start:
                    headers.append(view[header_start:position])
                payloads.append(view[position:stop])
                walk.payload -= stop - position
                position = header_start = stop
                if walk.payload:
                    break
            if walk.skip:
                stop = min(position + walk.skip, end)
                walk.skip -= stop - position
                position = stop
                if walk.skip:
                    break
            need = walk.need
            if not need:
                position = end
            elif not self._block and end - position >= need:
                walk.parse(bytes(view[position : position + need]))
                position += need
            else:
                stop = min(position + need - len(self._block), end)
                self._block += view[position:stop]
                position = stop
                if len(self._block) == need:
                    walk.parse(bytes(self._block))
                    self._block.clear()
        if end > header_start:
            headers.append(view[header_start:end])
        return headers, payloads


class TarJoiner:
    """Put a header stream and a payload stream together again.

    Feed the stream that `wants_payload` names, until both have ended; then call `finish`.
    """

    __slots__ = ("_block", "_header", "_payload", "_walk")

    def __init__(self) -> None:
        self._walk = TarWalk()
        self._block = bytearray()
        self._header = memoryview(b"")
        self._payload = memoryview(b"")

    @property
    def wants_payload(self) -> bool:
        """Whether payload is what comes next; header bytes otherwise."""
        return self._walk.payload > 0

    def feed_header(self, data: bytes) -> list[memoryview]:
        """Take more of the header stream. Returns what of the tar is now known, in order."""
        self._header = memoryview(bytes(self._header) + data) if self._header else memoryview(data)
        return self._advance()

    def feed_payload(self, data: bytes) -> list[memoryview]:
        """Take more of the payload stream. Returns what of the tar is now known, in order."""
        left = self._payload
        self._payload = memoryview(bytes(left) + data) if left else memoryview(data)
        return self._advance()

    def finish(self) -> None:
        """Check that nothing is left over.

        Raises:
            CorruptData: the streams do not belong together.
        """
        if self._header or self._payload:
            raise CorruptData("the header and payload streams of a layer do not fit together")

    def _advance(self) -> list[memoryview]:
        walk, header, payload = self._walk, self._header, self._payload
        out: list[memoryview] = []
        at, paid, header_start, end = 0, 0, 0, len(header)
        while True:
            if walk.payload:
                stop = min(paid + walk.payload, len(payload))
                if at > header_start:
                    out.append(header[header_start:at])
                    header_start = at
                if stop > paid:
                    out.append(payload[paid:stop])
                walk.payload -= stop - paid
                paid = stop
                if walk.payload:
                    break
            if at == end:
                break
            if walk.skip:
                stop = min(at + walk.skip, end)
                walk.skip -= stop - at
                at = stop
                if walk.skip:
                    break
            need = walk.need
            if not need:
                at = end
            elif not self._block and end - at >= need:
                walk.parse(bytes(header[at : at + need]))
                at += need
            else:
                stop = min(at + need - len(self._block), end)
                self._block += header[at:stop]
                at = stop
                if len(self._block) == need:
                    walk.parse(bytes(self._block))
                    self._block.clear()
        if at > header_start:
            out.append(header[header_start:at])
        self._header, self._payload = header[at:], payload[paid:]
        return out
