"""The promises of the format, each held against everything that can go wrong around it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from tests.support.cache import Notes, export, import_, reading, service
from tests.support.fake_engine import FakeEngine, FakeImage
from tests.support.stopping_store import StoppingStore, Way

from longshore.core.digests import digest_of
from longshore.core.entry import EngineFacts, Entry, encode_entry
from longshore.core.envelope import Envelope, seal
from longshore.core.ids import new_id
from longshore.core.keys import Ref, entry_key, parse_entry_key
from longshore.errors import (
    CorruptData,
    EngineError,
    NotCached,
    StoreError,
    StoreUnavailable,
)
from longshore.store.memory import MemoryStore

WEB, WORKER = service("web", "web:1"), service("worker", "worker:1")
T0 = datetime(2026, 3, 1, tzinfo=UTC)
BASE = ("base", {"bin/sh": b"#!" * 3000})


class Clock:
    """A store's clock that a test moves."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


def new_store() -> MemoryStore:
    return MemoryStore(Clock())


def machine(version: int, size_bytes: int = 300_000) -> FakeEngine:
    """A machine on which two services with a common base were built."""
    engine = FakeEngine()
    noise = random.Random(version).randbytes(size_bytes)
    engine.build([BASE, ("web", {"app": noise}), ("env", None)], "web:1", "web:latest")
    engine.build([BASE, ("worker", {"job": b"%d" % version * 1000})], "worker:1")
    return engine


async def assert_all_loadable(store: MemoryStore, expected: set[str]) -> None:
    """Every service of which an entry can be listed can be loaded."""
    fresh, notes = FakeEngine(), Notes()
    result = await import_(fresh, store, [WEB, WORKER], notes=notes)
    outcomes = {done.service: done.outcome for done in result.services}
    listed = {parse_entry_key(key) async for key in _keys(store)} - {None}
    assert {key.service for key in listed if key} >= expected
    for name in {key.service for key in listed if key}:
        assert outcomes[name] == "hit", (name, notes.warnings)


async def _keys(store: MemoryStore):  # type: ignore[no-untyped-def]
    async for info in store.list(""):
        yield info.key


@pytest.mark.parametrize("way", ["before", "after", "cancel"])
async def test_an_export_that_stops_at_any_call_leaves_every_entry_loadable(way: Way) -> None:
    first, second = machine(1), machine(2, 9_000_000)  # more than one part of an upload
    stop_at = 0
    while True:
        stop_at += 1
        inner = new_store()
        await export(first, inner, [WEB])
        store = StoppingStore(inner, stop_at, way)
        store.victim = asyncio.create_task(export(second, store, [WEB, WORKER]))
        with contextlib.suppress(StoreUnavailable, asyncio.CancelledError):
            await store.victim
        await assert_all_loadable(inner, {"web"})
        if store.calls < stop_at:
            break  # it ran to its end, so every stop before that has been tried

    assert stop_at > 15
    kinds = [_kind(key) for key in store.writes]
    assert kinds == sorted(kinds, key=["packs", "recipes", "entries"].index)
    assert set(kinds) == {"packs", "recipes", "entries"}
    assert store.deleted == []


async def test_an_import_that_stops_at_any_call_changes_nothing_in_the_store() -> None:
    inner = new_store()
    await export(machine(1), inner, [WEB, WORKER])
    before = [info async for info in inner.list("")]
    stop_at = 0
    while True:
        stop_at += 1
        store = StoppingStore(inner, stop_at, "before")
        with contextlib.suppress(StoreUnavailable):
            await import_(FakeEngine(), store, [WEB, WORKER])
        if store.calls < stop_at:
            break

    assert stop_at > 8
    assert store.writes == []
    assert store.deleted == []
    assert [info async for info in inner.list("")] == before


async def test_a_wrong_byte_anywhere_is_a_miss_and_never_another_image() -> None:
    store = new_store()
    await export(machine(1), store, [WEB])
    fresh = FakeEngine()
    await import_(fresh, store, [WEB])
    whole_images = fresh.images.keys()
    keys = [info.key async for info in store.list("")]
    rng = random.Random(5)
    for key in keys:
        whole = (await store.get(key, limit_bytes=1 << 30)).data
        damages = [b"", whole[: len(whole) // 2], whole + b"x" if "packs" not in key else b"x"]
        for _ in range(6):
            at = rng.randrange(len(whole))
            damages.append(
                whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]
            )
        for damaged in damages:
            await store.put(key, damaged)
            fresh, notes = FakeEngine(), Notes()

            result = await import_(fresh, store, [WEB], notes=notes)

            if result.services[0].outcome == "hit":
                # A frame may hold bits that mean nothing; then what came out has to be right.
                assert fresh.images.keys() == whole_images
                continue
            assert fresh.images == {}
            assert isinstance(notes.warnings[0], CorruptData | NotCached)
            assert "memory:" in str(notes.warnings[0])
        await store.put(key, whole)


@pytest.mark.parametrize("kind", ["packs", "recipes"])
async def test_what_is_missing_or_cut_short_is_uploaded_anew_by_the_next_export(kind: str) -> None:
    store = new_store()
    await export(machine(1), store, [WEB])
    lost = [key async for key in _keys(store) if _kind(key) == kind]
    await store.delete(lost[:1])
    notes = Notes()

    await export(machine(1), store, [WEB], notes=notes)

    assert notes.warnings
    assert all(isinstance(warning, CorruptData) for warning in notes.warnings)
    await assert_all_loadable(store, {"web"})


async def test_two_writers_in_one_scope_and_one_in_another_do_not_harm_each_other() -> None:
    store = new_store()

    async with asyncio.TaskGroup() as group:
        group.create_task(export(machine(1), store, [WEB, WORKER]))
        group.create_task(export(machine(2), store, [WEB, WORKER]))
        group.create_task(export(machine(3), store, [WEB], scopes=["pr:1", "main"]))

    await assert_all_loadable(store, {"web", "worker"})
    other = await import_(FakeEngine(), store, [WEB], scopes=["pr:1", "main"])
    assert other.services[0].scope == "pr:1"


async def test_a_writer_writes_below_its_own_scope_only_and_refers_to_what_others_have() -> None:
    inner = new_store()
    await export(machine(1), inner, [WEB])
    store = StoppingStore(inner, 1 << 30, "before")

    result = await export(machine(1), store, [WEB], scopes=["feature/x", "main"])

    assert result.saved_images == 0
    assert store.writes
    assert all(key.startswith("shop/scopes/feature~2Fx/") for key in store.writes)
    fresh = await import_(FakeEngine(), inner, [WEB], scopes=["feature/x", "main"])
    assert fresh.services[0].scope == "feature/x"


async def test_a_reader_refuses_an_entry_that_refers_to_a_scope_that_it_does_not_read() -> None:
    store = new_store()
    await export(machine(1), store, [WEB], scopes=["secret"])
    await export(machine(1), store, [WEB], scopes=["pr:1", "secret"])
    notes = Notes()

    result = await import_(FakeEngine(), store, [WEB], scopes=["pr:1", "main"], notes=notes)

    assert result.services[0].outcome == "miss"
    assert "secret" in str(notes.warnings[0])


async def test_a_slow_clock_does_not_hide_a_new_entry() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    await export(machine(1), store, [WEB])
    clock.now -= timedelta(days=2)
    await export(machine(2), store, [WEB])
    clock.now += timedelta(days=2)
    fresh = FakeEngine()

    await import_(fresh, store, [WEB])

    assert fresh.images.keys() <= machine(2).images.keys()


async def test_an_export_of_more_than_twelve_hours_does_not_publish() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    engine = machine(1)

    async def wait() -> None:
        clock.now += timedelta(hours=12, minutes=1)

    engine.hang = wait
    with pytest.raises(StoreError, match="12 hours"):
        await export(engine, store, [WEB])

    assert [key async for key in _keys(store) if _kind(key) == "entries"] == []


@pytest.mark.parametrize(("late", "outcome"), [(0, "hit"), (1, "miss")])
async def test_an_entry_stored_more_than_twelve_hours_after_its_basis_is_a_miss(
    late: int, outcome: str
) -> None:
    clock = Clock()
    store = MemoryStore(clock)
    await export(machine(1), store, [WEB])
    [key] = [key async for key in _keys(store) if _kind(key) == "entries"]
    entry = await reading(store).read_entry((await reading(store).newest("main"))[0])
    data = (await store.get(key, limit_bytes=1 << 20)).data
    clock.now = entry.basis + timedelta(hours=12, seconds=late) - timedelta(milliseconds=1)
    await store.put(key, data)

    result = await import_(FakeEngine(), store, [WEB])

    assert result.services[0].outcome == outcome


async def test_a_flushed_scope_holds_nothing_and_the_fallback_is_read() -> None:
    store = new_store()
    await export(machine(1), store, [WEB])
    await export(machine(2), store, [WEB], scopes=["pr:1", "main"])
    identifier = new_id(T0 + timedelta(days=1), bytes(10))
    flushed = Entry(
        kind="flushed",
        project="shop",
        scope="pr:1",
        service="web",
        platform="linux-amd64",
        id=identifier,
        basis=T0 + timedelta(hours=1),
        agent="test",
        engine=EngineFacts("", ""),
    )
    key = entry_key("shop", "pr:1", "web", "linux-amd64", identifier)
    await store.put(key, seal(Envelope(encode_entry(flushed))))

    result = await import_(FakeEngine(), store, [WEB], scopes=["pr:1", "main"])

    assert (result.services[0].outcome, result.services[0].scope) == ("hit", "main")


async def test_an_entry_from_a_newer_format_is_a_miss_that_says_so_and_is_kept() -> None:
    store = new_store()
    await export(machine(1), store, [WEB])
    [key] = [key async for key in _keys(store) if _kind(key) == "entries"]
    stored = (await store.get(key, limit_bytes=1 << 20)).data
    await store.put(key, b"LNGSHR2\n" + stored[8:])
    notes = Notes()

    result = await import_(FakeEngine(), store, [WEB], notes=notes)

    assert result.services[0].outcome == "miss"
    assert "newer longshore" in str(notes.warnings[0])
    assert key in [key async for key in _keys(store)]


async def test_a_layer_that_vanishes_during_the_load_is_sent_with_the_others_again() -> None:
    store = new_store()
    await export(machine(1), store, [WEB])
    engine = machine(1)
    for image_id in [i for i, image in engine.images.items() if b"web" in image.config]:
        del engine.images[image_id]
    engine.vanish = set(engine.layers)

    result = await import_(engine, store, [WEB])

    assert result.services[0].outcome == "hit"
    assert len(engine.loads) == 2


@pytest.mark.parametrize("appended", [b"", b'{"errorDetail":{"message":"no space left"}}'])
async def test_an_engine_that_dies_during_a_save_leaves_the_cache_as_it_was(
    appended: bytes,
) -> None:
    store = new_store()
    await export(machine(1), store, [WEB])
    before = {key async for key in _keys(store) if _kind(key) != "packs"}
    engine = machine(2)
    engine.save_dies_after = 200_000
    engine.save_appends = appended

    with pytest.raises(EngineError):
        await export(engine, store, [WEB])

    assert {key async for key in _keys(store) if _kind(key) != "packs"} == before
    assert store._uploads == {}
    await assert_all_loadable(store, {"web"})


class Impatient(FakeEngine):
    """An engine, or what lies before it, that breaks off a load beside another one."""

    loading = False

    async def load(
        self, archive: AsyncIterator[bytes], progress: Callable[[int], None] | None = None
    ) -> None:
        if self.loading:
            raise EngineError("the Docker engine broke the connection off")
        self.loading = True
        try:
            await super().load(archive, progress)
        finally:
            self.loading = False


@pytest.mark.parametrize(("engine", "loads"), [(FakeEngine(), 2), (Impatient(), 1)])
async def test_archives_are_sent_side_by_side_and_where_that_cannot_be_done_one_is_enough(
    engine: FakeEngine, loads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store()
    await export(machine(1, size_bytes=5000), store, [WEB])
    monkeypatch.setattr("longshore.core.load_stages.LEAST_BYTES", 1)
    notes = Notes()

    result = await import_(engine, store, [WEB], notes=notes)

    assert result.services[0].outcome == "hit"
    assert len(engine.loads) == loads
    assert any("loading in full" in line for line in notes.lines) == (loads == 1)
    assert engine.images.keys() < machine(1, size_bytes=5000).images.keys()


async def test_a_load_that_the_engine_refuses_is_reported_and_the_other_services_go_on() -> None:
    store = new_store()
    await export(machine(1), store, [WEB])
    engine = FakeEngine()
    engine.load_error = "no space left on device"
    notes = Notes()

    result = await import_(engine, store, [WEB, WORKER], notes=notes)

    assert [done.outcome for done in result.services] == ["failed", "miss"]
    assert any("no space left" in str(warning) for warning in notes.warnings)


async def test_legacy_archives_are_stored_as_the_newer_form_is() -> None:
    store = new_store()
    old = machine(1)
    old.archive = "legacy"
    await export(old, store, [WEB, WORKER])

    again = await export(machine(1), store, [WEB, WORKER])

    assert again.saved_images == 0
    await assert_all_loadable(store, {"web", "worker"})


async def test_a_service_built_upon_another_does_not_take_its_tag_back_in_time() -> None:
    store = new_store()
    engine = FakeEngine()
    old = engine.build([BASE, ("web", {"app": b"old"})], "web:1")
    engine.build([BASE, ("web", {"app": b"old"}), ("worker", {"job": b"1"})], "worker:1")
    await export(engine, store, [WEB, WORKER])
    new = engine.build([BASE, ("web", {"app": b"new"})], "web:1")
    await export(engine, store, [WEB])

    for order in ([WEB, WORKER], [WORKER, WEB]):
        fresh = FakeEngine()
        result = await import_(fresh, store, order)

        assert [done.outcome for done in result.services] == ["hit", "hit"]
        assert fresh.images[new].tags == {"web:1"}
        assert fresh.images[old].tags == set()


async def test_parents_that_a_cached_build_made_anew_do_not_cost_a_save() -> None:
    store = new_store()
    engine = machine(1)
    await export(engine, store, [WEB])
    web = next(i for i, image in engine.images.items() if "web:1" in image.tags)
    before = await reading(store).read_entry((await reading(store).newest("main"))[0])
    image = engine.images[web]
    assert image.parent is not None
    middle = engine.images[image.parent]
    again = middle.config.replace(b'"config": {}', b'"config": {"Env": []}')
    identifier = digest_of(again)
    engine.images[identifier] = FakeImage(again, parent=middle.parent)
    image.parent = identifier

    result = await export(engine, store, [WEB])

    after = await reading(store).read_entry((await reading(store).newest("main"))[0])
    assert result.saved_images == 0
    assert result.services[0].unchanged
    assert after.images == before.images
    await assert_all_loadable(store, {"web"})


async def test_stored_parents_are_not_kept_if_a_layer_of_theirs_is_lost() -> None:
    store = new_store()
    engine = machine(1)
    await export(engine, store, [WEB])
    web = next(i for i, image in engine.images.items() if "web:1" in image.tags)
    image = engine.images[web]
    assert image.parent is not None
    middle = engine.images.pop(image.parent)
    again = middle.config.replace(b'"config": {}', b'"config": {"Env": []}')
    image.parent = digest_of(again)
    engine.images[image.parent] = FakeImage(again, parent=middle.parent)
    await store.delete([key async for key in _keys(store) if _kind(key) == "packs"])

    await export(engine, store, [WEB])

    await assert_all_loadable(store, {"web"})


async def test_a_recipe_that_names_packs_of_a_foreign_scope_is_refused() -> None:
    store = new_store()
    await export(machine(1), store, [WEB])
    view = reading(store)
    entry = await view.read_entry((await view.newest("main"))[0])
    recipe = await view.read_recipe(next(iter(entry.recipe_refs().values())))

    with pytest.raises(CorruptData, match="main"):
        await reading(store, "pr:1").read_recipe(
            Ref("main", next(iter(entry.recipe_refs().values())).id)
        )

    assert {pack.scope for pack in recipe.packs} == {"main"}


def _kind(key: str) -> str:
    return key.split("/")[3]
