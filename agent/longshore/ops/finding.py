"""Find the entry of a service that a person means, and say what there is if it is not there."""

from __future__ import annotations

from longshore.core.documents import printable
from longshore.core.entry import Entry, Kind
from longshore.core.keys import name_of, segment
from longshore.errors import CorruptData, LongshoreError, NotCached, UsageError
from longshore.ops.lookup import Hit, find_entry
from longshore.ops.reachable import Reading


async def find_cached(
    reading: Reading, service: str, platform: str | None, kind: Kind | None = "image"
) -> Hit:
    """Find what a build of this service would load.

    Args:
        platform: as keys write it; `None` if there can be only one.
        kind: `None` for any.

    Raises:
        NotCached: there is nothing usable; the message names what there is.
        UsageError: there are entries for several platforms, and none was named.
        CorruptData: the entry that counts is damaged.
        StoreError: the store failed.
    """
    platforms = (platform,) if platform else await _platforms(reading, service)
    found: dict[str, Hit | LongshoreError] = {}
    for name in platforms:
        try:
            hit = await find_entry(reading, service, name, kind)
        except (CorruptData, NotCached) as error:
            found[name] = error
        else:
            if hit is not None:
                found[name] = hit
    if not found:
        raise await _not_cached(reading, service, platform)
    if len(found) > 1:
        raise UsageError(
            f"{service} is cached for {' and '.join(found)}; say which with --platform"
        )
    result = next(iter(found.values()))
    if isinstance(result, LongshoreError):
        raise result
    return result


async def cached_entries(reading: Reading) -> list[Entry]:
    """Read what the scopes hold: the newest entry of each scope, service and platform.

    Those that were flushed, are damaged, not trusted, or written by a newer longshore are left out.
    """
    entries: list[Entry] = []
    for scope in reading.scopes:
        for found in await reading.newest(scope):
            try:
                entry = (await reading.read_counting(found)).entry
            except (CorruptData, NotCached):
                continue  # `list` tells about them
            if entry.kind != "flushed":
                entries.append(entry)
    return entries


async def _platforms(reading: Reading, service: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for scope in reading.scopes:
        for found in await reading.newest(scope, service):
            names[name_of(found.key.platform)] = None
    return tuple(sorted(names))


async def _not_cached(reading: Reading, service: str, platform: str | None) -> NotCached:
    entries = await cached_entries(reading)
    others = sorted({e.platform for e in entries if segment(e.service) == segment(service)})
    if platform and others:
        return NotCached(
            f"no cached image for {service} on {platform}; it is cached for {' and '.join(others)}"
        )
    names = sorted({printable(entry.service) for entry in entries})
    known = f"cached are {', '.join(names)}" if names else "nothing is cached yet"
    return NotCached(f"no cached image for {service} in {', '.join(reading.scopes)}; {known}")
