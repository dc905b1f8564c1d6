"""What an S3 store must do besides what every store must."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping

import pytest
from tests.store.contract import StoreContract
from tests.support.raw_s3 import RawBucket
from tests.support.s3_fixtures import open_s3_store

from longshore.store.s3 import S3Store


class S3Contract(StoreContract):
    """A subclass brings `endpoint_url`, and the buckets `s3_bucket` and `shared_bucket`.

    The tests have their own roots in one bucket: a server takes its time for a new one.
    """

    @pytest.fixture
    def raw(self, endpoint_url: str, shared_bucket: str) -> Iterator[RawBucket]:
        raw = RawBucket(endpoint_url, shared_bucket, f"{uuid.uuid4().hex}/root/")
        yield raw
        raw.close()

    @pytest.fixture
    async def store(self, endpoint_url: str, raw: RawBucket) -> AsyncIterator[S3Store]:
        self.raw_bucket = raw
        root = raw.prefix.removesuffix("/")
        async with open_s3_store(endpoint_url, raw.bucket, prefix=root) as store:
            yield store

    async def raw_put(self, key: str, data: bytes) -> None:
        await self.raw_bucket.put(key, data)

    async def raw_objects(self) -> Mapping[str, bytes]:
        return await self.raw_bucket.objects()

    async def test_what_others_keep_beside_the_root_is_not_seen(
        self, store: S3Store, raw: RawBucket
    ) -> None:
        raw.prefix = raw.prefix.removesuffix("root/")
        for key in ("root-evil/a", "rootless", "a", "root/a/mine", "other/root/a/b"):
            await raw.put(key, b"x")

        assert [info.key async for info in store.list("")] == ["a/mine"]
        assert [folder async for folder in store.list_folders("")] == ["a"]

    async def test_what_is_no_object_of_longshore_is_not_listed(
        self, store: S3Store, raw: RawBucket
    ) -> None:
        for key in ("a/with spaces", "a/with+plus", "a/ümlaut", "a/100%", "a b/x", "a/mine"):
            await raw.put(key, b"x")

        assert [info.key async for info in store.list("")] == ["a/mine"]
        assert [folder async for folder in store.list_folders("")] == ["a"]

    @pytest.mark.parametrize("prefix", ["", "one", "one/two", "with spaces+and%20signs/ü"])
    async def test_any_prefix_can_be_the_root(
        self, endpoint_url: str, s3_bucket: str, prefix: str
    ) -> None:
        raw = RawBucket(endpoint_url, s3_bucket)
        async with open_s3_store(endpoint_url, s3_bucket, prefix=prefix) as store:
            await store.put("a/b~2F", b"x")
            upload = await store.create_upload("a/c")
            await store.complete_upload(upload, [await store.upload_part(upload, 1, 0, b"x")])

            root = f"{prefix}/" if prefix else ""
            assert set(await raw.objects()) == {f"{root}a/b~2F", f"{root}a/c"}
            assert sorted([info.key async for info in store.list("")]) == ["a/b~2F", "a/c"]
            assert [folder async for folder in store.list_folders("")] == ["a"]
            assert store.url("a/c") == f"s3://{s3_bucket}/{root}a/c"
            await store.delete(["a/b~2F", "a/c"])
        assert await raw.objects() == {}
        raw.close()

    async def test_an_abort_frees_the_upload(self, store: S3Store, raw: RawBucket) -> None:
        upload = await store.create_upload("p/1")
        await store.upload_part(upload, 1, 0, b"x")
        assert await raw.uploads() == ["p/1"]

        await store.abort_upload(upload)

        assert await raw.uploads() == []

    async def test_a_completion_that_failed_is_not_taken_for_one_that_succeeded(
        self, store: S3Store
    ) -> None:
        await store.put("p/1", b"of another length")
        upload = await store.create_upload("p/1")
        part = await store.upload_part(upload, 1, 0, b"x")
        await store.abort_upload(upload)

        with pytest.raises(Exception, match="p/1"):
            await store.complete_upload(upload, [part])

    async def test_a_closed_store_is_not_used(self, store: S3Store) -> None:
        await store.put("a", b"x")
        await store.close()
        await store.close()

        with pytest.raises(RuntimeError, match="closed"):
            await store.get("a", limit_bytes=1)
