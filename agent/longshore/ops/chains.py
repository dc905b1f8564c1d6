"""Which images a service is made of: those it names, and what they were built on."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from longshore.core.digests import Digest, short
from longshore.core.entry import Entry
from longshore.core.service import Service
from longshore.core.tags import without_partial
from longshore.engine.contract import Engine, EngineImage
from longshore.errors import NotBuilt
from longshore.ops.report import Report
from longshore.ops.tasks import for_each

MAX_IMAGES = 1000  # of a service; the engines stop at 125 layers, but not at steps without one
_AT_ONCE = 4  # services


class Chain(Struct, frozen=True):
    """The images of one service: each that it names, followed by its parents; none twice.

    Attributes:
        named: ids of those that the services file names, the service's own first.
        parents: whether the others are wanted at all.
    """

    images: tuple[EngineImage, ...]
    named: tuple[Digest, ...]
    parents: bool = True


async def find_chains(
    engine: Engine, services: Sequence[Service], report: Report, *, parents: bool
) -> dict[str, Chain]:
    """Look up the images of services; one whose own image was not built is reported, left out.

    Args:
        parents: follow each image to the one it was built on, and so on to the base image.
    """
    looking = _Looking(engine, parents=parents)
    found = await for_each(looking.find, services, at_once=_AT_ONCE)
    chains: dict[str, Chain] = {}
    for service, (chain, said) in zip(services, found, strict=True):
        for one in said:
            if isinstance(one, NotBuilt):
                report.warn(one)
            else:
                report.line(one)
        if chain is not None:
            chains[service.name] = chain
    return chains


class _Looking:
    """Looks services up side by side; what several are built on is asked for once."""

    def __init__(self, engine: Engine, *, parents: bool) -> None:
        self._engine = engine
        self._parents = parents
        self._asked: dict[str, asyncio.Task[EngineImage | None]] = {}

    async def find(self, service: Service) -> tuple[Chain | None, list[NotBuilt | str]]:
        """Look up the images of a service, and tell what is to be said about them."""
        images: dict[Digest, EngineImage] = {}
        named: list[Digest] = []
        said: list[NotBuilt | str] = []
        for reference in service.images:
            image = await self._engine.inspect(reference.familiar)
            if image is None:
                text = (
                    f"{service.name}: there is no image {reference.familiar};"
                    " build it before the export"
                )
                # With another driver than `docker`, builds leave nothing in the engine.
                said.append(NotBuilt(text) if service.buildkit_cache is None else text)
            elif not image.diff_ids:
                said.append(
                    NotBuilt(f"{service.name}: {reference.familiar} has no layers to be cached")
                )
            else:
                named.append(image.id)
                if self._parents:
                    said += await self._walk(service.name, image, images)
                else:
                    images[image.id] = image
                continue
            if not named:
                break  # without its own image a service is nothing
        if not images:
            return None, said
        # What is not stored is nobody's parent: who imports could not find it.
        found = [
            image if self._parents or image.parent in images else replace(image, parent=None)
            for image in images.values()
        ]
        return Chain(tuple(found), tuple(dict.fromkeys(named)), self._parents), said

    async def _walk(
        self, service: str, image: EngineImage, images: dict[Digest, EngineImage]
    ) -> list[str]:
        """Add an image and its parents, down to the base image; tell what had to be left out."""
        following: EngineImage | None = image
        while following is not None and following.id not in images and len(images) < MAX_IMAGES:
            if not following.diff_ids:
                text = "has no layers yet, which no engine can save; it is left out"
                return [f"{service}: {short(following.id)} {text}"]
            # A step that an import named for `--cache-from` is a step like any other.
            images[following.id] = replace(following, tags=without_partial(following.tags))
            parent = following.parent
            following = None if parent is None else await self._inspect(parent)
        return []

    async def _inspect(self, parent: Digest) -> EngineImage | None:
        if parent not in self._asked:
            self._asked[parent] = asyncio.create_task(self._engine.inspect(parent))
        return await self._asked[parent]


def keep_stored_parents(chain: Chain, entries: Iterable[Entry], blobs: Collection[Digest]) -> Chain:
    """Put the parents that are stored in the place of others that a build gave the same images.

    With `--cache-from` the classic builder writes new images for all steps but the last one, with
    ids of their own, and makes them the parents of the image that it found (moby,
    `image/cache/cache.go`, `restoreCachedImage`). They hold the same layers and steps, and nobody
    needs them; to store them, the engine would have to save everything once more. A chain without
    parents stays as it is, and an entry that was stored without them gives none.

    An entry whose images were not built on each other gives none either: its writer made that up.

    Args:
        blobs: layers that can be rebuilt. What lacks one has to come from the engine, which may
            know nothing of the stored parents.
    """
    if not chain.parents:
        return chain
    here: dict[str, EngineImage] = {image.id: image for image in chain.images}
    tagged = {image.id for image in chain.images if image.tags}
    for entry in entries:
        stored = {image.id: image for image in entry.images}
        kept: dict[Digest, EngineImage] = {}
        for named in chain.named:
            following: str | None = named
            while following is not None and following in stored and following not in kept:
                image = stored[following]
                same = here.get(following)
                kept[Digest(following)] = EngineImage(
                    id=Digest(following),
                    tags=same.tags if same is not None else (),
                    parent=Digest(image.parent) if image.parent else None,
                    diff_ids=tuple(Digest(diff_id) for diff_id in image.diff_ids),
                    size_bytes=same.size_bytes if same is not None else 0,
                )
                following = image.parent
        built = all(
            entry.config(stored[image]).was_built_on(entry.config(stored[parent]))
            for image, parent in ((image, stored[image].parent) for image in kept)
            if parent is not None
        )
        whole = all(set(stored[image].layers).issubset(blobs) for image in kept)
        as_high = all(_height(stored, named) >= _height(here, named) for named in chain.named)
        if (
            built
            and whole
            and as_high
            and tagged.issubset(kept)
            and set(chain.named).issubset(kept)
        ):
            return Chain(tuple(kept.values()), chain.named)
    return chain


class _Built(Protocol):
    """What was built on another image, perhaps."""

    @property
    def parent(self) -> str | None: ...


def _height(images: Mapping[str, _Built], top: str) -> int:
    """Count an image and its parents, as far as they are there."""
    height = 0
    following: str | None = top
    while following is not None and following in images and height < MAX_IMAGES:
        height += 1
        following = images[following].parent
    return height
