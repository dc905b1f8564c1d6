"""Decide which recipes and packs are deleted: what nothing has referred to for long enough.

An object is unreferenced for as long as two runs of prune agree on it, at least a grace period
apart, and nothing that referred to it was removed in between. `docs/format.md`, "What prune must
do", has the rules, and "Basis" the reason why no writer can still rely on such an object.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from longshore.core.gc_documents import ObjectName, StoredGcDocument, is_recipe


class SweepPlan(Struct, frozen=True):
    """What a run deletes, and what it notes down for the next ones.

    Attributes:
        delete: recipes first, so that a run that dies leaves no recipe without its packs.
        wait: unreferenced, but not for long enough; the run's mark names them.
        deleted_bytes: what is freed.
        waiting_bytes: what will be, once the grace period is over.
        waiting_since: the oldest mark of what waits; `None` if none of it has a mark that counts.
    """

    delete: tuple[ObjectName, ...]
    wait: tuple[ObjectName, ...]
    deleted_bytes: int
    waiting_bytes: int
    waiting_since: datetime | None = None


def effective_marks(documents: Iterable[StoredGcDocument]) -> dict[ObjectName, datetime]:
    """Tell since when each object has been known to be unreferenced.

    That is the store time of the first mark that names it and counts. A mark does not count if the
    object's clock was restarted after the run that wrote it *began*: what the run saw is older than
    its mark. Nor does it count if nobody knows when its run began.
    """
    documents = tuple(documents)
    began = {d.document.run: d.stored_at for d in documents if d.document.kind == "start"}
    restarted: dict[ObjectName, datetime] = {}
    all_restarted: datetime | None = None
    for stored in documents:
        if stored.document.kind != "removed":
            continue
        if stored.document.everything:
            all_restarted = max(all_restarted or stored.stored_at, stored.stored_at)
        for name in stored.document.objects:
            restarted[name] = max(restarted.get(name, stored.stored_at), stored.stored_at)
    marks: dict[ObjectName, datetime] = {}
    for stored in documents:
        start = began.get(stored.document.run)
        if stored.document.kind != "mark" or start is None:
            continue
        # Store times may be whole seconds: at the same time is after.
        if all_restarted is not None and all_restarted >= start:
            continue
        for name in stored.document.objects:
            restart = restarted.get(name)
            if restart is None or restart < start:
                marks[name] = min(marks.get(name, stored.stored_at), stored.stored_at)
    return marks


def plan_sweep(
    stored: Mapping[ObjectName, int],
    referenced: Collection[ObjectName],
    marks: Mapping[ObjectName, datetime],
    *,
    start: datetime,
    grace: timedelta,
) -> SweepPlan:
    """Choose what is unreferenced now, and was already more than a grace period before the start.

    Args:
        stored: every recipe and pack there is, with its size.
        start: store time of the run's `start` document.
        grace: if it is nothing, no mark is needed: somebody says that nothing else runs.
    """
    delete: list[ObjectName] = []
    wait: list[ObjectName] = []
    for name in stored:
        if name in referenced:
            continue
        marked = marks.get(name)
        due = not grace or (marked is not None and marked + grace < start)
        (delete if due else wait).append(name)
    delete.sort(key=lambda name: (not is_recipe(name), name))
    return SweepPlan(
        delete=tuple(delete),
        wait=tuple(sorted(wait)),
        deleted_bytes=sum(stored[name] for name in delete),
        waiting_bytes=sum(stored[name] for name in wait),
        waiting_since=min((marks[name] for name in wait if name in marks), default=None),
    )
