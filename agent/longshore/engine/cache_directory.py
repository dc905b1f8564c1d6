"""A cache directory of BuildKit (`type=local`): an OCI layout in the file system.

BuildKit adds blobs and replaces `index.json`, and never removes what that does not lead to any
more (BuildKit v0.25, `cache/remotecache/local`). So only what the index leads to is read here, and
what is written is complete before the index that names it.

It gives and takes archives as an engine does, so that the same code moves both.

A directory can lie in a checkout, and then whoever wrote that made it. So no symbolic link in it is
followed, neither to read nor to write; the directory itself may be one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from msgspec import Struct

from longshore.core.archive import (
    TRAILER,
    ArchiveReader,
    Member,
    MemberEnd,
    blob_name,
    member_header,
    padding,
)
from longshore.core.digests import Digest, digest_of, hex_of, parse_digest
from longshore.core.layout import INDEX_FILE, LAYOUT_FILE, Tree, belongs_in_entry, walk
from longshore.errors import CorruptData, EngineError

_BLOCK_BYTES = 4 << 20
_MAX_DOCUMENT_BYTES = 8 << 20
_MAX_DEPTH = 16  # BuildKit's indexes lead to manifests, and those to blobs
_FILE_MODE, _BLOB_MODE = 0o644, 0o444  # BuildKit's own

T = TypeVar("T")


class CacheContents(Struct, frozen=True):
    """What the index of a cache directory leads to.

    Attributes:
        index: digest of `index.json`, which is among the documents.
        tree: its documents and blobs, with their media types.
    """

    index: Digest
    documents: dict[Digest, bytes]
    tree: Tree


class CacheDirectory:
    """A cache directory, which need not be there."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._blobs = self._path / "blobs" / "sha256"

    async def read(self) -> CacheContents | None:
        """Read the index and all documents that it leads to; `None` if there is no cache.

        Raises:
            CorruptData: the directory lacks something that its index leads to.
            EngineError: it cannot be read.
        """
        return await self._in_thread(self._read)

    async def sizes(self) -> dict[Digest, int]:
        """List the blobs that are there with their sizes, whether the index leads to them or not.

        Raises:
            EngineError: the directory cannot be read.
        """
        return await self._in_thread(self._sizes)

    async def save(self, blobs: Sequence[Digest]) -> AsyncGenerator[bytes, None]:
        """Stream an archive of blobs, in blocks of a few MiB.

        Raises:
            EngineError: a blob cannot be read.
        """
        blocks = self._archive(blobs)
        while block := await self._in_thread(next, blocks, b""):
            yield block

    async def index(self) -> Digest | None:
        """Tell the digest of `index.json`; `None` if there is none.

        Raises:
            CorruptData: it is absurdly large.
            EngineError: it cannot be read.
        """
        try:
            return digest_of(await self._in_thread(_read_small, self._path / INDEX_FILE))
        except EngineError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    async def read_blob(self, blob: Digest) -> AsyncGenerator[bytes, None]:
        """Stream a blob as it is, in blocks of a few MiB.

        Raises:
            EngineError: it cannot be read.
        """
        blocks = self._blocks(blob)
        while block := await self._in_thread(next, blocks, b""):
            yield block

    async def load(self, archive: AsyncIterator[bytes], index: bytes | None = None) -> None:
        """Write the blobs of an archive, and then the index that leads to them.

        Whatever interrupts it, the directory keeps the index that it had, as it does if no new one
        is given. Blobs that the new index does not lead to stay: they may be somebody else's.

        Raises:
            EngineError: the directory cannot be written.
        """
        scratch = await self._in_thread(self._make_scratch)
        unpacking = _Unpacking(scratch)
        try:
            async for block in archive:
                await self._in_thread(unpacking.feed, block)
            unpacking.finish()
            await self._in_thread(self._accept, scratch, index)
        finally:
            unpacking.close()
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        try:
            return await asyncio.to_thread(call, *arguments)
        except OSError as error:
            raise EngineError(
                f"the cache directory {self._path} cannot be used: {error.strerror or error}"
            ) from error

    def _read(self) -> CacheContents | None:
        try:
            index = _read_small(self._path / INDEX_FILE)
        except FileNotFoundError:
            return None
        root = digest_of(index)
        documents = {root: index}
        for _ in range(_MAX_DEPTH):
            tree = walk([root], documents)
            small = [d for d, b in tree.blobs.items() if belongs_in_entry(b.media_type, b.size)]
            if not small and not tree.absent:
                self._check_sizes(tree)
                return CacheContents(root, documents, tree)
            for digest in (*tree.absent, *small):
                documents[digest] = self._document(digest)
        raise CorruptData(f"the index of {self._path} leads through more than {_MAX_DEPTH} others")

    def _document(self, digest: Digest) -> bytes:
        path = self._blob(digest)
        try:
            data = _read_small(path)
        except FileNotFoundError:
            raise CorruptData(f"{path} is missing, though the cache's index leads to it") from None
        if digest_of(data) != digest:
            raise CorruptData(f"{path} is not what its name says")
        return data

    def _check_sizes(self, tree: Tree) -> None:
        sizes = self._sizes()
        for digest, descriptor in tree.blobs.items():
            if sizes.get(digest) != descriptor.size:
                state = "is cut short" if digest in sizes else "is missing"
                raise CorruptData(
                    f"{self._blob(digest)} {state}, though the cache's index leads to it"
                )

    def _sizes(self) -> dict[Digest, int]:
        try:
            with os.scandir(self._blobs) as found:
                return {
                    Digest(f"sha256:{file.name}"): file.stat(follow_symlinks=False).st_size
                    for file in found
                    if file.is_file(follow_symlinks=False)
                }
        except FileNotFoundError:
            return {}

    def _archive(self, blobs: Sequence[Digest]) -> Iterator[bytes]:
        for digest in blobs:
            with _opened(self._blob(digest)) as file:
                size = os.fstat(file.fileno()).st_size
                yield member_header(blob_name(digest), size)
                left = size
                while left:
                    block = file.read(min(_BLOCK_BYTES, left))
                    if not block:
                        raise EngineError(f"{self._blob(digest)} became shorter while it was read")
                    left -= len(block)
                    yield block if left else block + padding(size)
        yield TRAILER

    def _blocks(self, blob: Digest) -> Iterator[bytes]:
        with _opened(self._blob(blob)) as file:
            while block := file.read(_BLOCK_BYTES):
                yield block

    def _make_scratch(self) -> Path:
        self._path.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".longshore-", dir=self._path))

    def _accept(self, scratch: Path, index: bytes | None) -> None:
        with _folder(self._path) as root, _folder(scratch) as made:
            with _folder("blobs", root) as blobs, _folder("sha256", blobs) as place:
                for name in os.listdir(made):
                    os.chmod(name, _BLOB_MODE, dir_fd=made)
                    os.replace(name, name, src_dir_fd=made, dst_dir_fd=place)
            if index is None:
                return
            for name, data in (LAYOUT_FILE, (INDEX_FILE, index)):
                (scratch / name).write_bytes(data)
                os.chmod(name, _FILE_MODE, dir_fd=made)
                os.replace(name, name, src_dir_fd=made, dst_dir_fd=root)

    def _blob(self, digest: Digest) -> Path:
        return self._blobs / hex_of(digest)


@contextlib.contextmanager
def _folder(path: Path | str, parent: int | None = None) -> Iterator[int]:
    """Open a folder to work in it, making it if it has a parent; a link there is refused."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if parent is not None:
        flags |= os.O_NOFOLLOW
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, dir_fd=parent)
    folder = os.open(path, flags, dir_fd=parent)
    try:
        yield folder
    finally:
        os.close(folder)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file, and nothing that is called like one: no link, no pipe, no device."""
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise EngineError(f"{path} is no regular file, so it is not read")
        yield file


def _read_small(path: Path) -> bytes:
    with _opened(path) as file:
        data = file.read(_MAX_DOCUMENT_BYTES + 1)
    if len(data) > _MAX_DOCUMENT_BYTES:
        raise CorruptData(f"{path} is larger than any document of a cache")
    return data


class _Unpacking:
    """The blobs of an archive, as files of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reader = ArchiveReader()
        self._file: BinaryIO | None = None

    def feed(self, block: bytes) -> None:
        """Take more of the archive."""
        for event in self._reader.feed(block):
            if isinstance(event, Member):
                digest = parse_digest(f"sha256:{event.name.rpartition('/')[2]}")
                self._file = (self._folder / hex_of(digest)).open("xb")
            elif isinstance(event, MemberEnd):
                self.close()
            elif self._file is not None:
                self._file.write(event)

    def finish(self) -> None:
        """Check that the archive came to its end, and so that whoever made it vouches for it."""
        self._reader.finish()

    def close(self) -> None:
        """Close the file that is being written."""
        if self._file is not None:
            self._file.close()
            self._file = None
