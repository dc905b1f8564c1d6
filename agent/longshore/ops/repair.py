"""Remove what a check found to be of no use: entries that cannot be loaded, unreadable notes.

The rules are prune's: whatever goes is noted down before, so that the clocks of what it referred to
begin anew. Damaged recipes and packs are left to prune, which finds that nothing refers to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msgspec import Struct

from longshore.core.documents import MAX_STORED_DOCUMENT_BYTES
from longshore.core.gc_documents import GcDocument, decode_gc, encode_gc, parse_gc_key
from longshore.errors import CorruptData, ObjectMissing, UnsupportedFormat
from longshore.ops.check import CheckResult, LostEntry
from longshore.ops.inventory import read_references
from longshore.ops.newest import FoundEntry
from longshore.ops.prune_run import GRACE, PruneRun
from longshore.ops.pruner import remove_entries
from longshore.store.contract import ObjectInfo, Store

_REMOVED_AT_ONCE = 500


class RepairSettings(Struct, frozen=True):
    """How a repair runs.

    Args:
        random: makes so many random bytes.
        clock: seconds that never go back, those in which the machine slept as well.
    """

    random: Callable[[int], bytes]
    clock: Callable[[], float]


class RepairPlan(Struct, frozen=True):
    """What a repair removes, in full.

    Attributes:
        notes: of prune, which cannot be read; as long as they are there nothing is swept.
    """

    project: str
    entries: tuple[LostEntry, ...]
    notes: tuple[ObjectInfo, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.entries and not self.notes


def plan_repair(result: CheckResult) -> RepairPlan:
    """Choose what goes: every entry that is lost, oldest first, and every unreadable note."""
    return RepairPlan(result.project, result.lost, result.damaged_notes)


async def repair(store: Store, plan: RepairPlan, settings: RepairSettings) -> None:
    """Remove what a plan names. May be killed anywhere and run again.

    Raises:
        StoreError: the store failed or refuses, or the run took too long; what was done is sound.
    """
    run = await PruneRun.begin(
        store, plan.project, grace=GRACE, random=settings.random, clock=settings.clock
    )
    for first in range(0, len(plan.entries), _REMOVED_AT_ONCE):
        await _remove(store, run, plan.project, plan.entries[first : first + _REMOVED_AT_ONCE])
    if plan.notes:
        await _renew_notes(store, run, plan)


async def _remove(store: Store, run: PruneRun, project: str, entries: Sequence[LostEntry]) -> None:
    # What they reach is read now, not taken from the check: since then prune may have replaced
    # recipes, and what these name has to be noted down as well.
    found = [FoundEntry(one.key, one.info) for one in entries]
    references = await read_references(store, project, found)
    there = references.of_entries.keys() | references.unreadable.keys()
    if keys := [one.key for one in entries if one.key in there]:
        await remove_entries(run, references, keys)


async def _renew_notes(store: Store, run: PruneRun, plan: RepairPlan) -> None:
    """Have all clocks begin anew, and put away what cannot be read.

    A mark or a start that is lost only makes prune wait. A record of a removal that is lost would
    have it delete too early, so its place is never empty: a record that names everything takes it,
    and whoever lists the notes meanwhile finds either the one or the other.
    """
    await run.note("removed", (), everything=True)
    everything = encode_gc(GcDocument("removed", run.id, everything=True))
    for info in plan.notes:
        found = parse_gc_key(plan.project, info.key)
        if found is None or not await _is_damaged(store, plan.project, info.key):
            continue
        if found[1] == "removed":
            await run.put(info.key, everything)
        else:
            await run.delete([info.key])


async def _is_damaged(store: Store, project: str, key: str) -> bool:
    """Look again: another repair may have been there."""
    found = parse_gc_key(project, key)
    try:
        stored = await store.get(key, limit_bytes=MAX_STORED_DOCUMENT_BYTES)
        if found is not None:
            await asyncio.to_thread(decode_gc, stored.data, found[1])
    except (ObjectMissing, UnsupportedFormat):
        return False
    except CorruptData:
        return True
    return False
