"""Whatever becomes of what is stored: the right images or a miss, in bounded work, and no crash."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.support.cache import Notes, export, import_, reading, service
from tests.support.fake_engine import FakeEngine
from tests.support.mutations import damaged, mutated_objects
from tests.support.tars import config_json

from longshore import output
from longshore.core.archive import ArchiveReader, Member, MemberEnd
from longshore.core.digests import digest_of
from longshore.core.layout import image_tree, walk
from longshore.core.tarsplit import TarJoiner, TarSplitter
from longshore.errors import CorruptData, EngineError, LongshoreError, NotCached
from longshore.ops.cat import cat_service
from longshore.ops.compare import compare_service
from longshore.ops.listing import list_entries
from longshore.ops.showing import show_service
from longshore.output_json import plain, to_text
from longshore.store.contract import ObjectInfo, StoredObject
from longshore.store.memory import MemoryStore

WEB, WORKER = service("web", "web:1"), service("worker", "worker:1")
SERVICES = [WEB, WORKER]
NOW = datetime(2026, 3, 1, tzinfo=UTC)
MAX_CALLS, MAX_BYTES = 200, 30 << 20

some = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes here
)


class BoundedStore(MemoryStore):
    """A store that fails the test when more is asked of it than any honest import needs."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(lambda: NOW)
        self._objects = {key: StoredObject(data, NOW) for key, data in objects.items()}
        self.calls = self.bytes_read = 0

    def _count(self, size_bytes: int = 0) -> None:
        self.calls += 1
        self.bytes_read += size_bytes
        assert self.calls <= MAX_CALLS
        assert self.bytes_read <= MAX_BYTES

    async def get(self, key: str, *, limit_bytes: int) -> StoredObject:
        stored = await super().get(key, limit_bytes=limit_bytes)
        self._count(len(stored.data))
        return stored

    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        self._count(length)
        await super().read(key, start, length, into)

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        self._count()
        return super().list(prefix)


def machine() -> FakeEngine:
    """A machine on which two services with a common base were built."""
    engine = FakeEngine()
    base = ("base", {"bin/sh": b"#!" * 3000})
    noise = random.Random(1).randbytes(300_000)
    engine.build([base, ("web", {"app": noise}), ("env", None)], "web:1", "web:latest", "base:1")
    engine.build([base, ("worker", {"job": b"1" * 1000})], "worker:1")
    return engine


@cache
def original() -> tuple[dict[str, bytes], dict[str, frozenset[str]]]:
    """Return what an honest export stores, and the tags of each image that an import loads."""

    async def make() -> tuple[dict[str, bytes], dict[str, frozenset[str]]]:
        store = MemoryStore(lambda: NOW)
        await export(machine(), store, SERVICES)
        fresh = FakeEngine()
        await import_(fresh, store, SERVICES)
        images = {name: frozenset(image.tags) for name, image in fresh.images.items()}
        return {key: one.data for key, one in store._objects.items()}, images

    return asyncio.run(make())


stores = st.deferred(lambda: mutated_objects(original()[0]))


@some
@given(stores)
def test_an_import_loads_the_right_images_or_misses(objects: dict[str, bytes]) -> None:
    store, fresh, notes = BoundedStore(objects), FakeEngine(), Notes()

    result = asyncio.run(import_(fresh, store, SERVICES, notes=notes))

    # What the engine refuses, such as a parent that is none, it refuses when images are there.
    outcomes = [done.outcome for done in result.services]
    for done in result.services:
        if done.outcome == "hit":
            assert set(done.images) <= set(fresh.images)
    if outcomes == ["miss", "miss"]:
        assert fresh.images == {}
    for warning in notes.warnings:
        assert isinstance(warning, CorruptData | NotCached | EngineError)
        assert "\n" not in str(warning)
        assert len(str(warning)) < 1000


@some
@given(st.data())
def test_damaged_bytes_never_change_what_is_loaded(data: st.DataObject) -> None:
    objects, images = original()
    key = data.draw(st.sampled_from(sorted(objects)))
    store = BoundedStore({**objects, key: data.draw(damaged(objects[key]))})
    fresh = FakeEngine()

    result = asyncio.run(import_(fresh, store, SERVICES))

    for done in result.services:
        assert done.outcome in ("hit", "miss")
    for name, image in fresh.images.items():
        assert image.tags <= images[name]


async def _list(store: MemoryStore) -> tuple[str, Any]:
    entries = await list_entries(reading(store), all_scopes=True, platform=None)
    return output.list_text(entries, full=False, width=80), plain(entries)


async def _show(store: MemoryStore) -> tuple[str, Any]:
    shown = await show_service(reading(store), "web", None)
    return output.show_text(shown, full=True), plain(shown)


async def _diff(store: MemoryStore) -> tuple[str, Any]:
    compared = await compare_service(machine(), reading(store), WEB)
    return output.diff_text(compared, full=True), plain(compared)


async def _cat(store: MemoryStore) -> tuple[str, Any]:
    size = 0
    async for block in cat_service(
        reading(store), "web", None, window_bytes=1 << 20, report=Notes()
    ):
        size += len(block)
    return f"{size}", size


@pytest.mark.parametrize("look", [_list, _show, _diff, _cat])
@some
@given(stores)
def test_looking_at_it_shows_it_or_says_why_not(
    look: Callable[[MemoryStore], Awaitable[tuple[str, Any]]], objects: dict[str, bytes]
) -> None:
    try:
        text, document = asyncio.run(_awaited(look(BoundedStore(objects))))
    except LongshoreError as error:
        text, document = str(error), None

    assert all(character.isprintable() or character == "\n" for character in text)
    assert to_text({"document": document}).isascii()


async def _awaited(work: Awaitable[tuple[str, Any]]) -> tuple[str, Any]:
    return await work


@some
@given(stores)
def test_an_export_on_top_of_it_can_be_imported(objects: dict[str, bytes]) -> None:
    async def carry() -> None:
        store = BoundedStore(objects)
        await export(machine(), store, SERVICES)
        fresh, notes = FakeEngine(), Notes()
        result = await import_(fresh, store, SERVICES, notes=notes)
        # What a valid recipe says of a pack is believed until somebody reads it (format.md, "What
        # is checked"). What is damaged for all to see, missing, or an entry is not.
        spoilt = any(
            "/entries/" not in key and objects.get(key, data) != data
            for key, data in original()[0].items()
        )
        for done in result.services:
            assert done.outcome == "hit" or spoilt, (done, notes.warnings)

    asyncio.run(carry())


@settings(max_examples=200)
@given(st.data())
def test_a_layout_is_followed_or_refused(data: st.DataObject) -> None:
    config = config_json([b"layer"])
    manifest = (
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":'
        b'{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},'
        b'"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"%s","size":5}]}'
    ) % (digest_of(config).encode(), len(config), digest_of(b"layer").encode())
    changed = data.draw(damaged(manifest))
    documents = {digest_of(changed): changed, digest_of(config): config}

    try:
        tree = walk([digest_of(changed)], documents)
        image_tree(digest_of(changed), [digest_of(b"layer")], documents)
    except CorruptData:
        return

    assert digest_of(changed) in tree.documents


@settings(max_examples=200)
@given(st.binary(max_size=3000), st.integers(1, 700))
def test_any_bytes_are_an_archive_or_refused(data: bytes, step: int) -> None:
    reader = ArchiveReader()
    size = open_members = 0
    try:
        for start in range(0, len(data), step):
            for event in reader.feed(data[start : start + step]):
                if isinstance(event, Member):
                    open_members += 1
                elif isinstance(event, MemberEnd):
                    open_members -= 1
                else:
                    size += len(event)
        reader.finish()
    except EngineError:
        pass

    assert open_members in (0, 1)
    assert size <= len(data)


@settings(max_examples=200)
@given(st.binary(max_size=2000), st.binary(max_size=2000), st.integers(1, 700))
def test_any_two_streams_are_joined_or_refused_and_split_the_same_again(
    headers: bytes, payload: bytes, step: int
) -> None:
    joiner, out = TarJoiner(), bytearray()
    streams = [headers, payload]
    while True:
        wanted = 1 if joiner.wants_payload else 0
        piece, streams[wanted] = streams[wanted][:step], streams[wanted][step:]
        if not piece:
            break
        pieces = joiner.feed_payload(piece) if wanted else joiner.feed_header(piece)
        out += b"".join(pieces)
    if any(streams):
        return
    try:
        joiner.finish()
    except CorruptData:
        return

    split = TarSplitter().feed(bytes(out))
    assert tuple(b"".join(part) for part in split) == (headers, payload)
