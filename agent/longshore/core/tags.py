"""Decide which tag goes to which image when the images of several services are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from longshore.core.entry import Entry


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
