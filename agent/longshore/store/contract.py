"""What longshore asks of a place that keeps objects.

Keys are relative to the store's root and use `/`; their segments come from `core.keys`, so they
never are empty, `.` or `..`, and hold only `A-Z a-z 0-9 . _ - ~`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from msgspec import Struct


class ObjectInfo(Struct, frozen=True):
    """One stored object, as a listing shows it."""

    key: str
    size_bytes: int
    modified_at: datetime
    """The store's own time, aware UTC: never a client's clock."""


class StoredObject(Struct, frozen=True):
    """A small object, read whole."""

    data: bytes
    modified_at: datetime


class Upload(Struct, frozen=True):
    """A multipart upload that has begun; invisible to readers until it is completed."""

    key: str
    upload_id: str


class UploadedPart(Struct, frozen=True):
    """What the store answered to one part; needed to complete the upload."""

    number: int
    etag: str


class PendingUpload(Struct, frozen=True):
    """A multipart upload that is neither completed nor aborted."""

    upload: Upload
    started_at: datetime
    """The store's own time, aware UTC."""


Guard = Callable[[], None]
"""Raises if something must not be done any more."""


class Store(ABC):
    """Objects under keys.

    Promises that every store keeps and `tests/store/contract.py` checks:

    * read after write: what `put` or `complete_upload` returned for is seen by every later call;
    * atomicity: a reader sees the whole object or none, even if the writer is cancelled or killed;
    * nothing is swallowed: absence is `ObjectMissing` (or `None` where the signature says so),
      refusal is `AccessDenied` or `StoreError`, a passing fault is `StoreUnavailable`;
    * every method may be called concurrently, and may be called again after it failed.
    """

    @abstractmethod
    async def put(self, key: str, data: bytes, *, guard: Guard | None = None) -> None:
        """Store a small object whole.

        Args:
            guard: asked as late as can be, once for each attempt: what it raises ends the put, of
                which nothing has left then. So a process that slept does nothing out of date.
        """

    @abstractmethod
    async def get(self, key: str, *, limit_bytes: int) -> StoredObject:
        """Read a small object whole.

        Raises:
            ObjectMissing: there is none.
            ObjectTooLarge: it is larger than `limit_bytes`; it has not been read.
        """

    @abstractmethod
    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        """Append bytes `start … start + length` of an object to `into`.

        `into` may hold the beginning of that range already: reading goes on behind it. So a read
        that was cut short is resumed by calling again with the same arguments, and a failure
        leaves in `into` only bytes that are right.

        Raises:
            ObjectMissing: there is no such object.
            CorruptData: the object ends before `start + length`.
        """

    @abstractmethod
    async def head(self, key: str) -> ObjectInfo | None:
        """Look up one object; `None` if there is none."""

    @abstractmethod
    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Go through all objects whose key begins with `prefix`, in no particular order.

        `prefix` is empty or ends in `/`. Objects written or deleted meanwhile may be missing or
        present; all others come exactly once, however many there are.
        """

    @abstractmethod
    def list_folders(self, prefix: str) -> AsyncIterator[str]:
        """Go through the distinct next segments of the keys below `prefix`, without `/`."""

    @abstractmethod
    async def delete(self, keys: Sequence[str], *, guard: Guard | None = None) -> None:
        """Delete objects; those that are not there count as deleted.

        Args:
            guard: as of `put`; asked before each request, if it takes several.

        Raises:
            StoreError: some could not be deleted; the others are.
        """

    @abstractmethod
    async def create_upload(self, key: str) -> Upload:
        """Begin a multipart upload."""

    @abstractmethod
    async def upload_part(
        self, upload: Upload, number: int, offset: int, data: bytes
    ) -> UploadedPart:
        """Send one part.

        Args:
            number: 1 to 10,000. Sending a number again replaces that part.
            offset: where in the object the part begins. All parts but the last are of one size,
                at least 5 MiB (an S3 limit).
        """

    @abstractmethod
    async def complete_upload(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        """Make the object visible, from all its parts, in the order of their numbers."""

    @abstractmethod
    async def abort_upload(self, upload: Upload) -> None:
        """Give up an upload and free its parts; one that is already gone counts as aborted."""

    @abstractmethod
    def list_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        """Go through the uploads below `prefix` that have begun and not ended."""

    @abstractmethod
    async def now(self) -> datetime:
        """Tell the store's time, aware UTC, the clock that `modified_at` comes from."""

    @abstractmethod
    def url(self, key: str = "") -> str:
        """Name an object for people, as `s3://bucket/prefix/key` or `file:///dir/key`."""

    async def close(self) -> None:
        """Release connections. The store cannot be used afterwards."""
        return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
