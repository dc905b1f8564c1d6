"""Which images a service is made of, and when stored parents take the place of others."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime

import msgspec
import pytest
from msgspec.structs import replace
from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import Notes, export, reading, service

from longshore.core.digests import Digest
from longshore.core.entry import Entry
from longshore.engine.contract import EngineImage
from longshore.ops.chains import Chain, find_chains, keep_stored_parents
from longshore.ops.lookup import find_entry
from longshore.store.memory import MemoryStore

WEB = service("web", "web:1")
STEPS = [("FROM base", b"base"), ("RUN make", b"program"), ("COPY . .", b"code")]


@pytest.fixture
def engine() -> TinyEngine:
    engine = TinyEngine()
    engine.make(STEPS, "web:1")
    return engine


async def chain_of(engine: TinyEngine, *, parents: bool = True) -> Chain:
    return (await find_chains(engine, [WEB], Notes(), parents=parents))["web"]


async def entry_of(engine: TinyEngine, *, parents: bool = True) -> Entry:
    store = MemoryStore(lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))
    await export(engine, store, [WEB], parents=parents)
    hit = await find_entry(reading(store), "web", "linux-amd64")
    assert hit is not None
    return hit.entry


def layers(*images: EngineImage) -> set[Digest]:
    return {diff_id for image in images for diff_id in image.diff_ids}


class Counting(TinyEngine):
    """An engine that counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    async def inspect(self, name: str) -> EngineImage | None:
        self.asked[name] += 1
        await asyncio.sleep(0)  # as an engine does, answer later
        return await super().inspect(name)


async def test_images_that_services_share_are_asked_for_once_and_are_in_all_their_chains() -> None:
    engine = Counting()
    engine.make(STEPS, "web:1")
    engine.make([*STEPS[:-1], ("COPY db .", b"data")], "db:1")
    services = [WEB, service("gone", "gone:1"), service("db", "db:1")]
    notes = Notes()

    chains = await find_chains(engine, services, notes, parents=True)

    alone = {one.name: await find_chains(engine, [one], Notes(), parents=True) for one in services}
    assert list(chains) == ["web", "db"]
    assert chains == {**alone["web"], **alone["db"]}
    assert chains["web"].images[1:] == chains["db"].images[1:]
    shared = [image.id for image in chains["web"].images[1:]]
    assert [engine.asked[image] for image in shared] == [1 + 2] * (len(STEPS) - 1)
    assert ["gone:1" in str(warning) for warning in notes.warnings] == [True]


async def rebuilt(engine: TinyEngine) -> Chain:
    """Give the image parents of other ids, as a build with `--cache-from` does."""
    (web,) = (await chain_of(engine, parents=False)).images
    parents = (await chain_of(engine)).images[1:]
    other = engine.vary(parents[0].id, "other:1", created="2026-02-02T00:00:00Z")
    engine.images[other].tags.clear()
    engine.images[web.id].parent = other
    return await chain_of(engine)


async def test_stored_parents_take_the_place_of_those_of_a_cached_build(engine: TinyEngine) -> None:
    entry = await entry_of(engine)
    chain = await rebuilt(engine)
    stored = [image.id for image in entry.images]

    kept = keep_stored_parents(chain, [entry], layers(*chain.images))

    assert [image.id for image in chain.images] != stored
    assert [image.id for image in kept.images] == stored


async def test_chain_without_parents_is_given_none_that_are_stored(engine: TinyEngine) -> None:
    entry = await entry_of(engine)
    chain = await chain_of(engine, parents=False)

    assert keep_stored_parents(chain, [entry], layers(*chain.images)) == chain
    assert len(chain.images) == 1


async def test_entry_without_parents_takes_none_away(engine: TinyEngine) -> None:
    entry = await entry_of(engine, parents=False)
    chain = await rebuilt(engine)

    assert keep_stored_parents(chain, [entry], layers(*chain.images)) == chain


async def test_stored_parents_that_go_round_in_circles_come_to_an_end(engine: TinyEngine) -> None:
    entry = await entry_of(engine)
    first, *_, last = entry.images
    circle = [*entry.images[:-1], msgspec.structs.replace(last, parent=first.id)]
    chain = await rebuilt(engine)

    entry = replace(entry, images=tuple(circle))
    kept = keep_stored_parents(chain, [entry], layers(*chain.images))

    assert len(kept.images) == len(STEPS)
