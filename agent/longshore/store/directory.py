"""A store in a folder, local or on a network file system that several machines mount.

A key is a path below the root. Everything is written to a file in `.longshore-tmp`, flushed to the
disk and renamed, so a reader never sees half an object, and a power cut leaves it whole or not at
all. A writer that was killed leaves its file in `.longshore-tmp`, where nothing looks.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from longshore.errors import CorruptData, ObjectTooLarge, StoreError
from longshore.store.contract import (
    Guard,
    ObjectInfo,
    PendingUpload,
    Store,
    StoredObject,
    Upload,
    UploadedPart,
)
from longshore.store.files import (
    flush_folder,
    modified_at,
    new_file,
    opened,
    opened_for_writing,
    publish,
    read_all,
    translated,
    write_all,
)
from longshore.store.safe_keys import check_key, check_part_number, check_prefix, is_key

TEMPORARY = ".longshore-tmp"

_KEY_SUFFIX = ".key"  # of the file beside an upload that says where it will be

_READ_BYTES = 4 * 1024 * 1024  # one hop to a thread each
_LISTED_AT_ONCE = 1000


class DirectoryStore(Store):
    """Objects as files below `root`, which the first put creates."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._temporary = self._root / TEMPORARY

    async def put(self, key: str, data: bytes, *, guard: Guard | None = None) -> None:
        # A thread cannot be stopped: a put that is cancelled goes on, and ends whole or not at all.
        await asyncio.to_thread(self._put, key, data, guard)

    async def get(self, key: str, *, limit_bytes: int) -> StoredObject:
        return await asyncio.to_thread(self._get, key, limit_bytes)

    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        # The thread of a cancelled read goes on, so only this coroutine may write to `into`.
        while len(into) < length:
            wanted = min(length - len(into), _READ_BYTES)
            into += await asyncio.to_thread(self._read, key, start + len(into), wanted)

    async def head(self, key: str) -> ObjectInfo | None:
        return await asyncio.to_thread(self._head, key)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        check_prefix(prefix)
        infos = self._walk(prefix)
        while batch := await asyncio.to_thread(self._take, infos):
            for info in batch:
                yield info

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        check_prefix(prefix)
        for folder in await asyncio.to_thread(self._folders, prefix):
            yield folder

    async def delete(self, keys: Sequence[str], *, guard: Guard | None = None) -> None:
        await asyncio.to_thread(self._delete, keys, guard)

    async def create_upload(self, key: str) -> Upload:
        return await asyncio.to_thread(self._create_upload, key)

    async def upload_part(
        self, upload: Upload, number: int, offset: int, data: bytes
    ) -> UploadedPart:
        check_part_number(number)
        await asyncio.to_thread(self._write_part, upload, offset, data)
        return UploadedPart(number, f"{offset}-{len(data)}")

    async def complete_upload(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        await asyncio.to_thread(self._complete, upload, _size_of(parts))

    async def abort_upload(self, upload: Upload) -> None:
        await asyncio.to_thread(self._abort, upload)

    async def list_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        check_prefix(prefix)
        for pending in await asyncio.to_thread(self._uploads, prefix):
            yield pending

    async def now(self) -> datetime:
        """Tell the file system's time: on a network file system, its server's."""
        return await asyncio.to_thread(self._now)

    def url(self, key: str = "") -> str:
        return (self._root / key).as_uri()

    async def close(self) -> None:
        """Do nothing: no file stays open between two calls."""

    def _path(self, key: str) -> Path:
        check_key(key)
        if key.partition("/")[0] == TEMPORARY:
            raise ValueError(f"not a store key: {key!r}")
        return self._root / key

    def _put(self, key: str, data: bytes, guard: Guard | None) -> None:
        path = self._path(key)
        with translated("write", path):
            temporary, file = new_file(self._temporary)
            try:
                try:
                    write_all(file, data, 0)
                    os.fsync(file)
                finally:
                    os.close(file)
                if guard is not None:
                    guard()
                publish(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def _get(self, key: str, limit_bytes: int) -> StoredObject:
        path = self._path(key)
        with translated("read", path), opened(path) as file:
            status = os.fstat(file)
            if status.st_size > limit_bytes:
                raise ObjectTooLarge(
                    f"{path} holds {status.st_size} bytes, more than the {limit_bytes} allowed"
                )
            data = read_all(file, 0, status.st_size)
            return StoredObject(data, modified_at(status))

    def _read(self, key: str, start: int, length: int) -> bytes:
        path = self._path(key)
        with translated("read", path), opened(path) as file:
            data = read_all(file, start, length)
            if len(data) < length:
                size = os.fstat(file).st_size
                raise CorruptData(f"{path} ends after {size} bytes, want {start + length}")
            return data

    def _head(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        with translated("read", path):
            try:
                status = path.stat(follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return None
            if not stat.S_ISREG(status.st_mode):
                return None
            return ObjectInfo(key, status.st_size, modified_at(status))

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        """Go through the objects below `prefix`; what vanishes meanwhile is left out."""
        folders = [prefix]
        while folders:
            folder = folders.pop()
            for entry in self._scan(folder):
                key = folder + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(key + "/")
                elif entry.is_file(follow_symlinks=False):
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    yield ObjectInfo(key, status.st_size, modified_at(status))

    def _take(self, infos: Iterator[ObjectInfo]) -> Sequence[ObjectInfo]:
        with translated("list", self._root):
            return tuple(islice(infos, _LISTED_AT_ONCE))

    def _folders(self, prefix: str) -> Sequence[str]:
        with translated("list", self._root / prefix):
            # A folder counts if there is an object in it: writers and deleters leave empty ones.
            return tuple(
                entry.name
                for entry in self._scan(prefix)
                if entry.is_dir(follow_symlinks=False)
                and next(self._walk(f"{prefix}{entry.name}/"), None) is not None
            )

    def _scan(self, prefix: str) -> Sequence[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / prefix) as entries:
                return tuple(
                    entry
                    for entry in entries
                    if is_key(entry.name) and (prefix or entry.name != TEMPORARY)
                )
        except FileNotFoundError:
            return ()
        except NotADirectoryError:
            if prefix:
                return ()
            raise

    def _delete(self, keys: Sequence[str], guard: Guard | None) -> None:
        paths = [self._path(key) for key in keys]
        failed: dict[Path, StoreError] = {}
        for path in paths:
            try:
                with translated("delete", path), suppress(FileNotFoundError, NotADirectoryError):
                    if guard is not None:
                        guard()
                    path.unlink()
            except StoreError as error:
                failed[path] = error
        for folder in {path.parent for path in paths}:
            with translated("delete", folder):
                self._flush_or_remove(folder)
        if failed:
            first = next(iter(failed.values()))
            if len(failed) == 1:
                raise first
            raise type(first)(f"{len(failed)} objects are left, the first: {first}") from first

    def _flush_or_remove(self, folder: Path) -> None:
        """Make deletions last; an empty folder goes, and a put that needs it makes it again."""
        with suppress(FileNotFoundError, NotADirectoryError):
            while folder != self._root:
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    pass
                except OSError:
                    break
                folder = folder.parent
            flush_folder(folder)

    def _create_upload(self, key: str) -> Upload:
        path = self._path(key)
        with translated("write", path):
            temporary, file = new_file(self._temporary)
            os.close(file)
            temporary.with_suffix(_KEY_SUFFIX).write_text(key)
            return Upload(key, temporary.name)

    def _write_part(self, upload: Upload, offset: int, data: bytes) -> None:
        with translated("write", self._path(upload.key)):
            try:
                with opened_for_writing(self._pending(upload)) as file:
                    write_all(file, data, offset)
                    # Each part is flushed in its own thread, so that the disk is busy from the
                    # first one on and completing has nothing left to wait for.
                    os.fdatasync(file)
            except FileNotFoundError as error:
                raise self._gone(upload) from error

    def _complete(self, upload: Upload, size_bytes: int) -> None:
        path = self._path(upload.key)
        with translated("write", path):
            try:
                with opened_for_writing(self._pending(upload)) as file:
                    os.truncate(file, size_bytes)  # a part sent again may have become shorter
                    os.utime(file)  # the object begins to be now, not with its last part
                    os.fsync(file)
            except FileNotFoundError as error:
                info = self._head(upload.key)
                if info is not None and info.size_bytes == size_bytes:
                    return  # completed before
                raise self._gone(upload) from error
            publish(self._pending(upload), path)
            self._pending(upload).with_suffix(_KEY_SUFFIX).unlink(missing_ok=True)

    def _abort(self, upload: Upload) -> None:
        with translated("delete", self._pending(upload)):
            self._pending(upload).unlink(missing_ok=True)
            self._pending(upload).with_suffix(_KEY_SUFFIX).unlink(missing_ok=True)

    def _uploads(self, prefix: str) -> Sequence[PendingUpload]:
        found: list[PendingUpload] = []
        with translated("list", self._temporary):
            for path in self._temporary.glob(f"*{_KEY_SUFFIX}"):
                with suppress(FileNotFoundError):  # it has ended meanwhile
                    key, started_at = path.read_text(), modified_at(path.stat())
                    if key.startswith(prefix) and is_key(key):
                        found.append(PendingUpload(Upload(key, path.stem), started_at))
        return found

    def _now(self) -> datetime:
        with translated("write", self._temporary):
            try:
                # Asking for the time does not make the root: its name may be mistyped.
                temporary, file = new_file(self._temporary) if self._root.is_dir() else (None, -1)
            except OSError as error:
                if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
                    raise
                temporary, file = None, -1
            if temporary is None:
                return datetime.now(UTC)  # noqa: TID251  # nothing to write to: no other clock
            try:
                return modified_at(os.fstat(file))
            finally:
                os.close(file)
                temporary.unlink(missing_ok=True)

    def _pending(self, upload: Upload) -> Path:
        if "/" in upload.upload_id or not is_key(upload.upload_id):
            raise ValueError(f"not an upload of this store: {upload.upload_id!r}")
        return self._temporary / upload.upload_id

    def _gone(self, upload: Upload) -> StoreError:
        return StoreError(f"the upload of {self.url(upload.key)} is gone; start another")


def _size_of(parts: Sequence[UploadedPart]) -> int:
    """Add up the parts of an upload, whose etags say where each begins and how long it is."""
    size = 0
    for part in sorted(parts, key=lambda part: part.number):
        offset, length = (int(field) for field in part.etag.split("-"))
        if offset != size:
            raise ValueError(f"part {part.number} begins at {offset}, want {size}")
        size += length
    return size
