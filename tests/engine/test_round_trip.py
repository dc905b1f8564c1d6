"""The main promise, on real engines: what was built on one machine is warm on the next."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.engine_fixtures import FreshEngine
from tests.support.cache import Notes, count_loads, export, import_, service
from tests.support.engines import Generation, ThrowawayEngine
from tests.support.images import build, history_ids, import_busybox

from longshore.errors import NotBuilt
from longshore.store.contract import Store
from longshore.store.directory import DirectoryStore
from longshore.store.s3 import S3Store

APP = """
FROM base:1
ENV STAGE=one
COPY data /data
RUN echo built > /built
RUN mkdir /empty && rmdir /empty
RUN rm /data/old
CMD ["cat", "/built"]
"""
FILES = {"data/old": b"old\n", "data/new": b"new\n" * 5000}


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


async def carry(
    before: ThrowawayEngine, after: ThrowawayEngine, store: Store, images: Sequence[str]
) -> Notes:
    """Export from one machine and import on another, and see that all is there."""
    notes = Notes()
    services = [service(f"service{number}", image) for number, image in enumerate(images)]
    exported = await export(before.host, store, services, notes=notes)
    imported = await import_(after.host, store, services, notes=notes)
    assert [done.outcome for done in imported.services] == ["hit"] * len(images)
    for image in images:
        old, new = before.api.images.get(image), after.api.images.get(image)
        assert new.id == old.id
        assert sorted(new.tags) == sorted(old.tags)
        assert new.attrs["RootFS"] == old.attrs["RootFS"]
        assert history_ids(after.api, image) == history_ids(before.api, image)
    assert len(exported.services) == len(images)
    return notes


@pytest.mark.parametrize("generation", ["20.10", "26.1", "28.5"])
async def test_a_chain_comes_back_whole_and_the_rebuild_runs_no_step(
    generation: Generation, fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    before = fresh_engine(generation)
    import_busybox(before.api, "base:1")
    built = build(before.api, APP, FILES, tag="web:1")
    before.api.images.get("web:1").tag("web", "latest")

    after = fresh_engine(generation)
    await carry(before, after, directory, ["web:1"])

    assert "<missing>" not in history_ids(after.api, "web:1")
    assert after.api.images.get("base:1").id == before.api.images.get("base:1").id
    assert after.api.containers.run("web:1", network_mode="none", remove=True) == b"built\n"
    again = build(after.api, APP, FILES, tag="web:2", cache_from=["web:1"])
    assert (again.steps_run, again.image_id) == (0, built.image_id)


@pytest.mark.parametrize(("old", "new"), [("20.10", "28.5"), ("28.5", "20.10"), ("26.1", "28.5")])
async def test_images_move_between_generations(
    old: Generation, new: Generation, fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    before = fresh_engine(old)
    import_busybox(before.api, "base:1")
    build(before.api, APP, FILES, tag="web:1")

    after = fresh_engine(new)
    await carry(before, after, directory, ["web:1"])

    assert after.api.containers.run("web:1", network_mode="none", remove=True) == b"built\n"


@pytest.mark.s3
async def test_images_come_back_from_a_real_s3_server(
    fresh_engine: FreshEngine, s3_store: S3Store
) -> None:
    before = fresh_engine()
    import_busybox(before.api, "base:1")
    built = build(before.api, APP, FILES, tag="web:1")

    after = fresh_engine()
    await carry(before, after, s3_store, ["web:1"])

    again = build(after.api, APP, FILES, tag="web:2", cache_from=["web:1"])
    assert (again.steps_run, again.image_id) == (0, built.image_id)


async def test_services_that_share_layers_load_them_once_and_leave_no_helper_image(
    fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    before = fresh_engine()
    import_busybox(before.api, "base:1")
    shared = "FROM base:1\nRUN head -c 3000000 /dev/urandom > /shared\n"
    build(before.api, shared + "RUN echo web > /name\n", tag="web:1")
    build(before.api, shared + "RUN echo worker > /name\n", tag="worker:1")

    after = fresh_engine()
    await carry(before, after, directory, ["web:1", "worker:1"])

    kept = {image.id for image in after.api.images.list(all=True)}
    assert kept == {image.id for image in before.api.images.list(all=True)}
    stored = sum(path.stat().st_size for path in (directory_root(directory)).rglob("packs/*"))
    assert stored < 2 * 3_000_000


@pytest.mark.parametrize("generation", ["20.10", "28.5"])
async def test_what_is_sent_in_several_archives_is_whole_and_leaves_no_helper_image(
    generation: Generation,
    fresh_engine: FreshEngine,
    directory: DirectoryStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = fresh_engine(generation)
    import_busybox(before.api, "base:1")
    step = "RUN head -c 1000000 /dev/urandom > /{}\n"
    build(before.api, "FROM base:1\n" + "".join(map(step.format, "abc")), tag="web:1")
    monkeypatch.setattr("longshore.core.load_stages.LEAST_BYTES", 1)
    after = fresh_engine(generation)
    loads = count_loads(monkeypatch)
    await carry(before, after, directory, ["web:1"])

    assert len(loads) > 1
    kept = {image.id for image in after.api.images.list(all=True)}
    assert kept == {image.id for image in before.api.images.list(all=True)}
    assert after.api.containers.run("web:1", "ls -l /b", network_mode="none", remove=True)


@pytest.mark.parametrize("generation", ["20.10", "28.5"])
async def test_odd_layers_come_back_bit_for_bit(
    generation: Generation, fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    before = fresh_engine(generation)
    before.api.images.load(_plain_archive(_odd_layer()))
    import_busybox(before.api, "base:1")
    build(before.api, "FROM scratch\nCOPY a /a\n", {"a": b"alone"}, tag="scratch:1")
    build(before.api, "FROM base:1\nCOPY a /a\nRUN rm /a\nCOPY a /a\n", {"a": b"1"}, tag="twice:1")

    after = fresh_engine(generation)
    await carry(before, after, directory, ["odd:1", "scratch:1", "twice:1"])


async def test_an_unchanged_export_asks_the_engine_for_nothing_and_uploads_an_entry(
    fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    engine = fresh_engine()
    import_busybox(engine.api, "base:1")
    build(engine.api, APP, FILES, tag="web:1")
    first = await export(engine.host, directory, [service("web", "web:1")])
    before = set(directory_root(directory).rglob("*"))

    second = await export(engine.host, directory, [service("web", "web:1")])

    added = [path for path in directory_root(directory).rglob("*") if path not in before]
    assert [path.parent.parent.name for path in added if path.is_file()] == ["web"]
    assert (first.saved_images > 0, second.saved_images) == (True, 0)
    assert second.services[0].unchanged
    assert second.uploaded_bytes < 20_000


async def test_a_second_import_loads_nothing_and_gives_lost_tags_back(
    fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    engine = fresh_engine()
    import_busybox(engine.api, "base:1")
    build(engine.api, APP, FILES, tag="web:1")
    engine.api.images.get("web:1").tag("web", "other")
    await export(engine.host, directory, [service("web", "web:1")])
    engine.api.images.remove("web:1")

    imported = await import_(engine.host, directory, [service("web", "web:1")])

    assert imported.downloaded_bytes == 0
    assert imported.services[0].layers_sent == 0
    assert engine.api.images.get("web:1").tags == ["web:1", "web:other"]


async def test_only_layers_that_the_engine_lacks_are_downloaded(
    fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    engine = fresh_engine()
    import_busybox(engine.api, "base:1")
    build(engine.api, "FROM base:1\nRUN echo a > /a\nRUN echo b > /b\n", tag="web:1")
    await export(engine.host, directory, [service("web", "web:1")])
    engine.api.images.remove("web:1")

    imported = await import_(engine.host, directory, [service("web", "web:1")])

    assert imported.services[0].outcome == "hit"
    assert imported.services[0].layers_sent == 2
    assert imported.downloaded_bytes < 10_000


async def test_an_image_that_was_not_built_is_reported_and_the_others_are_exported(
    fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    engine = fresh_engine()
    import_busybox(engine.api, "base:1")
    notes = Notes()

    result = await export(
        engine.host, directory, [service("no", "absent:1"), service("web", "base:1")], notes=notes
    )

    assert [done.service for done in result.services] == ["web"]
    assert [type(warning) for warning in notes.warnings] == [NotBuilt]
    assert "absent:1" in str(notes.warnings[0])


async def test_a_parent_without_layers_is_left_out_and_said_so(
    fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    before, after = fresh_engine(), fresh_engine()
    build(before.api, "FROM scratch\nENV A=1\nCOPY a /a\n", {"a": b"1"}, tag="web:1")
    notes = Notes()

    await export(before.host, directory, [service("web", "web:1")], notes=notes)
    imported = await import_(after.host, directory, [service("web", "web:1")])

    assert imported.services[0].outcome == "hit"
    assert any("left out" in line for line in notes.lines)
    assert after.api.images.get("web:1").id == before.api.images.get("web:1").id


def directory_root(store: DirectoryStore) -> Path:
    """Return the folder of a directory store."""
    return Path(store.url().removeprefix("file://"))


def _odd_layer() -> bytes:
    """Make a layer of everything that a tar can hold and an engine accepts."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:

        def add(
            name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **more: object
        ) -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, len(content)
            for key, value in more.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(content))

        add("etc/", tarfile.DIRTYPE, mode=0o755)
        add("etc/file", content=b"content\n")
        add("etc/hard", tarfile.LNKTYPE, linkname="etc/file")
        add("etc/soft", tarfile.SYMTYPE, linkname="../nowhere")
        add("null", tarfile.CHRTYPE, devmajor=1, devminor=3)
        add("pipe", tarfile.FIFOTYPE)
        add("deep/" + "long" * 60 + "/name", content=b"long\n")
        add("link-to-long", tarfile.SYMTYPE, linkname="deep/" + "long" * 60 + "/name")
        add("caf\udce9", content=b"latin-1 name\n")
        add("zeros", content=bytes(3 << 20))
        add("empty")
        add("etc/.wh.gone")
    buffer.seek(0)
    with tarfile.open(fileobj=buffer, mode="a", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("attributes")
        entry.size = 4
        entry.pax_headers = {"SCHILY.xattr.user.note": "kept", "mtime": "1234567890.123456789"}
        tar.addfile(entry, io.BytesIO(b"data"))
    return buffer.getvalue()


def _plain_archive(layer: bytes) -> bytes:
    """Make an archive of one image whose layers are this one and an empty tar."""
    import hashlib
    import json

    empty = bytes(1024)
    diff_ids = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in (layer, empty)]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/x"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    manifest = json.dumps(
        [{"Config": "c.json", "RepoTags": ["odd:1"], "Layers": ["0.tar", "1.tar"]}]
    ).encode()
    buffer = io.BytesIO()
    members = {"0.tar": layer, "1.tar": empty, "c.json": config, "manifest.json": manifest}
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
