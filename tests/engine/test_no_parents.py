"""An export without parents, on real engines: `--cache-from` alone makes the next build warm."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine_fixtures import FreshEngine
from tests.support.cache import Notes, export, import_, reading, service
from tests.support.engines import Generation, ThrowawayEngine
from tests.support.images import build, history_ids, import_busybox, transfer

from longshore.core.entry import Entry
from longshore.engine.docker import DockerEngine
from longshore.ops.cat import cat_service
from longshore.ops.imported import ImportResult
from longshore.ops.lookup import find_entry
from longshore.store.directory import DirectoryStore

APP = """
FROM base:1
ENV STAGE=one
COPY data /data
RUN echo built > /built
RUN rm /data/old
CMD ["cat", "/built"]
"""
FILES = {"data/old": b"old\n", "data/new": b"new\n" * 5000}
WEB = service("web", "web:1")
GENERATIONS: list[Generation] = ["20.10", "28.5"]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


async def entry_of(store: DirectoryStore) -> Entry:
    hit = await find_entry(reading(store), "web", "linux-amd64")
    assert hit is not None
    return hit.entry


def kept_layers(engine: ThrowawayEngine) -> set[str]:
    """Name the layers that lie on a graphdriver engine's disk."""
    (folder,) = engine.root.glob("**/image/overlay2/layerdb/sha256")
    return {layer.name for layer in folder.iterdir()}


def remove(engine: ThrowawayEngine, *tags: str) -> None:
    """Remove images with all their parents."""
    for tag in tags:
        engine.api.images.remove(tag)
    assert engine.api.images.list(all=True) == []


def cache_from_of(imported: ImportResult) -> tuple[str, ...]:
    handover = imported.services[0].handover
    assert handover is not None
    return handover.cache_from


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_only_the_image_that_is_named_is_kept_and_the_rebuild_runs_no_step(
    generation: Generation, fresh_engine: FreshEngine, store: DirectoryStore
) -> None:
    before, after = fresh_engine(generation), fresh_engine(generation)
    import_busybox(before.api, "base:1")
    built = build(before.api, APP, FILES, tag="web:1")
    transfer(before.api, after.api, "base:1")  # as a pull of what `FROM` names

    exported = await export(before.host, store, [WEB], parents=False)
    imported = await import_(after.host, store, [WEB])

    (image,) = (await entry_of(store)).images
    assert (image.id, image.parent, image.tags) == (built.image_id, None, ["web:1"])
    assert len((await entry_of(store)).blobs) == len(image.diff_ids)
    assert exported.saved_images == 1
    assert exported.services[0].images[0].parent is None
    assert imported.services[0].outcome == "hit"
    assert cache_from_of(imported) == ("web:1",)
    assert set(history_ids(after.api, "web:1")[1:]) == {"<missing>"}
    again = build(after.api, APP, FILES, tag="web:2", cache_from=["web:1"])
    assert (again.steps_run, again.image_id) == (0, built.image_id)


async def test_without_cache_from_and_parents_an_old_engine_builds_anew(
    fresh_engine: FreshEngine, store: DirectoryStore
) -> None:
    before, after = fresh_engine("20.10"), fresh_engine("20.10")
    import_busybox(before.api, "base:1")
    build(before.api, APP, FILES, tag="web:1")
    transfer(before.api, after.api, "base:1")

    await export(before.host, store, [WEB], parents=False)
    await import_(after.host, store, [WEB])

    assert build(after.api, APP, FILES, tag="web:2").steps_cached == 0


async def test_stages_that_the_services_file_names_are_kept_too(
    fresh_engine: FreshEngine, store: DirectoryStore
) -> None:
    staged = "FROM base:1 AS make\nRUN echo made > /made\nFROM base:1\nCOPY --from=make /made /\n"
    before, after = fresh_engine(), fresh_engine()
    import_busybox(before.api, "base:1")
    build(before.api, staged, tag="make:1", target="make")
    build(before.api, staged, tag="web:1")
    web = service("web", "web:1", "make:1", "base:1")

    await export(before.host, store, [web], parents=False)
    imported = await import_(after.host, store, [web])

    stored = {image.tags[0]: image.parent for image in (await entry_of(store)).images}
    base = before.api.images.get("base:1").id
    assert stored == {"web:1": base, "make:1": base, "base:1": None}
    cache_from = cache_from_of(imported)
    assert build(after.api, staged, tag="web:2", cache_from=cache_from).steps_run == 0


async def test_export_with_parents_after_one_without_keeps_them_again(
    fresh_engine: FreshEngine, store: DirectoryStore
) -> None:
    before, after = fresh_engine("20.10"), fresh_engine("20.10")
    import_busybox(before.api, "base:1")
    before.api.images.get("base:1").tag("web", "1")
    build(before.api, APP.replace("base:1", "web:1"), FILES, tag="web:1")
    before.api.images.remove("base:1")  # no tag but the service's own is left

    await export(before.host, store, [WEB], parents=False)
    again = await export(before.host, store, [WEB])
    await import_(after.host, store, [WEB])

    assert len(again.services[0].images) == 6
    assert "<missing>" not in history_ids(after.api, "web:1")


async def test_cached_build_is_exported_without_the_parents_that_are_stored(
    fresh_engine: FreshEngine, store: DirectoryStore
) -> None:
    before, after = fresh_engine(), fresh_engine()
    import_busybox(before.api, "base:1")
    build(before.api, APP, FILES, tag="web:1")
    await export(before.host, store, [WEB])
    await import_(after.host, store, [WEB])
    changed = APP.replace("rm /data/old", "rm /data/new")
    built = build(after.api, changed, FILES, tag="web:1", cache_from=["web:1"])

    exported = await export(after.host, store, [WEB], parents=False)

    assert built.steps_cached > 0
    assert [image.id for image in exported.services[0].images] == [built.image_id]
    assert len((await entry_of(store)).images) == 1


async def test_unchanged_image_is_exported_alone_though_its_parents_are_stored(
    fresh_engine: FreshEngine, store: DirectoryStore
) -> None:
    engine = fresh_engine()
    import_busybox(engine.api, "base:1")
    build(engine.api, APP, FILES, tag="web:1")
    await export(engine.host, store, [WEB])

    exported = await export(engine.host, store, [WEB], parents=False)

    assert exported.saved_images == 0
    assert len((await entry_of(store)).images) == 1


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_cat_gives_the_one_image(
    generation: Generation, fresh_engine: FreshEngine, store: DirectoryStore
) -> None:
    before, after = fresh_engine(generation), fresh_engine(generation)
    import_busybox(before.api, "base:1")
    built = build(before.api, APP, FILES, tag="web:1")
    await export(before.host, store, [WEB], parents=False)

    engine = DockerEngine(after.host)
    try:
        await engine.load(
            cat_service(reading(store), "web", None, window_bytes=8 << 20, report=Notes())
        )
    finally:
        await engine.close()

    assert after.api.images.get("web:1").id == built.image_id
    assert len(after.api.images.list(all=True)) == 1


async def test_engine_frees_what_was_saved_service_by_service_without_parents(
    fresh_engine: FreshEngine, store: DirectoryStore
) -> None:
    engine = fresh_engine()
    import_busybox(engine.api, "base:1")
    for name in ("web", "worker"):
        build(engine.api, f"{APP}RUN echo {name} > /name\n", FILES, tag=f"{name}:1")
        await export(engine.host, store, [service(name, f"{name}:1")], parents=False)

    remove(engine, "web:1", "worker:1", "base:1")

    assert kept_layers(engine) == set()


async def test_engine_never_frees_what_was_saved_with_parents_unless_it_restarted_before(
    fresh_engine: FreshEngine, tmp_path: Path
) -> None:
    engines = fresh_engine(), fresh_engine()
    for number, engine in enumerate(engines):
        import_busybox(engine.api, "base:1")
        build(engine.api, APP, FILES, tag="web:1")
        await export(engine.host, DirectoryStore(tmp_path / str(number)), [WEB])
    late, early = engines

    remove(late, "web:1", "base:1")
    late.restart()
    early.restart()
    remove(early, "web:1", "base:1")

    assert len(kept_layers(late)) > 1
    assert kept_layers(early) == set()
