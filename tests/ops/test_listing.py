from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import PROJECT, export, reading, service

from longshore.core.codec import compress
from longshore.core.digests import digest_of
from longshore.core.entry import EngineFacts, Entry, Source, encode_entry
from longshore.core.envelope import Envelope, seal
from longshore.core.ids import new_id
from longshore.core.keys import entries_prefix, entry_key
from longshore.core.layout import OCI_INDEX
from longshore.errors import AccessDenied, CorruptData, NotCached, UsageError
from longshore.ops.listing import ListedEntry, list_entries
from longshore.ops.reachable import Reading
from longshore.ops.showing import show_service
from longshore.store.contract import ObjectInfo, Store
from longshore.store.memory import MemoryStore

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
BASE = ("ADD rootfs in /", b"base" * 5000)
ENV = ("/bin/sh -c #(nop)  ENV A=1", None)


class Clock:
    """The store's clock; every look at it takes a second."""

    def __init__(self) -> None:
        self.time = T0

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def engine() -> TinyEngine:
    engine = TinyEngine()
    engine.make([BASE, ENV, ("/bin/sh -c npm ci", b"modules")], "web:1", "web:latest")
    engine.make([BASE, ("/bin/sh -c make", b"program")], "worker:1")
    return engine


WEB = service("web", "web:1")
WORKER = service("worker", "worker:1")


class Closed(MemoryStore):
    """A store that refuses some prefixes, as a policy would."""

    def __init__(self, clock: Clock, *, inner: MemoryStore, refuse: tuple[str, ...]) -> None:
        super().__init__(clock)
        self._objects = inner._objects
        self._refuse = refuse

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        self._check(prefix)
        async for info in super().list(prefix):
            yield info

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        self._check(prefix)
        async for folder in super().list_folders(prefix):
            yield folder

    def _check(self, prefix: str) -> None:
        if prefix in self._refuse:
            raise AccessDenied(f"cannot list {self.url(prefix)}: denied")


async def put_flushed(store: Store, scope: str, name: str, clock: Clock) -> None:
    entry = Entry(
        kind="flushed",
        project=PROJECT,
        scope=scope,
        service=name,
        platform="linux-amd64",
        id=new_id(clock(), bytes(10)),
        basis=clock(),
        agent="test",
        engine=EngineFacts("", ""),
    )
    key = entry_key(PROJECT, scope, name, entry.platform, entry.id)
    await store.put(key, seal(Envelope(encode_entry(entry))))


async def listed(
    where: Reading, *, all_scopes: bool = False, platform: str | None = None
) -> list[ListedEntry]:
    return await list_entries(where, all_scopes=all_scopes, platform=platform)


async def keys(store: Store, prefix: str = "") -> list[str]:
    return sorted([info.key async for info in store.list(prefix)])


async def test_an_entry_is_listed_with_its_figures(
    engine: TinyEngine, store: MemoryStore, clock: Clock
) -> None:
    await export(engine, store, [WEB])
    clock.time += timedelta(hours=3)

    (entry,) = await listed(reading(store))

    assert (entry.scope, entry.service, entry.platform) == ("main", "web", "linux-amd64")
    assert entry.kind == "image"
    assert entry.tags == ("web:1", "web:latest")
    assert entry.stored_at == T0
    assert entry.age == timedelta(hours=3)
    assert (entry.images, entry.layers, entry.older) == (3, 2, 0)
    assert entry.image_bytes == sum(map(len, engine.layers.values())) - _size(engine, b"program")
    assert entry.problem is None
    packs = [info async for info in store.list("") if "/packs/" in info.key]
    assert entry.stored_bytes == sum(pack.size_bytes for pack in packs)


def _size(engine: TinyEngine, content: bytes) -> int:
    return next(len(layer) for layer in engine.layers.values() if content in layer)


async def test_only_the_newest_is_listed_and_older_ones_are_counted(
    engine: TinyEngine, store: MemoryStore, clock: Clock
) -> None:
    for _ in range(3):
        await export(engine, store, [WEB])
        clock.time += timedelta(minutes=1)

    (entry,) = await listed(reading(store))

    assert entry.older == 2
    assert entry.id == max(
        key.rpartition("/")[2] for key in await keys(store, f"{PROJECT}/") if "/entries/" in key
    )


async def test_a_build_sees_its_own_scope_and_then_its_fallback_scopes(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB, WORKER], scopes=["main"])
    await export(engine, store, [WEB], scopes=["feature/x", "main"])
    await export(engine, store, [WEB], scopes=["another"])

    found = await listed(reading(store, "feature/x", "main"))

    assert [(entry.scope, entry.service) for entry in found] == [
        ("feature/x", "web"),
        ("main", "web"),
        ("main", "worker"),
    ]


async def test_all_scopes_are_listed_with_what_they_took_from_each_other(
    engine: TinyEngine, store: MemoryStore
) -> None:
    long = "dependabot/" + "x/" * 100  # its key segment is cut
    await export(engine, store, [WEB], scopes=["main"])
    await export(engine, store, [WEB], scopes=["feature/x", "main"])
    await export(engine, store, [WEB], scopes=[long, "main"])

    found = await listed(reading(store, "pr:7"), all_scopes=True)

    assert [entry.scope for entry in found] == [long, "feature/x", "main"]
    assert [entry.problem for entry in found] == [None] * 3
    assert len({entry.stored_bytes for entry in found}) == 1


async def test_own_scopes_come_first_among_all(engine: TinyEngine, store: MemoryStore) -> None:
    for scope in ("a", "main", "z"):
        await export(engine, store, [WEB], scopes=[scope])

    found = await listed(reading(store, "z"), all_scopes=True)

    assert [entry.scope for entry in found] == ["z", "a", "main"]


async def test_only_entries_of_a_platform_are_listed(store: MemoryStore) -> None:
    for platform in ("linux-amd64", "linux-arm64-v8"):
        engine = TinyEngine(platform=platform)
        engine.make([BASE], "web:1")
        await export(engine, store, [WEB])

    assert len(await listed(reading(store))) == 2
    (entry,) = await listed(reading(store), platform="linux-arm64-v8")
    assert entry.platform == "linux-arm64-v8"


async def test_a_damaged_entry_is_listed_with_its_problem(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB, WORKER])
    (key,) = await keys(store, entries_prefix(PROJECT, "main", "web"))
    await store.put(key, b"nonsense")

    web, worker = await listed(reading(store))

    assert (web.service, web.kind) == ("web", None)
    assert web.problem is not None
    assert key in web.problem
    assert worker.problem is None


async def test_an_entry_of_a_newer_longshore_is_listed_with_its_problem(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB])
    (key,) = await keys(store, entries_prefix(PROJECT, "main"))
    newer = compress(msgspec.json.encode({"format": 2, "requires": [], "refs": []}), 3)
    await store.put(key, seal(Envelope(newer)))

    (entry,) = await listed(reading(store))

    assert entry.problem is not None
    assert "newer longshore" in entry.problem


async def test_an_entry_whose_recipe_is_gone_is_listed_with_its_problem(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB])
    recipe = next(key for key in await keys(store) if "/recipes/" in key)
    await store.delete([recipe])

    (entry,) = await listed(reading(store))

    assert entry.stored_bytes is None
    assert entry.layers == 2
    assert entry.problem is not None
    assert recipe in entry.problem


async def test_a_flushed_scope_is_listed_as_flushed(
    engine: TinyEngine, store: MemoryStore, clock: Clock
) -> None:
    await export(engine, store, [WEB])
    clock.time += timedelta(minutes=1)
    await put_flushed(store, "main", "web", clock)

    (entry,) = await listed(reading(store))

    assert (entry.kind, entry.older, entry.image_bytes) == ("flushed", 1, 0)


async def test_a_scope_of_others_that_is_refused_does_not_end_the_listing(
    engine: TinyEngine, store: MemoryStore, clock: Clock
) -> None:
    for scope in ("a", "main", "z"):
        await export(engine, store, [WEB], scopes=[scope])
    closed = Closed(clock, inner=store, refuse=(entries_prefix(PROJECT, "a"),))

    found = await listed(reading(closed, "main"), all_scopes=True)

    assert [(entry.scope, entry.service) for entry in found] == [
        ("main", "web"),
        ("z", "web"),
        ("a", ""),
    ]
    assert found[-1].problem is not None


async def test_who_may_not_list_scopes_still_sees_the_own_ones(
    engine: TinyEngine, store: MemoryStore, clock: Clock
) -> None:
    await export(engine, store, [WEB])
    closed = Closed(clock, inner=store, refuse=(f"{PROJECT}/scopes/",))

    found = await listed(reading(closed), all_scopes=True)

    assert [entry.scope for entry in found] == ["main", ""]
    assert "denied" in str(found[-1].problem)


async def test_an_own_scope_that_is_refused_is_an_error(store: MemoryStore, clock: Clock) -> None:
    closed = Closed(clock, inner=store, refuse=(entries_prefix(PROJECT, "main"),))

    with pytest.raises(AccessDenied):
        await listed(reading(closed))


async def test_nothing_is_listed_where_nothing_is(store: MemoryStore) -> None:
    assert await listed(reading(store), all_scopes=True) == []


async def test_foreign_text_of_a_listing_is_printable(store: MemoryStore, clock: Clock) -> None:
    index = b'{"schemaVersion":2,"manifests":[]}'
    entry = Entry(
        kind="buildkit-cache",
        project=PROJECT,
        scope="main",
        service="w\x1beb:buildkit-cache",
        platform="linux-amd64",
        id=new_id(clock(), bytes(10)),
        basis=clock(),
        agent="test",
        engine=EngineFacts("", ""),
        documents={digest_of(index): index},
        media_types={digest_of(index): OCI_INDEX},
        index=digest_of(index),
        source=Source(branch="a\x1b[31m\nb", revision="", job_url=None),
    )
    key = entry_key(PROJECT, "main", entry.service, entry.platform, entry.id)
    await store.put(key, seal(Envelope(encode_entry(entry))))

    (found,) = await listed(reading(store))

    assert found.service == "w�eb:buildkit-cache"
    assert found.branch == "a�[31m�b"
    assert (found.revision, found.job_url) == (None, None)


async def test_show_tells_images_steps_layers_and_where_they_lie(
    engine: TinyEngine, store: MemoryStore, clock: Clock
) -> None:
    await export(engine, store, [WEB], scopes=["main"])
    await export(engine, store, [WEB, WORKER], scopes=["feature/x", "main"])
    clock.time += timedelta(minutes=5)

    shown = await show_service(reading(store, "feature/x", "main"), "web", None)

    assert (shown.service, shown.scope, shown.platform) == ("web", "feature/x", "linux-amd64")
    assert (shown.stored_at, shown.age) == (T0, timedelta(minutes=5))
    assert (shown.engine_version, shown.image_store) == ("28.5.2", "graphdriver")
    own, middle, base = shown.images
    assert own.tags == ("web:1", "web:latest")
    assert own.parent == middle.id
    assert middle.parent == base.id
    assert base.parent is None
    assert [step.command for step in own.steps] == ["ADD rootfs in /", "ENV A=1", "RUN npm ci"]
    assert own.created_at is not None
    assert own.created_at.year == 2026
    assert (middle.steps, middle.command, middle.layers) == ((), "ENV A=1", 1)
    assert [step.diff_id for step in own.steps] == [
        shown.layers[0].diff_id,
        None,
        shown.layers[1].diff_id,
    ]
    assert own.steps[0].size_bytes == shown.layers[0].size_bytes


async def test_show_tells_how_each_layer_is_stored(engine: TinyEngine, store: MemoryStore) -> None:
    await export(engine, store, [WEB], scopes=["main"])
    await export(engine, store, [WEB, WORKER], scopes=["feature/x", "main"])

    shown = await show_service(reading(store, "feature/x", "main"), "worker", "linux-amd64")

    base, program = shown.layers
    assert base.recipe_scope == "main"
    assert {pack.scope for pack in base.packs} == {"main"}
    assert program.recipe_scope == "feature/x"
    assert "feature/x" in {pack.scope for pack in program.packs}
    assert base.shared_with == ("web",)
    assert program.shared_with == ()
    assert (base.method, base.problem) == ("tar", None)
    assert base.chunks == sum(pack.chunks for pack in base.packs) > 0
    assert base.stored_bytes == sum(pack.stored_bytes for pack in base.packs) > 0
    assert base.digest == base.diff_id
    assert base.size_bytes == len(engine.layers[program_base(engine)])
    assert shown.stored_bytes == sum(layer.stored_bytes or 0 for layer in shown.layers)
    assert shown.image_bytes == base.size_bytes + program.size_bytes


def program_base(engine: TinyEngine) -> str:
    return next(digest for digest, layer in engine.layers.items() if b"base" in layer)


async def test_a_layer_that_took_chunks_from_a_fallback_scope_says_what_lies_where(
    engine: TinyEngine, store: MemoryStore
) -> None:
    content = random.Random(1).randbytes(4 << 20)
    engine.make([BASE, ("/bin/sh -c npm ci", content)], "web:1")
    await export(engine, store, [WEB], scopes=["main"])
    engine.make([BASE, ("/bin/sh -c npm ci", content + b"more")], "web:1")
    await export(engine, store, [WEB], scopes=["feature/x", "main"])

    shown = await show_service(reading(store, "feature/x", "main"), "web", None)

    layer = shown.layers[1]
    stored = {pack.scope: pack.stored_bytes for pack in layer.packs}
    assert layer.recipe_scope == "feature/x"
    assert stored.keys() == {"feature/x", "main"}
    assert sum(stored.values()) == layer.stored_bytes
    assert stored["main"] > stored["feature/x"]
    assert sum(pack.chunks for pack in layer.packs) == layer.chunks


async def test_show_reads_no_pack(engine: TinyEngine, store: MemoryStore) -> None:
    await export(engine, store, [WEB])
    await store.delete([key for key in await keys(store) if "/packs/" in key])

    assert len((await show_service(reading(store), "web", None)).layers) == 2


async def test_show_tells_which_layer_cannot_be_rebuilt(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB])
    whole = await show_service(reading(store), "web", None)
    recipe = next(k for k in await keys(store) if whole.layers[0].digest[7:] in k)
    await store.put(recipe, b"nonsense")

    shown = await show_service(reading(store), "web", None)

    assert shown.stored_bytes is None
    assert shown.layers[0].problem is not None
    assert recipe in shown.layers[0].problem
    assert shown.layers[0].packs == ()
    assert shown.layers[1] == whole.layers[1]


async def test_a_service_that_is_not_cached_is_a_miss_that_names_those_that_are(
    engine: TinyEngine, store: MemoryStore, clock: Clock
) -> None:
    await export(engine, store, [WEB, WORKER])
    clock.time += timedelta(minutes=1)
    await put_flushed(store, "main", "worker", clock)

    with pytest.raises(NotCached, match=r"^no cached image for db in main; cached are web$"):
        await show_service(reading(store), "db", None)
    with pytest.raises(NotCached, match=r"^no cached image for worker in main; cached are web$"):
        await show_service(reading(store), "worker", None)


async def test_an_empty_cache_says_so(store: MemoryStore) -> None:
    with pytest.raises(NotCached, match="no cached image for web in main; nothing is cached yet"):
        await show_service(reading(store), "web", None)


async def test_the_platform_has_to_be_named_if_there_are_several(store: MemoryStore) -> None:
    for platform in ("linux-amd64", "linux-arm64-v8"):
        engine = TinyEngine(platform=platform)
        engine.make([BASE], "web:1")
        await export(engine, store, [WEB])

    with pytest.raises(UsageError, match=r"linux-amd64 and linux-arm64-v8; .*--platform"):
        await show_service(reading(store), "web", None)
    shown = await show_service(reading(store), "web", "linux-arm64-v8")
    assert shown.platform == "linux-arm64-v8"
    with pytest.raises(NotCached, match="on linux-386; it is cached for linux-amd64 and linux"):
        await show_service(reading(store), "web", "linux-386")


async def test_a_flushed_platform_need_not_be_chosen_against(
    store: MemoryStore, clock: Clock
) -> None:
    for platform in ("linux-amd64", "linux-arm64-v8"):
        engine = TinyEngine(platform=platform)
        engine.make([BASE], "web:1")
        await export(engine, store, [WEB])
    clock.time += timedelta(minutes=1)
    await put_flushed(store, "main", "web", clock)

    assert (await show_service(reading(store), "web", None)).platform == "linux-arm64-v8"


async def test_a_damaged_entry_cannot_be_shown(engine: TinyEngine, store: MemoryStore) -> None:
    await export(engine, store, [WEB])
    (key,) = await keys(store, entries_prefix(PROJECT, "main"))
    await store.put(key, b"nonsense")

    with pytest.raises(CorruptData, match=key):
        await show_service(reading(store), "web", None)


async def test_what_others_wrote_is_shown_in_a_listing_but_not_trusted(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB], scopes=["main"])
    await export(engine, store, [WEB], scopes=["feature/x", "main"])

    (entry,) = await listed(reading(store, "feature/x"))
    assert entry.problem is None
    with pytest.raises(CorruptData, match="the scope 'main', which this build does not read"):
        await show_service(reading(store, "feature/x"), "web", None)


async def test_results_are_plain_data(engine: TinyEngine, store: MemoryStore) -> None:
    await export(engine, store, [WEB])

    msgspec.json.encode(list(await listed(reading(store))))
    msgspec.json.encode(await show_service(reading(store), "web", None))
