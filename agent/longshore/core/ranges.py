"""Which bytes of a pack some chunks cover."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from longshore.core.recipe import Chunk


class Ranges:
    """The bytes of one pack that some chunks cover."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, chunks: Iterable[Chunk] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted((c.offset, c.offset + c.stored_bytes) for c in chunks):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(end, self._ends[-1])
            else:
                self._starts.append(start)
                self._ends.append(end)

    def touch(self, chunk: Chunk) -> bool:
        """Tell whether a chunk has a byte in common with them."""
        before = bisect_left(self._starts, chunk.offset + chunk.stored_bytes) - 1
        return before >= 0 and self._ends[before] > chunk.offset
