"""How `prune` puts its plan into words: grouped if there is much of it, and safe to show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from longshore.core.gc_documents import ObjectName
from longshore.core.keys import EntryKey, segment
from longshore.core.retention import Removal
from longshore.core.sweep_plan import SweepPlan
from longshore.errors import CorruptData
from longshore.ops.pruner import PrunePlan, PruneResult
from longshore.ops.repacking import RepackPlan
from longshore.output_prune import prune_text, total_text

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PACK = ObjectName("main/019424f8-632e-7001-8203-040506070809")
EMPTY = SweepPlan((), (), 0, 0)


def removal(number: int, scope: str = "main", reason: str = "older than the newest 1") -> Removal:
    identifier = f"01942{number:03x}-632e-7001-8203-040506070809"
    key = EntryKey(segment(scope), "web", "linux-amd64", identifier)
    return Removal(key, NOW - (number + 1) * DAY, reason)


def text(*, grace: timedelta = DAY, every: bool = False, dry: bool = False, **plan: Any) -> str:
    empty = PrunePlan((), EMPTY, (), RepackPlan(), (), 0, 0)
    result = PruneResult("shop", replace(empty, **plan), dry_run=dry)
    return prune_text(result, now=NOW, grace=grace, every=every)


def test_few_entries_are_listed_one_by_one() -> None:
    said = text(removals=tuple(removal(number) for number in range(20)))

    assert said.startswith("shop: 20 entries removed\n  SCOPE  SERVICE  PLATFORM     AGE")
    assert len(said.splitlines()) == 2 + 20 + 3


def test_many_entries_are_grouped_by_place_and_reason() -> None:
    gone = "the branch is gone"
    removals = [removal(number) for number in range(30)]
    removals += [removal(2, "feature/x", gone), removal(4, "feature/x", gone), removal(3, "pr:7")]

    lines = text(removals=tuple(removals)).splitlines()
    assert [" ".join(line.split()) for line in lines[:5]] == [
        "shop: 33 entries removed",
        "SCOPE SERVICE PLATFORM ENTRIES AGE REASON",
        "feature/x web linux-amd64 2 3 days to 5 days the branch is gone",
        "main web linux-amd64 30 24 hours to 30 days older than the newest 1",
        "pr:7 web linux-amd64 1 4 days older than the newest 1",
    ]
    every = text(removals=tuple(removals), every=True)
    assert all(removal.key.id in every for removal in removals)


def test_names_and_reasons_cannot_steer_a_terminal() -> None:
    said = text(
        removals=(removal(1, "a\x1b[2Jb"),),
        blocked=(CorruptData("key\x1b]0;x\x07: bad"),),
        sweep=None,
    )

    assert "\x1b" not in said
    assert "a\\x1b[2Jb" in said
    assert "  not deleted  nothing, as long as this is so: key\\x1b]0;x\\x07: bad" in said


def test_without_a_grace_period_nothing_is_left_for_later() -> None:
    assert "later" in text(removals=(removal(1),))
    assert "later" not in text(removals=(removal(1),), grace=timedelta())
    assert "later" not in text()


def test_what_is_rewritten_and_what_waits_is_told_with_its_bytes() -> None:
    sweep = SweepPlan((PACK,), (PACK, PACK), 5_000_000, 7_000, NOW - DAY)
    repack = RepackPlan((PACK,), (), 1000, 9000)

    said = text(sweep=sweep, repack=repack, kept_entries=3, kept_bytes=10**9, dry=True)
    since = "unreferenced since 2026-03-30 12:00 UTC or later"
    assert said.splitlines() == [
        "shop: 0 entries to remove",
        "  to delete   0 recipes and 1 pack, 5.0 MB",
        f"  waiting     0 recipes and 2 packs, 7.0 kB; {since}",
        "  to rewrite  1 pack, of which 1.0 kB are needed; 9.0 kB will be free",
        "  kept        3 entries, 1.0 GB",
    ]


def test_projects_are_added_up() -> None:
    plan = PrunePlan((removal(1),), SweepPlan((PACK,), (), 10, 5), (), RepackPlan(), (), 1, 100)
    blocked = replace(plan, sweep=None)
    results = [PruneResult("a", plan, dry_run=False), PruneResult("b", blocked, dry_run=False)]

    assert total_text(results, failed=0) == (
        "2 projects: 2 entries removed, 10 B deleted, 5 B waiting, 200 B kept"
    )
    assert "1 that failed: 0 entries" in total_text([], failed=1)
