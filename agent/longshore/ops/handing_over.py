"""Say what the next build of services is told: ask the engine and the disk, not the store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from longshore.core.builder import Builder, Client, choose_builder
from longshore.core.cache_index import latest_manifest
from longshore.core.handover import (
    Handover,
    HeldDirectory,
    HeldImage,
    fetches_caches,
    hand_over,
    uses_images,
)
from longshore.core.service import Service
from longshore.core.tags import partial_name
from longshore.engine.cache_directory import CacheDirectory
from longshore.engine.contract import Engine, EngineImage, EngineInfo
from longshore.errors import CorruptData, EngineError
from longshore.ops.tasks import for_each

_ASKED_AT_ONCE = 8


async def hand_over_services(
    engine: Engine,
    services: Sequence[Service],
    client: Client,
    shown: Callable[[Path], str],
    served: Mapping[str, str] | None = None,
) -> list[Handover]:
    """Decide for each service what its next build is told.

    Args:
        shown: writes a path as the build shall get it.
        served: references by which the caches of services can be fetched while they are built.

    Raises:
        UsageError: the client asks for what cannot be.
        EngineUnavailable: the engine cannot be reached.
    """
    builder = _builder_of(client, await engine.info())
    with_steps = builder.kind == "classic" and builder.image_store == "containerd"
    others = await _tagged_images(engine) if with_steps else ()
    handovers = []
    for service in services:
        names = await _names(engine, service)
        held = await for_each(engine.inspect, names, at_once=_ASKED_AT_ONCE)
        images = [
            await _held(engine, (name,), image) if with_steps else HeldImage((name,))
            for name, image in zip(names, held, strict=True)
            if image is not None and image.complete
        ]
        directory = await _directory(service, shown)
        if directory is not None:
            directory = replace(directory, served=(served or {}).get(service.name, ""))
        told = hand_over(
            service.name,
            images,
            directory,
            builder,
            plain_layers=service.plain_layers,
            others=others,
        )
        handovers.append(told)
    return handovers


async def ignores_images(ask: Callable[[], Client], info: EngineInfo) -> bool:
    """Tell whether what will build certainly does not look at the images that the engine has.

    Raises:
        UsageError: the client asks for what cannot be.
    """
    client = await asyncio.to_thread(ask)
    if client.has_buildx is None:
        return False  # no `docker` here, so who builds is not known
    return not uses_images(_builder_of(client, info))


async def builds_fetch_caches(ask: Callable[[], Client], info: EngineInfo) -> bool:
    """Tell whether what will build can use caches that are offered to it as a registry.

    Raises:
        UsageError: the client asks for what cannot be.
    """
    client = await asyncio.to_thread(ask)
    return client.has_buildx is True and fetches_caches(_builder_of(client, info))


def _builder_of(client: Client, info: EngineInfo) -> Builder:
    return Builder(
        kind=choose_builder(client, info.version),
        image_store=info.image_store,
        version=info.version,
        driver=client.driver,
        tool=client.tool,
    )


async def _names(engine: Engine, service: Service) -> list[str]:
    """Name a service's images; where one is not there, its first steps may be."""
    names = [reference.familiar for reference in service.images]
    held = await for_each(engine.inspect, names, at_once=_ASKED_AT_ONCE)
    return [
        name if image is not None else partial_name(reference) or name
        for reference, name, image in zip(service.images, names, held, strict=True)
    ]


async def _tagged_images(engine: Engine) -> list[HeldImage]:
    ids = await engine.image_ids()
    images = await for_each(engine.inspect, ids, at_once=_ASKED_AT_ONCE)
    tagged = [image for image in images if image is not None and image.complete and image.tags]
    return [await _held(engine, image.tags, image) for image in tagged]


async def _held(engine: Engine, names: tuple[str, ...], image: EngineImage) -> HeldImage:
    return HeldImage(names, image.diff_ids, await engine.history(image.id))


async def _directory(service: Service, shown: Callable[[Path], str]) -> HeldDirectory | None:
    if service.buildkit_cache is None:
        return None
    path = Path(service.buildkit_cache)
    writable = await asyncio.to_thread(can_be_written, path)
    try:
        contents = await CacheDirectory(service.buildkit_cache).read()
    except CorruptData:
        return HeldDirectory(shown(path), "damaged", writable)
    except EngineError:  # what cannot be read is of no use, and better left alone
        return HeldDirectory(shown(path), "absent", writable=False)
    if contents is None:
        return HeldDirectory(shown(path), "absent", writable)
    usable = latest_manifest(contents.documents[contents.index]) is not None
    return HeldDirectory(shown(path), "usable" if usable else "damaged", writable)


def can_be_written(path: Path) -> bool:
    """Tell whether a directory can be written, or made where it is not there yet."""
    there = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
