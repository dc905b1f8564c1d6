"""Readers with trusted keys: what counts for them, and what an attacker without a key can do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import PROJECT, Notes, export, import_, reading, service

from longshore.core.digests import parse_digest
from longshore.core.entry import EngineFacts, Entry, encode_entry
from longshore.core.envelope import Envelope, seal
from longshore.core.ids import new_id
from longshore.core.keys import entries_prefix, entry_key
from longshore.core.signing import SigningKey
from longshore.errors import CorruptData, LongshoreError, NotTrusted
from longshore.ops.finding import cached_entries
from longshore.ops.listing import list_entries
from longshore.ops.lookup import find_entry
from longshore.ops.newest import FoundEntry
from longshore.ops.reachable import MAX_PASSED_OVER
from longshore.ops.showing import show_service
from longshore.store.memory import MemoryStore

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = SigningKey.from_random(b"k" * 32)
OTHER = SigningKey.from_random(b"o" * 32)
TRUSTED = [KEY.public]
WEB = service("web", "web:1")
LAST_ID = "ffffffff-ffff-7fff-bfff-ffffffffffff"
STEPS = [("FROM base", b"base" * 5000), ("RUN make", b"program")]


class Clock:
    """The store's clock; each look at it takes a second."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(Clock())


@pytest.fixture
def engine() -> TinyEngine:
    engine = TinyEngine()
    engine.make(STEPS, "web:1")
    return engine


def flushed(identifier: str, *, scope: str = "main") -> Entry:
    return Entry(
        kind="flushed",
        project=PROJECT,
        scope=scope,
        service="web",
        platform="linux-amd64",
        id=identifier,
        basis=T0,
        agent="test",
        engine=EngineFacts("", ""),
    )


async def put(store: MemoryStore, entry: Entry, key: SigningKey | None = None) -> None:
    payload = encode_entry(entry)
    signatures = (key.sign(payload),) if key else ()
    where = entry_key(PROJECT, entry.scope, entry.service, entry.platform, entry.id)
    await store.put(where, seal(Envelope(payload, signatures)))


async def newest(store: MemoryStore, scope: str = "main") -> FoundEntry:
    (found,) = await reading(store, scope, trusted=TRUSTED).newest(scope, "web")
    return found


async def stored_entries(store: MemoryStore, scope: str = "main") -> list[str]:
    return sorted([info.key async for info in store.list(entries_prefix(PROJECT, scope, "web"))])


async def outcome(store: MemoryStore, *scopes: str, notes: Notes | None = None) -> str:
    result = await import_(
        TinyEngine(), store, [WEB], scopes=scopes or ("main",), trusted=TRUSTED, notes=notes
    )
    (done,) = result.services
    return done.scope or done.outcome


async def test_what_was_signed_is_loaded_and_what_was_not_is_a_miss_that_names_it(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB])
    notes = Notes()
    assert await outcome(store, notes=notes) == "miss"

    (warning,) = notes.warnings
    (key,) = await stored_entries(store)
    assert isinstance(warning, NotTrusted)
    assert str(warning) == (
        f"{store.url(key)} does not count: it is not signed; export with a --signing-key that is"
        " trusted, or name its key with --trusted-key"
    )

    await export(engine, store, [WEB], signing=KEY, trusted=TRUSTED)
    assert await outcome(store) == "main"


async def test_signature_does_not_matter_to_who_trusts_all(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB], signing=OTHER)

    result = await import_(TinyEngine(), store, [WEB])
    assert result.services[0].outcome == "hit"


async def test_signature_by_another_key_is_a_miss(engine: TinyEngine, store: MemoryStore) -> None:
    await export(engine, store, [WEB], signing=OTHER)

    assert await outcome(store) == "miss"


async def test_newer_entry_that_is_not_signed_hides_nothing(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB], signing=KEY)
    (signed,) = await stored_entries(store)
    evil = TinyEngine()
    evil.make([STEPS[0], ("RUN make", b"evil")], "web:1")
    await export(evil, store, [WEB])
    await put(store, flushed(LAST_ID))
    notes = Notes()

    hit = await find_entry(reading(store, trusted=TRUSTED), "web", "linux-amd64")

    assert hit is not None
    assert hit.url == store.url(signed)
    assert len(hit.passed) == 2
    assert await outcome(store, notes=notes) == "main"
    assert notes.warnings == []
    assert sum("does not count: it is not signed" in line for line in notes.lines) == 2


async def test_signed_flush_empties_the_scope(engine: TinyEngine, store: MemoryStore) -> None:
    await export(engine, store, [WEB], signing=KEY)
    await put(store, flushed(LAST_ID), KEY)

    assert await outcome(store) == "miss"


async def test_signed_entry_that_was_copied_to_a_newer_id_hides_nothing(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB], signing=KEY)
    (signed,) = await stored_entries(store)
    data = (await store.get(signed, limit_bytes=1 << 20)).data
    await store.put(f"{signed.rpartition('/')[0]}/{LAST_ID}", data)

    assert await outcome(store) == "main"


async def test_signed_entry_of_another_scope_or_service_does_not_count_here(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB], scopes=["pr:1"], signing=KEY)
    (signed,) = await stored_entries(store, "pr:1")
    data = (await store.get(signed, limit_bytes=1 << 20)).data
    await store.put(signed.replace("pr~3A1", "main"), data)
    await store.put(signed.replace("pr~3A1", "main").replace("/web/", "/worker/"), data)

    assert await outcome(store) == "miss"


async def test_object_too_large_to_be_read_hides_nothing(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB], signing=KEY)
    (signed,) = await stored_entries(store)
    await store.put(f"{signed.rpartition('/')[0]}/{LAST_ID}", bytes((16 << 20) + 1))

    assert await outcome(store) == "main"


async def test_scope_in_which_nothing_counts_is_passed_by(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB], signing=KEY)
    await export(engine, store, [WEB], scopes=["pr:1", "main"])
    await put(store, flushed(LAST_ID, scope="pr:1"))

    assert await outcome(store, "pr:1", "main") == "main"


@pytest.mark.parametrize(
    ("forged", "result"), [(MAX_PASSED_OVER, "main"), (MAX_PASSED_OVER + 1, "miss")]
)
async def test_search_for_an_entry_that_counts_is_bounded(
    engine: TinyEngine, store: MemoryStore, forged: int, result: str
) -> None:
    await export(engine, store, [WEB], signing=KEY)
    for number in range(forged):
        later = T0 + timedelta(days=1, seconds=number)
        await put(store, flushed(new_id(later, bytes(10))))

    assert await outcome(store) == result
    assert await outcome(store, "empty", "main") == result


async def test_nothing_is_decompressed_before_the_signature_was_checked(
    store: MemoryStore,
) -> None:
    garbage = b"\x28\xb5\x2f\xfd no zstd frame: who decompresses it says that it is damaged"
    key = entry_key(PROJECT, "main", "web", "linux-amd64", LAST_ID)
    where = reading(store, trusted=TRUSTED)
    for signatures, kind in (
        ((), NotTrusted),
        ((OTHER.sign(garbage),), NotTrusted),
        ((KEY.sign(b"other"),), NotTrusted),
        ((KEY.sign(garbage),), CorruptData),
    ):
        await store.put(key, seal(Envelope(garbage, signatures)))
        with pytest.raises(LongshoreError) as caught:
            await where.read_entry(await newest(store))
        assert type(caught.value) is kind

    with pytest.raises(CorruptData):
        await reading(store).read_entry(await newest(store))


async def test_export_reuses_nothing_that_is_not_trusted(
    engine: TinyEngine, store: MemoryStore
) -> None:
    first = await export(engine, store, [WEB])
    notes = Notes()

    second = await export(engine, store, [WEB], signing=KEY, trusted=TRUSTED, notes=notes)
    third = await export(engine, store, [WEB], signing=KEY, trusted=TRUSTED)

    assert [layer.new for layer in second.services[0].layers] == [True, True]
    assert second.uploaded_bytes >= first.uploaded_bytes
    assert not second.services[0].unchanged
    assert any("it is not signed" in line for line in notes.lines)
    assert notes.warnings == []
    assert third.services[0].unchanged
    assert not any(layer.new for layer in third.services[0].layers)


async def test_export_signs_no_parents_that_others_have_stored(store: MemoryStore) -> None:
    # With --cache-from an image keeps its id, and gets other parents: see ops/chains.py. What is
    # stored takes their place, so whoever wrote that would have it signed.
    engine = TinyEngine()
    engine.make([*STEPS, ("COPY . .", b"code")], "web:1")
    await export(engine, store, [WEB])
    stored = [entry async for entry in cached_entries(reading(store))]
    web = next(i for i in engine.images.values() if "web:1" in i.tags)
    assert web.parent is not None
    other = engine.vary(parse_digest(web.parent), "other:1", created="2026-02-02T00:00:00Z")
    engine.images[other].tags.clear()
    web.parent = other

    await export(engine, store, [WEB], signing=KEY, trusted=TRUSTED)

    (signed,) = [entry async for entry in cached_entries(reading(store, trusted=TRUSTED))]
    assert other in [image.id for image in signed.images]
    assert other not in [image.id for image in stored[0].images]


async def test_id_of_a_foreign_entry_does_not_move_the_next_one(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await put(store, flushed(LAST_ID))
    await export(engine, store, [WEB], signing=KEY, trusted=TRUSTED)
    first = (await newest(store)).older[0].key.id
    await export(engine, store, [WEB], signing=KEY, trusted=TRUSTED)

    hit = await find_entry(reading(store, trusted=TRUSTED), "web", "linux-amd64")
    assert hit is not None
    assert first < hit.entry.id < "1"


async def test_list_shows_what_is_not_trusted_and_what_counts(
    engine: TinyEngine, store: MemoryStore
) -> None:
    await export(engine, store, [WEB], signing=KEY)
    await put(store, flushed(LAST_ID))

    rows = await list_entries(reading(store, trusted=TRUSTED), all_scopes=True, platform=None)

    assert [(row.kind, row.older) for row in rows] == [(None, 1), ("image", 0)]
    assert "it is not signed" in (rows[0].problem or "")
    assert rows[1].problem is None
    assert rows[1].stored_bytes
    (row,) = await list_entries(reading(store), all_scopes=True, platform=None)
    assert (row.kind, row.older, row.problem) == ("flushed", 1, None)


async def test_show_tells_of_the_entry_that_counts(engine: TinyEngine, store: MemoryStore) -> None:
    await put(store, flushed(LAST_ID))
    with pytest.raises(NotTrusted, match=LAST_ID):
        await show_service(reading(store, trusted=TRUSTED), "web", None)

    await export(engine, store, [WEB], signing=KEY, trusted=TRUSTED)

    shown = await show_service(reading(store, trusted=TRUSTED), "web", None)
    assert shown.kind == "image"
    assert shown.id != LAST_ID


async def test_recipe_or_pack_that_was_exchanged_is_a_miss(
    engine: TinyEngine, store: MemoryStore
) -> None:
    # They are not signed: the digests in the signed entry protect what they lead to.
    await export(engine, store, [WEB], signing=KEY)
    evil = TinyEngine()
    evil.make([(step, bytes(reversed(data)) + b"evil") for step, data in STEPS], "web:1")
    other = MemoryStore(Clock())
    await export(evil, other, [WEB], signing=KEY)
    objects = dict(store._objects)

    for folder in ("recipes", "packs"):
        ours = sorted(key for key in objects if f"/{folder}/" in key)
        theirs = sorted(key for key in other._objects if f"/{folder}/" in key)
        for own in ours:
            for foreign in theirs:
                store._objects = {
                    **objects,
                    own: replace(other._objects[foreign], modified_at=T0),
                    foreign: other._objects[foreign],
                    **{k: v for k, v in other._objects.items() if "/packs/" in k},
                }
                fresh = TinyEngine()
                result = await import_(fresh, store, [WEB], trusted=TRUSTED)
                assert result.services[0].outcome != "hit" or fresh.images == engine.images
                assert set(fresh.images) <= set(engine.images)


async def test_clock_that_goes_back_hides_no_signed_entry(engine: TinyEngine) -> None:
    clock = Clock()
    store = MemoryStore(clock)
    await export(engine, store, [WEB], signing=KEY, trusted=TRUSTED)
    before = await newest(store)
    clock.now -= timedelta(hours=1)

    await export(engine, store, [WEB], signing=KEY, trusted=TRUSTED)

    assert (await newest(store)).key.id > before.key.id
