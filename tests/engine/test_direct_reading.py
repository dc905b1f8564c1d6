"""Real engines' disks: what is read there is bit for bit what `docker save` gives."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from tests.engine_fixtures import FreshEngine
from tests.support.cache import Notes, export, service, stored
from tests.support.engines import Generation, ImageStore, ThrowawayEngine
from tests.support.images import build, import_busybox

from longshore.core.service import Service
from longshore.engine.disk import open_disk
from longshore.ops.exporter import ExportResult
from longshore.store.directory import DirectoryStore

ENGINES: list[tuple[Generation, ImageStore]] = [
    ("20.10", "graphdriver"),
    ("26.1", "graphdriver"),
    ("28.5", "graphdriver"),
    ("26.1", "containerd"),
    ("28.5", "containerd"),
]
LONG = "long-" * 30
# What is hard about layers: links of both kinds, holes, long names, whiteouts of files and folders,
# owners and modes, layers without anything, the same layer twice, and files of many sizes.
APP = f"""
FROM base:1
COPY data /data
RUN mkdir -p /deep/{LONG}/{LONG} && echo far > /deep/{LONG}/{LONG}/{LONG} \
 && ln /data/new /data/hard && ln -s /nowhere /data/soft && ln -s . /data/loop \
 && truncate -s 3000000 /data/holes && echo end >> /data/holes && : > /data/empty \
 && mkfifo /data/pipe && chown 12:34 /data/hard && chmod 4711 /data/hard \
 && head -c 5000000 /dev/urandom > /data/large
RUN rm /data/old && rm -r /data/folder && mkdir /data/folder && echo again > /data/folder/new
RUN mkdir /gone && rmdir /gone
RUN true
RUN true
COPY data/new /same/new
RUN rm -r /same
COPY data/new /same/new
"""
FILES = {
    "data/old": b"old\n",
    "data/new": b"new\n" * 5000,
    "data/folder/one": b"1",
    "data/\u00fcmlaut and space": b"name\n",
} | {f"data/many/{number}": b"%d" % number * number for number in range(300)}


@pytest.mark.parametrize(("generation", "image_store"), ENGINES)
async def test_an_export_from_the_disk_is_one_through_save(
    generation: Generation, image_store: ImageStore, fresh_engine: FreshEngine, tmp_path: Path
) -> None:
    engine = fresh_engine(generation, image_store)
    import_busybox(engine.api, "base:1")
    build(engine.api, APP, FILES, tag="web:1")
    build(engine.api, "FROM web:1\nRUN echo other > /other\n", tag="worker:1")
    services = [service("web", "web:1"), service("worker", "worker:1")]
    direct, saved = DirectoryStore(tmp_path / "direct"), DirectoryStore(tmp_path / "saved")
    notes = Notes()

    first = await export(engine.host, direct, services, disk=open_disk, notes=notes)
    second = await export(engine.host, saved, services)

    assert notes.lines == []
    assert (first.saved_images, first.saved_layers, second.direct_layers) == (0, 0, 0)
    assert first.direct_layers == second.saved_layers > 5
    ours = await stored(direct, services, "linux-amd64")
    assert ours == await stored(saved, services, "linux-amd64")
    assert len(ours) > first.direct_layers

    build(engine.api, "FROM web:1\nRUN echo next > /next\n", tag="worker:1")
    third = await export(engine.host, direct, services, disk=open_disk)

    assert (third.direct_layers, third.saved_images) == (1, 0)
    await leave_it_to_save(engine, services, tmp_path)


async def leave_it_to_save(
    engine: ThrowawayEngine, services: Sequence[Service], tmp_path: Path
) -> None:
    """Spoil the disk as it is read, and see that the export is whole all the same."""
    spoilt = DirectoryStore(tmp_path / "spoilt")
    whole = DirectoryStore(tmp_path / "whole")
    notes = Notes()
    held = hide_something(engine)

    result: ExportResult = await export(
        engine.host,
        spoilt,
        services,
        notes=notes,
        disk=partial(open_disk, data_root=str(held)),
    )
    await export(engine.host, whole, services)

    assert result.direct_layers > 0
    # Of a containerd store an image is read as a whole, so that half a platform stays out.
    assert result.saved_layers == 1 or engine.image_store == "containerd"
    assert result.saved_layers > 0
    assert len(notes.lines) == 1
    ours = await stored(spoilt, services, "linux-amd64")
    assert ours == await stored(whole, services, "linux-amd64")


def hide_something(engine: ThrowawayEngine) -> Path:
    """Copy the data root by links, as a mount elsewhere would show it, without one layer's part."""
    data, copy = engine.root / "data", engine.root / "copy"
    if engine.image_store == "containerd":
        blobs = Path("containerd/io.containerd.content.v1.content/blobs/sha256")
        copied = copy / blobs
        copied.mkdir(parents=True)
        for blob in (data / blobs).iterdir():
            os.link(blob, copied / blob.name)
        max(copied.iterdir(), key=lambda blob: blob.stat().st_size).unlink()
        return copy
    for folder, _, names in os.walk(data):
        below = Path(folder).relative_to(data)
        if below.parts[:1] not in ((), ("image",), ("overlay2",)) or "merged" in below.parts:
            continue
        (copy / below).mkdir(parents=True, exist_ok=True)
        for name in names:
            if (found := Path(folder, name)).is_file() and not found.is_symlink():
                os.link(found, copy / below / name)
    (large,) = (copy / "overlay2").glob("*/diff/data/large")
    large.unlink()
    return copy


@pytest.mark.parametrize("image_store", ["graphdriver", "containerd"])
async def test_what_was_loaded_compressed_or_built_by_buildkit_is_read_too(
    image_store: ImageStore, fresh_engine: FreshEngine, tmp_path: Path
) -> None:
    engine = fresh_engine("28.5", image_store)
    import_busybox(engine.api, "base:1")
    buildkit_build(engine, tmp_path, "web:1")
    services = [service("web", "web:1")]
    direct, saved = DirectoryStore(tmp_path / "direct"), DirectoryStore(tmp_path / "saved")

    first = await export(engine.host, direct, services, disk=open_disk)
    await export(engine.host, saved, services)

    assert (first.direct_layers > 1, first.saved_images) == (True, 0)
    ours = await stored(direct, services, "linux-amd64")
    assert ours == await stored(saved, services, "linux-amd64")


def buildkit_build(engine: ThrowawayEngine, tmp_path: Path, tag: str) -> None:
    import subprocess

    context = tmp_path / "context"
    (context / "data").mkdir(parents=True)
    (context / "data/file").write_bytes(b"contents\n" * 1000)
    (context / "Dockerfile").write_text("FROM base:1\nCOPY data /data\nRUN echo x > /x\n")
    command = ["docker", "build", "-q", "--network=host", "-t", tag, str(context)]
    environment = {**engine.environment(), "DOCKER_BUILDKIT": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True)
