"""Exports that read the engine's disk: the same as through `docker save`, or through that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.support.cache import Notes, export, service, stored
from tests.support.fake_engine import FakeEngine
from tests.support.overlay_root import OverlayRoot, file, segment

from longshore.engine.contract import EngineInfo
from longshore.engine.disk import EngineDisk, find_disk, open_disk
from longshore.errors import NotOnDisk, StoreError
from longshore.store.memory import MemoryStore

NOISE = os.urandom(3 << 20)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
WEB = [service("web", "web:1")]
BASE: Mapping[str, bytes] = {"bin/sh": b"sh" * 2000, "etc/empty": b"", "large": NOISE}
CODE: Mapping[str, bytes] = {"app/code": b"print()\n", "app/more/data": b"x" * 700}


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    engine.build([("FROM", BASE), ("ENV", None), ("COPY", CODE), ("RUN", {}), ("RUN", {})], "web:1")
    return engine


@pytest.fixture
def root(engine: FakeEngine, tmp_path: Path) -> Iterator[OverlayRoot]:
    root = OverlayRoot(tmp_path / "docker")
    root.write(engine)
    engine.data_root = str(root.path)
    before = len(os.listdir("/proc/self/fd"))
    yield root
    assert len(os.listdir("/proc/self/fd")) <= before


def chain_with(engine: FakeEngine, name: bytes) -> str:
    return next(chain for chain, layer in engine.layers.items() if name in layer)


async def test_an_export_from_the_disk_is_one_through_save(
    engine: FakeEngine, root: OverlayRoot
) -> None:
    direct, saved = MemoryStore(lambda: NOW), MemoryStore(lambda: NOW)
    notes = Notes()

    result = await export(engine, direct, WEB, disk=open_disk, notes=notes)
    saves = engine.saves
    await export(engine, saved, WEB)

    assert (saves, result.saved_images, result.saved_layers) == (0, 0, 0)
    assert result.direct_layers == 3  # the last two are the same
    assert await stored(direct, WEB, engine.platform) == await stored(saved, WEB, engine.platform)
    assert notes.lines == []


async def test_only_what_is_not_stored_is_read(engine: FakeEngine, root: OverlayRoot) -> None:
    store = MemoryStore(lambda: NOW)
    await export(engine, store, WEB, disk=open_disk)
    shutil.rmtree(root.path)
    engine.build([("FROM", BASE), ("COPY", {"app/code": b"new"})], "web:1")
    OverlayRoot(root.path).write(engine)
    shutil.rmtree(root.files(chain_with(engine, b"bin/sh")))

    result = await export(engine, store, WEB, disk=open_disk)

    assert (result.direct_layers, result.saved_images) == (1, 0)


Spoil = Callable[[OverlayRoot, str], object]


def symlinked(root: OverlayRoot, chain: str) -> None:
    elsewhere = root.path / "elsewhere"
    (root.files(chain) / "app").rename(elsewhere)
    (root.files(chain) / "app").symlink_to(elsewhere)


def with_a_pipe(root: OverlayRoot, chain: str) -> None:
    (root.files(chain) / "app/code").unlink()
    os.mkfifo(root.files(chain) / "app/code")


def with_code(text: str) -> Spoil:
    return lambda root, chain: (root.files(chain) / "app/code").write_text(text)


def other_lines(*lines: dict[str, object]) -> Spoil:
    return lambda root, chain: root.rewrite(chain, lines)


def other_fact(name: str, text: str) -> Spoil:
    return lambda root, chain: (root.layer(chain) / name).write_text(text)


SPOILT: dict[str, Spoil] = {
    "a folder is a link": symlinked,
    "a file is a pipe": with_a_pipe,
    "a file is missing": lambda root, chain: (root.files(chain) / "app/code").unlink(),
    "a file is another": lambda root, chain: (root.files(chain) / "app/code").write_text(
        "8 bytes\n"
    ),
    "a file is shorter": lambda root, chain: (root.files(chain) / "app/code").write_text("print()"),
    "all files are missing": lambda root, chain: shutil.rmtree(root.files(chain)),
    "the layer is missing": lambda root, chain: shutil.rmtree(root.layer(chain)),
    "another layer is there": other_fact("diff", "sha256:" + 64 * "0"),
    "the cache-id leads upwards": other_fact("cache-id", "../../elsewhere"),
    "the cache-id is long": other_fact("cache-id", "x" * 300),
    "a name leads upwards": other_lines(file(b"app/../../secret", 8)),
    "a name is absolute": other_lines(file(b"/etc/passwd", 8)),
    "a size lies": other_lines(segment(b"header"), file(b"app/code", 1 << 40)),
    "there is nothing": other_lines(),
    "no tar-split file": lambda root, chain: (root.layer(chain) / "tar-split.json.gz").unlink(),
    "tar-split is cut short": lambda root, chain: os.truncate(
        root.layer(chain) / "tar-split.json.gz", 60
    ),
    "tar-split is no gzip": other_fact("tar-split.json.gz", "{}\n"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
async def test_what_cannot_be_read_is_saved_and_a_line_says_why(
    engine: FakeEngine, root: OverlayRoot, spoil: Spoil
) -> None:
    spoil(root, chain_with(engine, b"app/code"))
    direct, saved = MemoryStore(lambda: NOW), MemoryStore(lambda: NOW)
    notes = Notes()

    result = await export(engine, direct, WEB, disk=open_disk, notes=notes)
    await export(engine, saved, WEB)

    assert await stored(direct, WEB, engine.platform) == await stored(saved, WEB, engine.platform)
    assert (result.direct_layers, result.saved_layers) == (2, 1)
    assert not notes.warnings
    assert len(notes.lines) == 1
    assert notes.lines[0].startswith("not read from the engine's disk, but saved: layer sha256:")


async def test_the_config_is_held_against_its_name(engine: FakeEngine, root: OverlayRoot) -> None:
    image = await engine.inspect("web:1")
    assert image is not None
    root.config(image.id).write_bytes(b"{}")
    notes = Notes()

    result = await export(engine, MemoryStore(lambda: NOW), WEB, disk=open_disk, notes=notes)

    assert (result.direct_layers, result.saved_layers, result.saved_images) == (3, 0, 1)
    assert notes.lines == [
        f"not read from the engine's disk, but saved: {image.id} is not what its name says"
    ]


async def test_a_large_file_that_ends_early_is_given_up_without_reading_the_rest(
    engine: FakeEngine, root: OverlayRoot
) -> None:
    chain = chain_with(engine, b"bin/sh")
    root.rewrite(chain, [file(b"large", 1 << 50)])

    result = await export(engine, MemoryStore(lambda: NOW), WEB, disk=open_disk)

    assert (result.direct_layers, result.saved_layers) == (2, 1)


async def test_what_was_cut_of_a_lost_layer_is_not_uploaded_again(
    engine: FakeEngine, root: OverlayRoot
) -> None:
    chain = chain_with(engine, b"bin/sh")
    split = [*_lines(root, chain)[:-1], segment(b"another end")]
    root.rewrite(chain, split)
    lost, whole = MemoryStore(lambda: NOW), MemoryStore(lambda: NOW)

    first = await export(engine, lost, WEB, disk=open_disk)
    second = await export(engine, whole, WEB)

    assert first.saved_layers == 1
    assert first.uploaded_bytes < second.uploaded_bytes + 100_000


def _lines(root: OverlayRoot, chain: str) -> list[dict[str, object]]:
    import gzip
    import json

    text = gzip.decompress((root.layer(chain) / "tar-split.json.gz").read_bytes())
    return [json.loads(line) for line in text.splitlines()]


async def test_a_store_that_fails_leaves_no_file_open(
    engine: FakeEngine, root: OverlayRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore(lambda: NOW)

    async def refuse(*_: object) -> None:
        raise StoreError("the store is full")

    monkeypatch.setattr(store, "create_upload", refuse)
    monkeypatch.setattr(store, "put", refuse)

    with pytest.raises(StoreError):
        await export(engine, store, WEB, disk=open_disk)


INFO = EngineInfo("28.5.2", "1.51", "graphdriver", "linux-amd64", "overlay2", "unix:///x", "/x")


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (replace(INFO, data_root=None), "does not say where"),
        (replace(INFO, data_root="/nowhere"), "/nowhere: No such file"),
        (replace(INFO, storage_driver="btrfs"), "storage driver is btrfs"),
        (replace(INFO, native_diff=False), "naive"),
        (replace(INFO, image_store="containerd", data_root="/nowhere"), "/nowhere: No such file"),
        (replace(INFO, image_store="containerd", data_root="/proc"), "no contents of containerd"),
    ],
)
def test_a_disk_that_cannot_be_read_says_why(info: EngineInfo, reason: str) -> None:
    with pytest.raises(NotOnDisk, match=reason):
        open_disk(info)


async def test_a_disk_that_cannot_be_read_costs_a_line(engine: FakeEngine) -> None:
    notes = Notes()

    def closed(_: EngineInfo) -> EngineDisk:
        raise NotOnDisk("/var/lib/docker: Permission denied")

    result = await export(engine, MemoryStore(lambda: NOW), WEB, disk=closed, notes=notes)

    assert (result.direct_layers, result.saved_layers) == (0, 3)
    assert len(notes.lines) == 1


async def test_a_disk_that_nobody_promised_is_no_news(engine: FakeEngine) -> None:
    engine.data_root = "/nowhere"
    notes = Notes()
    find = partial(find_disk, containerd_root="/nowhere")

    result = await export(engine, MemoryStore(lambda: NOW), WEB, disk=find, notes=notes)

    assert (result.direct_layers, result.saved_layers, notes.lines) == (0, 3, [])


def test_the_root_may_lie_somewhere_else_here(root: OverlayRoot) -> None:
    open_disk(INFO, data_root=str(root.path)).close()


def test_a_containerd_of_its_own_is_found_if_nobody_named_a_root(tmp_path: Path) -> None:
    own = tmp_path / "containerd"
    (own / "io.containerd.content.v1.content/blobs/sha256").mkdir(parents=True)
    info = replace(INFO, image_store="containerd", data_root=str(tmp_path / "docker"))

    disk = open_disk(info, containerd_root=str(own))

    assert disk.path == str(own)
    disk.close()
    with pytest.raises(NotOnDisk):
        open_disk(info, str(tmp_path / "docker"), str(own))
