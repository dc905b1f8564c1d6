from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import export, reading, service

from longshore.errors import NotBuilt, NotCached
from longshore.ops.compare import Comparison, compare_service
from longshore.store.memory import MemoryStore

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
BASE = ("ADD rootfs in /", b"base" * 5000)
CI = ("/bin/sh -c npm ci", b"modules")
CODE = ("/bin/sh -c #(nop) COPY dir:1 in /app", b"code")
WEB = service("web", "web:1")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda: T0)


@pytest.fixture
def engine() -> TinyEngine:
    return TinyEngine()


async def compare(engine: TinyEngine, store: MemoryStore, *images: str) -> Comparison:
    return await compare_service(engine, reading(store), service("web", *(images or ("web:1",))))


async def test_what_was_just_exported_is_identical(engine: TinyEngine, store: MemoryStore) -> None:
    identifier = engine.make([BASE, CI, CODE], "web:1")
    await export(engine, store, [WEB])

    found = await compare(engine, store)

    assert found.verdict == "identical"
    assert (found.scope, found.platform, found.age) == ("main", "linux-amd64", timedelta())
    (image,) = found.images
    assert image.result is not None
    assert image.result.engine_id == image.result.cached_id == identifier
    assert image.result.common_layers == 3
    assert image.result.tags == ("web:1",)
    assert [step.engine_command for step in image.result.steps] == [
        "ADD rootfs in /",
        "RUN npm ci",
        "COPY dir:1 in /app",
    ]


async def test_a_rebuilt_image_parts_where_its_layers_do(
    engine: TinyEngine, store: MemoryStore
) -> None:
    engine.make([BASE, CI, CODE], "web:1")
    await export(engine, store, [WEB])
    engine.make([BASE, (CI[0], b"newer modules"), CODE], "web:1")

    found = await compare(engine, store)

    assert found.verdict == "part at step 2 of 3: RUN npm ci"
    result = found.images[0].result
    assert result is not None
    assert [step.state for step in result.steps] == ["same", "rebuilt", "same"]
    assert result.common_layers == 1
    base = result.layers[0]
    assert base.engine is not None
    assert base.size_bytes == len(engine.layers[base.engine])  # its chain_id is its diff_id


async def test_a_step_with_an_empty_layer_is_not_a_difference(
    engine: TinyEngine, store: MemoryStore
) -> None:
    steps = [BASE, ("/bin/sh -c true", b""), ("/bin/sh -c #(nop)  ENV A=1", None), CODE]
    identifier = engine.make(steps, "web:1")
    await export(engine, store, [WEB])
    engine.vary(identifier, "web:1", config={"Env": ["A=2"]})

    found = await compare(engine, store)

    assert found.verdict == "same layers, other config"
    result = found.images[0].result
    assert result is not None
    assert result.steps[1].engine_layer == result.steps[1].cached_layer is not None


async def test_only_the_creation_differs(engine: TinyEngine, store: MemoryStore) -> None:
    identifier = engine.make([BASE, CI], "web:1")
    await export(engine, store, [WEB])
    engine.vary(identifier, "web:1", created="2027-01-01T00:00:00Z")

    assert (await compare(engine, store)).verdict == "same layers, other config"


async def test_the_cached_image_is_found_by_its_tag_or_by_being_the_first(
    engine: TinyEngine, store: MemoryStore
) -> None:
    engine.make([BASE, CI, CODE], "web:1")
    await export(engine, store, [WEB])
    engine.images.clear()
    engine.make([BASE, CI, CODE], "web:2")

    found = await compare(engine, store, "web:2")

    assert found.verdict == "identical"
    assert found.images[0].result is not None
    assert found.images[0].result.tags_only_in_engine == ("web:2",)
    assert found.images[0].result.tags_only_in_cache == ("web:1",)


async def test_each_stage_is_compared_with_its_own_counterpart(
    engine: TinyEngine, store: MemoryStore
) -> None:
    engine.make([BASE, CODE], "web:1")
    engine.make([BASE, CI], "web:deps")
    await export(engine, store, [service("web", "web:1", "web:deps")])
    engine.make([BASE, (CI[0], b"newer")], "web:deps")
    engine.make([BASE, ("/bin/sh -c npm test", b"report")], "web:test")

    found = await compare(engine, store, "web:1", "web:deps", "web:test", "web:gone")

    assert found.verdict == "identical"
    own, deps, test, gone = found.images
    assert own.result is not None
    assert deps.result is not None
    assert deps.result.verdict == "part at step 2 of 2: RUN npm ci"
    assert (test.result, test.problem) == (None, "the cached entry has no image web:test")
    assert (gone.result, gone.problem) == (None, "the engine has no image web:gone")


async def test_an_engine_with_containerd_is_compared_by_layers_not_by_id(
    engine: TinyEngine, store: MemoryStore
) -> None:
    engine.make([BASE, CI], "web:1")
    await export(engine, store, [WEB])
    other = TinyEngine(image_store="containerd")
    identifier = other.make([BASE, CI], "web:0")
    other.vary(identifier, "web:1", note="another document, so another id")

    assert (await compare(other, store)).verdict == "same layers and steps"


async def test_an_image_that_was_not_built_is_an_error(
    engine: TinyEngine, store: MemoryStore
) -> None:
    engine.make([BASE], "web:1")
    await export(engine, store, [WEB])

    with pytest.raises(NotBuilt, match="web: the engine has no image web:1"):
        await compare(TinyEngine(), store)


async def test_without_a_cached_image_there_is_a_miss(
    engine: TinyEngine, store: MemoryStore
) -> None:
    engine.make([BASE], "web:1")

    with pytest.raises(NotCached, match="no cached image for web"):
        await compare(engine, store)


async def test_the_cached_image_is_the_one_for_the_engines_platform(store: MemoryStore) -> None:
    arm = TinyEngine(platform="linux-arm64-v8")
    arm.make([BASE], "web:1")
    await export(arm, store, [WEB])
    amd = TinyEngine()
    amd.make([BASE], "web:1")

    with pytest.raises(NotCached, match="web on linux-amd64; it is cached for linux-arm64-v8"):
        await compare(amd, store)


async def test_a_comparison_is_plain_data(engine: TinyEngine, store: MemoryStore) -> None:
    engine.make([BASE], "web:1")
    await export(engine, store, [WEB])

    msgspec.json.encode(await compare(engine, store))
