"""Prune a project: remove entries that nobody wants any more, and delete what nothing refers to.

Builds go on meanwhile. The rules that make this safe stand in `docs/format.md`, "What prune must
do"; each step below is one of them, and their order is one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from longshore.core.gc_documents import ObjectName
from longshore.core.keys import EntryKey, scopes_prefix
from longshore.core.retention import Candidate, Removal, Rules, plan_retention, protected_entries
from longshore.core.size_budget import plan_size
from longshore.core.sweep_plan import SweepPlan, effective_marks, plan_sweep
from longshore.errors import AccessDenied, LongshoreError
from longshore.ops.inventory import (
    References,
    list_all_entries,
    list_objects,
    list_scopes,
    read_references,
)
from longshore.ops.newest import FoundEntry
from longshore.ops.prune_run import GRACE, NotesLost, PruneRun, read_notes
from longshore.ops.repacking import Repacker, RepackPlan
from longshore.ops.report import Report
from longshore.store.contract import ObjectInfo, PendingUpload, Store

_REMOVED_AT_ONCE = 500


class PruneSettings(Struct, frozen=True):
    """How prune runs; the defaults live in `config.py`.

    Args:
        max_bytes: what the project may weigh; `None` if that does not matter.
        repack_below: packs of which a smaller share is needed are rewritten; none are if it is 0.
        grace: less than a day is safe only if no writer or reader needs half of it. Nothing at all
            says that nothing else runs.
        dry_run: plan, and change nothing.
        random: makes so many random bytes.
        clock: seconds that never go back, those in which the machine slept as well.
    """

    rules: Rules
    max_bytes: int | None
    repack_below: float
    grace: timedelta
    dry_run: bool
    random: Callable[[int], bytes]
    clock: Callable[[], float]


class PrunePlan(Struct, frozen=True):
    """What a run does, in full: nothing else is removed or deleted.

    Attributes:
        removals: the entries that go.
        sweep: the recipes and packs that go, and those that wait; `None` if none may.
        blocked: why nothing may be swept, one line for each reason.
        repack: the packs that are rewritten.
        uploads: unfinished uploads that are aborted.
        kept_entries: how many stay.
        kept_bytes: what recipes and packs weigh that something refers to.
    """

    removals: tuple[Removal, ...]
    sweep: SweepPlan | None
    blocked: tuple[LongshoreError, ...]
    repack: RepackPlan
    uploads: tuple[PendingUpload, ...]
    kept_entries: int
    kept_bytes: int


class PruneResult(Struct, frozen=True):
    """What a run did; of a dry run, what it would have done."""

    project: str
    plan: PrunePlan
    dry_run: bool


class _Seen(Struct, frozen=True):
    """What a run found, and nothing decided yet; in the order in which it has to look."""

    entries: list[FoundEntry]
    references: References
    sizes: dict[ObjectName, int]
    notes: list[ObjectInfo]


async def prune_project(
    store: Store, project: str, settings: PruneSettings, report: Report
) -> PruneResult:
    """Prune one project. May be killed anywhere, and may run several times at once.

    Raises:
        StoreError: the store failed or refuses, or the run took too long; what was done is sound.
    """
    repacker = Repacker(store, project, report, random=settings.random)
    if settings.dry_run:
        start = await store.now()
        plan, _ = await _plan(store, project, settings, repacker, start, None, report)
        return PruneResult(project, plan, dry_run=True)
    run = await PruneRun.begin(
        store, project, grace=settings.grace, random=settings.random, clock=settings.clock
    )
    plan, seen = await _plan(store, project, settings, repacker, run.start, run, report)
    for reason in plan.blocked:
        report.warn(reason)
    for first in range(0, len(plan.removals), _REMOVED_AT_ONCE):
        # Oldest first, so that what a flush hides never comes back.
        batch = plan.removals[first : first + _REMOVED_AT_ONCE]
        await remove_entries(run, seen.references, [removal.key for removal in batch])
    if plan.repack.packs:
        await repacker.rewrite(run, plan.repack)
    if plan.sweep is not None:
        await run.delete_objects(plan.sweep.delete)
        if plan.sweep.wait:
            await run.note("mark", plan.sweep.wait)
        await run.drop_notes(seen.notes)
    for pending in plan.uploads:
        await run.check_age()
        await store.abort_upload(pending.upload)
    return PruneResult(project, plan, dry_run=False)


async def remove_entries(
    run: PruneRun, references: References, entries: Collection[EntryKey]
) -> None:
    """Remove entries, after it has been noted down what they reach: all, if that is not known."""
    await run.remove_entries(
        list(entries),
        references.reached_by(entries),
        everything=not all(references.is_known(entry) for entry in entries),
    )


async def _plan(
    store: Store,
    project: str,
    settings: PruneSettings,
    repacker: Repacker,
    start: datetime,
    run: PruneRun | None,
    report: Report,
) -> tuple[PrunePlan, _Seen]:
    """Look at everything, in the order that the rules want, and decide."""
    scopes = await list_scopes(store, project)
    entries = await list_all_entries(store, project, scopes)
    references = await read_references(store, project, entries)
    sizes = await list_objects(store, project, scopes)
    blocked: list[LongshoreError] = list(references.unreadable.values())
    try:
        notes, note_infos = await read_notes(store, project, start - 2 * (settings.grace or GRACE))
        if run is not None and all(note.document.run != run.id for note in notes):
            raise NotesLost("this run's own note is not listed, so nothing is swept; try again")
    except NotesLost as error:
        blocked.append(error)
        notes, note_infos = [], []
    seen = _Seen(entries, references, sizes, note_infos)
    removals = _retain(seen, settings, await store.now())
    removed = {removal.key for removal in removals}
    live = [found.key for found in entries if found.key in references.of_entries]
    kept = [key for key in live if key not in removed]
    reached = references.reached_by(kept)
    repack = RepackPlan()
    if settings.repack_below:
        repack = await repacker.plan(references, reached, sizes, below=settings.repack_below)
    sweep = None
    if not blocked:
        # What goes in this run counts as there: writers that began before may build on it.
        sweep = plan_sweep(
            sizes,
            references.reached_by(live) if settings.grace else reached,
            effective_marks(notes),
            start=start,
            grace=settings.grace,
        )
    plan = PrunePlan(
        removals=removals,
        sweep=sweep,
        blocked=tuple(blocked),
        repack=repack,
        uploads=await _old_uploads(store, project, start - settings.grace, report),
        kept_entries=sum(found.key not in removed for found in entries),
        kept_bytes=sum(sizes.get(name, 0) for name in reached),
    )
    return plan, seen


def _retain(seen: _Seen, settings: PruneSettings, now: datetime) -> tuple[Removal, ...]:
    references = seen.references
    candidates = [
        Candidate(found.key, found.info.modified_at, found.key in references.flushed)
        for found in seen.entries
        if found.key in references.of_entries or found.key in references.unreadable
    ]
    removals = plan_retention(
        candidates,
        settings.rules,
        used_at=_used_at(seen.entries, references),
        now=now,
        grace=settings.grace,
    )
    if settings.max_bytes is None:
        return removals
    gone = {removal.key for removal in removals}
    left = [candidate for candidate in candidates if candidate.key not in gone]
    return removals + plan_size(
        left,
        {candidate.key: references.reached_by([candidate.key]) for candidate in left},
        seen.sizes,
        max_bytes=settings.max_bytes,
        keep=protected_entries(left, settings.rules.protected),
    )


def _used_at(entries: Sequence[FoundEntry], references: References) -> dict[str, datetime]:
    """Tell when entries of other scopes last referred to a scope.

    That is how retention knows what is in use: a build that was warm by what another scope holds
    refers to it in the entry that its export writes, and nothing has to be written to read.
    """
    used: dict[str, datetime] = {}
    for found in entries:
        for name in references.of_entries.get(found.key, ()):
            scope = name.partition("/")[0]
            if scope != found.key.scope:
                used[scope] = max(used.get(scope, found.info.modified_at), found.info.modified_at)
    return used


async def _old_uploads(
    store: Store, project: str, before: datetime, report: Report
) -> tuple[PendingUpload, ...]:
    """Find uploads that began so long ago that nobody will complete them.

    On AWS that takes a right of its own, and a bucket's lifecycle rule does the same. So without it
    all the rest is done.
    """
    uploads = store.list_uploads(scopes_prefix(project))
    try:
        return tuple([pending async for pending in uploads if pending.started_at < before])
    except AccessDenied as error:
        report.line(f"unfinished uploads are left to the bucket's lifecycle rules: {error}")
        return ()
