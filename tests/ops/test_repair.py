"""Repair removes what is of no use, by prune's rules, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.ops.checking import (
    Stored,
    check,
    costs,
    flip,
    mend,
    newer,
    remove,
    replace,
    swap,
    truncate,
    write_flushed,
)
from tests.ops.pruning import GRACE, HOUR, T0, Bucket
from tests.support.cache import PROJECT
from tests.support.faulty_store import FaultyStore
from tests.support.stopping_store import StoppingStore, Way

from longshore.core.gc_documents import (
    GcDocument,
    GcKind,
    ObjectName,
    decode_gc,
    encode_gc,
    gc_key,
    object_key,
)
from longshore.core.ids import new_id
from longshore.errors import StoreUnavailable
from longshore.ops.repair import plan_repair

Harm = Callable[[Stored], None]


def harm_pack_of(service: str, age: int, way: Callable[[Bucket, str], None]) -> Harm:
    return lambda stored: way(stored.bucket, stored.pack_of(stored.own_recipe(service, age)))


def harm_recipe_of(service: str, age: int, way: Callable[[Bucket, str], None]) -> Harm:
    return lambda stored: way(stored.bucket, stored.own_recipe(service, age))


def harm_entry_of(service: str, age: int, way: Callable[[Bucket, str], None]) -> Harm:
    return lambda stored: way(stored.bucket, stored.entries[service, age])


def swap_packs(stored: Stored) -> None:
    swap(stored.bucket, *stored.bucket.keys("packs"))


def swap_entries(stored: Stored) -> None:
    swap(stored.bucket, stored.entries["web", 0], stored.entries["worker", 0])


def swap_recipes(stored: Stored) -> None:
    swap(stored.bucket, stored.own_recipe("web", 0), stored.own_recipe("worker", 0))


def lose_the_base(stored: Stored) -> None:
    remove(stored.bucket, stored.base_recipe())


# What is damaged; whose import misses before the repair; whose import hits an older entry after it.
HARMS: dict[str, tuple[Harm, set[str], set[str]]] = {
    "pack missing": (harm_pack_of("web", 0, remove), {"web", "worker"}, {"web", "worker"}),
    "pack truncated": (harm_pack_of("web", 0, truncate), {"web", "worker"}, {"web", "worker"}),
    "pack flipped": (harm_pack_of("web", 0, flip), {"web", "worker"}, {"web", "worker"}),
    "packs swapped": (swap_packs, {"web", "worker"}, set()),
    "recipe missing": (harm_recipe_of("web", 0, remove), {"web"}, {"web"}),
    "recipe truncated": (harm_recipe_of("web", 0, truncate), {"web"}, {"web"}),
    "recipe flipped": (harm_recipe_of("worker", 0, flip), {"worker"}, {"worker"}),
    "recipes swapped": (swap_recipes, {"web", "worker"}, {"web", "worker"}),
    "recipe of all missing": (lose_the_base, {"web", "worker"}, set()),
    "entry truncated": (harm_entry_of("web", 0, truncate), {"web"}, {"web"}),
    "entry flipped": (harm_entry_of("web", 0, flip), {"web"}, {"web"}),
    "entries swapped": (swap_entries, {"web", "worker"}, {"web", "worker"}),
    "only an older entry": (harm_entry_of("web", 1, flip), set(), set()),
    "only an older recipe": (harm_recipe_of("web", 1, remove), set(), set()),
}


@pytest.fixture
async def bucket() -> Bucket:
    """Two services, exported twice: the newest entries share their base with the older ones."""
    bucket = Bucket()
    await bucket.export(1)
    bucket.clock.now += HOUR
    await bucket.export(2)
    bucket.clock.now += HOUR
    return bucket


async def outcomes(bucket: Bucket) -> dict[str, tuple[str, str]]:
    """Tell of each service what an import makes of it: the outcome, and the entry or the reason."""
    result = await bucket.import_()
    return {s.service: (s.outcome, s.entry or s.reason) for s in result.services}


@pytest.mark.parametrize("what", HARMS)
async def test_damage_is_a_miss_before_and_after_repair_the_older_entry_or_nothing(
    bucket: Bucket, what: str
) -> None:
    harm, hit_by, saved = HARMS[what]
    stored = Stored.of(bucket)
    newest = {service: stored.entries[service, 0][-36:] for service in ("web", "worker")}
    older = {service: stored.entries[service, 1][-36:] for service in ("web", "worker")}
    harm(stored)

    before = await outcomes(bucket)
    result = await check(bucket, share=1)
    await mend(bucket, result)
    again = await check(bucket, share=1)
    after = await outcomes(bucket)

    for service in ("web", "worker"):
        if service not in hit_by:
            assert before[service] == after[service] == ("hit", newest[service])
            continue
        assert before[service][0] == "miss"
        assert "no cached image" not in before[service][1]
        if service in saved:
            assert after[service] == ("hit", older[service])
        else:
            assert after[service] == ("miss", f"no cached image for {service}")
    assert (again.damaged, again.lost) == ((), ())


@pytest.mark.parametrize("what", HARMS)
async def test_what_repair_leaves_goes_by_prune(bucket: Bucket, what: str) -> None:
    HARMS[what][0](Stored.of(bucket))
    await mend(bucket, await check(bucket, share=1))

    await bucket.prune_until_clean()

    result = await check(bucket, share=1)
    assert (result.damaged, result.unreferenced) == ((), 0)


async def test_repair_notes_down_first_and_removes_only_entries(bucket: Bucket) -> None:
    stored = Stored.of(bucket)
    remove(bucket, stored.own_recipe("web", 0))
    store = FaultyStore(bucket.store, failures=0)
    before = bucket.objects

    await mend(bucket, await check(bucket), store=store)

    changes = [call[:2] for call in store.calls if call[0] in ("put", "delete")]
    assert [kind for kind, _ in changes] == ["put", "put", "delete"]
    assert [str(key).rpartition(".")[2] for _, key in changes[:2]] == ["start", "removed"]
    assert before.keys() - bucket.objects.keys() == {stored.entries["web", 0]}


async def test_what_removed_entries_reached_begins_its_time_anew(bucket: Bucket) -> None:
    stored = Stored.of(bucket)
    lost = stored.own_recipe("web", 0)
    pack = stored.pack_of(lost)
    flip(bucket, pack)  # known by name, so the record names it, and nothing else

    await mend(bucket, await check(bucket, share=1))

    (record,) = [key for key in bucket.keys("gc") if key.endswith(".removed")]
    document = decode_gc(bucket.objects[record], "removed")
    assert not document.everything
    assert {object_key(PROJECT, name) for name in document.objects} >= {lost, pack}


async def test_if_it_is_not_known_what_an_entry_reached_everything_begins_anew(
    bucket: Bucket,
) -> None:
    flip(bucket, Stored.of(bucket).entries["web", 0])

    await mend(bucket, await check(bucket))

    (record,) = [key for key in bucket.keys("gc") if key.endswith(".removed")]
    assert decode_gc(bucket.objects[record], "removed").everything


@pytest.mark.parametrize("way", ["before", "after", "cancel"])
async def test_repair_that_stops_at_any_call_harms_nothing_and_can_be_run_again(way: Way) -> None:
    stop_at = 0
    while True:
        stop_at += 1
        bucket = Bucket()
        await bucket.export(1)
        bucket.clock.now += HOUR
        await bucket.export(2)
        stored = Stored.of(bucket)
        remove(bucket, stored.own_recipe("web", 0))
        note = await put_note(bucket, "removed", ())
        flip(bucket, note)
        result = await check(bucket)
        store = StoppingStore(bucket.store, stop_at, way)
        store.victim = asyncio.create_task(mend(bucket, result, store=store))
        with contextlib.suppress(StoreUnavailable, asyncio.CancelledError):
            await store.victim

        assert note in bucket.objects
        gone = stored.entries["web", 0] not in bucket.objects
        records = [key for key in bucket.keys("gc") if key.endswith(".removed") and key != note]
        assert records or not gone
        assert (await outcomes(bucket))["worker"][0] == "hit"
        await mend(bucket, await check(bucket))
        assert (await check(bucket)).damaged == ()
        assert (await outcomes(bucket))["web"] == ("hit", stored.entries["web", 1][-36:])
        if store.calls < stop_at:
            break

    assert stop_at > 8


async def test_an_entry_that_went_meanwhile_is_no_trouble(bucket: Bucket) -> None:
    stored = Stored.of(bucket)
    remove(bucket, stored.own_recipe("web", 0))
    result = await check(bucket)
    remove(bucket, stored.entries["web", 0])

    await mend(bucket, result)

    assert (await check(bucket)).damaged == ()
    assert not [key for key in bucket.keys("gc") if key.endswith(".removed")]


async def test_a_newest_entry_of_a_flush_that_is_damaged_is_an_entry_like_any_other(
    bucket: Bucket,
) -> None:
    key = await write_flushed(bucket, "main", "web")
    flip(bucket, key, len(bucket.objects[key]) - 1)
    (lost,) = (await check(bucket)).lost

    assert lost.newest
    assert lost.next == Stored.of(bucket).entries["web", 1][-36:]


# Notes of prune that cannot be read


async def put_note(bucket: Bucket, kind: GcKind, objects: tuple[str, ...], run: str = "") -> str:
    identifier = new_id(bucket.clock.now, bucket.random.randbytes(10))
    key = gc_key(PROJECT, identifier, kind)
    names = tuple(map(ObjectName, objects))
    await bucket.store.put(key, encode_gc(GcDocument(kind, run or identifier, names)))
    return key


@pytest.mark.parametrize("kind", ["start", "mark", "removed"])
async def test_a_note_that_cannot_be_read_is_named_and_repaired(
    bucket: Bucket, kind: GcKind
) -> None:
    key = await put_note(bucket, kind, ("main/" + bucket.keys("packs")[0][-36:],))
    flip(bucket, key)
    assert costs(await check(bucket)) == {key: set()}
    assert (await bucket.prune()).plan.sweep is None

    store = FaultyStore(bucket.store, failures=0)
    await mend(bucket, await check(bucket), store=store)

    assert (await check(bucket)).damaged == ()
    assert (await bucket.prune()).plan.sweep is not None
    assert len(bucket.keys("entries")) == 2
    changes = [call[:2] for call in store.calls if call[0] in ("put", "delete")]
    first, record, last = (str(key) for _, key in changes)
    assert first.endswith(".start")
    assert record.endswith(".removed")
    assert decode_gc(bucket.objects[record], "removed").everything
    assert last == key


async def test_nothing_is_deleted_too_early_because_a_record_was_lost(bucket: Bucket) -> None:
    # Marked, then needed by an entry, then removed with it, which was noted down: 20 hours later a
    # writer may still build on it. Then the record is damaged.
    victim = "shop/scopes/main/packs/" + new_id(T0, bytes(10))
    await bucket.store.put(victim, b"something")
    name = "main/" + victim[-36:]
    began = bucket.clock.now
    start = await put_note(bucket, "start", ())
    await put_note(bucket, "mark", (name,), run=start.rpartition("/")[2].partition(".")[0])
    bucket.clock.now = began + 20 * HOUR
    record = await put_note(bucket, "removed", (name,))
    flip(bucket, record)
    bucket.clock.now = began + 23 * HOUR
    await mend(bucket, await check(bucket))
    repaired = bucket.clock.now

    bucket.clock.now = began + 25 * HOUR
    await bucket.prune()
    assert victim in bucket.objects
    bucket.clock.now = repaired + GRACE
    await bucket.prune()
    assert victim in bucket.objects
    bucket.clock.now = began + 25 * HOUR + GRACE + timedelta(seconds=1)
    await bucket.prune()
    assert victim not in bucket.objects


async def test_the_place_of_a_lost_record_is_never_empty(bucket: Bucket) -> None:
    record = await put_note(bucket, "removed", ())
    flip(bucket, record)
    store = FaultyStore(bucket.store, failures=0)
    await mend(bucket, await check(bucket), store=store)

    deleted = [key for call in store.calls if call[0] == "delete" for key in call[1:]]
    assert record not in str(deleted)
    assert decode_gc(bucket.objects[record], "removed").everything
    puts = [str(call[1]) for call in store.calls if call[0] == "put"]
    assert puts.index(record) == len(puts) - 1  # after a record of its own


async def test_notes_of_a_newer_version_stay(bucket: Bucket) -> None:
    key = await put_note(bucket, "mark", ())
    replace(bucket, key, newer(bucket.objects[key]))

    result = await check(bucket)
    await mend(bucket, result)

    assert result.damaged == ()
    assert [one.url for one in result.not_checked] == [f"memory:///{key}"]
    assert key in bucket.objects


async def test_nothing_damaged_is_nothing_to_do(bucket: Bucket) -> None:
    before = bucket.objects
    result = await check(bucket, share=1)

    assert plan_repair(result).is_empty
    assert bucket.objects == before
