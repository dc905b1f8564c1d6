"""The data root of an engine, read beside it: its images' documents and layers.

A graphdriver store of overlay2 has configs as files, and layers in two parts: their headers
(`core/tarsplit_json.py`), and the contents of their files in a folder. A containerd store has all
as files named by digest. Nothing is taken for true because it lies there: documents are checked
here, blobs by whoever cuts them. Whatever is not as expected is `NotOnDisk`, and `docker save`
then gives it. `docs/architecture.md`, "What engines do", names the sources.
"""

from __future__ import annotations

import contextlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial

from longshore.core.digests import Digest, digest_of, hex_of
from longshore.core.tarsplit_json import BLOCK_BYTES, Block, BlockPlanner
from longshore.engine.beneath import Beneath, read_into
from longshore.engine.contract import EngineInfo
from longshore.errors import CorruptData, NotOnDisk

MAX_DOCUMENT_BYTES = 8 << 20
_READ_BYTES = 64 << 10
_MAX_FACT_BYTES = 256  # `diff` and `cache-id`
_CACHE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_GRAPHDRIVER = "overlay2"
_CONTENT = b"io.containerd.content.v1.content/blobs/sha256"
# Where containerd keeps its files: below dockerd's root if dockerd runs it, or a root of its own.
_CONTENT_ROOTS = (b"containerd/daemon", b"containerd", b".")

Read = Callable[[], memoryview]
"""Reads the next bytes of a blob. May be called in any thread, beside others of the same blob."""


class BlobOnDisk(ABC):
    """A blob that may be read from the engine's disk; nothing is opened before it is.

    Attributes:
        digest: of what it has to be.
        lost: set it if the blob is given up: no further read is planned.
    """

    def __init__(self, digest: Digest) -> None:
        self.digest = digest
        self.lost = False

    @abstractmethod
    def reads(self) -> Iterator[Read]:
        """Open it, and plan how it is read, block by block.

        Raises:
            NotOnDisk: it is not there, or not what it has to be; each read may raise that, too.
        """

    @abstractmethod
    def close(self) -> None:
        """Close what is open of it, when all reads have returned; more than once does no harm."""


class EngineDisk(ABC):
    """What can be read of an engine's images.

    Attributes:
        path: of the data root, for people.
    """

    path: str

    @abstractmethod
    def document(self, digest: Digest) -> bytes:
        """Read a config, manifest or index.

        Raises:
            NotOnDisk: it is not there, or not what its name says.
        """

    def __init__(self, path: str, top: Beneath) -> None:
        self.path = path
        self._top = top

    def close(self) -> None:
        """Close what is open of it."""
        self._top.close()

    def _document(self, path: bytes, digest: Digest) -> bytes:
        with reading(str(digest)):
            data = self._top.read(path, limit_bytes=MAX_DOCUMENT_BYTES)
        if digest_of(data) != digest:
            raise NotOnDisk(f"{digest} is not what its name says")
        return data


class OverlayDisk(EngineDisk):
    """The disk of an engine with a graphdriver store."""

    def document(self, digest: Digest) -> bytes:
        """Read a config."""
        return self._document(b"image/overlay2/imagedb/content/sha256/" + _hex(digest), digest)

    def layer(self, chain_id: Digest, diff_id: Digest) -> BlobOnDisk:
        """Name a layer, and the stack whose top it is."""
        return _OverlayLayer(self._top, chain_id, diff_id)


class ContentDisk(EngineDisk):
    """The disk of an engine with a containerd store."""

    def document(self, digest: Digest) -> bytes:
        """Read a config, manifest or index."""
        return self._document(_hex(digest), digest)

    def has(self, digest: Digest) -> bool:
        """Tell whether a blob is there."""
        try:
            number, _ = self._top.open(_hex(digest))
        except (OSError, NotOnDisk):
            return False
        os.close(number)
        return True

    def blob(self, digest: Digest, size_bytes: int) -> BlobOnDisk:
        """Name a blob, and its size."""
        return _File(self._top, digest, size_bytes)


def open_disk(
    info: EngineInfo, data_root: str | None = None, containerd_root: str | None = None
) -> EngineDisk:
    """Open the data root of an engine, if what it holds can be read from here.

    Args:
        data_root: where it lies here; where the engine says by default.
        containerd_root: where containerd's may lie instead, if nobody says.

    Raises:
        NotOnDisk: it cannot be read, and the message says why.
    """
    if info.image_store == "graphdriver":
        if info.storage_driver != _GRAPHDRIVER:
            raise NotOnDisk(f"its storage driver is {info.storage_driver}, not {_GRAPHDRIVER}")
        if not info.native_diff:
            raise NotOnDisk("its layers do not lie in folders of their own (naive overlay diff)")
    path = data_root or info.data_root
    if path is None:
        raise NotOnDisk("the engine does not say where its data is")
    if info.image_store == "graphdriver":
        with reading(path), Beneath(path) as root:
            layers = root.enter(b"image/overlay2/layerdb/sha256")
            os.close(os.open(".", os.O_RDONLY, dir_fd=layers))  # whether it may be read
            root.enter(b"overlay2")
            return OverlayDisk(path, root.below(b"."))
    lost: NotOnDisk | None = None
    for place in [path] if data_root or containerd_root is None else [path, containerd_root]:
        try:
            with reading(place), Beneath(place) as root:
                return ContentDisk(place, _contents(root))
        except NotOnDisk as error:
            lost = lost or error
    assert lost is not None
    raise lost


def find_disk(info: EngineInfo, containerd_root: str) -> EngineDisk | None:
    """Open the data root where the engine says it is; `None` if that cannot be read from here.

    It mostly cannot: the engine is elsewhere, or its socket is all that was shared.
    """
    with contextlib.suppress(NotOnDisk):
        return open_disk(info, containerd_root=containerd_root)
    return None


def _contents(root: Beneath) -> Beneath:
    for place in _CONTENT_ROOTS:
        with contextlib.suppress(FileNotFoundError):
            return root.below(place + b"/" + _CONTENT)
    raise NotOnDisk("it holds no contents of containerd")


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Say of all that goes wrong what it concerns."""
    try:
        yield
    except NotOnDisk as error:
        raise NotOnDisk(f"{what}: {error}") from error
    except CorruptData as error:
        raise NotOnDisk(f"{what}: its tar-split file cannot be used: {error}") from error
    except OSError as error:
        raise NotOnDisk(f"{what}: {error.strerror or error}") from error
    except ValueError as error:  # a path with a null byte
        raise NotOnDisk(f"{what}: {error}") from error


class _OverlayLayer(BlobOnDisk):
    def __init__(self, top: Beneath, chain_id: Digest, diff_id: Digest) -> None:
        super().__init__(diff_id)
        self._top = top
        self._chain_id = chain_id
        self._headers = -1
        self._top_files: Beneath | None = None
        self._files: list[Beneath] = []  # those that no thread uses just now

    def reads(self) -> Iterator[Read]:
        planner = BlockPlanner()
        with reading(f"layer {self.digest}"):
            self._open(b"image/overlay2/layerdb/sha256/" + _hex(self._chain_id))
            offset = 0
            while data := os.pread(self._headers, _READ_BYTES, offset):
                offset += len(data)
                for block in planner.feed(data):
                    yield partial(self._fill, block)
            if (last := planner.finish()) is not None:
                yield partial(self._fill, last)

    def close(self) -> None:
        if self._headers >= 0:
            os.close(self._headers)
            self._headers = -1
        if self._top_files is not None:
            self._top_files.close()
        while self._files:
            self._files.pop().close()

    def _open(self, folder: bytes) -> None:
        if self._top.read(folder + b"/diff", limit_bytes=_MAX_FACT_BYTES) != self.digest.encode():
            raise NotOnDisk("another layer lies in its place")
        name = self._top.read(folder + b"/cache-id", limit_bytes=_MAX_FACT_BYTES)
        if not _CACHE_ID.fullmatch(name):
            raise NotOnDisk("its folder has no name that such folders have")
        self._headers, _ = self._top.open(folder + b"/tar-split.json.gz")
        self._top_files = self._top.below(b"overlay2/" + name + b"/diff")

    def _fill(self, block: Block) -> memoryview:
        view = memoryview(bytearray(block.size_bytes))
        for position, segment in block.segments:
            view[position : position + len(segment)] = segment
        if block.files:
            with reading(f"layer {self.digest}"):
                assert self._top_files is not None
                try:
                    files = self._files.pop()  # its folders are those where a thread stopped
                except IndexError:
                    files = self._top_files.again()
                try:
                    files.read_pieces(view, block.files)
                finally:
                    self._files.append(files)
        return view


class _File(BlobOnDisk):
    def __init__(self, top: Beneath, digest: Digest, size_bytes: int) -> None:
        super().__init__(digest)
        self._top = top
        self._size_bytes = size_bytes
        self._number = -1

    def reads(self) -> Iterator[Read]:
        with reading(f"layer {self.digest}"):
            self._number, size = self._top.open(_hex(self.digest))
            if size != self._size_bytes:
                raise NotOnDisk(f"it has {size:,} bytes instead of {self._size_bytes:,}")
        for offset in range(0, size, BLOCK_BYTES):
            yield partial(self._fill, offset, min(BLOCK_BYTES, size - offset))

    def close(self) -> None:
        if self._number >= 0:
            os.close(self._number)
            self._number = -1

    def _fill(self, offset: int, length: int) -> memoryview:
        view = memoryview(bytearray(length))
        with reading(f"layer {self.digest}"):
            read_into(self._number, view, offset)
        return view


def _hex(digest: Digest) -> bytes:
    return hex_of(digest).encode()
