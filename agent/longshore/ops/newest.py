"""Which entries of a scope count: the newest of each service and platform."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct
from msgspec.structs import replace

from longshore.core.keys import EntryKey, parse_entry_key, segment
from longshore.errors import TooLarge
from longshore.store.contract import ObjectInfo, Store

# What is listed can be anybody's who may write a scope; nobody needs as much as this.
MAX_KEYS = 1_000_000  # entries, old and new
MAX_PLACES = 10_000  # services times platforms, of one scope


class FoundEntry(Struct, frozen=True):
    """An entry that was listed, not read yet.

    Attributes:
        older: those of the same scope, service and platform before it, the newest first; no more
            than a reader with trusted keys may go through, and none for others.
        count_older: how many there are.
    """

    key: EntryKey
    info: ObjectInfo
    older: tuple[FoundEntry, ...] = ()
    count_older: int = 0


async def newest_below(
    store: Store, prefix: str, *, platform: str | None = None, keep_older: int = 0
) -> list[FoundEntry]:
    """List the newest entry of each service and platform.

    However many entries there are, only the newest ones are held.

    Args:
        platform: list entries for this one only.
        keep_older: so many of those before it are kept with each.

    Raises:
        TooLarge: there are absurdly many.
    """
    newest: dict[tuple[str, str], list[FoundEntry]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    seen = 0
    async for info in store.list(prefix):
        seen += 1
        key = parse_entry_key(info.key)
        if key is not None and (not platform or key.platform == segment(platform)):
            place = (key.service, key.platform)
            counts[place] += 1
            found = newest.setdefault(place, [])
            if len(found) <= keep_older or found[-1].key.id < key.id:
                found.append(FoundEntry(key, info))
                found.sort(key=lambda one: one.key.id, reverse=True)
                del found[keep_older + 1 :]
        if seen > MAX_KEYS or len(newest) > MAX_PLACES:
            raise TooLarge(
                f"{store.url(prefix)} holds entries of more than {MAX_PLACES:,} services,"
                f" or more than {MAX_KEYS:,} in all; remove what nobody needs"
            )
    return [
        replace(first, older=tuple(older), count_older=counts[place] - 1)
        for place, (first, *older) in sorted(newest.items())
    ]
