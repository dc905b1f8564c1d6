"""Compare the engine's images of a service with the cached ones."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from msgspec import Struct

from longshore.core.comparing import ImageComparison, Side, compare_images
from longshore.core.digests import Digest
from longshore.core.documents import printable
from longshore.core.entry import Entry, Image
from longshore.core.service import Service
from longshore.engine.contract import Engine, EngineImage, EngineInfo
from longshore.errors import NotBuilt
from longshore.ops.finding import find_cached
from longshore.ops.reachable import Reading


class ComparedImage(Struct, frozen=True):
    """One image of a service, by the reference that the service gives it.

    Attributes:
        result: `None` if the engine or the cache has no such image; `problem` says which.
    """

    reference: str
    result: ImageComparison | None
    problem: str | None


class Comparison(Struct, frozen=True):
    """The engine's images of a service against the cached ones.

    Attributes:
        scope: where the entry was found that a build would load.
        images: the service's own first, then those of its other stages.
        verdict: the one about the service's own image.
    """

    service: str
    scope: str
    platform: str
    entry: str
    age: timedelta
    images: tuple[ComparedImage, ...]
    verdict: str


async def compare_service(engine: Engine, reading: Reading, service: Service) -> Comparison:
    """Compare the images of a service in the engine with those that a build would load.

    Raises:
        NotBuilt: the engine does not have the service's own image.
        NotCached: there is nothing usable; the message names what there is.
        CorruptData: the entry is damaged.
        EngineError: the engine failed.
        StoreError: the store failed.
    """
    info = await engine.info()
    hit = await find_cached(reading, service.name, info.platform)
    entry = hit.entry
    images: list[ComparedImage] = []
    for number, reference in enumerate(service.images):
        name = reference.familiar
        found = await engine.inspect(name)
        if found is None and number == 0:
            raise NotBuilt(f"{service.name}: the engine has no image {name}; build or import it")
        cached = _counterpart(entry, name, is_own=number == 0)
        if found is None:
            images.append(ComparedImage(name, None, f"the engine has no image {name}"))
        elif cached is None:
            images.append(ComparedImage(name, None, f"the cached entry has no image {name}"))
        else:
            result = await _compare(engine, info, found, entry, cached)
            images.append(ComparedImage(name, result, None))
    own = images[0].result if images else None
    if own is None:
        raise NotBuilt(f"{service.name} names no image to compare")
    return Comparison(
        service=service.name,
        scope=printable(entry.scope),
        platform=info.platform,
        entry=entry.id,
        age=hit.age,
        images=tuple(images),
        verdict=own.verdict,
    )


def _counterpart(entry: Entry, name: str, *, is_own: bool) -> Image | None:
    """Choose the cached image: by its tag, and the service's own because it is the first."""
    tagged = next((image for image in entry.images if name in image.tags), None)
    return entry.images[0] if tagged is None and is_own else tagged


async def _compare(
    engine: Engine, info: EngineInfo, found: EngineImage, entry: Entry, cached: Image
) -> ImageComparison:
    return compare_images(
        Side(found.id, found.tags, found.diff_ids, await engine.history(found.id)),
        Side(
            cached.id,
            tuple(cached.tags),
            _digests(cached.diff_ids),
            entry.config(cached).history,
        ),
        _sizes(entry),
        same_kind_of_id=info.image_store == entry.engine.image_store,
    )


def _sizes(entry: Entry) -> dict[Digest, int]:
    sizes = {blob.digest: blob.size for blob in entry.blobs}
    return {
        Digest(diff_id): sizes[layer]
        for image in entry.images
        for diff_id, layer in zip(image.diff_ids, image.layers, strict=True)
    }


def _digests(texts: Collection[str]) -> tuple[Digest, ...]:
    return tuple(Digest(text) for text in texts)
