from __future__ import annotations

from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.core.chunks import MAIN_PACK, OTHER_PACK, chunk, recipe

from longshore.core.chunk_table import ChunkTable, TableFull
from longshore.core.damage import Cost, Findings, assess, needs_of
from longshore.core.gc_documents import ObjectName, name_of_ref
from longshore.core.keys import EntryKey
from longshore.core.ranges import Ranges
from longshore.core.read_plan import group_chunks
from longshore.core.rebuild_plan import choose_share, plan_rebuild
from longshore.core.recipe import Chunk

T0 = datetime(2026, 3, 1, tzinfo=UTC)
RECIPE, PACK = ObjectName("main/r.1"), ObjectName("main/p")


def entry(service: str, age: int, scope: str = "main") -> EntryKey:
    return EntryKey(scope, service, "linux-amd64", f"{99 - age:02}")


def stored(*keys: EntryKey) -> dict[EntryKey, datetime]:
    return {key: T0 + timedelta(hours=int(key.id)) for key in keys}


# Who loses what


def test_an_entry_is_lost_with_any_recipe_that_it_needs() -> None:
    findings = Findings(needed={entry("web", 0): (RECIPE,), entry("api", 0): ()})
    findings.blame(RECIPE, PACK, "it is missing")

    damages, lost = assess(findings, stored(entry("web", 0), entry("api", 0)))

    assert [(one.target, one.problem) for one in damages] == [(PACK, "it is missing")]
    assert damages[0].costs == (Cost("main", "web", "linux-amd64", newest=True, entries=1),)
    assert [(one.key, one.newest, one.next) for one in lost] == [(entry("web", 0), True, None)]


def test_what_no_entry_needs_is_no_damage() -> None:
    findings = Findings(needed={entry("web", 0): ()})
    findings.blame(RECIPE, RECIPE, "it is missing")

    assert assess(findings, stored(entry("web", 0))) == ((), ())


def test_an_entry_that_is_damaged_itself_is_named_alone() -> None:
    findings = Findings(needed={entry("web", 0): (RECIPE,)})
    findings.problems[entry("web", 0)] = "published too late"
    findings.blame(RECIPE, PACK, "it is missing")

    damages, _ = assess(findings, stored(entry("web", 0)))

    assert [one.target for one in damages] == [entry("web", 0)]


def test_the_next_entry_is_the_newest_that_is_sound() -> None:
    keys = [entry("web", age) for age in range(4)]
    findings = Findings(problems={keys[0]: "x", keys[1]: "x", keys[3]: "x"})

    damages, lost = assess(findings, stored(*keys))

    assert [(one.key, one.newest, one.next) for one in lost] == [
        (keys[3], False, keys[2]),
        (keys[1], False, keys[2]),
        (keys[0], True, keys[2]),
    ]
    assert [one.costs[0].newest for one in damages] == [False, False, True]


def test_scopes_and_platforms_are_told_apart() -> None:
    main, other = entry("web", 0), entry("web", 1, "pr~3A1")
    findings = Findings(needed={main: (RECIPE,), other: (RECIPE,)})
    findings.blame(RECIPE, RECIPE, "it is missing")

    (damage,), _ = assess(findings, stored(main, other))

    assert [(cost.scope, cost.newest) for cost in damage.costs] == [
        ("main", True),
        ("pr~3A1", True),
    ]


def test_needs_are_the_farthest_byte_of_each_pack() -> None:
    needs = needs_of(recipe([chunk(1, 0, 10), chunk(2, 90, 7), chunk(3, 5, 1, pack=OTHER_PACK)]))

    assert needs.ends == {name_of_ref(MAIN_PACK): 97, name_of_ref(OTHER_PACK): 6}
    assert (needs.stored_bytes, needs.chunks) == (18, 3)


# What is read


chunks = st.lists(
    st.builds(lambda name, at, size: chunk(name, at, size), *[st.integers(1, 60)] * 3), max_size=20
)


@given(chunks, st.integers(1, 80), st.integers(0, 40))
def test_groups_hold_every_chunk_once_and_keep_the_limits(
    found: list[Chunk],
    longest: int,
    gap: int,
) -> None:
    groups = group_chunks(found, max_range_bytes=longest, max_gap_bytes=gap)

    assert sorted(c.id for group in groups for c in group) == sorted(c.id for c in found)
    for group in groups:
        end = max(c.offset + c.stored_bytes for c in group)
        assert len(group) == 1 or end - group[0].offset <= longest
        assert group[0].offset == min(c.offset for c in group)


@given(chunks, st.integers(0, 70), st.integers(1, 30))
def test_ranges_touch_what_has_a_byte_in_common(found: list[Chunk], at: int, size: int) -> None:
    covered = {n for c in found for n in range(c.offset, c.offset + c.stored_bytes)}

    assert Ranges(found).touch(chunk(1, at, size)) == bool(covered & set(range(at, at + size)))


def test_chunks_that_occur_often_are_kept_as_far_as_there_is_room() -> None:
    often, sometimes, once = chunk(1, 0, 50, plain=100), chunk(2, 50, 9, plain=80), chunk(3, 60, 5)

    plan = plan_rebuild(recipe([often, sometimes] * 5 + [once, sometimes]), keep_bytes=150)

    assert plan.kept == (often,)
    assert plan.rest.streams == ((sometimes,) * 5 + (once, sometimes),)
    assert not plan.too_repetitive


def test_what_would_be_read_again_and_again_is_too_repetitive() -> None:
    big = [chunk(n, n << 20, 1 << 20, plain=1 << 20) for n in range(16)]

    assert not plan_rebuild(recipe(big * 7), keep_bytes=0).too_repetitive
    assert plan_rebuild(recipe(big * 9), keep_bytes=0).too_repetitive


def test_zeros_are_not_too_repetitive_before_64_gb() -> None:
    zeros = chunk(1, 0, 60, plain=1 << 20)

    assert not plan_rebuild(recipe([zeros] * 60_000), keep_bytes=1 << 20).too_repetitive
    assert plan_rebuild(recipe([zeros] * 70_000), keep_bytes=1 << 20).too_repetitive


@given(st.dictionaries(st.integers(0, 99), st.integers(1, 50)), st.floats(0.01, 0.99), st.binary())
def test_a_share_is_as_much_as_asked_for_and_no_recipe_more(
    found: dict[int, int], share: float, seed: bytes
) -> None:
    weights = {ObjectName(f"main/{number}"): size for number, size in found.items()}

    chosen = choose_share(weights, share, seed)

    total, read = sum(weights.values()), sum(weights[name] for name in chosen)
    assert read >= share * total - 1e-6
    assert not chosen or read - max(weights[name] for name in chosen) < share * total
    assert chosen == choose_share(weights, share, seed)


def test_everything_is_chosen_if_all_is_wanted() -> None:
    weights = {ObjectName(f"main/{number}"): number for number in range(9)}

    assert set(choose_share(weights, 1, b"")) == weights.keys()


# What things weigh


def test_what_recipes_share_weighs_once() -> None:
    table = ChunkTable(limit_bytes=1 << 20)
    one = table.add(recipe([chunk(1, 0, 3, plain=30), chunk(2, 3, 4, plain=40)]))
    two = table.add(recipe([chunk(2, 3, 4, plain=40), chunk(2, 3, 4), chunk(3, 9, 5, plain=50)]))

    whole = table.weigh([one, two])
    seen = bytearray(len(table))
    first, second = table.weigh([one], seen), table.weigh([two], seen)

    assert (whole.plain_bytes, whole.stored_bytes) == (120, 12)
    assert (first.stored_bytes, second.stored_bytes) == (7, 5)
    assert table.weigh([two], seen).stored_bytes == 0


def test_a_table_that_is_full_says_so() -> None:
    table = ChunkTable(limit_bytes=1000)

    with pytest.raises(TableFull):
        table.add(recipe([chunk(number, number, 1) for number in range(100)]))
