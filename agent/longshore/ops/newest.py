"""Which entries of a scope count: the newest of each service and platform."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from longshore.core.keys import EntryKey, parse_entry_key
from longshore.errors import TooLarge
from longshore.store.contract import ObjectInfo, Store

# What is listed can be anybody's who may write a scope; nobody needs as much as this.
MAX_KEYS = 1_000_000  # entries, old and new
MAX_PLACES = 10_000  # services times platforms, of one scope


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry that was listed, not read yet."""

    key: EntryKey
    info: ObjectInfo


async def newest_below(store: Store, prefix: str) -> list[tuple[FoundEntry, int]]:
    """List the newest entry of each service and platform, and how many older ones there are.

    However many entries there are, only the newest ones are held.

    Raises:
        TooLarge: there are absurdly many.
    """
    newest: dict[tuple[str, str], FoundEntry] = {}
    counts: Counter[tuple[str, str]] = Counter()
    seen = 0
    async for info in store.list(prefix):
        seen += 1
        key = parse_entry_key(info.key)
        if key is not None:
            place = (key.service, key.platform)
            counts[place] += 1
            if place not in newest or newest[place].key.id < key.id:
                newest[place] = FoundEntry(key, info)
        if seen > MAX_KEYS or len(newest) > MAX_PLACES:
            raise TooLarge(
                f"{store.url(prefix)} holds entries of more than {MAX_PLACES:,} services,"
                f" or more than {MAX_KEYS:,} in all; remove what nobody needs"
            )
    return [(newest[place], counts[place] - 1) for place in sorted(newest)]
