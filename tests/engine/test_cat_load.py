"""The cache can always be left: what `cat` writes, any engine loads without longshore."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from docker import DockerClient
from tests.engine_fixtures import FreshEngine
from tests.support.cache import Notes, export, reading, service
from tests.support.engines import Generation
from tests.support.images import build, history_ids, import_busybox

from longshore.core.comparing import ImageComparison
from longshore.engine.docker import DockerEngine
from longshore.errors import CorruptData
from longshore.ops.cat import cat_service
from longshore.ops.compare import compare_service
from longshore.store.directory import DirectoryStore

APP = """
FROM base:1
ENV STAGE=one
COPY data /data
WORKDIR /work
RUN true
RUN echo built > /built
CMD ["cat", "/built"]
"""
FILES = {"data/old": b"old\n", "data/new": b"new\n" * 50_000}
WEB = service("web", "web:1", "base:1")


async def archive_of(store: DirectoryStore, name: str) -> bytes:
    blocks = cat_service(reading(store), name, None, window_bytes=8 << 20, report=Notes())
    return b"".join([block async for block in blocks])


def images_of(client: DockerClient) -> dict[str, object]:
    """All images, intermediate ones included, with what must not change."""
    found: dict[str, object] = {}
    for image in client.images.list(all=True):
        attrs = image.attrs
        found[str(image.id)] = (sorted(image.tags), attrs["RootFS"], attrs.get("Parent"))
    return found


@pytest.mark.parametrize(("old", "new"), [("28.5", "28.5"), ("28.5", "20.10"), ("20.10", "26.1")])
async def test_docker_load_takes_the_archive_with_ids_tags_and_history(
    old: Generation, new: Generation, fresh_engine: FreshEngine, tmp_path: Path
) -> None:
    before, after = fresh_engine(old), fresh_engine(new)
    store = DirectoryStore(tmp_path / "store")
    import_busybox(before.api, "base:1")
    build(before.api, APP, FILES, tag="web:1")
    before.api.images.get("web:1").tag("web", "latest")
    await export(before.host, store, [WEB])

    after.api.images.load(io.BytesIO(await archive_of(store, "web")))

    assert images_of(after.api) == images_of(before.api)
    assert history_ids(after.api, "web:1") == history_ids(before.api, "web:1")
    assert "<missing>" not in history_ids(after.api, "web:1")
    assert after.api.containers.run("web:1", network_mode="none", remove=True) == b"built\n"


async def test_a_containerd_store_takes_the_archive_too(
    fresh_engine: FreshEngine, tmp_path: Path
) -> None:
    before, after = fresh_engine(), fresh_engine("28.5", "containerd")
    store = DirectoryStore(tmp_path / "store")
    import_busybox(before.api, "base:1")
    build(before.api, APP, FILES, tag="web:1")
    await export(before.host, store, [WEB])

    after.api.images.load(io.BytesIO(await archive_of(store, "web")))

    for tag in ("web:1", "base:1"):
        old, new = before.api.images.get(tag), after.api.images.get(tag)
        assert new.attrs["RootFS"] == old.attrs["RootFS"]
    assert after.api.containers.run("web:1", network_mode="none", remove=True) == b"built\n"


async def test_a_damaged_layer_never_becomes_an_image(
    fresh_engine: FreshEngine, tmp_path: Path
) -> None:
    before = fresh_engine()
    store = DirectoryStore(tmp_path / "store")
    import_busybox(before.api, "base:1")
    build(before.api, APP, FILES, tag="web:1")
    await export(before.host, store, [WEB])
    (pack,) = [path for path in (tmp_path / "store").rglob("packs/*") if path.is_file()]
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)

    with pytest.raises(CorruptData, match=pack.name):
        await archive_of(store, "web")


@pytest.mark.parametrize("generation", ["20.10", "28.5"])
async def test_diff_tells_the_engines_steps_and_layers_from_the_cached_ones(
    generation: Generation, fresh_engine: FreshEngine, tmp_path: Path
) -> None:
    machine = fresh_engine(generation)
    store = DirectoryStore(tmp_path / "store")
    import_busybox(machine.api, "base:1")
    build(machine.api, APP, FILES, tag="web:1")
    await export(machine.host, store, [WEB])
    engine = DockerEngine(machine.host)

    async def compare() -> ImageComparison:
        result = (await compare_service(engine, reading(store), WEB)).images[0].result
        assert result is not None
        return result

    try:
        same = await compare()
        build(machine.api, APP.replace("echo built", "echo again"), FILES, tag="web:1")
        changed = await compare()
        build(machine.api, APP, {**FILES, "data/new": b"changed"}, tag="web:1")
        rebuilt = await compare()
    finally:
        await engine.close()

    assert same.verdict == "identical"
    assert [step.state for step in same.steps] == ["same"] * 7
    # `RUN true` makes an empty layer, which the engine does not tell from none.
    assert [step.engine_layer for step in same.steps] == [s.cached_layer for s in same.steps]
    assert changed.verdict == "part at step 6 of 7: RUN echo again > /built"
    assert changed.steps[5].cached_command == "RUN echo built > /built"
    assert rebuilt.verdict.startswith("part at step 3 of 7: COPY dir:")
    assert rebuilt.common_layers == 1
