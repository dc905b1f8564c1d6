"""A store that fails when a test wants it to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

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


@dataclass(slots=True)
class FaultyStore(Store):
    """Raise `error` in the first `failures` calls of each operation, and record every call.

    Attributes:
        calls: the operations in the order in which they came, with what tells them apart.
        hit: how many faults were raised. A test that does not look at it may test nothing.
        break_after: reads and listings give so many bytes or items before they fail.
        after: operations are carried out before they fail, as if the answer was lost.
    """

    inner: Store
    failures: int = 1
    error: Callable[[str], Exception] = StoreUnavailable
    break_after: int = 0
    after: bool = False
    calls: list[tuple[object, ...]] = field(default_factory=list)
    hit: int = 0
    _left: dict[str, int] = field(default_factory=dict)

    async def put(self, key: str, data: bytes, *, guard: Guard | None = None) -> None:
        self._before("put", key)
        await self.inner.put(key, data, guard=guard)
        self._after("put")

    async def get(self, key: str, *, limit_bytes: int) -> StoredObject:
        self._before("get", key)
        stored = await self.inner.get(key, limit_bytes=limit_bytes)
        self._after("get")
        return stored

    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        self.calls.append(("read", key, start + len(into), start + length))
        if self._fails("read"):
            piece = min(len(into) + self.break_after, length)
            await self.inner.read(key, start, piece, into)
            self._raise("read")
        await self.inner.read(key, start, length, into)

    async def head(self, key: str) -> ObjectInfo | None:
        self._before("head", key)
        info = await self.inner.head(key)
        self._after("head")
        return info

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        self.calls.append(("list", prefix))
        fails, left = self._fails("list"), self.break_after
        async for info in self.inner.list(prefix):
            if fails and left == 0:
                self._raise("list")
            left -= 1
            yield info
        if fails:
            self._raise("list")

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        self.calls.append(("list_folders", prefix))
        fails, left = self._fails("list_folders"), self.break_after
        async for folder in self.inner.list_folders(prefix):
            if fails and left == 0:
                self._raise("list_folders")
            left -= 1
            yield folder
        if fails:
            self._raise("list_folders")

    async def delete(self, keys: Sequence[str], *, guard: Guard | None = None) -> None:
        self._before("delete", *keys)
        await self.inner.delete(keys, guard=guard)
        self._after("delete")

    async def create_upload(self, key: str) -> Upload:
        self._before("create_upload", key)
        upload = await self.inner.create_upload(key)
        self._after("create_upload")
        return upload

    async def upload_part(
        self, upload: Upload, number: int, offset: int, data: bytes
    ) -> UploadedPart:
        self._before("upload_part", upload.key, number)
        part = await self.inner.upload_part(upload, number, offset, data)
        self._after("upload_part")
        return part

    async def complete_upload(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        self._before("complete_upload", upload.key)
        await self.inner.complete_upload(upload, parts)
        self._after("complete_upload")

    async def abort_upload(self, upload: Upload) -> None:
        self._before("abort_upload", upload.key)
        await self.inner.abort_upload(upload)
        self._after("abort_upload")

    async def list_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        self._before("list_uploads", prefix)
        async for pending in self.inner.list_uploads(prefix):
            yield pending
        self._after("list_uploads")

    async def now(self) -> datetime:
        self._before("now")
        time = await self.inner.now()
        self._after("now")
        return time

    def url(self, key: str = "") -> str:
        return self.inner.url(key)

    async def close(self) -> None:
        self.calls.append(("close",))
        await self.inner.close()

    def _before(self, operation: str, *what: object) -> None:
        self.calls.append((operation, *what))
        if not self.after and self._fails(operation):
            self._raise(operation)

    def _after(self, operation: str) -> None:
        if self.after and self._fails(operation):
            self._raise(operation)

    def _fails(self, operation: str) -> bool:
        left = self._left.setdefault(operation, self.failures)
        self._left[operation] = left - 1
        return left > 0

    def _raise(self, operation: str) -> None:
        self.hit += 1
        raise self.error(f"{operation} failed on purpose")
