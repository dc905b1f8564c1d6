"""What an import did, for whoever puts it into words."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from msgspec import Struct, field

from longshore.core.digests import Digest
from longshore.core.handover import Handover
from longshore.core.prefix import Left
from longshore.ops.buildkit_cache import ImportedCache


class ImportedService(Struct):
    """What became of one service."""

    service: str
    outcome: Literal["hit", "miss", "failed"]
    reason: str = ""
    scope: str | None = None
    entry: str | None = None
    age: timedelta | None = None
    images: tuple[Digest, ...] = ()
    tags: tuple[str, ...] = ()
    layers: int = 0
    layers_sent: int = 0
    handover: Handover | None = None
    """What its next build is to be told, if anybody asked."""
    left: Left | None = None
    """What was not loaded, since its next build cannot use it."""


class ImportResult(Struct):
    """What an import did."""

    services: list[ImportedService] = field(default_factory=list)
    caches: list[ImportedCache] = field(default_factory=list)
    downloaded_bytes: int = 0
    seconds: float = 0.0
