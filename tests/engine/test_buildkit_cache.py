"""BuildKit's own cache, kept for engines whose BuildKit ignores loaded images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.engine_fixtures import FreshEngine
from tests.support import builds
from tests.support.cache import Notes, export, import_
from tests.support.engines import ThrowawayEngine
from tests.support.images import import_busybox, transfer

from longshore.core.service import Service
from longshore.store.directory import DirectoryStore

DOCKERFILE = """
FROM base:1
ENV STAGE=one
COPY data /data
RUN head -c 300000 /dev/urandom > /made
RUN echo built > /built
"""
OPTIONS = "mode=max,compression=uncompressed,force-compression=true"


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "data").write_text("one")
    return folder


def caching(path: Path) -> Service:
    return Service("web", (), buildkit_cache=str(path))


def build(engine: ThrowawayEngine, context: Path, cache: Path) -> int:
    """Build with a cache directory, and return how many steps ran."""
    known = ["--cache-from", f"type=local,src={cache}"] if (cache / "index.json").exists() else []
    made = ["--cache-to", f"type=local,dest={cache},{OPTIONS}"]
    steps = builds.build(engine, "BuildKit", context, ["--network=host", *known, *made, "."])
    assert len(steps.ran + steps.cached) == 3
    return len(steps.ran)


def blobs(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (cache / "blobs" / "sha256").iterdir()}


async def test_a_cache_directory_makes_the_build_on_the_next_machine_warm(
    fresh_engine: FreshEngine, directory: DirectoryStore, context: Path, tmp_path: Path
) -> None:
    before, after = fresh_engine("28.5", "containerd"), fresh_engine("28.5", "containerd")
    import_busybox(before.api, "base:1")
    transfer(before.api, after.api, "base:1")
    assert build(before, context, tmp_path / "first") == 3
    exported = await export(before.host, directory, [caching(tmp_path / "first")])
    assert [cache.new_blobs for cache in exported.caches] == [exported.caches[0].blobs]

    imported = await import_(after.host, directory, [caching(tmp_path / "second")])

    (cache,) = imported.caches
    assert (cache.outcome, cache.blobs_fetched) == ("hit", cache.blobs)
    assert blobs(tmp_path / "second") == blobs(tmp_path / "first")
    assert build(after, context, tmp_path / "second") == 0


async def test_stale_blobs_are_not_kept_and_known_ones_not_sent_or_fetched_again(
    fresh_engine: FreshEngine, directory: DirectoryStore, context: Path, tmp_path: Path
) -> None:
    engine = fresh_engine("28.5", "containerd")
    import_busybox(engine.api, "base:1")
    build(engine, context, tmp_path / "cache")
    await export(engine.host, directory, [caching(tmp_path / "cache")])
    old = blobs(tmp_path / "cache")
    shutil.copytree(tmp_path / "cache", tmp_path / "other")
    (context / "data").write_text("two")
    assert build(engine, context, tmp_path / "cache") == 3

    second = await export(engine.host, directory, [caching(tmp_path / "cache")])
    again = await export(engine.host, directory, [caching(tmp_path / "cache")])
    imported = await import_(engine.host, directory, [caching(tmp_path / "fresh")])
    known = await import_(engine.host, directory, [caching(tmp_path / "other")])

    assert (second.caches[0].new_blobs, second.caches[0].blobs) == (3, 4)
    assert (again.caches[0].new_blobs, again.caches[0].unchanged) == (0, True)
    fresh = blobs(tmp_path / "fresh")
    assert set(fresh) < set(blobs(tmp_path / "cache"))
    assert len(set(fresh) & set(old)) == 1  # the base image's layer
    assert (imported.caches[0].blobs_fetched, known.caches[0].blobs_fetched) == (4, 3)
    assert not [path for path in (tmp_path / "other").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("media_type", ["cacheconfig", "layer"])
async def test_an_incomplete_cache_directory_is_reported_and_leaves_the_entry_before(
    media_type: str,
    fresh_engine: FreshEngine,
    directory: DirectoryStore,
    context: Path,
    tmp_path: Path,
) -> None:
    engine = fresh_engine("28.5", "containerd")
    import_busybox(engine.api, "base:1")
    build(engine, context, tmp_path / "cache")
    await export(engine.host, directory, [caching(tmp_path / "cache")])
    old = blobs(tmp_path / "cache")
    (context / "data").write_text("two")
    build(engine, context, tmp_path / "cache")
    lost = next(
        name
        for name, data in blobs(tmp_path / "cache").items()
        if name not in old
        and (b'"records"' in data if media_type == "cacheconfig" else b"made" in data[:4096])
    )
    (tmp_path / "cache" / "blobs" / "sha256" / lost).unlink()

    notes = Notes()
    result = await export(engine.host, directory, [caching(tmp_path / "cache")], notes=notes)

    assert result.caches == []
    assert [lost in str(warned) for warned in notes.warnings] == [True]
    imported = await import_(engine.host, directory, [caching(tmp_path / "fresh")])
    assert imported.caches[0].outcome == "hit"
