from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import msgspec
import pytest
from msgspec.structs import replace
from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import PROJECT, Notes, export, reading, service

from longshore.core.entry import decode_entry, encode_entry
from longshore.core.envelope import Envelope, seal, unseal
from longshore.core.keys import entries_prefix, parse_entry_key
from longshore.errors import CorruptData, NotCached, ObjectMissing
from longshore.ops.cat import cat_service
from longshore.store.memory import MemoryStore

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRAILER = bytes(1024)
BASE = ("ADD rootfs in /", b"base" * 50_000)
STEPS = [BASE, ("/bin/sh -c #(nop)  ENV A=1", None), ("/bin/sh -c npm ci", b"modules" * 100_000)]
WEB = service("web", "web:1", "web:deps")


class Progress(Notes):
    """Add up what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.total: int | None = None
        self.done = 0
        self.ended = False

    def begin(self, what: str, total_bytes: int | None) -> None:
        self.total = total_bytes

    def advance(self, done_bytes: int) -> None:
        self.done += done_bytes

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda: T0)


@pytest.fixture
def engine() -> TinyEngine:
    engine = TinyEngine()
    engine.make(STEPS, "web:1", "web:latest")
    engine.make([BASE, ("/bin/sh -c npm test", b"")], "web:deps")
    return engine


def cat(
    store: MemoryStore, name: str = "web", *, report: Notes | None = None
) -> AsyncGenerator[bytes, None]:
    return cat_service(reading(store), name, None, window_bytes=1 << 20, report=report or Notes())


async def damage(store: MemoryStore, part: str) -> str:
    """Change the last byte of the last object of a kind."""
    key = max([info.key async for info in store.list("") if f"/{part}/" in info.key])
    data = (await store.get(key, limit_bytes=1 << 30)).data
    await store.put(key, data[:-1] + bytes([data[-1] ^ 1]))
    return key


async def test_another_engine_loads_all_images_with_tags_and_parents(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB])

    other = TinyEngine()
    await other.load(cat(store))

    assert other.images == engine.images
    assert other.layers == engine.layers


async def test_the_archive_is_a_plain_tar_with_each_layer_once(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB])

    data = b"".join([block async for block in cat(store)])

    assert data.endswith(TRAILER)
    assert len(data) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        items = json.load(manifest)
    assert len(names) == len(set(names)) == 1 + len(engine.images) + len(engine.layers)
    assert {name for item in items for name in (item["Config"], *item["Layers"])} | {
        "manifest.json"
    } == set(names)
    assert items[0]["RepoTags"] == ["web:1", "web:latest"]


async def test_progress_is_told_by_what_is_read(engine: TinyEngine, store: MemoryStore) -> None:
    await export(engine, store, [WEB])
    progress = Progress()

    async for _ in cat(store, report=progress):
        pass

    assert progress.ended
    assert progress.total
    assert progress.done >= progress.total


async def test_a_damaged_pack_breaks_the_archive_off(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB])
    key = await damage(store, "packs")

    data = bytearray()

    async def read() -> None:
        async for block in cat(store):
            data.extend(block)

    with pytest.raises(CorruptData, match=key):
        await read()
    assert data  # it had begun
    assert not data.endswith(TRAILER)


@pytest.mark.parametrize("part", ["recipes", "entries"])
async def test_a_damaged_document_is_found_before_anything_is_written(
    engine: TinyEngine, store: MemoryStore, part: str
) -> None:
    await export(engine, store, [WEB])
    key = await damage(store, part)

    with pytest.raises(CorruptData, match=key):
        await anext(cat(store))


async def test_a_missing_recipe_is_found_before_anything_is_written(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB])
    key = next(i.key for i in [i async for i in store.list("")] if "/recipes/" in i.key)
    await store.delete([key])

    with pytest.raises(ObjectMissing, match=key):
        await anext(cat(store))


async def test_an_entry_that_does_not_keep_a_layer_cannot_be_written(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB])
    (info,) = [i async for i in store.list(entries_prefix(PROJECT, "main"))]
    key = parse_entry_key(info.key)
    assert key is not None
    stored = await store.get(info.key, limit_bytes=1 << 20)
    entry = decode_entry(unseal(stored.data).payload, PROJECT, key)
    blobs = (msgspec.structs.replace(entry.blobs[0], recipe=None), *entry.blobs[1:])
    await store.put(info.key, seal(Envelope(encode_entry(replace(entry, blobs=blobs)))))

    with pytest.raises(CorruptData, match=f"does not keep the layer {entry.blobs[0].digest}"):
        await anext(cat(store))


async def test_a_service_that_is_not_cached_is_a_miss(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB])

    with pytest.raises(NotCached, match="no cached image for db in main; cached are web"):
        await anext(cat(store, "db"))


async def test_whoever_stops_reading_leaves_nothing_running(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB])
    archive = cat(store)
    await anext(archive)

    await archive.aclose()

    assert asyncio.all_tasks() == {asyncio.current_task()}
