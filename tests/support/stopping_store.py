"""A store that stops a program at any of its calls, as a kill or a lost network would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal

from longshore.errors import StoreUnavailable
from longshore.store.contract import (
    Guard,
    ObjectInfo,
    PendingUpload,
    Store,
    StoredObject,
    Upload,
    UploadedPart,
)

Way = Literal["before", "after", "cancel"]


class StoppingStore(Store):
    """Let `stop_at - 1` calls through; from then on nothing is carried out any more.

    Args:
        way: whether the call at which it stops is not carried out, is carried out and its answer
            lost, or `victim` is cancelled meanwhile.
    """

    def __init__(self, inner: Store, stop_at: int, way: Way) -> None:
        self.inner = inner
        self.stop_at = stop_at
        self.way = way
        self.calls = 0
        self.victim: asyncio.Task[object] | None = None
        self.writes: list[str] = []
        self.deleted: list[str] = []

    def _stop(self) -> None:
        if self.way == "cancel" and self.victim is not None:
            self.victim.cancel()
        raise StoreUnavailable("the network is gone")

    def _before(self, write: str | None = None) -> bool:
        """Count a call. Returns whether its answer is to be lost."""
        self.calls += 1
        if self.calls > self.stop_at or (self.calls == self.stop_at and self.way != "after"):
            self._stop()
        if write is not None:
            self.writes.append(write)
        return self.calls == self.stop_at

    async def put(self, key: str, data: bytes, *, guard: Guard | None = None) -> None:
        lost = self._before(key)
        await self.inner.put(key, data, guard=guard)
        if lost:
            self._stop()

    async def get(self, key: str, *, limit_bytes: int) -> StoredObject:
        if self._before():
            self._stop()
        return await self.inner.get(key, limit_bytes=limit_bytes)

    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        if self._before():
            self._stop()
        await self.inner.read(key, start, length, into)

    async def head(self, key: str) -> ObjectInfo | None:
        if self._before():
            self._stop()
        return await self.inner.head(key)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        if self._before():
            self._stop()
        async for info in self.inner.list(prefix):
            yield info

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        if self._before():
            self._stop()
        async for folder in self.inner.list_folders(prefix):
            yield folder

    async def delete(self, keys: Sequence[str], *, guard: Guard | None = None) -> None:
        lost = self._before()
        self.deleted += keys
        await self.inner.delete(keys, guard=guard)
        if lost:
            self._stop()

    async def create_upload(self, key: str) -> Upload:
        lost = self._before()
        upload = await self.inner.create_upload(key)
        if lost:
            self._stop()
        return upload

    async def upload_part(
        self, upload: Upload, number: int, offset: int, data: bytes
    ) -> UploadedPart:
        lost = self._before()
        part = await self.inner.upload_part(upload, number, offset, data)
        if lost:
            self._stop()
        return part

    async def complete_upload(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        lost = self._before(upload.key)
        await self.inner.complete_upload(upload, parts)
        if lost:
            self._stop()

    async def abort_upload(self, upload: Upload) -> None:
        self._before()
        await self.inner.abort_upload(upload)

    async def list_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        if self._before():
            self._stop()
        async for pending in self.inner.list_uploads(prefix):
            yield pending

    async def now(self) -> datetime:
        if self._before():
            self._stop()
        return await self.inner.now()

    def url(self, key: str = "") -> str:
        return self.inner.url(key)
