"""Flush: have the next imports find nothing, at once and without a right to delete anything.

A `flushed` entry is written over what is there; prune removes what lies behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime

from msgspec import Struct

from longshore.core.entry import EngineFacts, Entry, cache_name, encode_entry
from longshore.core.envelope import Envelope, Signature, seal
from longshore.core.ids import new_id
from longshore.core.keys import EntryKey, entry_key, name_of, segment
from longshore.errors import CorruptData
from longshore.ops.inventory import list_all_entries, list_scopes
from longshore.ops.report import Report
from longshore.ops.tasks import for_each
from longshore.store.contract import Store

_WRITTEN_AT_ONCE = 8


class FlushSettings(Struct, frozen=True):
    """How a flush runs.

    Args:
        agent: who writes the entries.
        random: makes so many random bytes.
        sign: signs the payload of an entry; who trusts keys passes over a flush without it.
    """

    agent: str
    random: Callable[[int], bytes]
    sign: Callable[[bytes], Signature] | None = None


class FlushTarget(Struct, frozen=True):
    """What one `flushed` entry hides: the entries of a service and platform in a scope.

    Attributes:
        newest: the entry that the next import would have found.
    """

    newest: EntryKey
    entries: int
    stored_at: datetime


class FlushPlan(Struct, frozen=True):
    """What a flush hides.

    Attributes:
        basis: store time before anything was listed.
    """

    targets: tuple[FlushTarget, ...]
    basis: datetime


async def plan_flush(
    store: Store, project: str, *, scope: str | None, services: Collection[str] | None
) -> FlushPlan:
    """Find what a flush would hide.

    Args:
        scope: one scope; all of the project if it is `None`, which takes a right to list them.
        services: their images and BuildKit caches; those of all services if it is `None`.

    Raises:
        StoreError: the store failed, or refuses.
    """
    basis = await store.now()
    scopes = [segment(scope)] if scope is not None else await list_scopes(store, project)
    wanted = None
    if services is not None:
        wanted = {segment(n) for service in services for n in (service, cache_name(service))}
    newest: dict[tuple[str, str, str], FlushTarget] = {}
    for found in await list_all_entries(store, project, scopes):
        key = found.key
        if wanted is not None and key.service not in wanted:
            continue
        place = (key.scope, key.service, key.platform)
        known = newest.get(place)
        if known is None or known.newest.id < key.id:
            entries = 1 if known is None else known.entries + 1
            newest[place] = FlushTarget(key, entries, found.info.modified_at)
        else:
            newest[place] = FlushTarget(known.newest, known.entries + 1, known.stored_at)
    return FlushPlan(tuple(newest[place] for place in sorted(newest)), basis)


async def flush(
    store: Store, project: str, plan: FlushPlan, settings: FlushSettings, report: Report
) -> list[Entry]:
    """Write a `flushed` entry for each target.

    What cannot be flushed is reported, and the others are. A failure leaves some flushed and others
    not; flushing again is harmless.

    Raises:
        StoreError: the store failed, or refuses.
    """

    async def write(target: FlushTarget) -> Entry | None:
        try:
            entry = _flushed(project, target, plan.basis, await store.now(), settings)
        except CorruptData as error:
            report.warn(error)
            return None
        payload = await asyncio.to_thread(encode_entry, entry)
        signatures = () if settings.sign is None else (settings.sign(payload),)
        data = seal(Envelope(payload, signatures))
        key = entry_key(project, entry.scope, entry.service, entry.platform, entry.id)
        await store.put(key, data)
        return entry

    written = await for_each(write, plan.targets, at_once=_WRITTEN_AT_ONCE)
    return [entry for entry in written if entry is not None]


def _flushed(
    project: str,
    target: FlushTarget,
    basis: datetime,
    now: datetime,
    settings: FlushSettings,
) -> Entry:
    """Make the entry, whose names are read back from the key.

    Raises:
        CorruptData: the key has a name that was cut, and cannot be read back.
    """
    key = target.newest
    scope, service, platform = (_name(part) for part in (key.scope, key.service, key.platform))
    return Entry(
        kind="flushed",
        project=project,
        scope=scope,
        service=service,
        platform=platform,
        id=new_id(now, settings.random(10), after=key.id),
        basis=basis,
        agent=settings.agent,
        engine=EngineFacts("", ""),
    )


def _name(written: str) -> str:
    name = name_of(written)
    if segment(name) != written:
        raise CorruptData(
            f"{name} cannot be flushed: its name is cut in the store; prune --keep-last takes it"
        )
    return name
