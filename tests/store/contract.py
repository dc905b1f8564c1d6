"""What every store must do. A subclass brings the store, and a way around it to its objects."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta

import pytest

from longshore.errors import CorruptData, ObjectMissing, ObjectTooLarge, StoreError
from longshore.store.contract import Store, Upload, UploadedPart

MIB = 1024 * 1024
PART_BYTES = 5 * MIB  # S3 limit: only the last part may be smaller
ODD_KEYS = (
    "feature~2Fx/entries/web~20app/linux-arm64-v8/0192",
    "~/~~/~7E",
    "..x/...y/.hidden",
    "-/--/_",
    "UPPER/upper/Upper",
    "a/b",
    "a-b",
    "a.b/c",
    "ab",
    "x" * 200 + "/" + "y" * 200 + "/" + "z" * 200,
)
NOT_KEYS = ("", "/a", "a/", "a//b", ".", "a/..", "../a", "a/./b", "a b", "a\\b", "ä", "a\0", "a\n")


class StoreContract(ABC):
    """The promises of `longshore.store.contract.Store`, one test each."""

    uploads_tell_time = True
    """Whether the server says when an upload has begun."""

    @abstractmethod
    async def raw_put(self, key: str, data: bytes) -> None:
        """Write an object without the store."""

    @abstractmethod
    async def raw_objects(self) -> Mapping[str, bytes]:
        """Read all objects without the store."""

    async def test_what_was_put_is_stored_as_it_is(self, store: Store) -> None:
        data = bytes(range(256)) * 40

        await store.put("a/b/c", data)

        assert await self.raw_objects() == {"a/b/c": data}

    async def test_what_is_stored_is_read_as_it_is(self, store: Store) -> None:
        data = random.Random(1).randbytes(100_000)
        await self.raw_put("a/b/c", data)

        assert (await store.get("a/b/c", limit_bytes=len(data))).data == data

    async def test_an_empty_object_is_an_object(self, store: Store) -> None:
        await store.put("a/empty", b"")

        assert (await store.get("a/empty", limit_bytes=0)).data == b""
        assert [(info.key, info.size_bytes) async for info in store.list("")] == [("a/empty", 0)]

    async def test_a_second_put_replaces_the_first(self, store: Store) -> None:
        await store.put("a/b", b"a longer first version")
        await store.put("a/b", b"second")

        assert await self.raw_objects() == {"a/b": b"second"}

    async def test_getting_what_is_not_there_says_so(self, store: Store) -> None:
        await store.put("a/b/c", b"x")

        for key in ("a/b/d", "a/b", "a", "a/b/c/d"):
            with pytest.raises(ObjectMissing, match=key):
                await store.get(key, limit_bytes=10)

    async def test_an_object_over_the_limit_is_refused(self, store: Store) -> None:
        await store.put("a/b", b"0123456789")

        assert (await store.get("a/b", limit_bytes=10)).data == b"0123456789"
        with pytest.raises(ObjectTooLarge, match="10 bytes") as caught:
            await store.get("a/b", limit_bytes=9)
        assert not isinstance(caught.value, ObjectMissing)

    async def test_every_way_to_an_object_tells_the_same_time(self, store: Store) -> None:
        await store.put("a/b", b"x")

        got = (await store.get("a/b", limit_bytes=10)).modified_at
        looked_up = await store.head("a/b")
        listed = [info.modified_at async for info in store.list("a/")]
        assert looked_up is not None
        assert got.tzinfo is UTC
        assert [got] == [looked_up.modified_at] == listed

    async def test_the_time_of_the_store_is_that_of_its_objects(self, store: Store) -> None:
        before = await store.now()
        await store.put("a/b", b"x")
        after = await store.now()

        info = await store.head("a/b")
        assert info is not None
        assert before.tzinfo is UTC
        tolerance = timedelta(seconds=2)  # a Date header has whole seconds
        assert before - tolerance <= info.modified_at <= after + tolerance
        assert after - before < timedelta(seconds=30)

    async def test_a_range_is_read(self, store: Store) -> None:
        data = random.Random(2).randbytes(3 * MIB)
        await self.raw_put("p/x", data)

        for start, length in ((0, 1), (0, len(data)), (1_000_000, 1_500_000), (len(data) - 1, 1)):
            into = bytearray()
            await store.read("p/x", start, length, into)
            assert into == data[start : start + length]

    async def test_a_read_goes_on_behind_what_is_there(self, store: Store) -> None:
        await self.raw_put("p/x", b"0123456789")
        into = bytearray(b"AB")

        await store.read("p/x", 3, 5, into)

        assert into == b"AB567"

    async def test_a_read_that_is_complete_changes_nothing(self, store: Store) -> None:
        await self.raw_put("p/x", b"0123456789")
        into = bytearray(b"345")

        await store.read("p/x", 3, 3, into)

        assert into == b"345"

    async def test_a_range_behind_the_end_is_damage(self, store: Store) -> None:
        await self.raw_put("p/x", b"0123456789")

        for start, length in ((5, 6), (10, 1), (100, 5)):
            into = bytearray()
            with pytest.raises(CorruptData, match="p/x ends") as caught:
                await store.read("p/x", start, length, into)
            assert not isinstance(caught.value, ObjectMissing)
            assert into == b"0123456789"[start:][: len(into)]

    async def test_a_range_of_what_is_not_there_says_so(self, store: Store) -> None:
        with pytest.raises(ObjectMissing, match="p/x"):
            await store.read("p/x", 0, 1, bytearray())

    async def test_head_tells_the_size_or_that_there_is_nothing(self, store: Store) -> None:
        await store.put("a/b/c", b"0123456789")

        info = await store.head("a/b/c")
        assert info is not None
        assert (info.key, info.size_bytes) == ("a/b/c", 10)
        for key in ("a/b/d", "a/b", "a", "a/b/c/d"):
            assert await store.head(key) is None

    async def test_names_of_every_allowed_form_survive(self, store: Store) -> None:
        for key in ODD_KEYS:
            await store.put(key, key.encode())

        assert sorted([info.key async for info in store.list("")]) == sorted(ODD_KEYS)
        assert await self.raw_objects() == {key: key.encode() for key in ODD_KEYS}
        for key in ODD_KEYS:
            assert (await store.get(key, limit_bytes=1000)).data == key.encode()
        await store.delete(ODD_KEYS)
        assert await self.raw_objects() == {}

    @pytest.mark.parametrize("key", NOT_KEYS)
    async def test_a_name_that_leads_elsewhere_is_refused(self, store: Store, key: str) -> None:
        with pytest.raises(ValueError, match="not a store"):
            await store.put(key, b"x")
        with pytest.raises(ValueError, match="not a store"):
            await store.read(key, 0, 1, bytearray())
        with pytest.raises(ValueError, match="not a store"):
            await store.delete(["fine", key])
        if key:
            with pytest.raises(ValueError, match="not a store"):
                [info async for info in store.list(key + "/")]
        assert await self.raw_objects() == {}

    async def test_a_listing_holds_what_is_below_its_prefix_and_nothing_else(
        self, store: Store
    ) -> None:
        below = {"a/b/1", "a/b/c/2", "a/b/c/d/3"}
        for key in {*below, "a/b-evil/x", "a/bb/y", "a/b.c", "z/a/b/w"}:
            await store.put(key, b"x")

        assert {info.key async for info in store.list("a/b/")} == below

    async def test_a_listing_of_nothing_is_empty(self, store: Store) -> None:
        assert [info async for info in store.list("")] == []
        assert [info async for info in store.list("a/b/")] == []
        assert [folder async for folder in store.list_folders("a/")] == []

    async def test_folders_are_listed_once_each(self, store: Store) -> None:
        for key in ("s/one/a", "s/one/b/c", "s/two~2F/x", "s/object", "t/three/x"):
            await store.put(key, b"x")

        assert sorted([folder async for folder in store.list_folders("s/")]) == ["one", "two~2F"]
        assert sorted([folder async for folder in store.list_folders("")]) == ["s", "t"]

    async def test_a_folder_is_gone_with_its_last_object(self, store: Store) -> None:
        await store.put("s/one/two/x", b"x")
        await store.put("s/three/x", b"x")

        await store.delete(["s/one/two/x"])

        assert [folder async for folder in store.list_folders("s/")] == ["three"]
        await store.put("s/one/two/x", b"again")
        assert sorted([folder async for folder in store.list_folders("s/")]) == ["one", "three"]

    async def test_more_objects_than_fit_a_page_or_a_batch(self, store: Store) -> None:
        keys = [f"many/{number:04}/x~2F" for number in range(1100)]
        await self.raw_fill(store, [*keys, "other/kept"])

        listed = [info.key async for info in store.list("many/")]
        folders = [folder async for folder in store.list_folders("many/")]
        await store.delete(keys[:1001])

        assert sorted(listed) == keys
        assert sorted(folders) == [f"{number:04}" for number in range(1100)]
        assert sorted(await self.raw_objects()) == [*keys[1001:], "other/kept"]

    async def test_what_is_not_there_counts_as_deleted(self, store: Store) -> None:
        await store.put("a/b", b"x")

        await store.delete([])
        await store.delete(["a/b", "a/c", "d", "a/b/c"])
        await store.delete(["a/b"])

        assert await self.raw_objects() == {}

    async def test_parts_that_arrive_in_any_order_make_one_object(self, store: Store) -> None:
        data = random.Random(3).randbytes(3 * PART_BYTES + 12_345)
        upload = await store.create_upload("p/packs/1")

        parts = await self.upload_parts(store, upload, data, order=(2, 0, 3, 1))
        assert await self.raw_objects() == {}
        await store.complete_upload(upload, parts)

        assert await self.raw_objects() == {"p/packs/1": data}

    async def test_an_upload_of_one_small_part_makes_an_object(self, store: Store) -> None:
        upload = await store.create_upload("p/1")
        part = await store.upload_part(upload, 1, 0, b"small")
        await store.complete_upload(upload, [part])

        assert await self.raw_objects() == {"p/1": b"small"}

    async def test_a_part_that_is_sent_again_replaces_itself(self, store: Store) -> None:
        first = random.Random(4).randbytes(PART_BYTES)
        upload = await store.create_upload("p/1")
        await store.upload_part(upload, 1, 0, random.Random(5).randbytes(PART_BYTES))
        await store.upload_part(upload, 2, PART_BYTES, b"a longer last part")
        parts = [
            await store.upload_part(upload, 2, PART_BYTES, b"last"),
            await store.upload_part(upload, 1, 0, first),
        ]

        await store.complete_upload(upload, parts)

        assert await self.raw_objects() == {"p/1": first + b"last"}

    async def test_an_upload_is_invisible_until_it_is_complete(self, store: Store) -> None:
        upload = await store.create_upload("p/1")
        part = await store.upload_part(upload, 1, 0, b"x")

        assert await store.head("p/1") is None
        assert [info async for info in store.list("")] == []
        assert [folder async for folder in store.list_folders("")] == []
        await store.complete_upload(upload, [part])
        assert [info.key async for info in store.list("")] == ["p/1"]

    async def test_an_upload_that_is_aborted_was_never_there(self, store: Store) -> None:
        upload = await store.create_upload("p/1")
        part = await store.upload_part(upload, 1, 0, b"x")

        await store.abort_upload(upload)
        await store.abort_upload(upload)

        with pytest.raises(StoreError):
            await store.upload_part(upload, 1, 0, b"x")
        with pytest.raises(StoreError):
            await store.complete_upload(upload, [part])
        assert await self.raw_objects() == {}

    async def test_an_abort_leaves_an_older_object_alone(self, store: Store) -> None:
        await store.put("p/1", b"older")
        upload = await store.create_upload("p/1")
        await store.upload_part(upload, 1, 0, b"newer")

        await store.abort_upload(upload)

        assert await self.raw_objects() == {"p/1": b"older"}

    async def test_completing_again_after_a_lost_answer_succeeds(self, store: Store) -> None:
        upload = await store.create_upload("p/1")
        part = await store.upload_part(upload, 1, 0, b"data")
        await store.complete_upload(upload, [part])

        await store.complete_upload(upload, [part])

        assert await self.raw_objects() == {"p/1": b"data"}

    async def test_uploads_that_have_not_ended_are_listed_with_their_beginning(
        self, store: Store
    ) -> None:
        before = await store.now()
        pending = await store.create_upload("a/p/1")
        other = await store.create_upload("b/p/2")
        ended = await store.create_upload("a/p/3")
        part = await store.upload_part(ended, 1, 0, b"whole")
        await store.complete_upload(ended, [part])

        listed = [found async for found in store.list_uploads("a/")]

        # A lost answer to a beginning leaves one more that nobody knows of.
        assert {found.upload.key for found in listed} == {pending.key}
        (started_at,) = (found.started_at for found in listed if found.upload == pending)
        assert abs(started_at - before) < timedelta(seconds=5) or not self.uploads_tell_time
        for upload in (pending, other):
            await store.abort_upload(upload)
        left = [found.upload async for found in store.list_uploads("")]
        assert not {pending, other, ended}.intersection(left)

    async def test_what_a_guard_forbids_is_not_done(self, store: Store) -> None:
        await store.put("p/1", b"older")

        def refuse() -> None:
            raise StoreError("too late")

        with pytest.raises(StoreError, match="too late"):
            await store.put("p/1", b"newer", guard=refuse)
        with pytest.raises(StoreError, match="too late"):
            await store.delete(["p/1"], guard=refuse)
        assert await self.raw_objects() == {"p/1": b"older"}
        asked: list[None] = []
        await store.put("p/2", b"allowed", guard=lambda: asked.append(None))
        await store.delete(["p/1"], guard=lambda: asked.append(None))
        await store.put("p/3", b"nobody asks")
        assert len(asked) >= 2
        assert (await self.raw_objects()).keys() == {"p/2", "p/3"}

    async def test_uploads_of_one_name_do_not_mix(self, store: Store) -> None:
        uploads = [await store.create_upload("p/1") for _ in range(2)]
        parts = [
            await store.upload_part(upload, 1, 0, data)
            for upload, data in zip(uploads, (b"one", b"the other"), strict=True)
        ]
        await store.abort_upload(uploads[1])
        await store.complete_upload(uploads[0], parts[:1])

        assert await self.raw_objects() == {"p/1": b"one"}

    @pytest.mark.parametrize("number", [0, -1, 10_001])
    async def test_a_part_number_that_s3_does_not_know_is_refused(
        self, store: Store, number: int
    ) -> None:
        upload = await store.create_upload("p/1")

        with pytest.raises(ValueError, match="part number"):
            await store.upload_part(upload, number, 0, b"x")

    async def test_a_cancelled_put_leaves_all_or_nothing(self, store: Store) -> None:
        data = random.Random(6).randbytes(2 * MIB)
        for steps in range(0, 40, 3):
            key = f"c/{steps}"
            task = asyncio.create_task(store.put(key, data))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

            try:
                assert (await store.get(key, limit_bytes=len(data))).data == data
            except ObjectMissing:
                assert task.cancelled()

    async def test_many_calls_at_once_do_not_disturb_each_other(self, store: Store) -> None:
        contents = {f"c/{number}/x": random.Random(number).randbytes(9_000) for number in range(40)}

        async def put_and_get(key: str) -> None:
            await store.put(key, contents[key])
            assert (await store.get(key, limit_bytes=10_000)).data == contents[key]

        async with asyncio.TaskGroup() as group:
            for key in contents:
                group.create_task(put_and_get(key))

        assert await self.raw_objects() == contents

    async def test_a_store_can_be_used_after_a_failure(self, store: Store) -> None:
        with pytest.raises(ObjectMissing):
            await store.get("a/b", limit_bytes=10)

        await store.put("a/b", b"x")

        assert (await store.get("a/b", limit_bytes=10)).data == b"x"

    async def test_an_address_names_the_object(self, store: Store) -> None:
        assert store.url("a/b~2Fc").endswith("/a/b~2Fc")
        assert "://" in store.url()

    async def raw_fill(self, store: Store, keys: Sequence[str]) -> None:
        """Store many small objects, by the quickest way."""
        turns = asyncio.Semaphore(16)

        async def put(key: str) -> None:
            async with turns:
                await store.put(key, b"x")

        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(put(key))

    async def upload_parts(
        self, store: Store, upload: Upload, data: bytes, *, order: tuple[int, ...]
    ) -> list[UploadedPart]:
        """Send the parts all at once, begun in this order, and answer in this order."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    store.upload_part(
                        upload,
                        index + 1,
                        index * PART_BYTES,
                        data[index * PART_BYTES :][:PART_BYTES],
                    )
                )
                for index in order
            ]
        return [task.result() for task in tasks]
