"""A store that refuses, or never answers, where a test wants it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from tests.support.faulty_store import FaultyStore

from longshore.errors import AccessDenied
from longshore.store.contract import ObjectInfo, PendingUpload


@dataclass(slots=True)
class RefusingStore(FaultyStore):
    """Refuse listings.

    Attributes:
        refuses: told the operation and the prefix.
        hangs: instead of refusing, such a listing never ends.
    """

    failures: int = 0
    refuses: Callable[[str, str], bool] = lambda operation, prefix: True
    hangs: bool = False

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        await self._refuse("list", prefix)
        async for info in self.inner.list(prefix):
            yield info

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        await self._refuse("list_folders", prefix)
        async for folder in self.inner.list_folders(prefix):
            yield folder

    async def list_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        await self._refuse("list_uploads", prefix)
        async for pending in self.inner.list_uploads(prefix):
            yield pending

    async def _refuse(self, operation: str, prefix: str) -> None:
        if self.refuses(operation, prefix):
            if self.hangs:
                await asyncio.Event().wait()
            raise AccessDenied(f"{self.url(prefix)}: the credentials may not {operation}")
