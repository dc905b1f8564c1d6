"""Decide what an export has to take from the engine, and write down what it then has.

This is for images of graphdriver stores, whose layers are plain tars named by their diff_ids; for
those of containerd stores see `layout_export.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from longshore.core.digests import Digest
from longshore.core.entry import Blob, Image
from longshore.core.images import CONFIG, LAYER, parse_config
from longshore.core.keys import Ref
from longshore.errors import EngineError


class EngineImage(Protocol):
    """What is needed of an image that the engine holds."""

    @property
    def id(self) -> Digest: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def parent(self) -> Digest | None: ...
    @property
    def diff_ids(self) -> Sequence[Digest]: ...


class SavePlan(Struct, frozen=True):
    """What has to be taken out of the engine, for all services at once.

    Attributes:
        images: ids to name to the engine; empty if nothing is needed from it.
        blobs: layers that the scopes lack, as far as they can be told before.
        documents: configs that the scopes lack, likewise.
    """

    images: tuple[Digest, ...]
    blobs: frozenset[Digest] = frozenset()
    documents: frozenset[Digest] = frozenset()


def plan_save(
    images: Collection[EngineImage],
    have_blobs: Collection[Digest],
    have_documents: Collection[Digest],
) -> SavePlan:
    """Choose the images to save: those of which a layer or the config is not stored yet.

    Saving costs the engine all layers of what is named, so no image is named that adds nothing.
    """
    needed = [
        image
        for image in images
        if image.id not in have_documents or not set(image.diff_ids).issubset(have_blobs)
    ]
    return SavePlan(
        images=tuple(dict.fromkeys(image.id for image in needed)),
        blobs=frozenset(d for image in needed for d in image.diff_ids if d not in have_blobs),
        documents=frozenset(image.id for image in needed if image.id not in have_documents),
    )


class EntryContents(Struct, frozen=True):
    """The parts of an entry that describe images, or a cache."""

    documents: dict[Digest, bytes]
    media_types: dict[Digest, str]
    images: tuple[Image, ...]
    blobs: tuple[Blob, ...]
    refs: tuple[Ref, ...]
    index: Digest | None = None


def describe_images(
    chain: Sequence[EngineImage],
    documents: Mapping[Digest, bytes],
    blobs: Mapping[Digest, tuple[Ref, int]],
) -> EntryContents:
    """Write down a service's images, its own first, as an entry holds them.

    Args:
        documents: at least the config of every image.
        blobs: recipe and size in bytes of at least every layer.

    Raises:
        EngineError: a config names other layers than the engine said.
    """
    ids = {image.id for image in chain}
    images: list[Image] = []
    layers: dict[Digest, None] = {}
    for image in chain:
        if parse_config(documents[image.id]).diff_ids != tuple(image.diff_ids):
            raise EngineError(f"the engine's image {image.id} has other layers than its config")
        layers.update(dict.fromkeys(image.diff_ids))
        images.append(
            Image(
                id=image.id,
                config=image.id,
                tags=list(image.tags),
                parent=image.parent if image.parent in ids else None,
                diff_ids=list(image.diff_ids),
                layers=list(image.diff_ids),
            )
        )
    refs = {ref: number for number, ref in enumerate(dict.fromkeys(blobs[d][0] for d in layers))}
    return EntryContents(
        documents={image.id: documents[image.id] for image in chain},
        media_types=dict.fromkeys((image.id for image in chain), CONFIG),
        images=tuple(images),
        blobs=tuple(Blob(d, blobs[d][1], LAYER, refs[blobs[d][0]]) for d in layers),
        refs=tuple(refs),
    )
