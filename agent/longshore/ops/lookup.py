"""Find the entry of a service: the newest in the own scope, then in each fallback scope."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from longshore.core.entry import Entry, Kind
from longshore.errors import NotTrusted
from longshore.ops.reachable import Reading


class Hit(Struct, frozen=True):
    """An entry that was found, and where.

    Attributes:
        passed: what was passed over on the way to it, as no trusted key signed it.
    """

    entry: Entry
    url: str
    age: timedelta
    passed: tuple[NotTrusted, ...] = ()


async def find_entry(
    reading: Reading, service: str, platform: str, kind: Kind | None = "image"
) -> Hit | None:
    """Find what a build of this service would load; `None` if there is nothing.

    A scope whose newest entry is `flushed`, or of another kind, holds nothing. With trusted keys,
    entries that none of them signed are passed over, here as if they were not there.

    Args:
        kind: `None` for any but `flushed`.

    Raises:
        NotTrusted: there are entries, and no trusted key signed one.
        NotCached: the entry that counts cannot be used: too old, or from a newer longshore.
        CorruptData: the entry that counts is damaged.
        StoreError: the store failed.
    """
    passed: list[NotTrusted] = []
    for scope in reading.scopes:
        for found in await reading.newest(scope, service, platform):
            try:
                counting = await reading.read_counting(found)
            except NotTrusted as error:
                passed.append(error)
                continue
            passed += counting.passed
            entry, info = counting.entry, counting.found.info
            if entry.kind == "flushed" or entry.kind != (kind or entry.kind):
                continue
            age = await reading.store.now() - info.modified_at
            return Hit(entry, reading.store.url(info.key), max(age, timedelta()), tuple(passed))
    if passed:
        raise passed[0]
    return None
