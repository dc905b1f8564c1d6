"""A store in memory, for tests and for trying things out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

from msgspec import Struct, field

from longshore.errors import CorruptData, ObjectMissing, ObjectTooLarge, StoreError
from longshore.store.contract import (
    Guard,
    ObjectInfo,
    PendingUpload,
    Store,
    StoredObject,
    Upload,
    UploadedPart,
)
from longshore.store.safe_keys import check_key, check_part_number, check_prefix


class _Pending(Struct):
    key: str
    started_at: datetime
    parts: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    completed: bool = False


class MemoryStore(Store):
    """Objects in a dictionary.

    Every method lets other tasks run once before it acts, as a network would; what it then does
    happens at once.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._objects: dict[str, StoredObject] = {}
        self._uploads: dict[str, _Pending] = {}
        self._begun = 0

    async def put(self, key: str, data: bytes, *, guard: Guard | None = None) -> None:
        check_key(key)
        await asyncio.sleep(0)
        if guard is not None:
            guard()
        self._objects[key] = StoredObject(bytes(data), self._now())

    async def get(self, key: str, *, limit_bytes: int) -> StoredObject:
        stored = await self._find(key)
        if len(stored.data) > limit_bytes:
            raise ObjectTooLarge(
                f"{self.url(key)} holds {len(stored.data)} bytes, "
                f"more than the {limit_bytes} allowed"
            )
        return stored

    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        if len(into) >= length:
            return
        stored = await self._find(key)
        into += stored.data[start + len(into) : start + length]
        if len(into) < length:
            raise CorruptData(
                f"{self.url(key)} ends after {len(stored.data)} bytes, want {start + length}"
            )

    async def head(self, key: str) -> ObjectInfo | None:
        check_key(key)
        await asyncio.sleep(0)
        stored = self._objects.get(key)
        return None if stored is None else ObjectInfo(key, len(stored.data), stored.modified_at)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        check_prefix(prefix)
        await asyncio.sleep(0)
        for key in self._keys_below(prefix):
            stored = self._objects.get(key)
            if stored is not None:
                yield ObjectInfo(key, len(stored.data), stored.modified_at)

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        check_prefix(prefix)
        await asyncio.sleep(0)
        rests = (key[len(prefix) :] for key in self._keys_below(prefix))
        for folder in dict.fromkeys(rest.partition("/")[0] for rest in rests if "/" in rest):
            yield folder

    async def delete(self, keys: Sequence[str], *, guard: Guard | None = None) -> None:
        for key in keys:
            check_key(key)
        await asyncio.sleep(0)
        if guard is not None:
            guard()
        for key in keys:
            self._objects.pop(key, None)

    async def create_upload(self, key: str) -> Upload:
        check_key(key)
        await asyncio.sleep(0)
        self._begun += 1
        upload = Upload(key, f"upload-{self._begun}")
        self._uploads[upload.upload_id] = _Pending(key, self._now())
        return upload

    async def upload_part(
        self, upload: Upload, number: int, offset: int, data: bytes
    ) -> UploadedPart:
        check_part_number(number)
        await asyncio.sleep(0)
        pending = self._pending(upload)
        if pending.completed:
            raise StoreError(f"the upload of {self.url(upload.key)} is complete; start another")
        pending.parts[number] = (offset, bytes(data))
        return UploadedPart(number, f"{number}-{len(data)}")

    async def complete_upload(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        await asyncio.sleep(0)
        pending = self._pending(upload)
        if pending.completed:
            return
        data = bytearray()
        for part in sorted(parts, key=lambda part: part.number):
            offset, content = pending.parts[part.number]
            if offset != len(data):
                raise ValueError(f"part {part.number} begins at {offset}, want {len(data)}")
            data += content
        self._objects[pending.key] = StoredObject(bytes(data), self._now())
        pending.completed = True
        pending.parts.clear()

    async def abort_upload(self, upload: Upload) -> None:
        await asyncio.sleep(0)
        pending = self._uploads.get(upload.upload_id)
        if pending is not None and not pending.completed:
            del self._uploads[upload.upload_id]

    async def list_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        check_prefix(prefix)
        await asyncio.sleep(0)
        for upload_id, pending in list(self._uploads.items()):
            if pending.key.startswith(prefix) and not pending.completed:
                yield PendingUpload(Upload(pending.key, upload_id), pending.started_at)

    async def now(self) -> datetime:
        await asyncio.sleep(0)
        return self._now()

    def url(self, key: str = "") -> str:
        return f"memory:///{key}"

    async def close(self) -> None:
        """Keep the objects: a test may look at them, or open the store again."""

    async def _find(self, key: str) -> StoredObject:
        check_key(key)
        await asyncio.sleep(0)
        stored = self._objects.get(key)
        if stored is None:
            raise ObjectMissing(f"{self.url(key)} is not in the store")
        return stored

    def _keys_below(self, prefix: str) -> Sequence[str]:
        # Sorted from the end of the key: always the same, and of no use to anyone who relies on it.
        keys = (key for key in self._objects if key.startswith(prefix))
        return sorted(keys, key=lambda key: key[::-1])

    def _pending(self, upload: Upload) -> _Pending:
        pending = self._uploads.get(upload.upload_id)
        if pending is None:
            raise StoreError(f"the upload of {self.url(upload.key)} is gone; start another")
        return pending
