"""One run of whatever removes entries or deletes objects: its begin, its end, and its notes.

A run writes through here only, so that nothing is done once it has become too old to know what it
does: see `docs/format.md`, "What prune must do".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial

from longshore.core.documents import MAX_STORED_DOCUMENT_BYTES
from longshore.core.gc_documents import (
    GcDocument,
    GcKind,
    ObjectName,
    StoredGcDocument,
    decode_gc,
    encode_gc,
    gc_key,
    gc_prefix,
    in_parts,
    object_key,
    parse_gc_key,
)
from longshore.core.ids import new_id
from longshore.core.keys import EntryKey, segment
from longshore.errors import CorruptData, NotCached, ObjectMissing, StoreError
from longshore.ops.tasks import for_each
from longshore.store.contract import ObjectInfo, Store

GRACE = timedelta(hours=24)
"""What writers and readers count on: they rely on nothing for longer than half of it."""
_READ_AT_ONCE = 8
_DELETED_AT_ONCE = 1000  # S3 limit of DeleteObjects


class NotesLost(CorruptData):
    """What earlier runs noted down cannot be read in full, so nothing may be swept."""


class PruneRun:
    """A run that has begun.

    Attributes:
        id: of its `start` document.
        start: store time of that document.
        grace: how long an object must have been unreferenced.
    """

    def __init__(
        self,
        store: Store,
        project: str,
        identifier: str,
        start: datetime,
        *,
        grace: timedelta,
        random: Callable[[int], bytes],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._project = project
        self._random = random
        self._clock = clock
        self._began = clock()
        self.id = identifier
        self.start = start
        self.grace = grace

    @classmethod
    async def begin(
        cls,
        store: Store,
        project: str,
        *,
        grace: timedelta,
        random: Callable[[int], bytes],
        clock: Callable[[], float],
    ) -> PruneRun:
        """Note down that a run begins.

        Args:
            clock: seconds that never go back, those in which the machine slept as well.

        Raises:
            StoreError: the store failed, or refuses.
        """
        identifier = new_id(await store.now(), random(10))
        key = gc_key(project, identifier, "start")
        began = clock()
        await store.put(key, encode_gc(GcDocument("start", identifier)))
        info = await store.head(key)
        if info is None:
            raise StoreError(f"{store.url(key)} was just written, and is not there; try again")
        run = cls(
            store, project, identifier, info.modified_at, grace=grace, random=random, clock=clock
        )
        run._began = began
        return run

    async def check_age(self, share: int = 4) -> None:
        """Make sure that the run is still young enough to go on.

        Raises:
            StoreError: it is older than that share of the grace period.
        """
        if await self._store.now() - self.start > self._longest(share):
            raise self._too_old(share)
        self._guard(share)

    def _guard(self, share: int) -> None:
        if self._clock() - self._began > self._longest(share).total_seconds():
            raise self._too_old(share)

    def _longest(self, share: int) -> timedelta:
        return (self.grace or GRACE) / share

    def _too_old(self, share: int) -> StoreError:
        seconds = self._longest(share).total_seconds()
        longest = f"{seconds / 3600:g} hours" if seconds >= 3600 else f"{seconds:g} seconds"
        return StoreError(
            f"this run began more than {longest} ago, so what it knows is out of date; what"
            " it did is sound, run prune again"
        )

    async def put(self, key: str, data: bytes, *, share: int = 4) -> None:
        """Write an object, if the run is young enough."""
        await self.check_age(share)
        await self._store.put(key, data, guard=partial(self._guard, share))

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, as long as the run is young enough."""
        for first in range(0, len(keys), _DELETED_AT_ONCE):
            await self.check_age()
            await self._store.delete(
                keys[first : first + _DELETED_AT_ONCE], guard=partial(self._guard, 4)
            )

    async def note(
        self, kind: GcKind, objects: Collection[ObjectName], *, everything: bool = False
    ) -> None:
        """Note down something about objects; what does not fit one document goes into more."""
        for part in in_parts(objects):
            identifier = new_id(await self._store.now(), self._random(10))
            document = GcDocument(kind, self.id, part, everything)
            data = await asyncio.to_thread(encode_gc, document)
            await self.put(gc_key(self._project, identifier, kind), data)

    async def drop_notes(self, notes: Sequence[ObjectInfo]) -> None:
        """Delete notes that are too old to matter.

        Marks and starts go before records of removals: a mark whose start is gone does not count,
        and a mark without the record that takes it back would.
        """
        keep_for = 2 * (self.grace or GRACE)
        old = [note.key for note in notes if note.modified_at + keep_for < self.start]
        await self.delete([key for key in old if not key.endswith(".removed")])
        await self.delete([key for key in old if key.endswith(".removed")])

    async def delete_objects(self, names: Sequence[ObjectName]) -> None:
        """Delete recipes and packs."""
        await self.delete([object_key(self._project, name) for name in names])

    async def remove_entries(
        self, entries: Sequence[EntryKey], reached: Collection[ObjectName], *, everything: bool
    ) -> None:
        """Remove entries, after it has been noted down what they reach.

        Args:
            everything: what one of them reaches is not known.
        """
        await self.note("removed", sorted(reached), everything=everything)
        await self.delete([_key_of(self._project, entry) for entry in entries])


async def read_notes(
    store: Store, project: str, out_of_date: datetime
) -> tuple[list[StoredGcDocument], list[ObjectInfo]]:
    """Read all that runs have noted down. Returns also the objects that hold it.

    Args:
        out_of_date: what is older may vanish meanwhile: another run drops it.

    Raises:
        NotesLost: a document vanished meanwhile, is damaged, or of a newer version.
        StoreError: the store failed.
    """
    listed = [info async for info in store.list(gc_prefix(project))]

    async def read(info: ObjectInfo) -> StoredGcDocument | None:
        found = parse_gc_key(project, info.key)
        if found is None:
            return None
        try:
            stored = await store.get(info.key, limit_bytes=MAX_STORED_DOCUMENT_BYTES)
            document = await asyncio.to_thread(decode_gc, stored.data, found[1])
        except (CorruptData, NotCached) as error:
            if isinstance(error, ObjectMissing) and info.modified_at < out_of_date:
                return None
            raise NotesLost(
                f"{store.url(info.key)} cannot be read, so nothing is swept in this run: {error}"
            ) from error
        return StoredGcDocument(document, stored.modified_at)

    read_all = await for_each(read, listed, at_once=_READ_AT_ONCE)
    return [document for document in read_all if document is not None], listed


def _key_of(project: str, entry: EntryKey) -> str:
    """Write the key of an entry back from its segments, which may be cut ones."""
    return (
        f"{segment(project)}/scopes/{entry.scope}/entries/{entry.service}/{entry.platform}"
        f"/{entry.id}"
    )
