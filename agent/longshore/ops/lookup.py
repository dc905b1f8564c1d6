"""Find the entry of a service: the newest in the own scope, then in each fallback scope."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from longshore.core.entry import Entry, Kind
from longshore.ops.reachable import Reading


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry that was found, and where."""

    entry: Entry
    url: str
    age: timedelta


async def find_entry(
    reading: Reading, service: str, platform: str, kind: Kind | None = "image"
) -> Hit | None:
    """Find what a build of this service would load; `None` if there is nothing.

    A scope whose newest entry is `flushed`, or of another kind, holds nothing.

    Args:
        kind: `None` for any but `flushed`.

    Raises:
        NotCached: the entry that counts cannot be used: too old, or from a newer longshore.
        CorruptData: the entry that counts is damaged.
        StoreError: the store failed.
    """
    for scope in reading.scopes:
        for found in await reading.newest(scope, service, platform):
            entry = await reading.read_entry(found)
            if entry.kind == "flushed" or entry.kind != (kind or entry.kind):
                continue
            age = await reading.store.now() - found.info.modified_at
            return Hit(entry, reading.store.url(found.info.key), max(age, timedelta()))
    return None
