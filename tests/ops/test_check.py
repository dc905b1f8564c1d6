"""Whatever is damaged is found, named once, and costs whom it costs."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from tests.ops.checking import (
    Stored,
    check,
    costs,
    flip,
    mend,
    newer,
    read_entry,
    read_recipe,
    remove,
    replace,
    swap,
    truncate,
    write_flushed,
)
from tests.ops.pruning import HOUR, WEB, Bucket
from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import PROJECT, Notes, export, import_
from tests.support.faulty_store import FaultyStore

from longshore.core.entry import encode_entry
from longshore.core.envelope import Envelope, seal, unseal
from longshore.core.keys import Ref
from longshore.core.recipe import Chunk, Method, Recipe, encode_recipe
from longshore.errors import AccessDenied, StoreUnavailable


@pytest.fixture
async def bucket() -> Bucket:
    """Two services, exported twice: the newest entries share their base with the older ones."""
    bucket = Bucket()
    await bucket.export(1)
    bucket.clock.now += HOUR
    await bucket.export(2)
    return bucket


WEB_NEWEST = {("main", "web", True, 1)}
WEB_OLDER = {("main", "web", False, 1)}
ALL = {("main", "web", True, 2), ("main", "worker", True, 2)}


async def test_what_is_sound_has_no_damage_and_is_read_in_full(bucket: Bucket) -> None:
    result = await check(bucket, share=1)

    assert (result.damaged, result.lost, result.not_checked) == ((), (), ())
    assert result.entries == 4
    assert result.layers == result.layers_read == result.recipes == 5
    assert (result.unreferenced, result.foreign, result.layers_not_rebuilt) == (0, 0, 0)
    assert result.stored_bytes == sum(map(len, bucket.objects.values()))


@pytest.mark.parametrize("harm", [remove, truncate, flip], ids=lambda harm: harm.__name__)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (lambda stored: stored.own_recipe("web", 0), WEB_NEWEST),
        (lambda stored: stored.own_recipe("web", 1), WEB_OLDER),
        (lambda stored: stored.base_recipe(), ALL),
    ],
    ids=["recipe of the newest", "recipe of an older one", "recipe of the base"],
)
async def test_damaged_recipes_are_named_with_the_services_that_they_cost(
    bucket: Bucket,
    harm: Callable[[Bucket, str], None],
    name: Callable[[Stored], str],
    expected: set[tuple[str, str, bool, int]],
) -> None:
    key = name(Stored.of(bucket))
    harm(bucket, key)

    for share in (0, 1):
        assert costs(await check(bucket, share=share)) == {key: expected}


@pytest.mark.parametrize("harm", [truncate, flip], ids=lambda harm: harm.__name__)
@pytest.mark.parametrize(("age", "newest"), [(0, True), (1, False)])
async def test_damaged_entries_are_named_and_it_is_said_whether_they_are_only_older_ones(
    bucket: Bucket, harm: Callable[[Bucket, str], None], age: int, newest: bool
) -> None:
    stored = Stored.of(bucket)
    key = stored.entries["web", age]
    harm(bucket, key)

    result = await check(bucket)

    assert costs(result) == {key: {("main", "web", newest, 1)}}
    (lost,) = result.lost
    assert lost.newest is newest
    assert lost.next == stored.entries["web", 1 - age].rpartition("/")[2]


@pytest.mark.parametrize(
    ("harm", "with_contents_only"),
    [(remove, False), (truncate, False), (flip, True)],
    ids=["remove", "truncate", "flip"],
)
async def test_damaged_packs_are_named_with_the_services_that_they_cost(
    bucket: Bucket, harm: Callable[[Bucket, str], None], with_contents_only: bool
) -> None:
    stored = Stored.of(bucket)
    key = stored.pack_of(stored.own_recipe("web", 0))
    harm(bucket, key)

    blind = costs(await check(bucket))
    found = costs(await check(bucket, share=1))

    assert blind == ({} if with_contents_only else found)
    assert found.keys() == {key}
    assert ("main", "web", True, 1) in found[key]


async def test_a_chunk_of_a_pack_costs_those_that_need_it_only(bucket: Bucket) -> None:
    stored = Stored.of(bucket)
    # Both versions of web have the same headers; worker's lie in the same pack.
    chunk = read_recipe(bucket, stored.own_recipe("web", 0)).streams[0][0]
    key = chunk.pack.key(PROJECT)
    assert read_recipe(bucket, stored.own_recipe("worker", 0)).streams[0][0].pack == chunk.pack
    flip(bucket, key, chunk.offset + chunk.stored_bytes - 1)

    assert costs(await check(bucket, share=1)) == {key: {("main", "web", True, 2)}}


async def test_packs_that_were_swapped_are_both_named(bucket: Bucket) -> None:
    first, second = bucket.keys("packs")
    swap(bucket, first, second)

    assert costs(await check(bucket, share=1)).keys() == {first, second}


async def test_recipes_and_entries_that_were_swapped_are_both_named(bucket: Bucket) -> None:
    stored = Stored.of(bucket)
    recipes = stored.own_recipe("web", 0), stored.own_recipe("worker", 0)
    entries = stored.entries["web", 1], stored.entries["worker", 1]
    swap(bucket, *recipes)
    swap(bucket, *entries)

    result = await check(bucket)

    assert costs(result).keys() == {*recipes, *entries}
    problems = {one.url.removeprefix("memory:///"): one.problem for one in result.damaged}
    assert "another blob" in problems[recipes[0]]
    assert "another key" in problems[entries[0]]


# Who lies: the pack or the recipe


def altered(recipe: Recipe, stream: int, number: int, **changes: Any) -> Recipe:
    chunks = list(recipe.streams[stream])
    chunks[number] = msgspec.structs.replace(chunks[number], **changes)
    streams = list(recipe.streams)
    streams[stream] = tuple(chunks)
    return msgspec.structs.replace(recipe, streams=tuple(streams))


@pytest.mark.parametrize("lie", ["name", "place", "order"])
async def test_a_recipe_that_lies_is_named_and_not_the_pack(bucket: Bucket, lie: str) -> None:
    bucket = Bucket()
    noise = random.Random(5).randbytes(3_000_000)
    engine = TinyEngine()
    engine.build([("web", {"app": noise})], "web:1")
    await export(engine, bucket.store, [WEB], random=bucket.random.randbytes)
    (key,) = bucket.keys("recipes")
    recipe = read_recipe(bucket, key)
    payload = recipe.streams[1]
    assert len(payload) > 3
    if lie == "name":
        recipe = altered(recipe, 1, 1, id=bytes(32))
    elif lie == "place":
        recipe = altered(recipe, 1, 1, offset=payload[1].offset - 7)
    else:
        recipe = msgspec.structs.replace(recipe, streams=(recipe.streams[0], payload[::-1]))
    replace(bucket, key, encode_recipe(recipe))

    assert costs(await check(bucket)) == {}
    assert costs(await check(bucket, share=1)) == {key: WEB_NEWEST}


async def test_a_recipe_of_another_scope_that_lies_costs_its_own_scope_only(
    bucket: Bucket,
) -> None:
    stored = Stored.of(bucket)
    honest = stored.own_recipe("web", 0)
    recipe = read_recipe(bucket, honest)
    lie = altered(recipe, 0, 0, id=bytes(32), stored_bytes=recipe.streams[0][0].stored_bytes - 1)
    await put_attacker(bucket, lie, honest)

    result = await check(bucket, share=1)
    await mend(bucket, result)

    assert [cost[:2] for found in costs(result).values() for cost in found] == [("evil", "web")]
    assert [url for url in costs(result) if "/main/" in url] == []
    assert await bucket.hits() == ["hit", "hit"]
    assert len(bucket.keys("entries")) == 4


async def test_an_entry_cannot_stop_prune_by_naming_junk_that_it_does_not_need(
    bucket: Bucket,
) -> None:
    key = Stored.of(bucket).entries["web", 0]
    junk = Ref("evil", "0" * 64 + "." + key[-36:])
    await bucket.store.put(junk.key(PROJECT), b"junk")
    entry = read_entry(bucket, key)
    evil = msgspec.structs.replace(entry, scope="evil", refs=(*entry.refs, junk))
    await bucket.store.put(key.replace("/main/", "/evil/"), seal(Envelope(encode_entry(evil))))
    assert (await bucket.prune()).plan.sweep is None

    result = await check(bucket)
    await mend(bucket, result)

    assert costs(result) == {junk.key(PROJECT): {("evil", "web", True, 1)}}
    assert not result.is_beyond_repair
    assert (await bucket.prune()).plan.sweep is not None


async def test_junk_that_only_a_newer_version_names_is_named_and_nothing_is_removed_for_it(
    bucket: Bucket,
) -> None:
    stored = Stored.of(bucket)
    key, recipe = stored.entries["web", 0], stored.own_recipe("web", 0)
    replace(bucket, key, seal(Envelope(newer(unseal(bucket.objects[key]).payload))))
    replace(bucket, recipe, b"junk")

    result = await check(bucket)

    assert costs(result) == {recipe: set()}
    assert (result.lost, result.is_beyond_repair) == ((), True)


async def put_attacker(bucket: Bucket, recipe: Recipe, like: str) -> None:
    """Store a recipe in the scope `evil`, and an entry that needs it."""
    ref = Ref("evil", like.rpartition("/")[2])
    await bucket.store.put(ref.key(PROJECT), encode_recipe(recipe))
    newest = read_entry(bucket, Stored.of(bucket).entries["web", 0])
    refs = tuple(ref if known.key(PROJECT) == like else known for known in newest.refs)
    entry = msgspec.structs.replace(newest, scope="evil", refs=refs)
    key = Stored.of(bucket).entries["web", 0].replace("/main/", "/evil/")
    await bucket.store.put(key, seal(Envelope(encode_entry(entry))))


async def test_a_recipe_that_names_one_chunk_twenty_thousand_times_is_read_once(
    bucket: Bucket,
) -> None:
    stored = Stored.of(bucket)
    honest = stored.own_recipe("web", 0)
    recipe = read_recipe(bucket, honest)
    forms: list[tuple[Method, tuple[tuple[Chunk, ...], ...]]] = [
        ("raw", (recipe.streams[1] * 20_000,)),
        ("tar", (recipe.streams[0], recipe.streams[1] * 20_000)),
    ]
    for method, streams in forms:
        size = sum(chunk.plain_bytes for stream in streams for chunk in stream)
        bomb = msgspec.structs.replace(recipe, size_bytes=size, method=method, streams=streams)
        bucket.store._objects.pop(honest.replace("/main/", "/evil/"), None)
        await put_attacker(bucket, bomb, honest)
        store = FaultyStore(bucket.store, failures=0)

        result = await check(bucket, share=1, store=store)

        reads = [call for call in store.calls if call[0] == "read"]
        assert costs(result) == {honest.replace("/main/", "/evil/"): {("evil", "web", True, 1)}}
        assert len(reads) < 30


async def test_what_repeats_itself_beyond_measure_is_not_rebuilt(bucket: Bucket) -> None:
    bucket = Bucket()
    engine = TinyEngine()
    engine.build([("web", {"app": random.Random(5).randbytes(9_000_000)})], "web:1")
    await export(engine, bucket.store, [WEB], random=bucket.random.randbytes)
    (honest,) = bucket.keys("recipes")
    recipe = read_recipe(bucket, honest)
    streams = (recipe.streams[1] * 30,)
    size = sum(chunk.plain_bytes for chunk in streams[0])
    bomb = msgspec.structs.replace(recipe, size_bytes=size, method="raw", streams=streams)
    await put_attacker(bucket, bomb, honest)

    result = await check(bucket, share=1)

    assert result.damaged == ()
    assert result.layers_not_rebuilt == 1
    assert result.read_bytes < 3 * sum(len(bucket.objects[key]) for key in bucket.keys("packs"))


# What is not damage


async def test_documents_of_a_newer_version_are_not_checked_and_never_removed(
    bucket: Bucket,
) -> None:
    stored = Stored.of(bucket)
    entry, recipe = stored.entries["web", 0], stored.own_recipe("worker", 0)
    needed_by_newer = stored.own_recipe("web", 0)
    envelope = unseal(bucket.objects[entry])
    replace(bucket, entry, seal(Envelope(newer(envelope.payload))))
    replace(bucket, recipe, newer(bucket.objects[recipe]))
    # What only the newer entry needs is kept, and its damage costs nobody that can be told.
    remove(bucket, needed_by_newer)

    result = await check(bucket, share=1)
    await mend(bucket, result)

    assert (result.damaged, result.lost, result.unreferenced) == ((), (), 0)
    assert [one.url for one in result.not_checked] == [f"memory:///{k}" for k in (entry, recipe)]
    assert {entry, recipe} <= bucket.objects.keys()


async def test_an_envelope_of_a_newer_version_is_not_checked(bucket: Bucket) -> None:
    entry = Stored.of(bucket).entries["web", 0]
    replace(bucket, entry, b"LNGSHR2\n" + bucket.objects[entry][8:])

    result = await check(bucket)

    assert result.damaged == ()
    assert [one.url for one in result.not_checked] == [f"memory:///{entry}"]


async def test_an_entry_published_too_late_can_never_be_loaded(bucket: Bucket) -> None:
    stored = Stored.of(bucket)
    key = stored.entries["web", 0]
    late = msgspec.structs.replace(
        read_entry(bucket, key), basis=bucket.clock.now - timedelta(hours=12, seconds=1)
    )
    replace(bucket, key, seal(Envelope(encode_entry(late))))

    result = await check(bucket)

    assert costs(result) == {key: WEB_NEWEST}
    assert "12 hours" in result.damaged[0].problem


async def test_what_nothing_refers_to_and_what_is_not_longshores_is_counted_and_no_damage(
    bucket: Bucket,
) -> None:
    stored = Stored.of(bucket)
    lonely = "shop/scopes/main/packs/" + stored.entries["web", 0][-36:]
    for key in (
        lonely,
        "shop/scopes/main/packs/no-pack",
        "shop/scopes/main/entries/web/readme.txt",
        "shop/scopes/main/notes/a",
        "shop/other/b",
        "shop/gc/c",
    ):
        await bucket.store.put(key, b"12345")

    result = await check(bucket, share=1)

    assert result.damaged == ()
    assert (result.unreferenced, result.unreferenced_bytes, result.foreign) == (1, 5, 5)


async def test_a_flushed_entry_needs_nothing(bucket: Bucket) -> None:
    await write_flushed(bucket, "main", "web")

    assert (await check(bucket, share=1)).damaged == ()


class Refusing(FaultyStore):
    """A store that refuses some objects."""

    refused: frozenset[str] = frozenset()

    async def get(self, key: str, *, limit_bytes: int):  # type: ignore[no-untyped-def]
        self._check(key)
        return await self.inner.get(key, limit_bytes=limit_bytes)

    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        self._check(key)
        await self.inner.read(key, start, length, into)

    def _check(self, key: str) -> None:
        if key in self.refused:
            raise AccessDenied(f"{key} may not be read")


@pytest.mark.parametrize("kind", ["entries", "recipes", "packs"])
async def test_what_may_not_be_read_is_said_and_is_no_damage(bucket: Bucket, kind: str) -> None:
    store = Refusing(bucket.store, failures=0)
    store.refused = frozenset(bucket.keys(kind))
    notes = Notes()

    result = await check(bucket, share=1, store=store, notes=notes)

    assert (result.damaged, result.lost) == ((), ())
    assert result.denied >= len(bucket.keys(kind))
    assert {type(error) for error in notes.warnings} == {AccessDenied}


async def test_many_refusals_are_not_a_line_each(bucket: Bucket) -> None:
    for version in range(3, 7):
        bucket.clock.now += HOUR
        await bucket.export(version)
    store = Refusing(bucket.store, failures=0)
    store.refused = frozenset(bucket.keys("entries"))
    notes = Notes()

    result = await check(bucket, store=store, notes=notes)

    assert result.denied == 12
    assert len(notes.warnings) == 11
    assert "2 more objects" in str(notes.warnings[-1])


async def test_a_store_that_fails_ends_the_check(bucket: Bucket) -> None:
    with pytest.raises(StoreUnavailable):
        await check(bucket, store=FaultyStore(bucket.store, failures=1))


async def test_entries_that_prune_removes_meanwhile_are_no_damage(bucket: Bucket) -> None:
    stored = Stored.of(bucket)
    gone = stored.entries["web", 1]

    class Pruning(FaultyStore):
        async def get(self, key: str, *, limit_bytes: int):  # type: ignore[no-untyped-def]
            found = await self.inner.get(key, limit_bytes=limit_bytes)
            if key == gone:
                for one in (gone, lonely):
                    bucket.store._objects.pop(one, None)
            return found

    lonely = stored.own_recipe("web", 1)

    assert costs(await check(bucket, store=Pruning(bucket.store, failures=0))) == {}


async def test_a_reference_to_a_scope_that_is_not_there_says_so(bucket: Bucket) -> None:
    await bucket.export(3, "pr:1", "main")
    for key in list(bucket.objects):
        if key.startswith("shop/scopes/main/"):
            remove(bucket, key)

    result = await check(bucket)

    assert {one.problem for one in result.damaged} == {"it is missing, as is its whole scope"}
    assert {cost.scope for one in result.damaged for cost in one.costs} == {"pr~3A1"}


# How it looks


async def test_check_changes_nothing(bucket: Bucket) -> None:
    stored = Stored.of(bucket)
    truncate(bucket, stored.pack_of(stored.own_recipe("web", 0)))
    flip(bucket, stored.entries["worker", 1])
    before = bucket.objects
    store = FaultyStore(bucket.store, failures=0)

    await check(bucket, share=1, store=store)

    assert {call[0] for call in store.calls} <= {"get", "read", "head", "list", "list_folders"}
    assert bucket.objects == before


async def test_without_read_data_no_pack_is_read(bucket: Bucket) -> None:
    store = FaultyStore(bucket.store, failures=0)

    result = await check(bucket, store=store)

    assert "read" not in {call[0] for call in store.calls}
    assert (result.layers_read, result.read_bytes) == (0, 0)


async def test_each_run_reads_another_share(bucket: Bucket) -> None:
    read: set[frozenset[str]] = set()
    for _ in range(30):
        store = FaultyStore(bucket.store, failures=0)
        result = await check(bucket, share=0.2, store=store)
        assert 0 < result.layers_read < result.layers
        names = [str(call[1]) for call in store.calls if call[0] == "get"]
        read.add(frozenset(name for name in names if names.count(name) > 1))

    assert len(read) > 1
    assert frozenset.union(*read) == set(bucket.keys("recipes"))


async def test_progress_adds_up(bucket: Bucket) -> None:
    told: list[tuple[str, int]] = []

    class Progress(Notes):
        def begin(self, what: str, total_bytes: int | None) -> None:
            told.append((what, total_bytes or 0))

        def advance(self, done_bytes: int) -> None:
            told.append(("advance", done_bytes))

    result = await check(bucket, share=1, notes=Progress())

    (what, total), *steps = told
    assert what == "checking"
    assert total == sum(done for _, done in steps) == result.read_bytes


async def test_control_characters_of_attackers_are_kept_out_of_the_result(bucket: Bucket) -> None:
    key = Stored.of(bucket).entries["web", 0]
    entry = msgspec.structs.replace(read_entry(bucket, key), kind="\x1b[2Jimage")
    replace(bucket, key, seal(Envelope(encode_entry(entry))))
    await put_lost_scope(bucket, key)

    result = await check(bucket)

    assert result.damaged
    assert all(one.problem.isprintable() and one.url.isprintable() for one in result.damaged)


async def put_lost_scope(bucket: Bucket, like: str) -> None:
    """Store an entry that names a recipe of a scope with an evil name."""
    entry = read_entry(bucket, Stored.of(bucket).entries["web", 1])
    refs = tuple(Ref("\x1b]0;evil", ref.id) for ref in entry.refs)
    evil = msgspec.structs.replace(entry, scope="e", refs=refs)
    key = like[: -len("/web/linux-amd64/") - 36].replace("/main/", "/e/")
    await bucket.store.put(f"{key}/web/linux-amd64/{entry.id}", seal(Envelope(encode_entry(evil))))


# Any byte


@functools.cache
def small_bucket() -> Bucket:
    """Make a store of one service with two layers."""
    bucket = Bucket()
    engine = TinyEngine()
    engine.build([("base", {"bin/sh": b"shell" * 20}), ("web", {"app": b"code"})], "web:1")
    asyncio.run(export(engine, bucket.store, [WEB], random=bucket.random.randbytes))
    return bucket


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(which=st.integers(0, 100), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found_or_changes_nothing(which: int, at: int, bit: int) -> None:
    bucket = Bucket()
    bucket.store._objects = dict(small_bucket().store._objects)
    keys = sorted(bucket.objects)
    key = keys[which % len(keys)]
    data = bytearray(bucket.objects[key])
    data[at % len(data)] ^= 1 << bit
    sound = asyncio.run(loaded(bucket))
    replace(bucket, key, bytes(data))

    result = asyncio.run(check(bucket, share=1))

    named = {one.url for one in result.damaged} | {one.url for one in result.not_checked}
    if named:
        assert named == {f"memory:///{key}"}
    else:
        assert asyncio.run(loaded(bucket)) == sound


async def loaded(bucket: Bucket) -> object:
    """Tell all that an import brings."""
    engine = TinyEngine()
    result = await import_(engine, bucket.store, [WEB])
    return result.services[0].outcome, engine.images, engine.layers
