"""What `prune` says: what goes and why, what waits, and what stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from longshore.core.gc_documents import ObjectName, is_recipe, object_key
from longshore.core.keys import name_of
from longshore.output_json import plain
from longshore.wording import clean, columns, count, exact, period, size

if TYPE_CHECKING:
    from longshore.core.retention import Removal
    from longshore.core.sweep_plan import SweepPlan
    from longshore.ops.pruner import PrunePlan, PruneResult

NOTHING_DONE = "nothing was done: this was a dry run"
_MOST_ROWS = 20


def prune_text(result: PruneResult, *, now: datetime, grace: timedelta, every: bool) -> str:
    """Tell what a run did with a project; of a dry run, what it would have done.

    Args:
        every: list each entry by itself, however many there are.
    """
    plan, dry = result.plan, result.dry_run
    entries = count(len(plan.removals), "entry", "entries")
    head = f"{clean(result.project)}: {entries} {'to remove' if dry else 'removed'}"
    table = [_removals(plan.removals, now, every=every)] if plan.removals else []
    return "\n".join([head, *table, columns(list(_facts(plan, grace, dry=dry)), indent=2)])


def total_text(results: Sequence[PruneResult], *, failed: int) -> str:
    """Add up several projects."""
    plans = [result.plan for result in results]
    sweeps = [plan.sweep for plan in plans if plan.sweep is not None]
    dry = any(result.dry_run for result in results)
    removed = count(sum(len(plan.removals) for plan in plans), "entry", "entries")
    deleted = size(sum(sweep.deleted_bytes for sweep in sweeps))
    return (
        f"{count(len(plans), 'project')}{f', and {failed} that failed' if failed else ''}:"
        f" {removed} {'to remove' if dry else 'removed'},"
        f" {deleted} {'to delete' if dry else 'deleted'},"
        f" {size(sum(sweep.waiting_bytes for sweep in sweeps))} waiting,"
        f" {size(sum(plan.kept_bytes for plan in plans))} kept"
    )


def _removals(removals: Sequence[Removal], now: datetime, *, every: bool) -> str:
    """List entries; if they are many, those of one place and with one reason in one row."""
    if every or len(removals) <= _MOST_ROWS:
        head = ("SCOPE", "SERVICE", "PLATFORM", "AGE", "ENTRY", "REASON")
        rows = [
            (*_place(r), period(now - r.stored_at), r.key.id, clean(r.reason)) for r in removals
        ]
        return columns([head, *rows], indent=2)
    groups: dict[tuple[str, ...], list[Removal]] = {}
    for removal in removals:
        groups.setdefault((*_place(removal), clean(removal.reason)), []).append(removal)
    head = ("SCOPE", "SERVICE", "PLATFORM", "ENTRIES", "AGE", "REASON")
    rows = []
    for (scope, service, platform, reason), some in sorted(groups.items()):
        ages = sorted(now - removal.stored_at for removal in some)
        span = dict.fromkeys((period(ages[0]), period(ages[-1])))
        rows.append((scope, service, platform, str(len(some)), " to ".join(span), reason))
    return columns([head, *rows], right=(3,), indent=2)


def _place(removal: Removal) -> tuple[str, str, str]:
    key = removal.key
    return clean(name_of(key.scope)), clean(name_of(key.service)), clean(name_of(key.platform))


def _facts(plan: PrunePlan, grace: timedelta, *, dry: bool) -> Iterator[tuple[str, str]]:
    if plan.sweep is not None:
        sweep = plan.sweep
        yield (
            "to delete" if dry else "deleted",
            f"{_objects(sweep.delete)}, {size(sweep.deleted_bytes)}",
        )
        if sweep.wait:
            yield "waiting", f"{_objects(sweep.wait)}, {size(sweep.waiting_bytes)}; {_since(sweep)}"
    if plan.removals and grace:
        later = f"what only the removed entries needed: {exact(grace)} after the next run at least"
        yield "later", later
    for reason in plan.blocked:
        yield "not deleted", f"nothing, as long as this is so: {clean(str(reason))}"
    if plan.repack.packs:
        packs = count(len(plan.repack.packs), "pack")
        needed, freed = size(plan.repack.needed_bytes), size(plan.repack.freed_bytes)
        text = f"{packs}, of which {needed} are needed; {freed} will be free"
        yield "to rewrite" if dry else "rewritten", text
    if plan.uploads:
        uploads = count(len(plan.uploads), "unfinished upload")
        yield "to abort" if dry else "aborted", uploads
    yield "kept", f"{count(plan.kept_entries, 'entry', 'entries')}, {size(plan.kept_bytes)}"


def _objects(names: Sequence[ObjectName]) -> str:
    recipes = sum(map(is_recipe, names))
    return f"{count(recipes, 'recipe')} and {count(len(names) - recipes, 'pack')}"


def _since(sweep: SweepPlan) -> str:
    if sweep.waiting_since is None:
        return "no earlier run has found them unreferenced"
    return f"unreferenced since {sweep.waiting_since:%Y-%m-%d %H:%M} UTC or later"


def plan_json(result: PruneResult, now: datetime) -> dict[str, Any]:
    """Describe what a run did, or would have done: every object, by its key in the store."""
    plan, sweep, project = result.plan, result.plan.sweep, result.project
    return {
        "removals": [
            {
                "scope": name_of(removal.key.scope),
                "service": name_of(removal.key.service),
                "platform": name_of(removal.key.platform),
                "id": removal.key.id,
                "stored_at": plain(removal.stored_at),
                "age_seconds": plain(now - removal.stored_at),
                "reason": removal.reason,
            }
            for removal in plan.removals
        ],
        "deleted": None
        if sweep is None
        else {**_objects_json(project, sweep.delete), "bytes": sweep.deleted_bytes},
        "waiting": None
        if sweep is None
        else {
            **_objects_json(project, sweep.wait),
            "bytes": sweep.waiting_bytes,
            "since": plain(sweep.waiting_since),
        },
        "blocked": [str(reason) for reason in plan.blocked],
        "rewritten": {
            "packs": [object_key(project, name) for name in plan.repack.packs],
            "recipes": [object_key(project, name) for name in plan.repack.recipes],
            "needed_bytes": plan.repack.needed_bytes,
            "freed_bytes": plan.repack.freed_bytes,
        },
        "aborted": [
            {"key": pending.upload.key, "started_at": plain(pending.started_at)}
            for pending in plan.uploads
        ],
        "kept_entries": plan.kept_entries,
        "kept_bytes": plan.kept_bytes,
    }


def _objects_json(project: str, names: Sequence[ObjectName]) -> dict[str, list[str]]:
    return {
        "recipes": [object_key(project, name) for name in names if is_recipe(name)],
        "packs": [object_key(project, name) for name in names if not is_recipe(name)],
    }
