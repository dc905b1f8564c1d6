"""An import gives names to images, and takes none from an image that it has no business with."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.support.cache import Notes, export, import_, service
from tests.support.fake_engine import FakeEngine

from longshore.store.memory import MemoryStore

WEB, WORKER = service("web", "web:1"), service("worker", "registry.example:5000/worker:1")
BASE = ("base", {"bin/sh": b"#!" * 3000})
NEWER = ("base", {"bin/sh": b"#?" * 3000})


def new_store() -> MemoryStore:
    return MemoryStore(lambda: datetime(2026, 3, 1, tzinfo=UTC))


def machine() -> FakeEngine:
    """A machine on which `web` was built upon a base image, by the classic builder."""
    engine = FakeEngine()
    engine.build([BASE], "python:3.12", "alpine:latest")
    engine.build([BASE, ("web", {"app": b"1"})], "web:1", "web:latest", "postgres:17")
    return engine


def tags_of(engine: FakeEngine) -> dict[str, str]:
    return {tag: name for name, image in engine.images.items() for tag in image.tags}


async def test_an_engine_without_them_gets_all_names_so_that_the_base_image_is_found() -> None:
    store, fresh = new_store(), FakeEngine()
    await export(machine(), store, [WEB])

    result = await import_(fresh, store, [WEB])

    assert result.services[0].outcome == "hit"
    assert tags_of(fresh) == tags_of(machine())


@pytest.mark.parametrize("tag", ["postgres:17", "python:3.12", "alpine:latest"])
async def test_a_name_that_another_image_has_is_not_taken_from_it(tag: str) -> None:
    store, engine, notes = new_store(), FakeEngine(), Notes()
    await export(machine(), store, [WEB])
    mine = engine.build([NEWER, ("mine", {"x": b"x"})], tag)

    result = await import_(engine, store, [WEB], notes=notes)

    assert result.services[0].outcome == "hit"
    assert tag not in result.services[0].tags
    assert tags_of(engine) == {**tags_of(machine()), tag: mine}
    assert any(f"{tag} stays as this engine has it" in line for line in notes.lines)


async def test_names_of_the_service_itself_are_moved_to_what_is_imported() -> None:
    store, engine = new_store(), FakeEngine()
    await export(machine(), store, [WEB])
    engine.build([BASE, ("web", {"app": b"old"})], "web:1", "web:latest")

    await import_(engine, store, [WEB])

    assert tags_of(engine) == tags_of(machine())


async def test_names_are_given_back_to_images_that_are_there_and_none_is_taken() -> None:
    store, engine = new_store(), machine()
    await export(engine, store, [WEB])
    mine = engine.build([NEWER], "python:3.12")
    for image in engine.images.values():
        image.tags -= {"web:latest", "postgres:17"}

    result = await import_(engine, store, [WEB])

    assert result.services[0].layers_sent == 0
    assert tags_of(engine) == {**tags_of(machine()), "python:3.12": mine}


async def test_an_entry_that_carries_the_name_of_another_service_does_not_give_it() -> None:
    store, engine = new_store(), FakeEngine()
    before = machine()
    before.build([BASE, ("web", {"app": b"1"})], "registry.example:5000/worker:1")
    await export(before, store, [WEB])

    await import_(engine, store, [WEB, WORKER])

    assert "registry.example:5000/worker:1" not in tags_of(engine)
    assert "web:1" in tags_of(engine)
