from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from tests.store.contract import StoreContract

from longshore.store.contract import StoredObject
from longshore.store.memory import MemoryStore


class Clock:
    """A clock that only tests move."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self, clock: Clock) -> MemoryStore:
        self.clock = clock
        self.memory = MemoryStore(now=clock)
        return self.memory

    async def raw_put(self, key: str, data: bytes) -> None:
        self.memory._objects[key] = StoredObject(data, self.clock())

    async def raw_objects(self) -> Mapping[str, bytes]:
        return {key: stored.data for key, stored in self.memory._objects.items()}


async def test_an_upload_is_dated_when_it_is_completed(clock: Clock) -> None:
    store = MemoryStore(now=clock)
    upload = await store.create_upload("p/1")
    part = await store.upload_part(upload, 1, 0, b"x")
    clock.time += timedelta(hours=1)

    await store.complete_upload(upload, [part])

    info = await store.head("p/1")
    assert info is not None
    assert info.modified_at == clock.time == await store.now()


async def test_parts_with_a_hole_between_them_are_a_bug(clock: Clock) -> None:
    store = MemoryStore(now=clock)
    upload = await store.create_upload("p/1")
    parts = [await store.upload_part(upload, 2, 5, b"second")]

    with pytest.raises(ValueError, match="begins at 5, want 0"):
        await store.complete_upload(upload, parts)


async def test_what_is_deleted_during_a_listing_is_left_out(clock: Clock) -> None:
    store = MemoryStore(now=clock)
    for number in range(3):
        await store.put(f"a/{number}", b"x")

    listed = []
    async for info in store.list("a/"):
        listed.append(info.key)
        await store.delete([f"a/{number}" for number in range(3)])

    assert len(listed) == 1
