"""A store in an S3 bucket, on AWS or on any compatible server.

What a server may lack is not used: no conditional writes, no checksum trailers, no tagging. Nothing
is retried here (see `store/retry.py`); every failure leaves as one of longshore's errors (see
`store/s3_errors.py`).
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from typing import Any

from longshore.core.foreign_words import endpoint_name
from longshore.errors import (
    AccessDenied,
    ObjectMissing,
    ObjectTooLarge,
    StoreError,
    StoreUnavailable,
)
from longshore.store.clock import seconds_since_boot
from longshore.store.contract import (
    Guard,
    ObjectInfo,
    PendingUpload,
    Store,
    StoredObject,
    Upload,
    UploadedPart,
)
from longshore.store.encryption import NO_ENCRYPTION, Encryption
from longshore.store.s3_answers import check_range, objects_of, to_second, uploads_of
from longshore.store.s3_connection import S3Connection
from longshore.store.s3_errors import (
    ReadRefused,
    Request,
    Unsupported,
    UploadGone,
    not_deleted,
    not_s3,
)
from longshore.store.safe_keys import check_key, check_part_number, check_prefix, is_key

DELETE_BATCH = 1000  # S3 limit of DeleteObjects

_CLOCK_STALE = timedelta(minutes=1)


class S3Store(Store):
    """Objects in a bucket, below a prefix.

    Args:
        prefix: what all keys begin with, without a slash at its end; may be empty.
        endpoint_url: of a server that is not AWS.
        profile: of the AWS configuration; the default chain of credentials without it.
        concurrency: the size of the connection pool. More operations than that wait for each other,
            so put a `LimitStore` of the same size around the store.
        connect_timeout: for a connection.
        read_timeout: for a pause in an answer.
        encryption: what the server is asked for with every object.
        session: an aiobotocore session to use in place of a new one.
        elapsed: a clock of seconds that never goes back.
    """

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str = "",
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        concurrency: int,
        connect_timeout: timedelta,
        read_timeout: timedelta,
        encryption: Encryption = NO_ENCRYPTION,
        session: Any = None,
        elapsed: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._bucket = bucket
        self._root = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint = endpoint_name(endpoint_url)
        self._encryption = encryption
        self._connection = S3Connection(
            endpoint_url=endpoint_url,
            region=region,
            profile=profile,
            concurrency=concurrency,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            encryption=encryption,
            session=session,
            elapsed=elapsed,
        )
        self._bucket_seen = False
        self._part_sizes: dict[str, dict[int, int]] = {}

    async def put(self, key: str, data: bytes, *, guard: Guard | None = None) -> None:
        with self._connection.guarded(guard):
            response = await self._call(
                "put_object",
                "write",
                key,
                size_bytes=len(data),
                Body=io.BytesIO(data),
                **self._encryption.of_new_objects,
            )
        if "ETag" not in response:  # a login page says 200 too
            raise not_s3(self._request("write", key))
        if not self._encryption.is_confirmed(response):
            raise StoreError(
                f"{self.url(key)} was written, but the store does not say that it encrypted it as"
                " --sse, --kms-key or --sse-customer-key asks; it may not know that kind"
            )

    async def get(self, key: str, *, limit_bytes: int) -> StoredObject:
        response = await self._read("get_object", key, **self._encryption.of_their_bytes)
        data = bytearray()
        async with response["Body"] as body:
            size = response.get("ContentLength", 0)
            if size <= limit_bytes:
                await self._connection.receive(
                    body, self._request("read", key), data, limit_bytes + 1
                )
        if max(size, len(data)) > limit_bytes:
            raise ObjectTooLarge(
                f"{self.url(key)} holds {max(size, len(data))} bytes, "
                f"more than the {limit_bytes} allowed"
            )
        with self._connection.translated(self._request("read", key)):
            return StoredObject(bytes(data), to_second(response["LastModified"]))

    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        first, end = start + len(into), start + length
        if first >= end:
            return
        response = await self._read(
            "get_object",
            key,
            Range=f"bytes={first}-{end - 1}",
            **self._encryption.of_their_bytes,
        )
        async with response["Body"] as body:
            check_range(response, self.url(key), first, end)
            await self._connection.receive(body, self._request("read", key), into, length)
        if len(into) < length:
            raise StoreUnavailable(
                f"cannot read {self.url(key)}: the answer ended {length - len(into)} bytes early; "
                "try again"
            )

    async def head(self, key: str) -> ObjectInfo | None:
        try:
            response = await self._read("head_object", key, **self._encryption.of_their_bytes)
        except ObjectMissing:
            await self._check_bucket()
            return None
        with self._connection.translated(self._request("read", key)):
            modified_at = to_second(response["LastModified"])
            return ObjectInfo(key, response["ContentLength"], modified_at)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        request = self._request("list", prefix)
        async with aclosing(self._pages(prefix)) as pages:
            async for page in pages:
                with self._connection.translated(request):
                    infos = objects_of(page, self._root)
                for info in infos:
                    yield info

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        seen = set()
        async with aclosing(self._pages(prefix, Delimiter="/")) as pages:
            async for page in pages:
                for item in page.get("CommonPrefixes", ()):
                    folder = item["Prefix"].removeprefix(self._root + prefix).removesuffix("/")
                    if is_key(folder) and folder not in seen:
                        seen.add(folder)
                        yield folder

    async def delete(self, keys: Sequence[str], *, guard: Guard | None = None) -> None:
        for key in keys:
            check_key(key)
        failures: dict[str, str] = {}
        with self._connection.guarded(guard):
            for batch in _batches(keys):
                failures |= await self._delete_batch(batch)
        if failures:
            raise not_deleted(failures, self._request("delete", next(iter(failures))))

    async def create_upload(self, key: str) -> Upload:
        response = await self._call(
            "create_multipart_upload", "write", key, **self._encryption.of_new_objects
        )
        with self._connection.translated(self._request("write", key)):
            upload = Upload(key, response["UploadId"])
        self._part_sizes[upload.upload_id] = {}
        return upload

    async def upload_part(
        self, upload: Upload, number: int, offset: int, data: bytes
    ) -> UploadedPart:
        check_part_number(number)
        response = await self._call(
            "upload_part",
            "write",
            upload.key,
            size_bytes=len(data),
            UploadId=upload.upload_id,
            PartNumber=number,
            Body=io.BytesIO(data),
            **self._encryption.of_their_bytes,
        )
        self._part_sizes.setdefault(upload.upload_id, {})[number] = len(data)
        with self._connection.translated(self._request("write", upload.key)):
            return UploadedPart(number, response["ETag"])

    async def complete_upload(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        """Make the object visible.

        If the answer to a completion is lost, the upload is gone when it is tried again (AWS: 404
        NoSuchUpload), though all is well. So after a failure the object is looked up: if it is
        there and as long as the parts that were sent, the upload is complete. Ceph RGW answers 500
        to the completion of an aborted upload, which looks like a passing fault and is retried.
        """
        ordered = sorted(parts, key=lambda part: part.number)
        wire_parts = [{"PartNumber": part.number, "ETag": part.etag} for part in ordered]
        try:
            await self._call(
                "complete_multipart_upload",
                "write",
                upload.key,
                UploadId=upload.upload_id,
                MultipartUpload={"Parts": wire_parts},
                **self._encryption.of_their_bytes,  # a bucket's policy may ask for it
            )
        except (UploadGone, StoreUnavailable):
            if not await self._is_complete(upload, parts):
                raise
        self._part_sizes.pop(upload.upload_id, None)

    async def abort_upload(self, upload: Upload) -> None:
        """Give up an upload. A part that is still on its way may survive it: stop those first."""
        with suppress(UploadGone):
            await self._call(
                "abort_multipart_upload", "delete", upload.key, UploadId=upload.upload_id
            )
        self._part_sizes.pop(upload.upload_id, None)

    async def list_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        check_prefix(prefix)
        request = self._request("list", prefix)
        arguments: dict[str, Any] = {"Prefix": self._root + prefix}
        while True:
            page = await self._call("list_multipart_uploads", "list", **arguments)
            with self._connection.translated(request):
                found = uploads_of(page, self._root)
            for pending in found:
                yield pending
            markers = page.get("NextKeyMarker"), page.get("NextUploadIdMarker")
            if not page.get("IsTruncated") or not any(markers):
                return
            arguments |= {"KeyMarker": markers[0] or "", "UploadIdMarker": markers[1] or ""}

    async def now(self) -> datetime:
        """Tell the store's time, from the `Date` of its newest answer: whole seconds, rounded down.

        An answer older than a minute is not relied on. Any answer tells the time, a refusal too.
        """
        if self._connection.time(stale_after=_CLOCK_STALE) is None:
            try:
                await self._call("list_objects_v2", "list", Prefix=self._root, MaxKeys=1)
            except StoreUnavailable:
                raise
            except StoreError:
                if self._connection.time(stale_after=_CLOCK_STALE) is None:
                    raise
        now = self._connection.time(stale_after=_CLOCK_STALE)
        if now is None:
            raise StoreError(f"{self.url()} does not tell its time; check the endpoint")
        return now

    def url(self, key: str = "") -> str:
        return f"s3://{self._bucket}/{self._root}{key}"

    async def close(self) -> None:
        await self._connection.close()

    async def _call(
        self,
        operation: str,
        verb: str,
        key: str | None = None,
        *,
        size_bytes: int = 0,
        **arguments: Any,
    ) -> dict[str, Any]:
        if key is not None:
            check_key(key)
            arguments["Key"] = self._root + key
        response = await self._connection.call(
            operation, self._request(verb, key or ""), size_bytes=size_bytes, **arguments
        )
        self._bucket_seen = True
        return response

    async def _read(self, operation: str, key: str, **arguments: Any) -> dict[str, Any]:
        """Ask for an object, and if that is refused, find out whether there is one.

        Credentials that may list with a prefix only, as those of `longshore credentials`, are told
        403 of an object that does not exist. Listed by its key, it shows.

        Raises:
            ObjectMissing: there is none.
            AccessDenied: there is one, or that cannot be told.
        """
        try:
            return await self._call(operation, "read", key, **arguments)
        except ReadRefused as refused:
            try:
                page = await self._page(key)
            except StoreUnavailable:
                raise
            except StoreError:
                raise refused from None
            if any(item.get("Key") == self._root + key for item in page.get("Contents", ())):
                raise
            raise ObjectMissing(f"{self.url(key)} is not in the store") from refused

    async def _pages(self, prefix: str, **arguments: Any) -> AsyncGenerator[dict[str, Any], None]:
        check_prefix(prefix)
        while True:
            page = await self._page(prefix, **arguments)
            yield page
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken")
            if not token or token == arguments.get("ContinuationToken"):
                raise StoreError(
                    f"cannot list {self.url(prefix)}: the store does not say where the list goes on"
                )
            arguments["ContinuationToken"] = token

    async def _page(self, prefix: str, **arguments: Any) -> dict[str, Any]:
        page = await self._call("list_objects_v2", "list", Prefix=self._root + prefix, **arguments)
        if "IsTruncated" not in page and "Name" not in page:
            raise not_s3(self._request("list", prefix))
        return page

    async def _delete_batch(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Delete up to 1,000 objects, and tell which ones are left, with the store's reason."""
        objects = [{"Key": self._root + key} for key in keys]
        try:
            answer = await self._call(
                "delete_objects", "delete", Delete={"Objects": objects, "Quiet": True}
            )
        except Unsupported:
            for key in keys:
                await self._call("delete_object", "delete", key)
            return {}
        return {
            error.get("Key", "").removeprefix(self._root): error.get("Code", "")
            for error in answer.get("Errors", ())
            if error.get("Code") not in {"NoSuchKey", "NotFound"}
        }

    async def _is_complete(self, upload: Upload, parts: Sequence[UploadedPart]) -> bool:
        sizes = self._part_sizes.get(upload.upload_id, {})
        if not all(part.number in sizes for part in parts):
            return False
        try:
            info = await self.head(upload.key)
        except StoreError:
            return False  # the caller raises what the completion itself failed with
        return info is not None and info.size_bytes == sum(sizes[part.number] for part in parts)

    async def _check_bucket(self) -> None:
        """Make sure that a 404 was about an object: the answer to a HEAD has no error code."""
        if not self._bucket_seen:
            with suppress(AccessDenied):
                await self._call("head_bucket", "read")
            self._bucket_seen = True

    def _request(self, verb: str, key: str = "") -> Request:
        return Request(
            verb,
            self.url(key),
            self._bucket,
            self._endpoint,
            has_customer_key=self._encryption.customer_key is not None,
        )


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(keys), DELETE_BATCH):
        yield keys[first : first + DELETE_BATCH]
