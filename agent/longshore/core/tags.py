"""Decide which tag goes to which image when the images of several services are loaded.

An entry names the tags that its images had where it was exported, and whoever may write the scope
chose them. So a load must not take a name from an image that the engine has, unless it is a name of
the service.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from longshore.core.digests import Digest
from longshore.core.entry import Entry
from longshore.core.references import ImageReference

PARTIAL = "longshore-partial-"
_MAX_TAG = 128


def share_out_tags(
    entries: Mapping[str, Entry], own: Mapping[str, frozenset[str]]
) -> dict[str, Entry]:
    """Leave each tag to one image only, so that the order of loads decides nothing.

    A service that was built upon another one's image holds that image, as it was then, under its
    tag. A tag that is a service's own goes to that service's entry; any other to the newest entry.

    Args:
        own: the references that each service has in the services file, as `docker images` shows
            them. It may name services that have no entry; their tags are given to nobody else.
    """
    owner = {tag: service for service, tags in own.items() for tag in tags}
    newest: dict[str, str] = {}
    for service in sorted(entries, key=lambda name: entries[name].id):
        for image in entries[service].images:
            for tag in image.tags:
                newest[tag] = owner.get(tag, service)
    return {
        service: replace(
            entry,
            images=tuple(
                msgspec.structs.replace(
                    image, tags=[tag for tag in image.tags if newest[tag] == service]
                )
                for image in entry.images
            ),
        )
        for service, entry in entries.items()
    }


def leave_foreign_tags(
    entry: Entry,
    ids: Sequence[Digest],
    present: Mapping[str, Digest],
    own: Collection[ImageReference],
) -> tuple[Entry, tuple[str, ...]]:
    """Drop the tags by which an engine knows other images already, such as a newer base image.

    Those that are in a repository of the service's own images stay: to move them is what an import
    is for. A tag that the engine does not have is given, so that `FROM` finds the base image.

    Args:
        ids: what the engine calls each of the entry's images.
        present: the image of each tag that the engine has.
        own: references that the service has in the services file.

    Returns:
        The entry, and the tags that it lost.
    """
    repositories = {reference.repository for reference in own}
    left: list[str] = []
    images = []
    for image, image_id in zip(entry.images, ids, strict=True):
        kept = []
        for tag in image.tags:
            is_own = ImageReference.parse(tag).repository in repositories
            if is_own or present.get(tag, image_id) == image_id:
                kept.append(tag)
            else:
                left.append(tag)
        images.append(msgspec.structs.replace(image, tags=kept))
    return replace(entry, images=tuple(images)), tuple(left)


def partial_name(reference: ImageReference) -> str | None:
    """Name the image of only the first steps of a service's own; `None` if it can have no name."""
    if reference.tag is None:
        return None
    tag = f"{PARTIAL}{reference.tag}"[:_MAX_TAG]
    return replace(reference, tag=tag).familiar


def without_partial(tags: Sequence[str]) -> tuple[str, ...]:
    """Leave out names of partial images: what was built on one is to be stored without them."""
    return tuple(tag for tag in tags if not tag.rpartition(":")[2].startswith(PARTIAL))
