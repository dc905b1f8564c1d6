"""Write chunks into packs, one pack after the other, their parts uploaded side by side.

Memory is bounded: `concurrency` parts on their way, and one that is being filled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from msgspec import Struct, field

from longshore.core.keys import Ref
from longshore.core.recipe import PACK_BYTES
from longshore.errors import LongshoreError
from longshore.ops.tasks import single
from longshore.store.contract import Store, Upload, UploadedPart

PART_BYTES = 8 << 20  # S3 asks for 5 MiB at least, and connections get fast at 8 MiB
_ABORT_SECONDS = 10.0


class _Pack(Struct):
    ref: Ref
    size_bytes: int = 0
    waiting: list[bytes | memoryview] = field(default_factory=list)
    waiting_bytes: int = 0
    upload: Upload | None = None
    sent_bytes: int = 0
    parts: list[asyncio.Task[UploadedPart]] = field(default_factory=list)

    def take(self, size_bytes: int) -> bytes:
        """Take so much of what waits to be sent, which is at least that; the only copy of it."""
        taken: list[bytes | memoryview] = []
        left, used = size_bytes, 0
        while left:
            piece = self.waiting[used]
            if len(piece) > left:
                view = memoryview(piece)
                taken.append(view[:left])
                self.waiting[used] = view[left:]
                break
            taken.append(piece)
            left -= len(piece)
            used += 1
        del self.waiting[:used]
        self.waiting_bytes -= size_bytes
        return b"".join(taken)


class PackWriter:
    """Write packs below one scope.

    Used as an asynchronous context. Leaving it with an error aborts the uploads that were not
    completed; what is left then are packs that nothing refers to. `finish` has to return before
    anything refers to what was placed.

    Args:
        make_id: makes the id of the next pack.
        sent: called with the bytes of each part that is stored.

    Attributes:
        waits: how many parts, and packs of one part, found all slots taken and had to wait.
    """

    def __init__(
        self,
        store: Store,
        *,
        project: str,
        scope: str,
        make_id: Callable[[], str],
        concurrency: int,
        sent: Callable[[int], None],
    ) -> None:
        self._store = store
        self._project = project
        self._scope = scope
        self._make_id = make_id
        self._slots = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._sending = 0
        self.waits = 0
        self._sent = sent
        self._tasks = asyncio.TaskGroup()
        self._pack: _Pack | None = None
        self._completing: list[asyncio.Task[None]] = []
        self._open: dict[str, Upload] = {}

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._tasks.__aexit__(kind, error, trace)
        except BaseExceptionGroup as errors:
            raise single(errors) from errors
        finally:
            if self._open:
                await asyncio.shield(self._abort())

    @property
    def has_room(self) -> bool:
        """Whether at least half of the slots are free: the store keeps up with what comes.

        Single slots mean little, because several that come free together are taken in turn.
        """
        return 2 * self._sending <= self._concurrency

    async def add(self, stored: bytes) -> tuple[Ref, int]:
        """Place a compressed chunk. Returns its pack, and its offset in there."""
        pack = self._pack
        if pack is not None and pack.size_bytes + len(stored) > PACK_BYTES:
            await self._close(pack)
            pack = None
        if pack is None:
            pack = self._pack = _Pack(Ref(self._scope, self._make_id()))
        offset = pack.size_bytes
        pack.size_bytes += len(stored)
        pack.waiting.append(stored)
        pack.waiting_bytes += len(stored)
        while pack.waiting_bytes >= PART_BYTES:
            await self._send(pack, pack.take(PART_BYTES))
        return pack.ref, offset

    async def finish(self) -> None:
        """Complete the last pack, and wait until all packs are stored."""
        if self._pack is not None:
            await self._close(self._pack)
            self._pack = None
        for task in self._completing:
            await task

    async def _take_slot(self) -> None:
        self.waits += self._slots.locked()
        await self._slots.acquire()
        self._sending += 1

    def _free_slot(self) -> None:
        self._sending -= 1
        self._slots.release()

    async def _send(self, pack: _Pack, data: bytes) -> None:
        await self._take_slot()
        if pack.upload is None:
            try:
                pack.upload = await self._store.create_upload(pack.ref.key(self._project))
            except BaseException:
                self._free_slot()
                raise
            self._open[pack.upload.upload_id] = pack.upload
        number, offset = len(pack.parts) + 1, pack.sent_bytes
        pack.sent_bytes += len(data)
        upload = self._upload_part(pack.upload, number, offset, data)
        pack.parts.append(self._tasks.create_task(upload))

    async def _upload_part(
        self, upload: Upload, number: int, offset: int, data: bytes
    ) -> UploadedPart:
        try:
            part = await self._store.upload_part(upload, number, offset, data)
        finally:
            self._free_slot()
        self._sent(len(data))
        return part

    async def _close(self, pack: _Pack) -> None:
        rest = pack.take(pack.waiting_bytes)
        if pack.upload is not None:
            if rest:
                await self._send(pack, rest)
            complete = self._complete(pack.upload, pack.parts)
        else:
            await self._take_slot()
            complete = self._put(pack.ref, rest)
        self._completing.append(self._tasks.create_task(complete))

    async def _complete(self, upload: Upload, parts: list[asyncio.Task[UploadedPart]]) -> None:
        await self._store.complete_upload(upload, [await part for part in parts])
        del self._open[upload.upload_id]

    async def _put(self, ref: Ref, data: bytes) -> None:
        try:
            await self._store.put(ref.key(self._project), data)
        finally:
            self._free_slot()
        self._sent(len(data))

    async def _abort(self) -> None:
        """Give up what was begun, if the store lets us; prune gets what is left."""
        with contextlib.suppress(LongshoreError, TimeoutError):
            async with asyncio.timeout(_ABORT_SECONDS):
                for upload in list(self._open.values()):
                    await self._store.abort_upload(upload)
