"""Write into a scope: packs, then recipes, then entries, and never in another order.

An export that dies anywhere leaves objects that nothing refers to, and every earlier entry as it
was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime

from msgspec import Struct

from longshore.core.compression_level import Level
from longshore.core.digests import hex_of
from longshore.core.entry import EngineFacts, Entry, Figures, Kind, Source, encode_entry
from longshore.core.envelope import Envelope, Signature, seal
from longshore.core.export_plan import EntryContents
from longshore.core.ids import new_id
from longshore.core.keys import Ref, entry_key, segment
from longshore.core.recipe import Recipe, encode_recipe
from longshore.core.sorting import Item
from longshore.engine.contract import EngineInfo
from longshore.engine.disk import EngineDisk
from longshore.errors import StoreError
from longshore.ops.packing import PackWriter
from longshore.ops.reachable import Reachable, Reading
from longshore.ops.report import Report
from longshore.ops.saving import save_blobs
from longshore.ops.tasks import side_by_side


class ExportSettings(Struct, frozen=True):
    """How an export runs; the defaults live in `config.py`.

    Args:
        parents: export what the images were built on, too.
        sign: signs the payload of an entry; entries are not signed without it.
        disk: opens the engine's disk; raises if that ought to be possible, and is `None` if nobody
            is to try.
    """

    level: Level
    concurrency: int
    parents: bool
    agent: str
    source: Source
    random: Callable[[int], bytes]
    clock: Callable[[], float]
    sign: Callable[[bytes], Signature] | None = None
    disk: Callable[[EngineInfo], EngineDisk | None] | None = None


class Publisher:
    """Write into the first of the scopes that `reading` may read.

    Args:
        info: the engine whose images these are.
        basis: store time before the first listing; whatever is relied on was live then or later.

    Attributes:
        info: that engine.
        uploaded_bytes: what was sent so far.
    """

    def __init__(
        self,
        reading: Reading,
        settings: ExportSettings,
        info: EngineInfo,
        basis: datetime,
        report: Report,
    ) -> None:
        self._reading = reading
        self._settings = settings
        self.info = info
        self._basis = basis
        self._report = report
        self._started = settings.clock()
        self._scope = reading.scopes[0]
        self.uploaded_bytes = 0

    async def store_blobs(
        self,
        source: AsyncGenerator[Sequence[Item], None],
        reachable: Reachable,
        *,
        total_bytes: int,
    ) -> int:
        """Store the blobs of a source, and add them to what is reachable.

        Returns:
            How many blobs were new.

        Raises:
            EngineError: the source is broken, or not what it promised.
            StoreError: the store failed.
        """
        now = await self._reading.store.now()
        self._report.begin("saving", total_bytes)
        async with PackWriter(
            self._reading.store,
            project=self._reading.project,
            scope=self._scope,
            make_id=lambda: new_id(now, self._settings.random(10)),
            concurrency=self._settings.concurrency,
            sent=self._sent,
        ) as packs:
            saved = await save_blobs(
                source,
                packs,
                known=reachable.chunks,
                level=self._settings.level,
            )
            await packs.finish()
        self._report.end()
        reachable.chunks.update(saved.chunks)
        # Engines up to 24 cannot be kept from sending layers that are stored already, or twice.
        new = {r.digest: r for r in saved.recipes if r.digest not in reachable.blobs}
        async with side_by_side() as group:
            for recipe in new.values():
                identifier = new_id(now, self._settings.random(10))
                ref = Ref(self._scope, f"{hex_of(recipe.digest)}.{identifier}")
                reachable.blobs[recipe.digest] = (ref, recipe)
                group.create_task(self._put_recipe(ref, recipe))
        return len(new)

    async def publish(
        self,
        kind: Kind,
        service: str,
        contents: EntryContents,
        reachable: Reachable,
        *,
        new_blobs: int,
    ) -> Entry:
        """Write the entry that makes some contents reachable.

        Raises:
            StoreError: the store failed, or the export took so long that prune may have removed
                what it relies on.
        """
        now = await self._reading.store.now()
        newest = reachable.newest_ids.get(segment(service))
        entry = Entry(
            kind=kind,
            project=self._reading.project,
            scope=self._scope,
            service=service,
            platform=self.info.platform,
            id=new_id(now, self._settings.random(10), after=newest),
            basis=self._basis,
            agent=self._settings.agent,
            engine=EngineFacts(self.info.version, self.info.image_store),
            documents=contents.documents,
            media_types=contents.media_types,
            images=contents.images,
            index=contents.index,
            blobs=contents.blobs,
            refs=contents.refs,
            source=self._settings.source,
            figures=Figures(
                image_bytes=sum(blob.size for blob in contents.blobs),
                uploaded_bytes=self.uploaded_bytes,
                new_blobs=new_blobs,
                seconds=self._settings.clock() - self._started,
            ),
        )
        if await self._reading.store.now() - entry.basis > self._reading.longest:
            raise StoreError(
                f"{entry.service}: this export began more than 12 hours ago, so prune may have"
                " removed parts that it relies on; it is not published, export again"
            )
        payload = await asyncio.to_thread(encode_entry, entry)
        signatures = () if self._settings.sign is None else (self._settings.sign(payload),)
        data = seal(Envelope(payload, signatures))
        key = entry_key(entry.project, entry.scope, entry.service, entry.platform, entry.id)
        await self._reading.store.put(key, data)
        self._sent(len(data))
        return entry

    async def _put_recipe(self, ref: Ref, recipe: Recipe) -> None:
        data = await asyncio.to_thread(encode_recipe, recipe)
        await self._reading.store.put(ref.key(self._reading.project), data)
        self._sent(len(data))

    def _sent(self, size_bytes: int) -> None:
        self.uploaded_bytes += size_bytes
