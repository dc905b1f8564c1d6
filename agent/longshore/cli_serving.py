"""Let the build that `longshore build` runs fetch its caches itself, where it can."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longshore.cli_job import Job
from longshore.cli_running import bounded
from longshore.core.builder import Client
from longshore.core.service import Service
from longshore.errors import LongshoreError
from longshore.ops.handing_over import builds_fetch_caches, can_be_written
from longshore.output_json import traffic_json
from longshore.wording import count

if TYPE_CHECKING:
    from longshore.service.cache_registry import CacheRegistry

_TOKEN_BYTES = 16


@asynccontextmanager
async def caches_served(
    job: Job, services: Sequence[Service], client: Callable[[], Client]
) -> AsyncIterator[CacheRegistry | None]:
    """Serve caches of services as long as this is open; `None` if their builds cannot use that."""
    if not await _is_of_use(job, services, client):
        yield None
        return
    from longshore.service.cache_registry import cache_registry

    async with cache_registry(secrets.token_hex(_TOKEN_BYTES)) as registry:
        yield registry if await _is_reached(job, registry) else None


async def after_the_build(
    job: Job, registry: CacheRegistry, document: dict[str, Any] | None, *, built: bool
) -> None:
    """Complete what was served, and say what became of it.

    Args:
        document: of the import, which gets what has been fetched since.
        built: whether the build went well, and what it wrote counts.
    """
    for cache in registry.caches:
        job.report.line(
            f"{cache.service}: the build fetched {cache.blobs_fetched} of"
            f" {count(len(cache.sizes), 'blob')} of its BuildKit cache"
        )
        if built:
            await cache.complete(job.report)
        if document is not None:
            for told in document["caches"]:
                if told["service"] == cache.service:
                    told["blobs_fetched"] = cache.blobs_fetched
            document["downloaded_bytes"] += cache.fetched_bytes
    if document is not None:
        document["traffic"] = traffic_json(job.metrics)


def tell_failures(job: Job, failures: Mapping[str, LongshoreError]) -> None:
    """Say what of the caches could not be had."""
    for service, error in failures.items():
        job.report.warn(error, f"{service}: its BuildKit cache could not be read: {error}")


async def _is_of_use(job: Job, services: Sequence[Service], client: Callable[[], Client]) -> bool:
    cached = [service for service in services if service.buildkit_cache and service.build_context]
    if not cached or job.settings.whole or not job.settings.import_:
        return False
    if not all(can_be_written(Path(service.buildkit_cache or "")) for service in cached):
        return False
    try:
        info = await bounded(job.engine.info(), job.settings.timeout, "import")
        return await builds_fetch_caches(client, info)
    except LongshoreError:
        return False  # the import says it


async def _is_reached(job: Job, registry: CacheRegistry) -> bool:
    """Tell whether the engine finds this registry at its address: it may be on another machine."""
    reference, digest = registry.probe
    try:
        found = await bounded(job.engine.look_up(reference), job.settings.timeout, "import")
    except LongshoreError:
        return False
    return found == digest
