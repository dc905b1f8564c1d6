"""Retention keeps what the rules say, by keys and times, and lets no flush be undone."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.core.gc_documents import ObjectName
from longshore.core.keys import EntryKey
from longshore.core.retention import (
    Candidate,
    Removal,
    Rules,
    plan_retention,
    protected_entries,
)
from longshore.core.size_budget import plan_size

NOW = datetime(2026, 3, 31, tzinfo=UTC)
GRACE = timedelta(hours=24)
DAY = timedelta(days=1)


def candidate(
    number: int,
    days: float,
    scope: str = "main",
    service: str = "web",
    platform: str = "linux-amd64",
    *,
    flushed: bool = False,
) -> Candidate:
    identifier = f"01942{number:03x}-632e-7001-8203-040506070809"
    key = EntryKey(scope, service, platform, identifier)
    return Candidate(key, NOW - timedelta(days=days), flushed)


def plan(candidates: list[Candidate], rules: Rules, **used_at: datetime) -> tuple[Removal, ...]:
    return plan_retention(candidates, rules, used_at=used_at, now=NOW, grace=GRACE)


def numbers(removals: tuple[Removal, ...]) -> list[int]:
    return [int(removal.key.id[5:8], 16) for removal in removals]


def test_the_newest_of_each_service_and_platform_stay() -> None:
    candidates = [
        *(candidate(1, 5), candidate(2, 4), candidate(3, 3)),
        *(candidate(4, 9, service="db"), candidate(5, 9, platform="linux-arm64-v8")),
        candidate(6, 9, "dev"),
    ]

    assert numbers(plan(candidates, Rules(1))) == [1, 2]
    assert numbers(plan(candidates, Rules(2))) == [1]
    assert numbers(plan(candidates, Rules(3))) == []


def test_the_newest_is_the_greatest_id_whatever_the_times_say() -> None:
    candidates = [candidate(1, 1), candidate(2, 3)]

    assert numbers(plan(candidates, Rules(1))) == [1]


def test_what_is_young_enough_stays_besides() -> None:
    candidates = [candidate(1, 9), candidate(2, 5), candidate(3, 4), candidate(4, 0)]

    assert numbers(plan(candidates, Rules(1, keep_within=5 * DAY))) == [1]


@pytest.mark.parametrize(("days", "gone"), [(30, False), (30.1, True)])
def test_a_scope_that_nobody_uses_goes_whole(days: float, gone: bool) -> None:
    candidates = [candidate(1, days, "dev"), candidate(2, 99, "dev", "db"), candidate(3, 99)]
    rules = Rules(1, gone_after=30 * DAY, protected=frozenset({"main"}))

    assert numbers(plan(candidates, rules)) == ([2, 1] if gone else [])


def test_a_scope_that_others_refer_to_is_used() -> None:
    candidates = [candidate(1, 90, "dev"), candidate(2, 90, "old")]
    rules = Rules(1, gone_after=30 * DAY)

    assert numbers(plan(candidates, rules, dev=NOW - DAY)) == [2]


def test_a_branch_that_is_not_listed_goes_and_what_is_no_branch_stays() -> None:
    candidates = [
        *(candidate(1, 9, "gone"), candidate(2, 9), candidate(3, 9, "pr~3A7")),
        candidate(4, 9, "tag~3Av1"),
    ]

    removals = plan(candidates, Rules(1, branches=frozenset({"main"})))

    assert numbers(removals) == [1]
    assert removals[0].reason == "the branch is gone"


def test_pull_requests_are_judged_by_a_list_that_has_some() -> None:
    candidates = [candidate(1, 9, "gone"), candidate(3, 9, "pr~3A7"), candidate(4, 9, "pr~3A8")]

    assert numbers(plan(candidates, Rules(1, branches=frozenset({"pr~3A8"})))) == [3]


def test_a_branch_that_may_be_younger_than_the_list_stays() -> None:
    candidates = [candidate(1, 0.9, "new"), candidate(2, 5, "new", "db")]

    assert numbers(plan(candidates, Rules(1, branches=frozenset({"main"})))) == []


def test_a_flush_takes_all_that_is_older_and_goes_last_of_all() -> None:
    flush = candidate(3, 2, flushed=True)

    assert numbers(plan([candidate(1, 4), candidate(2, 3), flush], Rules(9))) == [1, 2]
    assert numbers(plan([flush], Rules(9))) == [3]


def test_a_flush_stays_until_everybody_has_seen_it() -> None:
    assert numbers(plan([candidate(3, 1, flushed=True)], Rules(1))) == []


def test_a_flush_is_done_with_once_something_newer_is_there() -> None:
    candidates = [candidate(1, 4), candidate(2, 3, flushed=True), candidate(3, 1)]

    assert numbers(plan(candidates, Rules(9))) == [1, 2]


scopes = st.sampled_from(["main", "dev", "pr~3A1", "pr~3A2"])
candidates_ = st.lists(
    st.tuples(scopes, st.sampled_from(["web", "db"]), st.floats(0, 60), st.booleans()), max_size=20
).map(
    lambda rows: [
        candidate(number, days, scope, service, flushed=flushed)
        for number, (scope, service, days, flushed) in enumerate(rows)
    ]
)


@given(candidates_, st.integers(1, 3), st.sampled_from([None, 10 * DAY]))
def test_no_rule_touches_the_newest_of_a_protected_scope_and_no_flush_is_undone(
    entries: list[Candidate], keep_last: int, gone_after: timedelta | None
) -> None:
    rules = Rules(keep_last, gone_after=gone_after, protected=frozenset({"main"}))

    gone = {removal.key for removal in plan(entries, rules)}

    places: dict[Any, list[Candidate]] = defaultdict(list)
    for one in entries:
        places[one.key.scope, one.key.service].append(one)
    for (scope, _), there in places.items():
        there.sort(key=lambda one: one.key.id)
        left = [one for one in there if one.key not in gone]
        if scope == "main" and not there[-1].flushed:
            assert left[-1] == there[-1]
        if there[-1].flushed and left:
            assert left[-1].flushed


# Size


def test_the_scope_with_the_most_bytes_of_its_own_pays_first_with_its_oldest() -> None:
    big = [candidate(1, 9, "big"), candidate(2, 8, "big")]
    small = [candidate(3, 20, "small")]
    names = [ObjectName(f"{c.key.scope}/{c.key.id}") for c in (*big, *small)]
    reaches = {c.key: [name] for c, name in zip((*big, *small), names, strict=True)}
    sizes = dict(zip(names, (60, 50, 30), strict=True))

    def over(max_bytes: int, keep: frozenset[EntryKey] = frozenset()) -> list[int]:
        return numbers(plan_size([*big, *small], reaches, sizes, max_bytes=max_bytes, keep=keep))

    assert over(140) == []
    assert over(139) == [1]
    assert over(79) == [1, 2]
    assert over(0) == [1, 2, 3]
    assert over(0, keep=frozenset({big[1].key})) == [1, 3]


def test_what_is_shared_is_freed_by_its_last_user_only() -> None:
    first, second = candidate(1, 9, "a"), candidate(2, 8, "b")
    shared = ObjectName(f"a/{first.key.id}")
    reaches = {first.key: [shared], second.key: [shared]}

    removals = plan_size([first, second], reaches, {shared: 100}, max_bytes=50, keep=())

    assert numbers(removals) == [1, 2]


def test_only_the_newest_of_protected_scopes_are_protected() -> None:
    entries = [candidate(1, 9), candidate(2, 8), candidate(3, 7, "dev")]

    assert protected_entries(entries, {"main"}) == {entries[1].key}


def test_only_entries_of_the_places_that_are_named_may_go() -> None:
    candidates = [candidate(n, 9 - n, service=name) for n in range(3) for name in ("web", "api")]
    rules = Rules(1, only=frozenset({("main", "web", "linux-amd64")}))

    removals = plan(candidates, rules)
    assert {removal.key.service for removal in removals} == {"web"}
    assert len(removals) == 2
    assert plan(candidates, Rules(1, only=frozenset())) == ()
