"""Engines that keep their images in containerd's store, alone and beside the other kind."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.engine_fixtures import FreshEngine
from tests.support.cache import Notes, count_loads, export, import_, service
from tests.support.engines import Generation, ImageStore, ThrowawayEngine
from tests.support.images import build, import_busybox

from longshore.ops.exporter import ExportResult
from longshore.ops.imported import ImportResult
from longshore.store.contract import Store
from longshore.store.directory import DirectoryStore

# The classic builder of a containerd store fails on hits of steps without a layer, but the last.
APP = """
FROM base:1
COPY data /data
RUN echo built > /built
CMD ["cat", "/built"]
"""
FILES = {"data/old": b"old\n", "data/new": b"new\n" * 5000}


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


async def carry(
    before: ThrowawayEngine, after: ThrowawayEngine, store: Store, images: Sequence[str]
) -> tuple[ExportResult, ImportResult, Notes]:
    """Export from one machine and import on another."""
    notes = Notes()
    services = [service(f"service{number}", image) for number, image in enumerate(images)]
    exported = await export(before.host, store, services, notes=notes)
    imported = await import_(after.host, store, services, notes=notes)
    assert [done.outcome for done in imported.services] == ["hit"] * len(images), notes
    assert not notes.warnings
    return exported, imported, notes


def inspect(engine: ThrowawayEngine, image: str) -> dict[str, Any]:
    api: Any = engine.api.api
    found: dict[str, Any] = api.inspect_image(image)
    return found


def saved(engine: ThrowawayEngine, image: str) -> dict[str, bytes]:
    """Return the members of what `docker save` writes."""
    data = b"".join(engine.api.api.get_image(image))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]


@pytest.mark.parametrize("generation", ["26.1", "28.5"])
async def test_images_keep_ids_manifests_and_blobs_and_the_rebuild_runs_no_step(
    generation: Generation, fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    before = fresh_engine(generation, "containerd")
    import_busybox(before.api, "base:1")
    built = build(before.api, APP, FILES, tag="web:1")
    before.api.images.get("web:1").tag("web", "latest")

    after = fresh_engine(generation, "containerd")
    await carry(before, after, directory, ["web:1"])

    for image in ("web:1", "web:latest", "base:1"):
        assert inspect(after, image)["Id"] == inspect(before, image)["Id"]
        assert saved(after, image) == saved(before, image)
    assert after.api.containers.run("web:1", network_mode="none", remove=True) == b"built\n"
    assert [image for image in after.api.images.list(all=True) if not image.tags] == []
    again = build(after.api, APP, FILES, tag="web:2", cache_from=["web:1"])
    assert (again.steps_run, again.image_id) == (0, built.image_id)


STORES: list[tuple[Generation, ImageStore]] = [
    ("20.10", "graphdriver"),
    ("28.5", "graphdriver"),
    ("28.5", "containerd"),
]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (("28.5", "graphdriver"), ("28.5", "containerd")),
        (("20.10", "graphdriver"), ("28.5", "containerd")),
        (("28.5", "containerd"), ("28.5", "graphdriver")),
        (("28.5", "containerd"), ("20.10", "graphdriver")),
        (("28.5", "graphdriver"), ("26.1", "containerd")),
    ],
)
async def test_configs_and_layers_are_the_same_across_stores(
    source: tuple[Generation, ImageStore],
    target: tuple[Generation, ImageStore],
    fresh_engine: FreshEngine,
    directory: DirectoryStore,
) -> None:
    before, after = fresh_engine(*source), fresh_engine(*target)
    import_busybox(before.api, "base:1")
    build(before.api, APP, FILES, tag="web:1")

    await carry(before, after, directory, ["web:1"])

    assert inspect(after, "web:1")["RootFS"] == inspect(before, "web:1")["RootFS"]
    assert config_of(after, "web:1") == config_of(before, "web:1")
    assert after.api.containers.run("web:1", network_mode="none", remove=True) == b"built\n"
    again = build(after.api, APP, FILES, tag="web:2", cache_from=["web:1"])
    assert again.steps_run == 0
    # A second import finds everything there.
    second = await import_(after.host, directory, [service("service0", "web:1")])
    assert (second.services[0].outcome, second.services[0].layers_sent) == ("hit", 0)


def config_of(engine: ThrowawayEngine, image: str) -> bytes:
    files = saved(engine, image)
    (item,) = json.loads(files["manifest.json"])
    return files[item["Config"]]


async def test_an_unchanged_export_asks_the_engine_for_nothing(
    fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    engine = fresh_engine("28.5", "containerd")
    import_busybox(engine.api, "base:1")
    build(engine.api, APP, FILES, tag="web:1")
    first = await export(engine.host, directory, [service("web", "web:1")])

    second = await export(engine.host, directory, [service("web", "web:1")])

    assert (first.saved_images > 0, second.saved_images) == (True, 0)
    assert second.services[0].unchanged
    assert not any(layer.new for layer in second.services[0].layers)


async def test_services_that_share_layers_load_them_once_and_leave_no_helper_image(
    fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    before = fresh_engine("28.5", "containerd")
    import_busybox(before.api, "base:1")
    shared = "FROM base:1\nRUN head -c 3000000 /dev/urandom > /shared\n"
    build(before.api, shared + "RUN echo web > /name\n", tag="web:1")
    build(before.api, shared + "RUN echo worker > /name\n", tag="worker:1")

    after = fresh_engine("28.5", "containerd")
    _, imported, _ = await carry(before, after, directory, ["web:1", "worker:1"])

    tags = {tag for image in after.api.images.list(all=True) for tag in image.tags or ["none"]}
    assert tags == {"base:1", "web:1", "worker:1"}
    for image in ("web:1", "worker:1"):
        assert saved(after, image) == saved(before, image)
    assert imported.downloaded_bytes < 2 * 3_000_000


async def test_what_is_sent_in_several_archives_is_whole_and_leaves_no_helper_image(
    fresh_engine: FreshEngine, directory: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fresh_engine("28.5", "containerd")
    import_busybox(before.api, "base:1")
    step = "RUN head -c 1000000 /dev/urandom > /{}\n"
    build(before.api, "FROM base:1\n" + "".join(map(step.format, "abc")), tag="web:1")
    monkeypatch.setattr("longshore.core.load_stages.LEAST_BYTES", 1)

    after = fresh_engine("28.5", "containerd")
    loads = count_loads(monkeypatch)
    await carry(before, after, directory, ["web:1"])

    assert len(loads) > 1
    tags = {tag for image in after.api.images.list(all=True) for tag in image.tags or ["none"]}
    assert tags == {"base:1", "web:1"}
    assert saved(after, "web:1") == saved(before, "web:1")
    assert after.api.containers.run("web:1", "ls -l /b", network_mode="none", remove=True)


async def test_an_image_whose_blobs_are_incomplete_is_loaded_in_full(
    fresh_engine: FreshEngine, directory: DirectoryStore
) -> None:
    before = fresh_engine("28.5", "containerd")
    import_busybox(before.api, "base:1")
    build(before.api, APP, FILES, tag="web:1")
    after = fresh_engine("28.5", "containerd")
    files = saved(before, "web:1")
    (item,) = json.loads(files["manifest.json"])
    lost = item["Layers"][1]
    after.api.images.load(archive({n: d for n, d in files.items() if n != lost}))
    assert inspect(after, "web:1")["Id"] == inspect(before, "web:1")["Id"]

    await carry(before, after, directory, ["web:1"])

    assert saved(after, "web:1") == files
    assert after.api.containers.run("web:1", network_mode="none", remove=True) == b"built\n"


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
