"""Which chunks recipes have in common, and what all of them weigh.

A project may have millions of chunks, so each is kept as a few numbers, and a recipe as the numbers
of its chunks.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import TypeAlias

from msgspec import Struct

from longshore.core.recipe import Recipe

_CHUNK_BYTES = 190  # measured: a key and a value in a dictionary, and two numbers
_NUMBER_BYTES = 4
_NAME_BYTES = (
    8  # enough to tell chunks apart for figures; two in a million projects may be mixed up
)

Rows: TypeAlias = "array[int]"
"""The numbers of some chunks, each once."""


class TableFull(Exception):
    """There are more chunks than memory for them."""


class Weight(Struct, frozen=True):
    """What distinct chunks weigh, before compression and as stored."""

    plain_bytes: int = 0
    stored_bytes: int = 0


class ChunkTable:
    """All chunks, numbered as they come.

    Args:
        limit_bytes: how much memory they may take.
    """

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._used = 0
        self._numbers: dict[int, int] = {}
        self._plain = array("I")
        self._stored = array("I")

    def __len__(self) -> int:
        return len(self._plain)

    def add(self, recipe: Recipe) -> Rows:
        """Number the chunks of a recipe.

        Raises:
            TableFull: there is no room for more of them.
        """
        rows: dict[int, None] = {}
        for stream in recipe.streams:
            for chunk in stream:
                name = int.from_bytes(chunk.id[:_NAME_BYTES], "big")
                number = self._numbers.setdefault(name, len(self._plain))
                if number == len(self._plain):
                    self._plain.append(chunk.plain_bytes)
                    self._stored.append(chunk.stored_bytes)
                    self._used += _CHUNK_BYTES
                rows[number] = None
            if self._used > self._limit:
                raise TableFull
        self._used += _NUMBER_BYTES * len(rows)
        return array("I", rows)

    def weigh(self, recipes: Iterable[Rows], seen: bytearray | None = None) -> Weight:
        """Add up the distinct chunks of some recipes.

        Args:
            seen: a byte for each chunk, of those that do not count any more; what is weighed is
                added to them.
        """
        seen = bytearray(len(self)) if seen is None else seen
        plain = stored = 0
        for rows in recipes:
            for number in rows:
                if not seen[number]:
                    seen[number] = 1
                    plain += self._plain[number]
                    stored += self._stored[number]
        return Weight(plain, stored)
