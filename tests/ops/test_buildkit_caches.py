"""Cache directories of BuildKit: those of several services come side by side."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import export, import_, service
from tests.support.cache_directories import write_cache

from longshore.core.service import Service
from longshore.output import import_text
from longshore.store.directory import DirectoryStore

NAMES = ("web", "worker", "db", "queue", "mail")  # more than are imported at once


def caching(folder: Path, name: str) -> Service:
    """Write the cache directory of a service: of two layers, one of which all have."""
    own, shared = random.Random(name).randbytes(700_000), random.Random(0).randbytes(500_000)
    write_cache(folder / name, own, shared)
    return replace(service(name), buildkit_cache=str(folder / name))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "oci-layout"
    }


def damage_entry(store: Path, name: str) -> None:
    (entry,) = (path for path in store.rglob(f"entries/{name}*/**/*") if path.is_file())
    entry.write_bytes(b"junk")


async def test_an_image_that_is_not_kept_is_neither_exported_nor_loaded(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    kept = caching(tmp_path, "web")
    lean = replace(kept, keeps_image=False)
    engine = TinyEngine(image_store="containerd")
    engine.build([("base", {"file": b"1" * 9999})], "web")
    await export(engine, store, [kept])
    saves = engine.saves

    engine.build([("base", {"file": b"2" * 9999})], "web")
    exported = await export(engine, store, [lean])
    fresh = TinyEngine(image_store="containerd")
    imported = await import_(fresh, store, [replace(lean, buildkit_cache=str(tmp_path / "new"))])

    assert (exported.services, len(exported.caches), engine.saves) == ([], 1, saves)
    assert [(one.service, one.outcome, one.images) for one in imported.services] == [
        ("web", "hit", ())
    ]
    assert fresh.images == {}
    assert contents(tmp_path / "new") == contents(tmp_path / "web")
    assert re.search(
        "web: hit from scope main, (just stored|[0-9.]+ s old); its image is not kept",
        import_text(imported),
    )


async def test_an_image_that_is_not_kept_is_a_miss_without_a_directory_told_once(
    tmp_path: Path,
) -> None:
    lean = replace(service("web"), keeps_image=False, buildkit_cache=str(tmp_path / "web"))

    imported = await import_(TinyEngine(), DirectoryStore(tmp_path / "store"), [lean])

    assert import_text(imported).splitlines()[:-1] == ["no cached BuildKit cache for web"]
    assert [one.outcome for one in imported.services] == ["miss"]


@pytest.mark.parametrize("damaged", [None, "db"])
async def test_each_service_gets_its_own_directory_whatever_is_wrong_with_another(
    tmp_path: Path, damaged: str | None
) -> None:
    store = DirectoryStore(tmp_path / "store")
    services = [caching(tmp_path / "before", name) for name in NAMES]
    engine = TinyEngine(image_store="containerd")
    exported = await export(engine, store, services)
    assert [(cache.service, cache.blobs) for cache in exported.caches] == [(n, 2) for n in NAMES]
    if damaged is not None:
        damage_entry(tmp_path / "store", damaged)
    after = [replace(one, buildkit_cache=str(tmp_path / "after" / one.name)) for one in services]

    imported = await import_(TinyEngine(image_store="containerd"), store, after)

    assert [cache.service for cache in imported.caches] == list(NAMES)
    for cache in imported.caches:
        if cache.service == damaged:
            assert cache.outcome == "miss"
            assert contents(Path(cache.directory)) == {}
        else:
            assert (cache.outcome, cache.blobs_fetched) == ("hit", 2)
            assert contents(Path(cache.directory)) == contents(tmp_path / "before" / cache.service)
