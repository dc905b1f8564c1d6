"""Export: take the images of services out of the engine, and store what the bucket lacks.

The order of writes is packs, recipes, entries, and never another: an export that dies anywhere
leaves objects that nothing refers to, and every earlier entry as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from longshore.core.digests import Digest, hex_of
from longshore.core.entry import EngineFacts, Entry, Figures, Source, encode_entry
from longshore.core.envelope import Envelope, seal
from longshore.core.export_plan import describe_images, plan_save
from longshore.core.ids import new_id
from longshore.core.keys import Ref, entry_key, segment
from longshore.core.recipe import Recipe, encode_recipe
from longshore.core.services import Service
from longshore.core.sorting import ArchiveSorter
from longshore.engine.contract import Engine, EngineImage, EngineInfo, require_graphdriver
from longshore.errors import EngineError, StoreError
from longshore.ops.chains import Chain, find_chains, keep_stored_parents
from longshore.ops.packing import PackWriter
from longshore.ops.reachable import (
    MAX_AGE_OF_BASIS,
    Reachable,
    Reading,
    find_reachable,
    reach_others,
)
from longshore.ops.report import Report
from longshore.ops.saving import save_blobs
from longshore.ops.tasks import side_by_side


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """How an export runs; the defaults live in `config.py`.

    Args:
        hurry: fall back to zstd level 1 while compression cannot keep up with the engine.
    """

    level: int
    hurry: bool
    concurrency: int
    agent: str
    source: Source
    random: Callable[[int], bytes]
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class ExportedLayer:
    """One layer of an exported service."""

    diff_id: Digest
    size_bytes: int
    new: bool


@dataclass(frozen=True, slots=True)
class ExportedService:
    """What became of one service."""

    service: str
    entry: str
    unchanged: bool
    images: tuple[EngineImage, ...]
    layers: tuple[ExportedLayer, ...]


@dataclass(slots=True)
class ExportResult:
    """What an export did."""

    services: list[ExportedService] = field(default_factory=list)
    uploaded_bytes: int = 0
    saved_images: int = 0
    """Images that the engine was asked to save; 0 if nothing was needed from it."""
    seconds: float = 0.0


async def export_services(
    engine: Engine,
    reading: Reading,
    services: Sequence[Service],
    settings: ExportSettings,
    report: Report,
) -> ExportResult:
    """Export services into the first of the scopes that `reading` may read.

    A service whose image was not built is reported and left out. Any other failure ends the
    export, and leaves the cache as it was.

    Raises:
        EngineError: the engine failed, or its archive is not what it promised.
        StoreError: the store failed.
    """
    return await _Export(engine, reading, settings, report).run(services)


class _Export:
    def __init__(
        self, engine: Engine, reading: Reading, settings: ExportSettings, report: Report
    ) -> None:
        self._engine = engine
        self._reading = reading
        self._settings = settings
        self._report = report
        self._result = ExportResult()
        self._scope = reading.scopes[0]

    async def run(self, services: Sequence[Service]) -> ExportResult:
        started = self._settings.clock()
        info = await self._engine.info()
        require_graphdriver(info)
        chains = await find_chains(self._engine, services, self._report)
        if chains:
            await self._export(info, chains, started)
        self._result.seconds = self._settings.clock() - started
        return self._result

    async def _export(self, info: EngineInfo, found: dict[str, Chain], started: float) -> None:
        # Before the first listing: whatever is relied on was live at this moment or later.
        basis = await self._reading.store.now()
        reachable = await find_reachable(self._reading, list(found), info.platform, self._report)
        before = frozenset(reachable.blobs)
        chains: dict[str, Sequence[EngineImage]] = {}
        for service, chain in found.items():
            if any(image.id not in reachable.documents for image in chain.images):
                chain = keep_stored_parents(chain, reachable.newest.values(), before)
            chains[service] = chain.images
        await self._store_missing(chains, reachable)
        for service, images in chains.items():
            new = new_in(images, before)
            layers = tuple(
                ExportedLayer(diff_id, reachable.blobs[diff_id][1].size_bytes, diff_id in new)
                for diff_id in dict.fromkeys(d for image in images for d in image.diff_ids)
            )
            figures = Figures(
                image_bytes=sum(layer.size_bytes for layer in layers),
                uploaded_bytes=self._result.uploaded_bytes,
                new_blobs=len(new),
                seconds=self._settings.clock() - started,
            )
            entry = await self._describe(info, service, images, reachable, basis, figures)
            await self._publish(entry)
            earlier = reachable.newest.get((self._scope, service))
            unchanged = earlier is not None and earlier.images == entry.images
            self._result.services.append(
                ExportedService(service, entry.id, unchanged, tuple(images), layers)
            )

    async def _describe(
        self,
        info: EngineInfo,
        service: str,
        images: Sequence[EngineImage],
        reachable: Reachable,
        basis: datetime,
        figures: Figures,
    ) -> Entry:
        sizes = {d: (ref, recipe.size_bytes) for d, (ref, recipe) in reachable.blobs.items()}
        contents = describe_images(images, reachable.documents, sizes)
        return Entry(
            kind="image",
            project=self._reading.project,
            scope=self._scope,
            service=service,
            platform=info.platform,
            id=await self._next_id(reachable.newest_ids.get(segment(service))),
            basis=basis,
            agent=self._settings.agent,
            engine=EngineFacts(info.version, info.image_store),
            documents=contents.documents,
            media_types=contents.media_types,
            images=contents.images,
            blobs=contents.blobs,
            refs=contents.refs,
            source=self._settings.source,
            figures=figures,
        )

    async def _store_missing(
        self, chains: dict[str, Sequence[EngineImage]], reachable: Reachable
    ) -> None:
        """Take from the engine what the scopes lack, and store packs, then recipes."""
        images = [image for chain in chains.values() for image in chain]
        plan = plan_save(images, reachable.blobs.keys(), reachable.documents.keys())
        if plan.images:
            await reach_others(self._reading, reachable, self._report)
            plan = plan_save(images, reachable.blobs.keys(), reachable.documents.keys())
        if not plan.images:
            return
        self._result.saved_images = len(plan.images)
        sorter = ArchiveSorter(
            blobs=plan.blobs, documents=plan.documents, known=reachable.chunks.keys()
        )
        now = await self._reading.store.now()

        def sent(size_bytes: int) -> None:
            self._result.uploaded_bytes += size_bytes

        total = sum(max(image.size_bytes for image in chain) for chain in chains.values())
        self._report.begin("saving", total)
        async with PackWriter(
            self._reading.store,
            project=self._reading.project,
            scope=self._scope,
            make_id=lambda: new_id(now, self._settings.random(10)),
            concurrency=self._settings.concurrency,
            sent=sent,
        ) as packs:
            recipes = await save_blobs(
                self._engine.save(plan.images),
                sorter,
                packs,
                known=reachable.chunks,
                level=self._settings.level,
                hurry=self._settings.hurry,
                report=self._report,
            )
            await packs.finish()
        self._report.end()
        reachable.documents.update(sorter.documents)
        missing = plan.documents - sorter.documents.keys()
        missing |= plan.blobs - {recipe.digest for recipe in recipes}
        if missing:
            raise EngineError(
                f"the engine's archive lacks {len(missing)} of the layers and configs of its"
                f" images, first {sorted(missing)[0]}; was an image removed meanwhile?"
            )
        # Engines up to 24 cannot be kept from sending layers that are stored already, or twice.
        new = {recipe.digest: recipe for recipe in recipes if recipe.digest in plan.blobs}
        async with side_by_side() as group:
            for recipe in new.values():
                identifier = new_id(now, self._settings.random(10))
                ref = Ref(self._scope, f"{hex_of(recipe.digest)}.{identifier}")
                reachable.blobs[recipe.digest] = (ref, recipe)
                group.create_task(self._put_recipe(ref, recipe))

    async def _put_recipe(self, ref: Ref, recipe: Recipe) -> None:
        data = await asyncio.to_thread(encode_recipe, recipe)
        await self._reading.store.put(ref.key(self._reading.project), data)
        self._result.uploaded_bytes += len(data)

    async def _next_id(self, newest: str | None) -> str:
        now = await self._reading.store.now()
        return new_id(now, self._settings.random(10), after=newest)

    async def _publish(self, entry: Entry) -> None:
        if await self._reading.store.now() - entry.basis > MAX_AGE_OF_BASIS:
            raise StoreError(
                f"{entry.service}: this export began more than 12 hours ago, so prune may have"
                " removed parts that it relies on; it is not published, export again"
            )
        data = seal(Envelope(await asyncio.to_thread(encode_entry, entry)))
        key = entry_key(entry.project, entry.scope, entry.service, entry.platform, entry.id)
        await self._reading.store.put(key, data)
        self._result.uploaded_bytes += len(data)


def new_in(images: Sequence[EngineImage], before: frozenset[Digest]) -> frozenset[Digest]:
    """Tell which layers of images were not reachable before the export."""
    return frozenset(d for image in images for d in image.diff_ids) - before
