"""Everything about what a build of one service would load."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from longshore.core.digests import Digest
from longshore.core.documents import printable
from longshore.core.entry import Entry, Image, Kind
from longshore.core.history import command_of, created_at, layers_of
from longshore.core.keys import Ref, entry_key, segment
from longshore.core.recipe import Recipe
from longshore.errors import (
    AccessDenied,
    CorruptData,
    LongshoreError,
    NotCached,
    ObjectMissing,
    kept,
)
from longshore.ops.finding import cached_entries, find_cached
from longshore.ops.reachable import Reading
from longshore.ops.room import READ_AT_ONCE
from longshore.ops.tasks import for_each

_PACK_BYTES = 400  # of memory
_MAX_OWNERS = 100
_MAX_STEPS = 10_000  # of all images together


class ShownStep(Struct, frozen=True):
    """One build step of an image.

    Attributes:
        diff_id: of the layer that it made; `None` if it made none.
        size_bytes: of that layer.
    """

    command: str
    created_at: datetime | None
    diff_id: str | None
    size_bytes: int | None


class ShownImage(Struct, frozen=True):
    """One image of an entry.

    Attributes:
        id: as the engine names it that was exported.
        created_at: when its last step was done.
        command: its last step.
        steps: all of them, base first; only of images that no other in the entry was built on.
        layers: how many it has.
    """

    id: str
    config_digest: str
    tags: tuple[str, ...]
    parent: str | None
    created_at: datetime | None
    command: str | None
    steps: tuple[ShownStep, ...]
    layers: int


class ShownPack(Struct, frozen=True):
    """What a layer has in one pack."""

    scope: str
    id: str
    chunks: int
    stored_bytes: int


class ShownLayer(Struct, frozen=True):
    """One layer of an entry.

    Attributes:
        diff_id: of the layer's plain tar; `digest` is that of the blob which is kept.
        method: how it is stored, `tar` or `raw`; `None` if its recipe could not be read.
        chunks: how many it is made of.
        recipe_scope: in which scope its recipe lies; `None` if the layer is not kept.
        packs: where its chunks lie, in the order of first use.
        shared_with: other services whose newest entry has the layer, too.
        problem: why its recipe could not be read.
    """

    diff_id: str
    digest: str
    size_bytes: int
    stored_bytes: int | None
    method: str | None
    chunks: int
    recipe_scope: str | None
    packs: tuple[ShownPack, ...]
    shared_with: tuple[str, ...]
    problem: str | None


class ShownEntry(Struct, frozen=True):
    """Everything about what a build of one service would load.

    Attributes:
        images: the service's own first, then stages and parents.
        layers: each once, in the order in which the images need them, base first.
        stored_bytes: of all layers; `None` if a recipe could not be read.
        uploaded_bytes: what the export that wrote the entry sent, for all its services.
        export_seconds: how long it took.
    """

    service: str
    scope: str
    platform: str
    id: str
    kind: Kind
    url: str
    stored_at: datetime
    age: timedelta
    agent: str
    engine_version: str
    image_store: str
    revision: str | None
    branch: str | None
    job_url: str | None
    image_bytes: int
    stored_bytes: int | None
    uploaded_bytes: int
    new_layers: int
    export_seconds: float
    images: tuple[ShownImage, ...]
    layers: tuple[ShownLayer, ...]


async def show_service(reading: Reading, service: str, platform: str | None) -> ShownEntry:
    """Tell what a build of a service would load, without reading any of it.

    Args:
        platform: as keys write it; `None` if the service is cached for one only.

    Raises:
        NotCached: there is nothing usable; the message names what there is.
        UsageError: there are several platforms, and none was named.
        CorruptData: the entry is damaged.
        StoreError: the store failed.
    """
    hit = await find_cached(reading, service, platform, kind=None)
    entry = hit.entry
    stored_at = await _stored_at(reading, entry)
    recipes = await _recipes(reading, entry)
    owners = await _owners(reading, entry)
    layers = tuple(_layers(entry, recipes, owners))
    weights = [layer.stored_bytes for layer in layers]
    return ShownEntry(
        service=printable(entry.service),
        scope=printable(entry.scope),
        platform=printable(entry.platform),
        id=entry.id,
        kind=entry.kind,
        url=hit.url,
        stored_at=stored_at,
        age=hit.age,
        agent=entry.agent,
        engine_version=entry.engine.version,
        image_store=entry.engine.image_store,
        revision=entry.source.revision or None,
        branch=entry.source.branch or None,
        job_url=entry.source.job_url or None,
        image_bytes=sum(blob.size for blob in entry.blobs),
        stored_bytes=None if None in weights else sum(weight or 0 for weight in weights),
        uploaded_bytes=entry.figures.uploaded_bytes,
        new_layers=entry.figures.new_blobs,
        export_seconds=entry.figures.seconds,
        images=tuple(_images(entry)),
        layers=layers,
    )


async def _stored_at(reading: Reading, entry: Entry) -> datetime:
    key = entry_key(entry.project, entry.scope, entry.service, entry.platform, entry.id)
    info = await reading.store.head(key)
    if info is None:
        raise ObjectMissing(f"{reading.store.url(key)} was removed meanwhile")
    return info.modified_at


class _Stored(Struct, frozen=True):
    """What is told of a recipe, which itself can be large."""

    method: str
    stored_bytes: int
    chunks: int
    packs: tuple[ShownPack, ...]


async def _recipes(reading: Reading, entry: Entry) -> dict[Ref, _Stored | LongshoreError]:
    refs = list(dict.fromkeys(entry.recipe_refs().values()))

    async def read(ref: Ref) -> _Stored | LongshoreError:
        try:
            recipe = await reading.read_recipe(ref)
            packs = tuple(_packs(recipe))
            reading.room.take(len(packs) * _PACK_BYTES)
        except (CorruptData, NotCached, AccessDenied) as error:
            return kept(error)
        chunks = sum(len(stream) for stream in recipe.streams)
        return _Stored(recipe.method, recipe.stored_bytes, chunks, packs)

    return dict(zip(refs, await for_each(read, refs, at_once=READ_AT_ONCE), strict=True))


async def _owners(reading: Reading, entry: Entry) -> dict[str, set[str]]:
    """Tell which other services have each blob."""
    owners: dict[str, set[str]] = {blob.digest: set() for blob in entry.blobs}
    async with contextlib.aclosing(cached_entries(reading)) as others:
        async for other in others:
            if segment(other.service) != segment(entry.service):
                for blob in other.blobs:
                    if blob.digest in owners and len(owners[blob.digest]) < _MAX_OWNERS:
                        owners[blob.digest].add(printable(other.service))
    return owners


def _layers(
    entry: Entry,
    recipes: Mapping[Ref, _Stored | LongshoreError],
    owners: Mapping[str, set[str]],
) -> Iterator[ShownLayer]:
    refs = entry.recipe_refs()
    diff_ids = {
        digest: diff_id
        for image in entry.images
        for digest, diff_id in zip(image.layers, image.diff_ids, strict=True)
    }
    for blob in entry.blobs:
        ref = refs.get(Digest(blob.digest))
        recipe = recipes[ref] if ref else None
        readable = recipe if isinstance(recipe, _Stored) else None
        yield ShownLayer(
            diff_id=diff_ids.get(blob.digest, blob.digest),
            digest=blob.digest,
            size_bytes=blob.size,
            stored_bytes=readable.stored_bytes if readable else (None if ref else 0),
            method=readable.method if readable else None,
            chunks=readable.chunks if readable else 0,
            recipe_scope=printable(ref.scope) if ref else None,
            packs=readable.packs if readable else (),
            shared_with=tuple(sorted(owners.get(blob.digest, ()))),
            problem=str(recipe) if isinstance(recipe, LongshoreError) else None,
        )


def _packs(recipe: Recipe) -> Iterator[ShownPack]:
    weights: dict[Ref, tuple[int, int]] = {}
    for stream in recipe.streams:
        for chunk in stream:
            chunks, stored_bytes = weights.get(chunk.pack, (0, 0))
            weights[chunk.pack] = (chunks + 1, stored_bytes + chunk.stored_bytes)
    for pack, (chunks, stored_bytes) in weights.items():
        yield ShownPack(printable(pack.scope), pack.id, chunks, stored_bytes)


def _images(entry: Entry) -> Iterator[ShownImage]:
    sizes = {blob.digest: blob.size for blob in entry.blobs}
    parents = {image.parent for image in entry.images}
    told: dict[str, tuple[ShownStep, ...]] = {}  # images may share a config
    last: dict[str, ShownStep | None] = {}
    left = _MAX_STEPS
    for image in entry.images:
        name, is_parent = image.config, image.id in parents
        if name not in last or not (is_parent or name in told):
            steps = _steps(entry, image, sizes)
            last[name] = steps[-1] if steps else None
            if not is_parent:
                told[name] = steps if len(steps) <= left else ()
        shown = () if is_parent or len(told[name]) > left else told[name]
        left -= len(shown)
        top = last[name]
        yield ShownImage(
            id=image.id,
            config_digest=name,
            tags=tuple(image.tags),
            parent=image.parent,
            created_at=top.created_at if top else None,
            command=top.command if top else None,
            steps=shown,
            layers=len(image.diff_ids),
        )


def _steps(entry: Entry, image: Image, sizes: Mapping[str, int]) -> tuple[ShownStep, ...]:
    history = entry.config(image).history
    weights = dict(zip(image.diff_ids, (sizes[layer] for layer in image.layers), strict=True))
    made = layers_of(history, [Digest(diff_id) for diff_id in image.diff_ids])
    return tuple(
        ShownStep(
            command=command_of(step),
            created_at=created_at(step),
            diff_id=layer,
            size_bytes=weights[layer] if layer else None,
        )
        for step, layer in zip(history, made, strict=True)
    )
