"""How much of what others wrote a run reads at once, and how much of it it keeps.

A document of a few kilobytes can hold megabytes once it is open, so none is opened beside another,
large ones are fetched one by one, and what is kept is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeVar

from longshore.core.documents import MAX_STORED_DOCUMENT_BYTES
from longshore.errors import LongshoreError, ObjectTooLarge, TooLarge, kept
from longshore.store.contract import Store

T = TypeVar("T")

READ_AT_ONCE = 16
_SMALL_BYTES = 1 << 20  # the recipe of a layer of 5 GB


class Room:
    """Memory for documents.

    Args:
        limit_bytes: of all that is kept at a time; `None` for no limit.

    Attributes:
        held_bytes: what is kept now.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._opening = asyncio.Lock()
        self.held_bytes = 0

    async def open(
        self, store: Store, key: str, decode: Callable[[bytes], T]
    ) -> tuple[T, datetime]:
        """Read a document in a thread, and tell when it was stored.

        Raises:
            CorruptData: it is missing or too large; or what `decode` raises.
        """
        opened, stored_at = await self._open(store, key, decode)
        if isinstance(opened, LongshoreError):
            raise opened
        return opened, stored_at

    async def _open(
        self, store: Store, key: str, decode: Callable[[bytes], T]
    ) -> tuple[T | LongshoreError, datetime]:
        try:
            stored = await store.get(key, limit_bytes=_SMALL_BYTES)
        except ObjectTooLarge:
            async with self._opening:
                stored = await store.get(key, limit_bytes=MAX_STORED_DOCUMENT_BYTES)
                return await asyncio.to_thread(_decoded, decode, stored.data), stored.modified_at
        async with self._opening:
            return await asyncio.to_thread(_decoded, decode, stored.data), stored.modified_at

    def take(self, size_bytes: int) -> None:
        """Count what is going to be kept.

        Raises:
            TooLarge: there is no room for it.
        """
        if self._limit_bytes is not None and self.held_bytes + size_bytes > self._limit_bytes:
            raise TooLarge(
                f"it needs {size_bytes:,} bytes of memory for its documents, beside"
                f" {self.held_bytes:,} that others hold, and there are {self._limit_bytes:,};"
                " raise --memory"
            )
        self.held_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Count off what is not kept any more."""
        self.held_bytes -= size_bytes

    @contextlib.contextmanager
    def for_now(self) -> Iterator[None]:
        """Give back in the end what was taken meanwhile."""
        held = self.held_bytes
        try:
            yield
        finally:
            self.give_back(self.held_bytes - held)


def _decoded(decode: Callable[[bytes], T], stored: bytes) -> T | LongshoreError:
    try:
        return decode(stored)
    except LongshoreError as error:
        return kept(error)
