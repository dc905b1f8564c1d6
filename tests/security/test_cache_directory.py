"""A cache directory may lie in a checkout that anybody made: nothing leads out of it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from longshore.core.archive import TRAILER, small_member
from longshore.core.digests import Digest, digest_of
from longshore.core.layout import OCI_INDEX
from longshore.engine.cache_directory import CacheDirectory
from longshore.errors import CorruptData, EngineError

INDEX = b'{"schemaVersion":2,"manifests":[]}'
BLOB = b"a blob"
NAME = digest_of(BLOB).removeprefix("sha256:")


async def archive(*members: tuple[str, bytes]) -> AsyncGenerator[bytes, None]:
    for name, data in members:
        yield small_member(name, data)
    yield TRAILER


async def load(directory: Path, *members: tuple[str, bytes], index: bytes = INDEX) -> None:
    members = members or ((f"blobs/sha256/{NAME}", BLOB),)
    await CacheDirectory(str(directory)).load(archive(*members), index)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    (folder / "sha256").mkdir(parents=True)
    (folder / "victim").write_bytes(b"precious")
    return folder


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    folder = tmp_path / "inside"
    folder.mkdir()
    return folder


WHOLE = {
    f"blobs/sha256/{NAME}": BLOB,
    "index.json": INDEX,
    "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
}


async def test_a_directory_is_made_and_filled(tmp_path: Path) -> None:
    await load(tmp_path / "new" / "cache")

    assert files(tmp_path / "new" / "cache") == WHOLE


async def test_the_directory_itself_may_be_a_link(inside: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(inside)

    await load(tmp_path / "link")

    assert files(inside) == WHOLE


@pytest.mark.parametrize("place", ["blobs", "blobs/sha256"])
async def test_a_folder_that_is_a_link_is_not_written_through(
    place: str, inside: Path, outside: Path
) -> None:
    link = inside / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside)
    (inside / "index.json").write_bytes(b"as it was")

    with pytest.raises(EngineError, match="cannot be used"):
        await load(inside)

    assert files(outside) == {"victim": b"precious"}
    assert files(inside) == {"index.json": b"as it was"}


async def test_files_that_are_links_are_replaced_and_not_written_through(
    inside: Path, outside: Path
) -> None:
    (inside / "blobs" / "sha256").mkdir(parents=True)
    for name in WHOLE:
        (inside / name).symlink_to(outside / "victim")

    assert await CacheDirectory(str(inside)).sizes() == {}
    await load(inside)

    assert files(inside) == WHOLE
    assert files(outside) == {"victim": b"precious"}


@pytest.mark.parametrize(
    "name",
    ["../victim", "/etc/passwd", "blobs/sha256/../../../victim", "blobs/sha256/x", "index.json"],
)
async def test_only_digests_become_names_of_files(name: str, inside: Path, outside: Path) -> None:
    with pytest.raises(CorruptData, match="not a SHA-256 digest"):
        await load(inside, (name, b"hostile"))

    assert files(inside) == {}
    assert files(outside) == {"victim": b"precious"}


async def test_a_blob_that_comes_twice_is_refused(inside: Path) -> None:
    member = (f"blobs/sha256/{NAME}", BLOB)

    with pytest.raises(EngineError, match="cannot be used"):
        await load(inside, member, member)

    assert files(inside) == {}


async def test_links_are_not_read(inside: Path, outside: Path) -> None:
    (outside / "index").write_bytes(INDEX)
    (inside / "index.json").symlink_to(outside / "index")

    with pytest.raises(EngineError, match="cannot be used"):
        await CacheDirectory(str(inside)).read()


async def test_a_pipe_in_place_of_the_index_does_not_hang(inside: Path) -> None:
    os.mkfifo(inside / "index.json")

    with pytest.raises(EngineError, match="no regular file"):
        await CacheDirectory(str(inside)).read()


async def test_an_index_of_absurd_size_is_not_read_whole(inside: Path) -> None:
    with (inside / "index.json").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(CorruptData, match="larger than any"):
        await CacheDirectory(str(inside)).read()


async def test_indexes_that_lead_to_each_other_without_end_are_refused(inside: Path) -> None:
    def store(data: bytes) -> None:
        folder = inside / "blobs" / "sha256"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / digest_of(data).removeprefix("sha256:")).write_bytes(data)

    def index(*below: bytes) -> bytes:
        described: Sequence[dict[str, object]] = [
            {"mediaType": OCI_INDEX, "digest": digest_of(data), "size": len(data)} for data in below
        ]
        return json.dumps({"schemaVersion": 2, "manifests": described}).encode()

    top = index()
    for _ in range(100):
        store(top)
        top = index(top)
    (inside / "index.json").write_bytes(top)

    with pytest.raises(CorruptData, match="leads through more than"):
        await CacheDirectory(str(inside)).read()


async def test_what_was_stored_is_read_back(inside: Path) -> None:
    await load(inside)
    directory = CacheDirectory(str(inside))

    contents = await directory.read()

    assert contents is not None
    assert contents.documents == {digest_of(INDEX): INDEX}
    assert await directory.sizes() == {Digest(f"sha256:{NAME}"): len(BLOB)}
