from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.store.contract import StoreContract

from longshore.errors import AccessDenied, ObjectMissing, StoreError, StoreUnavailable
from longshore.store.directory import TEMPORARY, DirectoryStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "not" / "there" / "yet"


class TestDirectoryStore(StoreContract):
    @pytest.fixture
    def store(self, root: Path) -> DirectoryStore:
        self.root = root
        return DirectoryStore(root)

    async def raw_put(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    async def raw_objects(self) -> Mapping[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and TEMPORARY not in path.parts
        }


async def test_nothing_temporary_is_left_behind(root: Path) -> None:
    store = DirectoryStore(root)
    await store.put("a/b", b"x")
    upload = await store.create_upload("a/c")
    await store.complete_upload(upload, [await store.upload_part(upload, 1, 0, b"x")])
    await store.abort_upload(await store.create_upload("a/d"))
    await store.now()

    assert list((root / TEMPORARY).iterdir()) == []


async def test_a_put_that_fails_leaves_no_file(root: Path) -> None:
    store = DirectoryStore(root)
    await store.put("a", b"an object where a folder would have to be")

    with pytest.raises(StoreError, match="a file stands where a folder belongs"):
        await store.put("a/b", b"x")

    assert list((root / TEMPORARY).iterdir()) == []


async def test_only_objects_are_listed(root: Path, tmp_path: Path) -> None:
    store = DirectoryStore(root)
    await store.put("a/b", b"x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "a" / "link").symlink_to(outside / "secret")
    (root / "linked").symlink_to(outside)
    (root / "a" / "name with spaces").write_bytes(b"x")
    (root / "empty").mkdir()
    os.mkfifo(root / "a" / "pipe")
    await store.create_upload("a/pending")

    assert [info.key async for info in store.list("")] == ["a/b"]
    assert [folder async for folder in store.list_folders("")] == ["a"]


async def test_links_and_pipes_are_not_objects(root: Path, tmp_path: Path) -> None:
    store = DirectoryStore(root)
    await store.put("a/b", b"x")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "a" / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(root / "a" / "pipe")

    for key in ("a/link", "a/pipe", "a"):
        with pytest.raises(ObjectMissing):
            await store.get(key, limit_bytes=100)
        with pytest.raises(ObjectMissing):
            await store.read(key, 0, 1, bytearray())
        assert await store.head(key) is None


async def test_the_temporary_folder_holds_no_keys(root: Path) -> None:
    store = DirectoryStore(root)

    with pytest.raises(ValueError, match="not a store key"):
        await store.put(f"{TEMPORARY}/x", b"x")


async def test_an_upload_of_another_store_is_refused(root: Path) -> None:
    store = DirectoryStore(root)
    upload = await store.create_upload("a/b")

    with pytest.raises(ValueError, match="not an upload"):
        await store.abort_upload(type(upload)("a/b", "../../etc/passwd"))


async def test_asking_does_not_make_the_root(root: Path) -> None:
    store = DirectoryStore(root)

    assert [info async for info in store.list("")] == []
    assert await store.head("a") is None
    assert (await store.now()).tzinfo is UTC

    assert not await asyncio.to_thread(root.exists)


async def test_the_time_is_that_of_the_file_system(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(root)
    await store.put("a", b"x")
    servers = datetime(2031, 5, 1, tzinfo=UTC)
    fstat = os.fstat

    def on_a_server_with_another_clock(file: int) -> os.stat_result:
        fields = list(fstat(file))
        fields[8] = int(servers.timestamp())  # st_mtime
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", on_a_server_with_another_clock)

    assert await store.now() == servers


async def test_an_upload_is_dated_when_it_is_completed(root: Path) -> None:
    store = DirectoryStore(root)
    upload = await store.create_upload("a/b")
    part = await store.upload_part(upload, 1, 0, b"x")
    os.utime(root / TEMPORARY / upload.upload_id, (0, 0))  # the part was written long ago

    await store.complete_upload(upload, [part])

    info = await store.head("a/b")
    assert info is not None
    assert await store.now() - info.modified_at < timedelta(minutes=1)


async def test_parts_with_a_hole_between_them_are_a_bug(root: Path) -> None:
    store = DirectoryStore(root)
    upload = await store.create_upload("a/b")
    parts = [await store.upload_part(upload, 2, 5, b"second")]

    with pytest.raises(ValueError, match="begins at 5, want 0"):
        await store.complete_upload(upload, parts)


async def test_a_put_survives_that_its_folder_is_deleted_meanwhile(root: Path) -> None:
    store = DirectoryStore(root)

    async def put_and_delete(name: str) -> None:
        for _ in range(50):
            await store.put(f"deep/er/{name}", b"x")
            await store.delete([f"deep/er/{name}"])

    async with asyncio.TaskGroup() as group:
        for name in ("a", "b", "c"):
            group.create_task(put_and_delete(name))


async def test_a_root_that_is_a_file_is_an_error_not_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(b"x")
    store = DirectoryStore(tmp_path / "root")

    with pytest.raises(StoreError, match="root"):
        [info async for info in store.list("")]
    with pytest.raises(StoreError, match="root"):
        await store.put("a", b"x")


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.ENOSPC, StoreError, "free some space"),
        (errno.EDQUOT, StoreError, "free some space"),
        (errno.EROFS, StoreError, "mount it writable"),
        (errno.EACCES, AccessDenied, "check who owns"),
        (errno.EPERM, AccessDenied, "check who owns"),
        (errno.EIO, StoreError, "check the disk"),
        (errno.ESTALE, StoreUnavailable, "try again"),
        (errno.ENAMETOOLONG, StoreError, "check --store"),
    ],
)
async def test_a_failing_disk_is_reported_and_leaves_nothing(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[StoreError],
    advice: str,
) -> None:
    store = DirectoryStore(root)
    await store.put("a/old", b"old")
    upload = await store.create_upload("a/new")

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", fail)

    for attempt in (
        store.put("a/new", b"new"),
        store.upload_part(upload, 1, 0, b"new"),
    ):
        with pytest.raises(StoreError, match=advice) as caught:
            await attempt
        assert type(caught.value) is kind
        assert str(root / "a" / "new") in str(caught.value)
        assert os.strerror(number) in str(caught.value)
        assert "\n" not in str(caught.value)
    await store.abort_upload(upload)
    assert list((root / TEMPORARY).iterdir()) == []
    assert (await store.get("a/old", limit_bytes=10)).data == b"old"


async def test_a_disk_that_cannot_be_flushed_publishes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(root)
    await store.put("a/old", b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StoreError, match="check the disk"):
        await store.put("a/new", b"new")
    assert not (root / "a" / "new").exists()


async def test_a_read_only_root_can_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(root)
    await store.put("a/b", b"x")

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("longshore.store.directory.new_file", fail)

    assert (await store.get("a/b", limit_bytes=10)).data == b"x"
    assert (await store.now()).tzinfo is UTC
    with pytest.raises(StoreError, match="mount it writable"):
        await store.put("a/c", b"x")


async def test_a_delete_that_fails_deletes_the_others(root: Path) -> None:
    store = DirectoryStore(root)
    for key in ("a/1", "b/2", "b/3"):
        await store.put(key, b"x")
    (root / "a" / "1").unlink()
    (root / "a" / "1").mkdir()
    (root / "a" / "1" / "x").write_bytes(b"x")

    with pytest.raises(StoreError, match="a/1"):
        await store.delete(["a/1", "b/2", "b/3"])

    assert [info.key async for info in store.list("b/")] == []


async def test_a_file_is_flushed_before_it_becomes_visible(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(root)
    await store.put("a/first", b"x")
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(file: int) -> None:
        done.append("flush folder" if os.path.isdir(f"/proc/self/fd/{file}") else "flush file")
        fsync(file)

    def watched_replace(source: Path, target: Path) -> Path:
        done.append("rename")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    await store.put("a/b", b"x")
    upload = await store.create_upload("a/c")
    await store.complete_upload(upload, [await store.upload_part(upload, 1, 0, b"x")])

    assert done == ["flush file", "rename", "flush folder"] * 2
