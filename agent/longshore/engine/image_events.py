"""What the engine tells of images: which events are asked for, and how each one reads.

`docs/architecture.md`, "Events", says what engines emit. Saves are left out, because exports cause
them; so are `untag` and `delete`, after which no name means a new image, and `create`, which comes
for every step of a build and before the image has its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast, get_args

from longshore.core.digests import Digest, is_digest
from longshore.engine.contract import ImageAction, ImageEvent

ACTIONS: tuple[ImageAction, ...] = get_args(ImageAction)
QUERY = {"filters": json.dumps({"type": ["image"], "event": ACTIONS})}
"""Asks for these events only; an engine takes names of events that it does not know."""


def parse_event(found: Mapping[str, Any]) -> ImageEvent | None:
    """Read one event; `None` if it is of another kind, or not of a form that engines write."""
    action, actor = found.get("Action"), found.get("Actor")
    if found.get("Type") != "image" or action not in ACTIONS or not isinstance(actor, Mapping):
        return None
    identifier, attributes = actor.get("ID"), actor.get("Attributes")
    if not isinstance(identifier, str):
        return None
    name = attributes.get("name") if isinstance(attributes, Mapping) else None
    return ImageEvent(
        action=cast(ImageAction, action),
        name=name if isinstance(name, str) else identifier,
        image_id=Digest(identifier) if is_digest(identifier) else None,
    )
