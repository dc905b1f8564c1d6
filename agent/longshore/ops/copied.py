"""Compare what a `COPY` made with what it would copy today, without the layer's contents.

The layer's headers are read, which are small; its contents are known by the names of their chunks.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator, Sequence

from blake3 import blake3
from msgspec import Struct

from longshore.core.copied_files import Copy, Kind, Origins, find_origins
from longshore.core.cutting import HEADERS
from longshore.core.digests import Digest
from longshore.core.entry import Entry
from longshore.core.layer_members import Member, read_members
from longshore.core.read_plan import plan_reads
from longshore.core.recipe import Chunk, Recipe
from longshore.ops.checkout import Checkout
from longshore.ops.fetching import Fetcher
from longshore.ops.reachable import Reading
from longshore.ops.rebuilding import GAP_BYTES, RANGE_BYTES, ChunkStream
from longshore.ops.recipes import recipes_for

_PAYLOAD = 1
MAX_HEADER_BYTES = 32 << 20
MAX_COMPARED_BYTES = 2 << 30
MAX_LISTED = 200_000
_EXECUTABLE = 0o100


class Layer(Struct, frozen=True):
    """What is known of a layer without its contents."""

    members: tuple[Member, ...]
    payload: tuple[Chunk, ...]


async def read_layer(
    reading: Reading,
    entry: Entry,
    digest: Digest,
    window_bytes: int,
    fetched: Callable[[int], None],
) -> Layer | None:
    """Read the headers of a layer; `None` if it is no plain tar, or has too many.

    Raises:
        LongshoreError: an object is missing or damaged, or the store failed.
    """
    recipe = (await recipes_for(reading, entry, [digest]))[digest]
    if recipe.method != "tar":
        return None
    headers = recipe.streams[HEADERS]
    size = sum(chunk.plain_bytes for chunk in headers)
    if size > MAX_HEADER_BYTES:
        return None
    only = Recipe(recipe.digest, size, "raw", (headers,))
    plan = plan_reads([only], max_range_bytes=RANGE_BYTES, max_gap_bytes=GAP_BYTES)
    data = bytearray()
    async with (
        Fetcher(
            reading.store, reading.project, plan.reads, window_bytes=window_bytes, fetched=fetched
        ) as fetcher,
        ChunkStream(reading.store, reading.project, plan.blobs[0].streams[0], fetcher) as stream,
    ):
        while len(data) < size:
            for chunk in await stream.next():
                data += chunk
    members = await asyncio.to_thread(read_members, bytes(data))
    payload = recipe.streams[_PAYLOAD]
    if members is None or sum(m.size for m in members) != sum(c.plain_bytes for c in payload):
        return None
    return Layer(members, payload)


def find_change(
    layer: Layer, copy: Copy, folder: str, checkout: Checkout, ignored: re.Pattern[str]
) -> str | None:
    """Name a file by which a copy made today certainly differs; `None` if there may be none.

    A file that is not there counts for nothing: something may make it before the build.

    Args:
        folder: in which the step ran.
        ignored: matches what `.dockerignore` may leave out.
    """

    def kind_of(path: str) -> Kind | None:
        found = checkout.look(path)
        if found is None:
            return None
        if stat.S_ISREG(found.st_mode):
            return "file"
        return "folder" if stat.S_ISDIR(found.st_mode) else "other"

    origins = find_origins(copy, layer.members, folder, kind_of)
    if not origins.paths:
        return None
    comparable = list(origins.paths)
    for index, (member, path) in enumerate(zip(layer.members, origins.paths, strict=True)):
        if path is None:
            continue
        found = checkout.look(path)
        if found is None or not stat.S_ISREG(found.st_mode):
            comparable[index] = None
        elif found.st_size != member.size or _mode_differs(member.mode, found.st_mode):
            return path
    if origins.is_whole and (new := _find_new(origins, layer, checkout, ignored)) is not None:
        return new
    return _compare_contents(layer, comparable, checkout)


def _mode_differs(one: int, other: int) -> bool:
    """Compare what git keeps of a mode; how the rest comes out depends on who packs the context."""
    return one >= 0 and bool(one & _EXECUTABLE) != bool(other & _EXECUTABLE)


def _find_new(
    origins: Origins, layer: Layer, checkout: Checkout, ignored: re.Pattern[str]
) -> str | None:
    """Name a file that would be copied and is not in the layer."""
    known = {path for path in origins.paths if path is not None}
    if origins.folder is not None:
        # Links and devices of the layer have no path; by their last names they are known enough.
        others = {posixpath.basename(m.path) for m in layer.members if m.kind == "other"}
        for path in _walk(checkout, origins.folder, ignored):
            if path not in known and posixpath.basename(path) not in others:
                return path
        return None
    for path in origins.names:
        if path not in known and not ignored.fullmatch(path):
            return path
    for folder, form in origins.patterns:
        for name, kind in checkout.names(folder):
            path = posixpath.join(folder, name)
            is_sent = kind == "file" and form.fullmatch(name) and not ignored.fullmatch(path)
            if is_sent and path not in known:
                return path
    return None


def _walk(checkout: Checkout, folder: str, ignored: re.Pattern[str]) -> Iterator[str]:
    """List the files below a folder that are certainly sent to a build."""
    waiting = [folder]
    listed = 0
    while waiting:
        inside = waiting.pop()
        for name, kind in checkout.names(inside):
            listed += 1
            path = posixpath.join(inside, name)
            if listed > MAX_LISTED:
                return
            if ignored.fullmatch(path):
                continue
            if kind == "folder":
                waiting.append(path)
            elif kind == "file":
                yield path


def _compare_contents(layer: Layer, paths: Sequence[str | None], checkout: Checkout) -> str | None:
    """Name a file of the first chunk that has other bytes in the checkout."""
    pieces = [
        _Piece(path, member.size)
        for member, path in zip(layer.members, paths, strict=True)
        if member.size
    ]
    at = compared = 0
    with _Opened(checkout) as opened:
        for chunk in layer.payload:
            left, parts = chunk.plain_bytes, []
            while left:
                piece = pieces[at]
                taken = min(left, piece.size - piece.used)
                parts.append((piece.path, piece.used, taken))
                piece.used += taken
                left -= taken
                at += piece.used == piece.size
            if any(path is None for path, _, _ in parts):
                continue
            compared += chunk.plain_bytes
            if compared > MAX_COMPARED_BYTES:
                return None
            data = opened.read([(path, start, size) for path, start, size in parts if path])
            if data is not None and blake3(data).digest() != chunk.id:
                return (
                    parts[0][0] if len(parts) == 1 else opened.newest([p for p, _, _ in parts if p])
                )
    return None


class _Piece(Struct):
    path: str | None
    size: int
    used: int = 0


class _Opened:
    """Read parts of files one after the other; the last file stays open."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._path: str | None = None
        self._file: int | None = None

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, parts: Sequence[tuple[str, int, int]]) -> bytes | None:
        """Read parts: path, start and size; `None` if one cannot be read in full."""
        data = bytearray()
        for path, start, size in parts:
            if path != self._path:
                self._close()
                self._path, self._file = path, self._checkout.open(path)
            if self._file is None:
                return None
            try:
                part = os.pread(self._file, size, start)
            except OSError:
                return None
            if len(part) != size:
                return None
            data += part
        return bytes(data)

    def newest(self, paths: Sequence[str]) -> str:
        """Choose the file that was changed last: of several, that is the likely one."""

        def changed_at(path: str) -> float:
            found = self._checkout.look(path)
            return found.st_mtime if found else 0.0

        return max(paths, key=changed_at)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._path = self._file = None
