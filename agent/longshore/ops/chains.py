"""Which images a service is made of: those it names, and what they were built on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from longshore.core.digests import Digest, short
from longshore.core.entry import Entry
from longshore.core.service import Service
from longshore.engine.contract import Engine, EngineImage
from longshore.errors import NotBuilt
from longshore.ops.report import Report

MAX_IMAGES = 1000  # of a service; the engines stop at 125 layers, but not at steps without one


@dataclass(frozen=True, slots=True)
class Chain:
    """The images of one service: each that it names, followed by its parents; none twice.

    Attributes:
        named: ids of those that the services file names, the service's own first.
    """

    images: tuple[EngineImage, ...]
    named: tuple[Digest, ...]


async def find_chains(
    engine: Engine, services: Sequence[Service], report: Report
) -> dict[str, Chain]:
    """Look up the images of services; one whose own image was not built is reported, left out."""
    chains: dict[str, Chain] = {}
    for service in services:
        images: dict[Digest, EngineImage] = {}
        named: list[Digest] = []
        for reference in service.images:
            image = await engine.inspect(reference.familiar)
            if image is None:
                report.warn(
                    NotBuilt(
                        f"{service.name}: there is no image {reference.familiar};"
                        " build it before the export"
                    )
                )
            elif not image.diff_ids:
                report.warn(
                    NotBuilt(f"{service.name}: {reference.familiar} has no layers to be cached")
                )
            else:
                named.append(image.id)
                await _walk(engine, service.name, image, images, report)
                continue
            if not named:
                break  # without its own image a service is nothing
        if images:
            chains[service.name] = Chain(tuple(images.values()), tuple(dict.fromkeys(named)))
    return chains


async def _walk(
    engine: Engine,
    service: str,
    image: EngineImage,
    images: dict[Digest, EngineImage],
    report: Report,
) -> None:
    """Add an image and its parents, down to the base image."""
    following: EngineImage | None = image
    while following is not None and following.id not in images and len(images) < MAX_IMAGES:
        if not following.diff_ids:
            report.line(
                f"{service}: {short(following.id)} has no layers yet, which no engine can save;"
                " it is left out"
            )
            return
        images[following.id] = following
        parent = following.parent
        following = None if parent is None else await engine.inspect(parent)


def keep_stored_parents(chain: Chain, entries: Iterable[Entry], blobs: Collection[Digest]) -> Chain:
    """Put the parents that are stored in the place of others that a build gave the same images.

    With `--cache-from` the classic builder writes new images for all steps but the last one, with
    ids of their own, and makes them the parents of the image that it found (moby,
    `image/cache/cache.go`, `restoreCachedImage`). They hold the same layers and steps, and nobody
    needs them; to store them, the engine would have to save everything once more.

    Args:
        blobs: layers that can be rebuilt. What lacks one has to come from the engine, which may
            know nothing of the stored parents.
    """
    here = {image.id: image for image in chain.images}
    tagged = {image.id for image in chain.images if image.tags}
    for entry in entries:
        stored = {image.id: image for image in entry.images}
        kept: dict[Digest, EngineImage] = {}
        for named in chain.named:
            following: str | None = named
            while following is not None and following in stored:
                image = stored[following]
                same = here.get(Digest(following))
                kept[Digest(following)] = EngineImage(
                    id=Digest(following),
                    tags=same.tags if same is not None else (),
                    parent=Digest(image.parent) if image.parent else None,
                    diff_ids=tuple(Digest(diff_id) for diff_id in image.diff_ids),
                    size_bytes=same.size_bytes if same is not None else 0,
                )
                following = image.parent
        whole = all(set(image.diff_ids).issubset(blobs) for image in kept.values())
        if whole and tagged.issubset(kept) and set(chain.named).issubset(kept):
            return Chain(tuple(kept.values()), chain.named)
    return chain
