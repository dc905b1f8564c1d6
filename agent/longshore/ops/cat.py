"""Write what is cached of a service as a plain archive, so that the cache can always be left."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from longshore.core.archive_form import ArchiveForm
from longshore.core.layout_form import LayoutForm
from longshore.core.load_plan import plan_load
from longshore.ops.finding import find_cached
from longshore.ops.reachable import Reading
from longshore.ops.rebuilding import RANGE_BYTES, build_archive
from longshore.ops.recipes import recipes_for
from longshore.ops.report import Report
from longshore.ops.streams import one_ahead


async def cat_service(
    reading: Reading,
    service: str,
    platform: str | None,
    *,
    window_bytes: int,
    report: Report,
) -> AsyncGenerator[bytes, None]:
    """Stream the archive of all images that are cached of a service, as `docker save` would.

    It holds every layer, every config, the tags, and which image was built on which; of an engine
    with a containerd store also its manifests. Any `docker load` takes it. Nothing is yielded
    before all documents have been read and checked; a layer that turns out damaged breaks the
    archive off before its end-of-archive marker.

    Args:
        platform: as keys write it; `None` if the service is cached for one only.
        window_bytes: how much to read ahead, as stored.

    Raises:
        NotCached: there is nothing usable; the message names what there is.
        UsageError: there are several platforms, and none was named.
        CorruptData: an object is missing or damaged; the message names it.
        StoreError: the store failed.
    """
    entry = (await find_cached(reading, service, platform)).entry
    reading.room.take(entry.held_bytes)
    plan = plan_load(ArchiveForm(), entry, ())
    files, blobs = dict(plan.files), list(plan.blobs)
    if entry.engine.image_store == "containerd":  # whose kind looks for a layout first
        layout, others = LayoutForm().describe(entry)
        files |= layout
        blobs += others
    recipes = list((await recipes_for(reading, entry, blobs)).values())
    report.begin("reading", sum(recipe.stored_bytes for recipe in recipes))
    archive = build_archive(
        reading.store,
        reading.project,
        files=tuple(files.items()),
        recipes=recipes,
        window_bytes=max(window_bytes - reading.room.held_bytes, RANGE_BYTES),
        fetched=report.advance,
    )
    async with contextlib.aclosing(one_ahead(archive)) as blocks:
        async for block in blocks:
            yield block
    report.end()
