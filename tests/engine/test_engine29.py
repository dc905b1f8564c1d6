"""Engine 29, by its documentation: there is no package of it to be run here yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.engine29 import Engine29, Held

from longshore.core.digests import digest_of
from longshore.core.images import Step
from longshore.engine.docker import DockerEngine
from longshore.errors import EngineError

BASE, WEB, GONE = (digest_of(name) for name in (b"base", b"web", b"gone"))
LAYERS = [digest_of(b"layer one"), digest_of(b"layer two")]
STEPS = [("FROM base", 10240), ("ENV A=1", 0), ("COPY . .", 20480)]
API_OF_29 = [
    ("29.0.4", (1, 52), (1, 44)),
    ("29.3.0", (1, 54), (1, 40)),
    ("29.7.2", (1, 55), (1, 40)),
]


def built(**changes: Any) -> Engine29:
    """Make an engine that holds a base image and one that was built on it."""
    base = Held(str(BASE), [str(LAYERS[0])], STEPS[:1], ["base:1"])
    web = Held(str(WEB), [str(layer) for layer in LAYERS], STEPS, ["acme.test:5000/shop/web:1"])
    return Engine29(images=[base, web], **changes)


@asynccontextmanager
async def connected(there: Engine29) -> AsyncIterator[DockerEngine]:
    async with there.listen() as host:
        engine = DockerEngine(host)
        try:
            yield engine
        finally:
            await engine.close()


async def blocks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(("version", "newest", "oldest"), API_OF_29)
async def test_every_request_is_of_an_api_version_that_the_engine_takes(
    version: str, newest: tuple[int, int], oldest: tuple[int, int]
) -> None:
    there = built(version=version, newest=newest, oldest=oldest, archive=b"archive")

    async with connected(there) as engine:
        info = await engine.info()
        await engine.inspect(BASE)
        await engine.history(WEB)
        await engine.image_ids()
        assert b"".join([block async for block in engine.save([WEB])]) == b"archive"
        await engine.load(blocks(b"tar"))
        await engine.tag(BASE, "base:2")
        await engine.remove(BASE)

    assert (info.version, info.api_version) == (version, "{}.{}".format(*newest))
    assert {asked for _, asked, path in there.requests} == {None, newest}
    assert [path for _, asked, path in there.requests if asked is None] == ["/version"]


async def test_an_api_version_before_1_44_is_refused_as_29_refuses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = built()

    async with connected(there) as engine:
        await engine.info()
        monkeypatch.setattr((await engine._connect()).api, "_version", "1.43")
        with pytest.raises(EngineError, match=r"client version 1\.43 is too old"):
            await engine.inspect(BASE)
        with pytest.raises(EngineError, match=r"client version 1\.43 is too old"):
            _ = [block async for block in engine.save([WEB])]
        with pytest.raises(EngineError, match=r"client version 1\.43 is too old"):
            await engine.load(blocks(b"tar"))


async def test_a_pinned_version_of_the_docker_command_is_not_taken_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_API_VERSION", "1.41")

    async with built().listen() as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        engine = DockerEngine()
        try:
            assert (await engine.info()).api_version == "1.52"
        finally:
            await engine.close()


@pytest.mark.parametrize(
    ("containerd", "store", "driver"),
    [(True, "containerd", "overlayfs"), (False, "graphdriver", "overlay2")],
)
async def test_both_image_stores_are_told_apart(containerd: bool, store: str, driver: str) -> None:
    there = built(containerd=containerd)

    async with there.listen() as host:
        engine = DockerEngine(host)
        try:
            info = await engine.info()
        finally:
            await engine.close()

    assert (info.image_store, info.storage_driver) == (store, driver)
    assert (info.platform, info.address) == ("linux-amd64", host)


@pytest.mark.parametrize("containerd", [True, False], ids=["containerd", "graphdriver"])
async def test_an_image_is_understood_without_the_fields_that_went(containerd: bool) -> None:
    async with connected(built(containerd=containerd)) as engine:
        found = await engine.inspect("acme.test:5000/shop/web:1")

    assert found is not None
    assert (found.id, found.parent) == (WEB, None)
    assert found.tags == ("acme.test:5000/shop/web:1",)
    assert (found.diff_ids, found.size_bytes) == (tuple(LAYERS), 12345)


async def test_a_parent_is_still_told_where_there_is_one() -> None:
    there = built(containerd=False)
    there.images[1].parent = str(BASE)

    async with connected(there) as engine:
        found = await engine.inspect(WEB)

    assert found is not None
    assert found.parent == BASE


async def test_an_image_of_which_only_the_name_is_there_is_not_complete() -> None:
    there = built()
    there.images[1].available = False

    async with connected(there) as engine:
        found = await engine.inspect(WEB)

    assert found is not None
    assert (found.diff_ids, found.complete) == ((), False)


async def test_an_image_that_is_not_there_is_none() -> None:
    async with connected(built()) as engine:
        assert await engine.inspect("absent:1") is None
        assert await engine.inspect(GONE) is None


async def test_images_that_were_built_upon_are_listed_too() -> None:
    there = built()

    async with connected(there) as engine:
        assert await engine.image_ids() == {BASE, WEB}

    assert ("all", "1") in there.queries["/images/json"]  # 29 lists no intermediate ones by itself


async def test_steps_come_base_first_though_the_ids_of_parents_are_missing() -> None:
    async with connected(built()) as engine:
        steps = await engine.history(WEB)

    assert steps == tuple(
        Step(created_by=command, empty_layer=not size_bytes) for command, size_bytes in STEPS
    )


async def test_a_save_names_all_images_and_no_platform() -> None:
    there = built(archive=bytes(range(256)) * 4096)

    async with connected(there) as engine:
        archive = b"".join([block async for block in engine.save([WEB, BASE])])

    assert archive == there.archive
    assert there.queries["/images/get"] == [("names", WEB), ("names", BASE)]


async def test_a_save_of_what_is_not_there_fails_in_the_engines_words() -> None:
    async with connected(built()) as engine:
        with pytest.raises(EngineError, match="No such image"):
            _ = [block async for block in engine.save([GONE])]


async def test_a_load_sends_the_archive_and_asks_for_progress() -> None:
    there = built()
    there.load_says = [
        {"stream": "Loaded image: web:1\n"},
        {"id": "layer", "progressDetail": {"current": 7, "total": 9}},
    ]

    async with connected(there) as engine:
        await engine.load(blocks(b"one", b"", b"two"))

    assert there.loaded == [b"onetwo"]
    assert there.queries["/images/load"] == [("quiet", "0")]


@pytest.mark.parametrize(
    "line",
    [
        {"errorDetail": {"message": "unexpected EOF"}},  # without `error`, which is to go
        {"errorDetail": {"message": "unexpected EOF"}, "error": "unexpected EOF"},
        {"stream": "Error unpacking image web:1: unexpected EOF\n"},
    ],
    ids=["errorDetail", "both", "in-passing"],
)
async def test_a_load_that_failed_is_told_from_one_that_did_not(line: dict[str, Any]) -> None:
    there = built(load_says=[{"stream": "Loading layer\n"}, line])

    async with connected(there) as engine:
        with pytest.raises(EngineError, match="unexpected EOF"):
            await engine.load(blocks(b"tar"))


async def test_a_tag_moves_from_the_image_that_had_it() -> None:
    there = built()

    async with connected(there) as engine:
        await engine.tag(BASE, "acme.test:5000/shop/web:1")

    assert there.images[0].tags == ["base:1", "acme.test:5000/shop/web:1"]
    assert there.images[1].tags == []


async def test_an_image_is_removed_without_its_parents() -> None:
    there = built()

    async with connected(there) as engine:
        await engine.remove(WEB)
        await engine.remove(GONE)

    assert [image.id for image in there.images] == [BASE]
    assert dict(there.queries[f"/images/{WEB}"])["noprune"].lower() in ("1", "true")


async def test_a_name_by_digest_is_no_tag() -> None:
    there = built()
    there.images[0].tags.append(f"base@{BASE}")
    async with connected(there) as engine:
        found = await engine.inspect(BASE)
    assert found is not None
    assert found.tags == ("base:1",)
