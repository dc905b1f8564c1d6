"""Attacks by hand: each ends as a miss with one line that says why, and costs little.

The attacker has the rights of the scope that is read: all objects of it are theirs.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import zstandard
from msgspec.structs import replace
from tests.support import hostile
from tests.support.cache import Notes, export, import_, reading, service
from tests.support.fake_engine import FakeEngine
from tests.support.hostile import Pack, fake_digest
from tests.support.images import pack as tar
from tests.support.mutations import opened_entry

from longshore.core import codec
from longshore.core.builder import Client
from longshore.core.digests import digest_of
from longshore.core.images import LAYER
from longshore.errors import CorruptData, LongshoreError, NotCached, TooLarge
from longshore.ops import newest as newest_module
from longshore.ops.cat import cat_service
from longshore.ops.imported import ImportResult
from longshore.ops.importer import ImportSettings, import_services
from longshore.ops.listing import list_entries
from longshore.ops.newest import newest_below
from longshore.ops.reachable import Reading
from longshore.ops.room import Room
from longshore.ops.showing import show_service
from longshore.output_json import plain
from longshore.store.contract import ObjectInfo, Store
from longshore.store.memory import MemoryStore

WEB = service("web", "web:1")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
GIB = 1 << 30
MAX_CALLS = 60


class CountingStore(MemoryStore):
    """A store that counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.calls = 0
        self.bytes_read = 0

    async def get(self, key: str, *, limit_bytes: int) -> Any:
        self.calls += 1
        stored = await super().get(key, limit_bytes=limit_bytes)
        self.bytes_read += len(stored.data)
        return stored

    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        self.calls += 1
        self.bytes_read += length
        await super().read(key, start, length, into)

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        self.calls += 1
        return super().list(prefix)


def layer() -> bytes:
    return tar({"app": b"what was built " * 1000})


async def honest(store: Store, data: bytes | None = None) -> tuple[str, Pack]:
    """Store a valid entry of one layer, which attacks then change."""
    data = layer() if data is None else data
    digest, pack = digest_of(data), Pack(1)
    rows = [pack.add(data[start : start + 4096]) for start in range(0, len(data), 4096)]
    await store.put(pack.key, bytes(pack.data))
    await hostile.put_recipe(store, hostile.recipe(digest, [pack], rows))
    await hostile.put_entry(store, hostile.entry({digest: len(data)}))
    return digest, pack


async def attacked(store: Store, limited: Reading | None = None) -> tuple[ImportResult, Notes]:
    """Import from a store, within limits that are small if they are not given."""
    notes = Notes()
    read = limited or replace(reading(store), room=Room(64 << 20), max_image_bytes=50 * GIB)
    settings = ImportSettings(
        window_bytes=32 << 20, clock=lambda: 0.0, client=lambda: Client("docker", asked="classic")
    )
    engine = FakeEngine()
    result = await import_services(engine, read, [WEB], settings, notes)
    if result.services[0].outcome != "hit":
        assert engine.images == {}
    return result, notes


async def test_what_the_attacks_begin_with_is_a_hit() -> None:
    store = CountingStore()
    await honest(store)

    result, notes = await attacked(store)

    assert result.services[0].outcome == "hit", notes.warnings


# Entries

Change = Callable[[dict[str, Any]], object]


def first_image(**more: Any) -> Change:
    return lambda d: d["images"][0].update(more)


def a_config(data: bytes) -> Change:
    def change(document: dict[str, Any]) -> None:
        document["documents"] = [hostile.document(data)]
        document["images"][0].update(id=digest_of(data), config=digest_of(data))

    return change


DEEP = "[" * 100_000 + "]" * 100_000
ENTRIES: dict[str, tuple[Change, str]] = {
    "a text for a list": (lambda d: d.update(images="x"), "Expected `array`, got `str`"),
    "a list for a number": (lambda d: d["blobs"][0].update(size=[]), "Expected `int`"),
    "true for a number": (lambda d: d["blobs"][0].update(size=True), "Expected `int`, got `bool`"),
    "a float for a number": (lambda d: d["blobs"][0].update(size=1.0), "got `float`"),
    "an integer of 400 digits": (lambda d: d["blobs"][0].update(size=10**400), "impossible size"),
    "an integer of 4000 digits": (lambda d: d["blobs"][0].update(size=10**4000), "impossible size"),
    "a negative size": (lambda d: d["blobs"][0].update(size=-1), "impossible size"),
    "infinity": (lambda d: d["figures"].update(seconds=float("inf")), "malformed"),
    "not a number": (lambda d: d["figures"].update(seconds=float("nan")), "malformed"),
    "a figure without end": (lambda d: d["figures"].update(seconds=1e300), "figures"),
    "a lone surrogate": (lambda d: d.update(agent="\ud800"), "not a valid document"),
    "another kind": (lambda d: d.update(kind="\x1b[2J" * 100), "unknown kind"),
    "another project": (lambda d: d.update(project="other"), "another key"),
    "a scope of the same segment": (lambda d: d.update(scope="main\0"), "another key"),
    "a scope of two parts": (lambda d: d.update(scope="../main"), "another key"),
    "a scope that is not read": (lambda d: d["refs"][0].__setitem__(0, "secret"), "not read"),
    "a scope that climbs": (lambda d: d["refs"][0].__setitem__(0, ".."), "names no scope"),
    "a scope that is encoded": (lambda d: d["refs"][0].__setitem__(0, "..%2fmain"), "not read"),
    "a scope of a megabyte": (lambda d: d["refs"][0].__setitem__(0, "/" * (1 << 20)), "longer"),
    "a scope with a NUL": (lambda d: d["refs"][0].__setitem__(0, "\0"), "not read"),
    "a key for an id": (lambda d: d["refs"][0].__setitem__(1, "../../x"), "no valid id"),
    "a pack for a recipe": (lambda d: d["refs"][0].__setitem__(1, hostile.name(1)), "another"),
    "the recipe of another layer": (
        lambda d: d["refs"][0].__setitem__(1, f"{'0' * 64}.{hostile.name(1)}"),
        "another layer",
    ),
    "an id in capitals": (
        lambda d: d["refs"][0].__setitem__(1, d["refs"][0][1].upper()),
        "no valid id",
    ),
    "an image that is its own parent": (
        lambda d: d["images"][0].update(parent=d["images"][0]["id"]),
        "ancestor",
    ),
    "the tag of an option": (first_image(tags=["--privileged"]), "impossible tag"),
    "a tag for a shell": (first_image(tags=["web:1 $(reboot)"]), "impossible tag"),
    "a tag that writes on": (first_image(tags=["web:1\x1b[2J"]), "impossible tag"),
    "a tag turned round": (first_image(tags=["web:\u202e1"]), "impossible tag"),
    "a tag in full": (first_image(tags=["docker.io/library/web:1"]), "impossible tag"),
    "more layers than the config": (first_image(layers=["sha256:" + "0" * 64] * 2), "layers"),
    "a config that is no JSON": (a_config(b"\x1f\x8b"), "cannot be read"),
    "a config that nests": (a_config(b'{"x":' + DEEP.encode() + b"}"), "cannot be read"),
    "a config of a million steps": (
        a_config(json.dumps({"history": [{}] * 1_000_000}).encode()),
        "values",
    ),
    "a config with other layers": (
        a_config(hostile.config([fake_digest(7)])),
        "other layers than its config",
    ),
    "the same layer twice": (lambda d: d["blobs"].append(d["blobs"][0]), "twice"),
    "a layer of another size": (lambda d: d["blobs"][0].update(size=10_240), "its entry says"),
    "a layer of a terabyte": (lambda d: d["blobs"][0].update(size=1 << 40), "--max-image-size"),
    "a million references": (lambda d: d.update(refs=d["refs"] * 50_000), "references"),
}


@pytest.mark.parametrize(("change", "reason"), ENTRIES.values(), ids=ENTRIES.keys())
async def test_a_hostile_entry_is_a_miss_that_says_why(change: Change, reason: str) -> None:
    store = CountingStore()
    data = layer()
    await honest(store, data)
    document = hostile.entry({digest_of(data): len(data)})
    document["figures"] = {
        "image_bytes": 1,
        "uploaded_bytes": 1,
        "new_blobs": 1,
        "seconds": 1.0,
    }
    change(document)
    key = next(key for key in store._objects if "/entries/" in key)
    await store.put(key, hostile.sealed(hostile.written(document)))

    result, notes = await attacked(store)

    assert result.services[0].outcome == "miss"
    assert_one_line(notes, reason)
    assert store.calls < MAX_CALLS


def assert_one_line(notes: Notes, reason: str) -> None:
    assert len(notes.warnings) == 1
    said = str(notes.warnings[0])
    assert isinstance(notes.warnings[0], CorruptData | NotCached)
    assert reason in said
    assert "\n" not in said
    assert len(said) < 600


# The bytes around a document

PAYLOAD = hostile.written({"format": 1, "requires": [], "refs": []})


def with_header(descriptor: int, *rest: bytes) -> bytes:
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + b"".join(rest)


BYTES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "does not begin"),
    "a magic alone": (b"LNGSHR1\n", "cut short"),
    "more signatures than there are": (b"LNGSHR1\n\xff\xff\xff\xff[]", "cut short"),
    "signatures that nest": (hostile.sealed(PAYLOAD, b"[" * 9000), "signatures"),
    "signatures that are none": (hostile.sealed(PAYLOAD, b'[{"key":1}]'), "signatures"),
    "no frame": (hostile.sealed(b"{}"), "frame"),
    "a bomb that says so": (
        hostile.sealed(zstandard.compress(bytes(64 << 20), 19)),
        "at most 16,777,216",
    ),
    "a bomb that hides its size": (
        hostile.sealed(
            zstandard.ZstdCompressor(19, write_content_size=False).compress(bytes(64 << 20))
        ),
        "frame",
    ),
    "a size of 2^63": (
        hostile.sealed(with_header(0xE0, b"\xff" * 7 + b"\x7f", b"\x01\0\0")),
        "claims",
    ),
    "a window of 2 TB": (
        hostile.sealed(with_header(0x80, b"\xf8", (100).to_bytes(4, "little"), b"\x01\0\0")),
        "damaged",
    ),
    "a dictionary": (
        hostile.sealed(with_header(0x23, b"\x01\0\0\0", b"\x05", b"\x29\0\0hello")),
        "frame",
    ),
    "a skippable frame": (
        hostile.sealed(b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"),
        "frame",
    ),
    "two frames": (hostile.sealed(PAYLOAD + PAYLOAD), "damaged"),
    "JSON that nests": (hostile.sealed(codec.compress(DEEP.encode(), 1)), "not a valid document"),
    "JSON that nests where nobody looks": (
        hostile.sealed(codec.compress(b'{"format":1,"x":' + DEEP.encode() + b"}", 1)),
        "not a valid document",
    ),
    "JSON that is no object": (hostile.sealed(codec.compress(b"[]", 1)), "not a valid document"),
    "a format from the future": (
        hostile.sealed(hostile.written({"format": 10**30})),
        "newer longshore",
    ),
    "a requirement that writes on": (
        hostile.sealed(hostile.written({"format": 1, "requires": ["\x1b[2J" * 1000]})),
        "newer longshore",
    ),
    "a million requirements": (
        hostile.sealed(hostile.written({"format": 1, "requires": ["x"] * 1_000_000})),
        "values",
    ),
    "more bytes than a document has": (hostile.sealed(bytes(17 << 20)), "more than the 16777216"),
}


@pytest.mark.parametrize(("data", "reason"), BYTES.values(), ids=BYTES.keys())
async def test_hostile_bytes_in_place_of_an_entry_are_a_miss_that_says_why(
    data: bytes, reason: str
) -> None:
    store = CountingStore()
    await honest(store)
    key = next(key for key in store._objects if "/entries/" in key)
    await store.put(key, data)

    result, notes = await attacked(store)

    assert result.services[0].outcome == "miss"
    assert_one_line(notes, reason)
    assert str(notes.warnings[0]).isprintable()


# Recipes and packs

Setting = Callable[[Store], Awaitable[None]]


async def put_layer(
    store: Store, digest: str, size: int, packs: list[Pack], *streams: list[dict[str, Any]]
) -> None:
    for one in packs:
        await store.put(one.key, bytes(one.data))
    await hostile.put_recipe(store, hostile.recipe(digest, packs, *streams))
    await hostile.put_entry(store, hostile.entry({digest: size}))


async def a_repeated_chunk(store: Store) -> None:
    pack = Pack(1)
    row = pack.add(bytes(1 << 20))
    await put_layer(store, fake_digest(1), 100_000 << 20, [pack], [row] * 100_000)


async def a_repeated_chunk_that_fits(store: Store) -> None:
    pack = Pack(1)
    row = pack.add(bytes(1 << 20))
    await put_layer(store, fake_digest(1), 40 << 20, [pack], [row] * 40)


async def more_chunks_than_a_layer_has(store: Store) -> None:
    pack = Pack(1)
    row = pack.add(b"x")
    await put_layer(store, fake_digest(1), 200_000, [pack], [row] * 150_001)


async def more_chunks_than_there_is_room_for(store: Store) -> None:
    pack = Pack(1)
    rows = [pack.add(b"x"), pack.add(b"y")]
    await put_layer(store, fake_digest(1), 149_000, [pack], [rows[1], rows[0]] * 74_500)


async def a_range_beyond_the_pack(store: Store) -> None:
    pack = Pack(1)
    row = pack.add(b"x" * 1000)
    await put_layer(store, fake_digest(1), 1000, [pack], [{**row, "offset": 60 << 20}])


async def a_range_at_the_end_of_numbers(store: Store) -> None:
    pack = Pack(1)
    row = pack.add(b"x" * 1000)
    await put_layer(store, fake_digest(1), 1000, [pack], [{**row, "offset": (1 << 63) - 1}])


async def a_pack_that_is_missing(store: Store) -> None:
    pack = Pack(1)
    row = pack.add(b"x" * 1000)
    await put_layer(store, fake_digest(1), 1000, [pack], [row])
    await store.delete([pack.key])


async def a_bomb_in_a_chunk(store: Store) -> None:
    pack = Pack(1)
    row = pack.add(b"x", frame=codec.compress(bytes(1 << 30), 1))
    await put_layer(store, fake_digest(1), 1, [pack], [row])


async def a_small_bomb_in_a_chunk(store: Store) -> None:
    pack = Pack(1)
    row = pack.add(b"x", frame=codec.compress(bytes(1 << 20), 1))
    await put_layer(store, fake_digest(1), 1, [pack], [row])


async def a_frame_of_nothing_but_blocks(store: Store) -> None:
    # An empty raw block takes three bytes; a megabyte of them still opens to one byte.
    frame = b"\x28\xb5\x2f\xfd\x20\x01" + b"\0\0\0" * 300_000 + b"\x09\0\0x"
    pack = Pack(1)
    row = pack.add(b"x", frame=frame)
    await put_layer(store, fake_digest(1), 1, [pack], [row])


async def another_chunk(store: Store) -> None:
    pack = Pack(1)
    row = pack.add(b"x", frame=codec.compress(b"y", 1))
    await put_layer(store, fake_digest(1), 1, [pack], [row])


async def streams_that_do_not_fit(store: Store) -> None:
    pack = Pack(1)
    headers = pack.add(layer()[:512])
    payload = pack.add(b"x" * 100_000)
    await put_layer(store, fake_digest(1), 512 + 100 * 100_000, [pack], [headers], [payload] * 100)


async def another_layer(store: Store) -> None:
    data = layer()
    pack = Pack(1)
    await put_layer(store, fake_digest(1), len(data), [pack], [pack.add(data)])


async def a_recipe_of_recipes(store: Store) -> None:
    pack = Pack(1)
    digest = fake_digest(1)
    await put_layer(store, digest, 1, [pack], [pack.add(b"x")])
    document = hostile.recipe(digest, [pack], [pack.add(b"x")])
    document["refs"] = [["main", f"{digest[7:]}.{hostile.name(1)}"]]
    await hostile.put_recipe(store, document)


async def a_recipe_that_reads_on(store: Store) -> None:
    pack = Pack(1, scope="secret")
    await put_layer(store, fake_digest(1), 1, [pack], [pack.add(b"x")])


async def a_recipe_that_is_a_bomb(store: Store) -> None:
    await put_layer(store, fake_digest(1), 1, [])
    await hostile.put_recipe_bytes(store, fake_digest(1), codec.compress(bytes(1 << 30), 1))


LAYERS: dict[Setting, str] = {
    a_repeated_chunk: "--max-image-size",
    a_repeated_chunk_that_fits: "was rebuilt as",
    more_chunks_than_a_layer_has: "chunks allowed",
    more_chunks_than_there_is_room_for: "raise --memory",
    a_range_beyond_the_pack: "ends after",
    a_range_at_the_end_of_numbers: "outside of what a pack can hold",
    a_pack_that_is_missing: "is not in the store",
    a_bomb_in_a_chunk: "outside of what a pack can hold",
    a_small_bomb_in_a_chunk: "at most 1 are allowed",
    a_frame_of_nothing_but_blocks: "outside of what a pack can hold",
    another_chunk: "BLAKE3",
    streams_that_do_not_fit: "do not fit together",
    another_layer: "was rebuilt as",
    a_recipe_of_recipes: "names a recipe where a pack belongs",
    a_recipe_that_reads_on: "does not read",
    a_recipe_that_is_a_bomb: "at most 16,777,216",
}


@pytest.mark.parametrize(
    ("prepare", "reason"), LAYERS.items(), ids=[prepare.__name__ for prepare in LAYERS]
)
async def test_a_hostile_layer_is_a_miss_that_says_why(prepare: Setting, reason: str) -> None:
    store = CountingStore()
    await prepare(store)

    result, notes = await attacked(store)

    assert result.services[0].outcome == "miss"
    assert_one_line(notes, reason)
    assert store.calls < MAX_CALLS
    assert store.bytes_read < 40 << 20


async def test_an_archive_with_a_layer_that_turns_out_wrong_never_ends() -> None:
    store = CountingStore()
    pack = Pack(1)
    await put_layer(store, fake_digest(1), 5120, [pack], [pack.add(b"x" * 5120)])
    out = bytearray()

    async def take() -> None:
        async for block in cat_service(
            reading(store), "web", None, window_bytes=1 << 20, report=Notes()
        ):
            out.extend(block)

    with pytest.raises(CorruptData, match="was rebuilt as"):
        await take()

    assert out.endswith(b"x" * 5120)


# Listings


class Crowded(CountingStore):
    """A store with as many entries as are asked for, which it makes up."""

    def __init__(self, number: int, *, services: int) -> None:
        super().__init__()
        self._number = number
        self._services = services
        self.listed = 0

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        for number in range(self._number):
            self.listed += 1
            place = f"web{number % self._services}/linux-amd64"
            key = f"shop/scopes/main/entries/{place}/{hostile.name(number)}"
            yield ObjectInfo(key, 1, NOW)


async def test_of_a_hundred_thousand_entries_only_the_newest_ones_are_held() -> None:
    store = Crowded(100_000, services=3)

    found = await newest_below(store, "shop/scopes/main/entries/")

    assert [one.key.id for one in found] == [hostile.name(99_999 - n) for n in (0, 2, 1)]
    assert sum(one.count_older for one in found) == 99_997


@pytest.mark.parametrize(("keys", "places"), [(500, 10_000), (10_000, 500)])
async def test_a_scope_with_absurdly_many_entries_is_a_miss_and_not_read_to_its_end(
    keys: int, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest_module, "MAX_KEYS", keys)
    monkeypatch.setattr(newest_module, "MAX_PLACES", places)
    store = Crowded(10_000, services=10_000)

    result, notes = await attacked(store)

    assert result.services[0].outcome == "miss"
    assert_one_line(notes, "remove what nobody needs")
    assert store.listed <= 501


async def test_an_import_asks_for_its_own_service_and_platform_only() -> None:
    class Asked(CountingStore):
        prefixes: list[str] = []  # noqa: RUF012

        def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
            self.prefixes.append(prefix)
            return super().list(prefix)

    store = Asked()
    await honest(store)

    await attacked(store)

    assert store.prefixes == ["shop/scopes/main/entries/web/linux-amd64/"]


async def test_other_scopes_are_listed_with_their_problems_whatever_they_hold() -> None:
    store = CountingStore()
    await honest(store)
    bad = {name: data for name, (data, _) in BYTES.items() if len(data) < 1 << 20}
    for number, data in enumerate(bad.values()):
        await hostile.put_bytes(store, data, scope=f"pr~3A{number}")
    await store.put("shop/scopes/~1B~5B2J/entries/web/linux-amd64/" + hostile.name(1), b"")

    listed = await list_entries(reading(store), all_scopes=True, platform=None)

    assert len(listed) == len(bad) + 2
    assert [entry.problem for entry in listed if entry.scope == "main"] == [None]
    assert all(entry.problem for entry in listed if entry.scope != "main")
    assert all(entry.scope.isprintable() for entry in listed)


async def test_a_flood_of_scopes_is_listed_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longshore.ops.listing.MAX_SCOPES", 20)
    store = CountingStore()
    await honest(store)
    for number in range(100):
        await hostile.put_bytes(store, b"", scope=f"s{number}")

    listed = await list_entries(reading(store), all_scopes=True, platform=None)

    assert len(listed) == 22
    assert "more than 20 scopes" in (listed[-1].problem or "")


async def test_a_flood_of_entries_is_listed_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longshore.ops.listing.MAX_LISTED", 20)
    store = CountingStore()
    await honest(store)
    for number in range(100):
        await hostile.put_bytes(store, b"", scope="other", service=f"s{number}")

    listed = await list_entries(reading(store), all_scopes=True, platform=None)

    assert len([entry for entry in listed if entry.service]) <= 21
    assert any("further entries are not listed" in (entry.problem or "") for entry in listed)


# Time


async def test_a_layer_scattered_over_thousands_of_packs_is_shown_at_once() -> None:
    store = CountingStore()
    digest = fake_digest(1)
    packs = [Pack(number) for number in range(20_000)]
    rows = [
        {"pack": n, "offset": 0, "stored": 10, "plain": 1, "blake3": bytes(32)}
        for n in range(20_000)
    ]
    await hostile.put_recipe(store, hostile.recipe(digest, packs, rows))
    await hostile.put_entry(store, hostile.entry({digest: 20_000}))

    shown = await show_service(reading(store), "web", None)

    assert len(shown.layers[0].packs) == 20_000
    assert sum(pack.chunks for pack in shown.layers[0].packs) == 20_000


async def test_a_history_that_many_images_share_is_shown_once_or_twice() -> None:
    store = CountingStore()
    document = hostile.entry({})
    shared = json.dumps({"history": [{"created_by": "x"}] * 4000, "rootfs": {}}).encode()
    document["documents"] = [hostile.document(shared)]
    document["images"] = [
        {
            "id": fake_digest(number),
            "config": digest_of(shared),
            "tags": [],
            "parent": None,
            "diff_ids": [],
            "layers": [],
        }
        for number in range(1000)
    ]
    await hostile.put_entry(store, document)

    shown = await show_service(reading(store), "web", None)

    assert len(shown.images) == 1000
    assert 0 < sum(len(image.steps) for image in shown.images) <= 10_000
    assert all(image.command == "x" for image in shown.images)


async def test_a_build_time_at_the_end_of_the_calendar_can_be_shown() -> None:
    store = CountingStore()
    data = layer()
    await honest(store, data)
    for created in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "x" * 100_000):
        history = [{"created": created, "created_by": "x"}]
        image = hostile.config([digest_of(data)], history=history)
        document = hostile.entry({digest_of(data): len(data)})
        document["documents"] = [hostile.document(image)]
        document["images"][0].update(id=digest_of(image), config=digest_of(image))
        await hostile.put_entry(store, document)

        shown = await show_service(reading(store), "web", None)

        assert plain(shown)["images"][0]["created_at"] is None


# Parents


async def made_up_parents(store: MemoryStore) -> None:
    """Say in the stored entry of `web` that its image was built on another one's."""
    engine = FakeEngine()
    base = ("base", {"bin/sh": b"#!"})
    engine.build([base, ("a", {"a": b"a"}), ("env", None)], "web:1")
    engine.build([base, ("b", {"b": b"b"}), ("env", None)], "web:2")
    await export(engine, store, [service("web", "web:1", "web:2")])
    key = next(key for key in store._objects if "/entries/" in key)
    document = opened_entry(store._objects[key].data)
    top, other = (i for i in document["images"] if i["tags"])
    top["parent"], other["parent"] = other["parent"], top["parent"]
    await store.put(key, hostile.sealed(hostile.written(document)))


async def test_a_parent_that_an_engine_would_refuse_is_not_asked_for() -> None:
    store, fresh, notes = CountingStore(), FakeEngine(), Notes()
    await made_up_parents(store)

    result = await import_(fresh, store, [WEB], notes=notes)

    assert result.services[0].outcome == "hit", notes.warnings
    assert {tag for image in fresh.images.values() for tag in image.tags} == {"web:1", "web:2"}
    assert all(i.parent is None for i in fresh.images.values() if i.tags)


async def test_an_export_does_not_believe_made_up_parents() -> None:
    store, engine = CountingStore(), FakeEngine()
    await made_up_parents(store)
    await import_(engine, store, [WEB])
    base = ("base", {"bin/sh": b"#!"})
    engine.build([base, ("a", {"a": b"a"}), ("env", None)], "web:1")
    engine.build([base, ("b", {"b": b"b"}), ("env", None)], "web:2")

    await export(engine, store, [service("web", "web:1", "web:2")])

    fresh = FakeEngine()
    result = await import_(fresh, store, [WEB])
    assert result.services[0].outcome == "hit"
    assert all(image.parent for image in fresh.images.values() if image.tags)


# Caches of BuildKit


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        pytest.param(b"[]", "cannot be read", id="no index"),
        pytest.param(b"\xff", "cannot be read", id="no JSON"),
        pytest.param(
            json.dumps(
                {"layers": [{"mediaType": LAYER, "digest": fake_digest(9), "size": 1}]}
            ).encode(),
            "lacks",
            id="a hole",
        ),
    ],
)
async def test_a_cache_that_a_build_would_fail_on_is_a_miss_and_leaves_the_directory(
    index: bytes, reason: str, tmp_path: Any
) -> None:
    store = CountingStore()
    await hostile.put_entry(
        store,
        hostile.entry(
            {},
            service="web:buildkit-cache",
            kind="buildkit-cache",
            images=[],
            documents=[hostile.document(index)],
            index=digest_of(index),
        ),
    )
    cached = replace(WEB, buildkit_cache=str(tmp_path / "cache"))
    notes = Notes()

    result = await import_(FakeEngine(), store, [cached], notes=notes)

    assert result.caches[0].outcome == "miss"
    assert reason in result.caches[0].reason
    assert list(tmp_path.rglob("*")) == []


# Keeping errors


async def test_an_error_that_is_kept_holds_nothing_of_what_was_read() -> None:
    store = CountingStore()
    await honest(store)
    key = next(key for key in store._objects if "/entries/" in key)
    await store.put(key, hostile.sealed(PAYLOAD))

    _, notes = await attacked(store)

    kept: LongshoreError = notes.warnings[0]
    assert kept.__cause__ is None
    assert kept.__context__ is None
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(kept.__traceback__)]
    assert [name for name in frames if "/core/" in name] == []


async def test_room_that_a_missed_service_took_is_given_back() -> None:
    store = CountingStore()
    pack = Pack(1)
    rows = [pack.add(b"x")]
    layers = {fake_digest(number): 1 for number in range(20)}
    for digest in list(layers)[:-1]:
        await hostile.put_recipe(store, hostile.recipe(digest, [pack], rows))
    await hostile.put_entry(store, hostile.entry(layers))
    room = Room(1 << 20)
    limited = replace(reading(store), room=room)

    result, _ = await attacked(store, limited)

    assert result.services[0].outcome == "miss"
    assert room.held_bytes < 40_000  # the entry alone


def test_room_has_an_end() -> None:
    room = Room(100)
    room.take(60)

    with pytest.raises(TooLarge, match="raise --memory"):
        room.take(41)

    assert room.held_bytes == 60
