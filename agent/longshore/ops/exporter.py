"""Export: take the images of services out of the engine, and store what the bucket lacks.

A service may have a cache directory of BuildKit beside its images, or instead of them; that is
stored in the same way, as an entry of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct, field

from longshore.core.digests import Digest
from longshore.core.entry import Entry, cache_name
from longshore.core.export_plan import (
    EngineImage,
    EntryContents,
    SavePlan,
    describe_images,
    plan_save,
)
from longshore.core.keys import Ref
from longshore.core.layout_export import describe_layout_images, plan_layout_save
from longshore.core.layout_sorting import LayoutSorter
from longshore.core.service import Service
from longshore.core.sorting import ArchiveSorter, Sorter
from longshore.engine import contract
from longshore.engine.contract import Engine, ImageStore
from longshore.engine.disk import EngineDisk
from longshore.errors import EngineError, NotOnDisk
from longshore.ops.buildkit_cache import ExportedCache, export_cache, read_caches
from longshore.ops.chains import Chain, find_chains, keep_stored_parents
from longshore.ops.direct import Found, cut_blobs, find_parts
from longshore.ops.publishing import ExportSettings, Publisher
from longshore.ops.reachable import Reachable, Reading, find_reachable, reach_others
from longshore.ops.report import Report
from longshore.ops.saving import cut_archive
from longshore.ops.tasks import for_each, meanwhile


class ExportedLayer(Struct, frozen=True):
    """One layer of an exported service.

    Attributes:
        size_bytes: as the engine keeps it, compressed or not.
    """

    diff_id: Digest
    size_bytes: int
    new: bool


class ExportedService(Struct, frozen=True):
    """What became of one service."""

    service: str
    entry: str
    unchanged: bool
    images: tuple[contract.EngineImage, ...]
    layers: tuple[ExportedLayer, ...]


class ExportResult(Struct):
    """What an export did."""

    services: list[ExportedService] = field(default_factory=list)
    caches: list[ExportedCache] = field(default_factory=list)
    uploaded_bytes: int = 0
    saved_images: int = 0
    """Images that the engine was asked to save; 0 if nothing was needed from it."""
    direct_layers: int = 0
    """Layers that were read from the engine's disk."""
    saved_layers: int = 0
    """New layers that came with `docker save`."""
    seconds: float = 0.0


class _Form(Struct, frozen=True):
    """How the images of one kind of image store are asked for, sorted and written down."""

    plan: Callable[[Collection[EngineImage], Reachable], SavePlan]
    sorter: Callable[[SavePlan, Reachable], Sorter]
    describe: Callable[
        [
            Sequence[EngineImage],
            Mapping[Digest, bytes],
            Mapping[Digest, tuple[Ref, int]],
        ],
        EntryContents,
    ]


_FORMS: dict[ImageStore, _Form] = {
    "graphdriver": _Form(
        lambda images, have: plan_save(images, have.blobs.keys(), have.documents.keys()),
        lambda plan, have: ArchiveSorter(
            blobs=plan.blobs, documents=plan.documents, known=have.chunks.keys()
        ),
        describe_images,
    ),
    "containerd": _Form(
        lambda images, have: plan_layout_save(images, have.blobs.keys(), have.documents),
        lambda plan, have: LayoutSorter(
            targets=plan.images, stored=have.blobs.keys(), known=have.chunks.keys()
        ),
        describe_layout_images,
    ),
}


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

    async def run(self, services: Sequence[Service]) -> ExportResult:
        started = self._settings.clock()
        # Before the first listing: whatever is relied on was live at this moment or later.
        # The engine is asked while the store is being connected to.
        async with (
            meanwhile(self._reading.store.now()) as now,
            meanwhile(self._engine.info()) as said,
        ):
            imaged = [service for service in services if service.keeps_image]
            chains = await find_chains(
                self._engine, imaged, self._report, parents=self._settings.parents
            )
            info = await said
            caches = await read_caches(services, info.image_store, self._report)
            basis = await now if chains or caches else None
        if basis is not None:
            publisher = Publisher(self._reading, self._settings, info, basis, self._report)
            names = [*chains, *(cache_name(service.name) for service, _, _ in caches)]
            reachable = await find_reachable(self._reading, names, info.platform, self._report)
            await self._export_images(_FORMS[info.image_store], publisher, chains, reachable)
            for service, directory, contents in caches:
                try:
                    exported = await export_cache(
                        publisher,
                        self._reading,
                        service,
                        directory,
                        contents,
                        reachable,
                        self._report,
                    )
                except EngineError as error:
                    self._report.warn(error, f"{service.name}: {error}")
                else:
                    self._result.caches.append(exported)
            self._result.uploaded_bytes = publisher.uploaded_bytes
        self._result.seconds = self._settings.clock() - started
        return self._result

    async def _export_images(
        self,
        form: _Form,
        publisher: Publisher,
        found: Mapping[str, Chain],
        reachable: Reachable,
    ) -> None:
        before = frozenset(reachable.blobs)
        chains: dict[str, Sequence[contract.EngineImage]] = {}
        for service, chain in found.items():
            if any(image.id not in reachable.documents for image in chain.images):
                chain = keep_stored_parents(chain, reachable.newest.values(), before)
            chains[service] = chain.images
        await self._store_missing(form, publisher, chains, reachable)
        sizes = {d: (ref, recipe.size_bytes) for d, (ref, recipe) in reachable.blobs.items()}

        async def publish(service: str) -> ExportedService:
            contents = form.describe(chains[service], reachable.documents, sizes)
            new = frozenset(Digest(blob.digest) for blob in contents.blobs) - before
            entry = await publisher.publish(
                "image", service, contents, reachable, new_blobs=len(new)
            )
            earlier = reachable.newest.get((self._reading.scopes[0], service))
            return ExportedService(
                service=service,
                entry=entry.id,
                unchanged=earlier is not None and earlier.images == entry.images,
                images=tuple(chains[service]),
                layers=_layers(entry, new),
            )

        self._result.services += await for_each(publish, chains, at_once=self._settings.concurrency)

    async def _store_missing(
        self,
        form: _Form,
        publisher: Publisher,
        chains: Mapping[str, Sequence[contract.EngineImage]],
        reachable: Reachable,
    ) -> None:
        """Take from the engine what the scopes lack, and store packs, then recipes."""
        images = [image for chain in chains.values() for image in chain]
        plan = form.plan(images, reachable)
        if plan.images:
            await reach_others(self._reading, reachable, self._report)
            plan = form.plan(images, reachable)
        if not plan.images:
            return
        total_bytes = sum(max(image.size_bytes for image in c) for c in chains.values())
        lost = await self._read_directly(publisher, images, plan, reachable, total_bytes)
        if lost is not None:
            plan = form.plan(images, reachable)
            if plan.images and not lost:  # a containerd store lacks a part of a manifest's
                lost = [NotOnDisk(f"not all of {plan.images[0]} is there")]
            if lost:
                more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
                self._report.line(f"not read from the engine's disk, but saved: {lost[0]}{more}")
            if not plan.images:
                return
        self._result.saved_images = len(plan.images)
        sorter = form.sorter(plan, reachable)
        self._result.saved_layers = await publisher.store_blobs(
            cut_archive(self._engine.save(plan.images), sorter, self._report),
            reachable,
            total_bytes=total_bytes,
        )
        reachable.documents.update(sorter.documents)
        if lacking := form.plan(images, reachable).images:
            raise EngineError(
                f"the engine's archive lacks parts of {len(lacking)} of its images, first of"
                f" {lacking[0]}; was an image removed meanwhile?"
            )

    async def _read_directly(
        self,
        publisher: Publisher,
        images: Sequence[contract.EngineImage],
        plan: SavePlan,
        reachable: Reachable,
        total_bytes: int,
    ) -> list[NotOnDisk] | None:
        """Store what the engine's disk gives of a plan.

        Returns:
            Why something is left; `None` if there is no disk to be read.
        """
        if self._settings.disk is None:
            return None
        disk: EngineDisk | None = None
        found = Found()
        try:
            disk = await asyncio.to_thread(self._settings.disk, publisher.info)
            if disk is None:
                return None
            found = await asyncio.to_thread(find_parts, disk, images, plan, reachable.blobs.keys())
            reachable.documents.update(found.documents)
            if found.blobs:
                self._result.direct_layers = await publisher.store_blobs(
                    cut_blobs(found, reachable.chunks.keys(), self._report),
                    reachable,
                    total_bytes=total_bytes,
                )
        except NotOnDisk as error:
            found.lost.append(error)
        finally:
            found.close()
            if disk is not None:
                disk.close()
        return found.lost


def _layers(entry: Entry, new: Collection[Digest]) -> tuple[ExportedLayer, ...]:
    sizes = {blob.digest: blob.size for blob in entry.blobs}
    diff_ids = {
        layer: diff_id
        for image in entry.images
        for layer, diff_id in zip(image.layers, image.diff_ids, strict=True)
    }
    return tuple(
        ExportedLayer(Digest(diff_id), sizes[layer], Digest(layer) in new)
        for layer, diff_id in diff_ids.items()
    )
