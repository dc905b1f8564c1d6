"""Documents come back as they were written; hostile ones are refused, and by the right error."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.tars import config_json

from longshore.core import codec, documents, entry_checks
from longshore.core.chunking import AVERAGE_BYTES, MAX_BYTES
from longshore.core.digests import Digest, digest_of
from longshore.core.documents import MAX_VALUES
from longshore.core.entry import (
    Blob,
    EngineFacts,
    Entry,
    Figures,
    Image,
    Source,
    decode_entry,
    encode_entry,
)
from longshore.core.entry_checks import MAX_BLOBS, MAX_IMAGES, MAX_TAGS
from longshore.core.envelope import MAGIC, MAX_SIGNATURES_BYTES, Envelope, Signature, seal, unseal
from longshore.core.images import (
    CONFIG,
    LAYER,
    MAX_LAYERS,
    MAX_STEPS,
    ImageConfig,
    Step,
    parse_config,
)
from longshore.core.keys import Ref, parse_entry_key
from longshore.core.layout import OCI_INDEX, OCI_MANIFEST
from longshore.core.recipe import (
    CHUNK_ID_BYTES,
    MAX_BLOB_BYTES,
    MAX_CHUNKS,
    MAX_FRAME_BYTES,
    MAX_STORED_CHUNK_BYTES,
    PACK_BYTES,
    Chunk,
    Recipe,
    decode_recipe,
    encode_recipe,
)
from longshore.errors import CorruptData, StoreError, UnsupportedFormat

Json = Any  # what a JSON document holds, at any depth

ID = "019424f8-632e-7001-8203-040506070809"
OTHER_ID = "019424f8-632e-7001-8203-0405060708ff"
LAYERS = [b"base layer", b"top layer"]
BASE, TOP = map(digest_of, LAYERS)
TOP_CONFIG, BASE_CONFIG = config_json(LAYERS), config_json(LAYERS[:1])
TOP_ID, BASE_ID = digest_of(TOP_CONFIG), digest_of(BASE_CONFIG)
PACKS = (Ref("feature/x", ID), Ref("main", OTHER_ID))
RECIPE_REFS = (Ref("feature/x", f"{TOP[7:]}.{ID}"), Ref("main", f"{BASE[7:]}.{ID}"))

ENTRY = Entry(
    kind="image",
    project="my app",
    scope="feature/x",
    service="web",
    platform="linux-amd64",
    id=ID,
    basis=datetime(2025, 1, 2, 3, 4, 5, 678_901, UTC),
    agent="1.0",
    engine=EngineFacts("28.0.1", "graphdriver"),
    documents={TOP_ID: TOP_CONFIG, BASE_ID: BASE_CONFIG},
    media_types={TOP_ID: CONFIG, BASE_ID: CONFIG},
    images=(
        Image(TOP_ID, TOP_ID, ["app:1", "localhost:5000/app:1"], BASE_ID, [BASE, TOP], [BASE, TOP]),
        Image(BASE_ID, BASE_ID, [], None, [BASE], [BASE]),
    ),
    blobs=(Blob(BASE, 10, LAYER, 1), Blob(TOP, 9, LAYER, 0)),
    refs=RECIPE_REFS,
    source=Source("0123abc", "feature/x", "https://ci.example.com/1"),
    figures=Figures(19, 12, 1, 1.5),
)
KEY = parse_entry_key(f"my~20app/scopes/feature~2Fx/entries/web/linux-amd64/{ID}")
assert KEY is not None
ENTRY_KEY = KEY

RECIPE = Recipe(
    TOP,
    1_500_100,
    "tar",
    (
        (Chunk(b"h" * 32, 100, PACKS[0], 0, 60),),
        (
            Chunk(b"a" * 32, 1_000_000, PACKS[1], 5_000_000, 900_000),
            Chunk(b"b" * 32, 500_000, PACKS[0], 60, 450_000),
        ),
    ),
)


def read_entry(stored: bytes) -> Entry:
    return decode_entry(stored, "my app", ENTRY_KEY)


def read_recipe(stored: bytes) -> Recipe:
    return decode_recipe(stored, RECIPE_REFS[0])


def opened(stored: bytes) -> Json:
    return json.loads(zstandard.decompress(stored))


def written(document: Json) -> bytes:
    return codec.compress(json.dumps(document).encode(), 3)


def changed(stored: bytes, change: Callable[[Json], object]) -> bytes:
    document = opened(stored)
    change(document)
    return written(document)


STORED_ENTRY, STORED_RECIPE = encode_entry(ENTRY), encode_recipe(RECIPE)

readers = pytest.mark.parametrize(
    ("read", "stored"),
    [
        pytest.param(read_entry, STORED_ENTRY, id="entry"),
        pytest.param(read_recipe, STORED_RECIPE, id="recipe"),
    ],
)
Read = Callable[[bytes], object]


# Frames


@given(st.binary(min_size=1, max_size=5000), st.sampled_from([1, 3, 9]))
def test_bytes_survive_compression(data: bytes, level: int) -> None:
    assert codec.decompress(codec.compress(data, level), limit_bytes=len(data)) == data


def test_a_frame_over_the_limit_is_refused() -> None:
    with pytest.raises(CorruptData, match="100 bytes"):
        codec.decompress(codec.compress(bytes(100), 3), limit_bytes=99)


def test_a_frame_that_claims_a_huge_size_is_refused_unread() -> None:
    single_segment_of_8_bytes = b"\x28\xb5\x2f\xfd\xe0"
    frame = single_segment_of_8_bytes + (1 << 62).to_bytes(8, "little") + b"\x01\0\0"

    with pytest.raises(CorruptData, match="claims"):
        codec.decompress(frame, limit_bytes=1 << 30)


def test_a_frame_that_claims_less_than_it_holds_is_refused() -> None:
    frame = bytearray(codec.compress(b"0123456789", 3))
    assert frame[5] == 10
    frame[5] = 9

    with pytest.raises(CorruptData):
        codec.decompress(bytes(frame), limit_bytes=100)


def test_a_frame_that_does_not_say_its_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"abc")

    with pytest.raises(CorruptData):
        codec.decompress(frame, limit_bytes=100)


def test_a_frame_with_a_window_over_the_limit_is_refused() -> None:
    # Magic; 4 bytes of content size, no single segment; a window of 2**41 bytes; one empty block.
    frame = b"\x28\xb5\x2f\xfd\x80\xf8" + (100).to_bytes(4, "little") + b"\x01\0\0"

    with pytest.raises(CorruptData):
        codec.decompress(frame, limit_bytes=1000)


@pytest.mark.parametrize("more", [b"x", codec.compress(b"more", 3)], ids=["bytes", "a frame"])
def test_a_frame_that_is_followed_by_more_is_refused(more: bytes) -> None:
    with pytest.raises(CorruptData):
        codec.decompress(codec.compress(b"abc", 3) + more, limit_bytes=100)


@given(st.integers(0, len(STORED_ENTRY) - 1))
def test_a_frame_that_was_cut_short_is_refused(length: int) -> None:
    with pytest.raises(CorruptData):
        codec.decompress(STORED_ENTRY[:length], limit_bytes=1 << 20)


@given(
    st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"\x28\xb5\x2f\xfd" + rest)
)
def test_arbitrary_bytes_are_no_frame_or_within_the_limit(data: bytes) -> None:
    try:
        plain = codec.decompress(data, limit_bytes=1000)
    except CorruptData:
        plain = b""

    assert len(plain) <= 1000


# Envelopes


@given(
    st.binary(max_size=300),
    st.lists(st.builds(Signature, st.text(), st.text(), st.text()), max_size=3).map(tuple),
)
def test_an_envelope_is_read_back(payload: bytes, signatures: tuple[Signature, ...]) -> None:
    envelope = Envelope(payload, signatures)

    assert unseal(seal(envelope)) == envelope


def test_an_envelope_without_signatures_is_pinned() -> None:
    assert seal(Envelope(b"payload")) == b"LNGSHR1\n\0\0\0\0payload"


def test_an_envelope_with_a_signature_is_pinned() -> None:
    block = b'[{"key":"k","algorithm":"ed25519","signature":"c2ln"}]'

    sealed = seal(Envelope(b"payload", (Signature("k", "ed25519", "c2ln"),)))

    assert sealed == b"LNGSHR1\n" + len(block).to_bytes(4, "big") + block + b"payload"


@pytest.mark.parametrize("magic", [b"LNGSHR2\n", b"LNGSHR9\n", b"LNGSHRa\n"])
def test_a_newer_envelope_is_told_from_a_damaged_one(magic: bytes) -> None:
    with pytest.raises(UnsupportedFormat, match="newer longshore"):
        unseal(magic + b"whatever it holds")


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"LNGSHR1",
        b"LNGSHR0\n" + bytes(4),
        b"LNGSHR2 " + bytes(4),
        b"lngshr1\n" + bytes(4),
        MAGIC,
        MAGIC + b"\0\0\0",
        MAGIC + b"\0\0\0\1",
        MAGIC + b"\xff\xff\xff\xff" + b"[]",
        MAGIC
        + (MAX_SIGNATURES_BYTES + 1).to_bytes(4, "big")
        + b"[]".ljust(MAX_SIGNATURES_BYTES + 1),
        MAGIC + b"\0\0\0\2{}",
        MAGIC + b"\0\0\0\x04[{}]",
        STORED_ENTRY,
    ],
)
def test_what_is_no_envelope_is_refused(stored: bytes) -> None:
    with pytest.raises(CorruptData):
        unseal(stored)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b'[{"key":"\xff","algorithm":"","signature":""}]', id="not UTF-8"),
        pytest.param(b"[" * 8000 + b"]" * 8000, id="nested"),
    ],
)
def test_hostile_signatures_are_refused(block: bytes) -> None:
    with pytest.raises(CorruptData, match="signatures"):
        unseal(MAGIC + len(block).to_bytes(4, "big") + block)


def test_what_nests_deeply_where_nobody_looks_is_refused_or_passed_over() -> None:
    # Up to Python 3.12 the parser gives up on it, from 3.13 on it has room enough.
    nested = b'[{"key":"","algorithm":"","signature":"","x":' + b"[" * 8000 + b"]" * 8000 + b"}]"

    with contextlib.suppress(CorruptData):
        assert unseal(MAGIC + len(nested).to_bytes(4, "big") + nested).payload == b""


@given(
    st.binary(max_size=100)
    | st.binary(max_size=100).map(lambda rest: MAGIC + rest)
    | st.binary(max_size=100).map(lambda rest: MAGIC + len(rest).to_bytes(4, "big") + rest)
)
def test_arbitrary_bytes_are_an_envelope_or_refused(data: bytes) -> None:
    try:
        payload = unseal(data).payload
    except (CorruptData, UnsupportedFormat):
        payload = b""

    assert data.endswith(payload)


# All documents


def test_an_entry_is_read_back() -> None:
    assert read_entry(STORED_ENTRY) == ENTRY


def test_a_recipe_is_read_back() -> None:
    assert read_recipe(STORED_RECIPE) == RECIPE


@readers
@pytest.mark.parametrize("number", [2, 99, 10**25])
def test_a_newer_format_is_unsupported(read: Read, stored: bytes, number: int) -> None:
    newer = changed(stored, lambda document: document.update(format=number))

    with pytest.raises(UnsupportedFormat, match="newer longshore"):
        read(newer)


@readers
def test_a_newer_format_may_be_of_quite_another_form(read: Read, stored: bytes) -> None:
    with pytest.raises(UnsupportedFormat):
        read(written({"format": 2, "streams": "elsewhere"}))


@readers
def test_an_unknown_requirement_is_unsupported(read: Read, stored: bytes) -> None:
    newer = changed(stored, lambda document: document.update(requires=["time-travel"]))

    with pytest.raises(UnsupportedFormat, match="time-travel"):
        read(newer)


@readers
@pytest.mark.parametrize("value", [[], {}, "a", 7], ids=str)
def test_more_values_than_are_allowed_are_refused_before_they_are_parsed(
    read: Read, stored: bytes, value: Json
) -> None:
    # Each takes two bytes of JSON, and many times that once it is parsed.
    crowded = changed(stored, lambda document: document.update(unknown=[value] * MAX_VALUES))

    with pytest.raises(CorruptData, match="values"):
        read(crowded)


@readers
@pytest.mark.parametrize("number", [0, -1])
def test_a_format_that_never_was_is_corrupt(read: Read, stored: bytes, number: int) -> None:
    broken = changed(stored, lambda document: document.update(format=number))

    with pytest.raises(CorruptData):
        read(broken)


def test_unknown_fields_of_an_entry_are_ignored() -> None:
    def add(document: Json) -> None:
        document["colour"] = {"deep": [1, 2]}
        for part in (document["images"][0], document["blobs"][0], document["engine"]):
            part["colour"] = None

    assert read_entry(changed(STORED_ENTRY, add)) == ENTRY


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(range(3)), st.integers(0, 60 << 20), st.integers(1, 1 << 20))
        ),
        max_size=2,
    )
)
def test_a_recipe_tells_how_long_its_packs_have_to_be(
    streams: list[list[tuple[int, int, int]]],
) -> None:
    # As when they are read: one reference for each pack.
    packs = [Ref("main", f"01a2035e-dbb0-7862-b447-f2c7f272fa2{number}") for number in range(3)]
    chunks = [[Chunk(b"", 1, packs[p], o, stored) for p, o, stored in rows] for rows in streams]
    recipe = Recipe(RECIPE.digest, 0, "tar", tuple(map(tuple, chunks)))

    assert recipe.pack_ends() == {
        pack: max(c.offset + c.stored_bytes for part in chunks for c in part if c.pack == pack)
        for pack in recipe.packs
    }


def test_unknown_fields_of_a_recipe_are_ignored() -> None:
    def add(document: Json) -> None:
        document["colour"] = document["streams"][1]["colour"] = ["red"]

    assert read_recipe(changed(STORED_RECIPE, add)) == RECIPE


@readers
@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"format":1}',
        b'{"format":"1"}',
        b'{"format":true}',
        b'{"format":1e400}',
        b'{"format":' + b"9" * 5000 + b"}",
        b'{"format":1,"requires":["\xff"]}',
        b'{"format":1,"requires":["\\ud800"]}',
        b'{"format":1,"requires":null}',
        b'{"format":1,"refs":[["a"]]}',
        b'{"format":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"format":1,"x":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"format":1} {"format":1}',
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda plain: plain[:24] if isinstance(plain, bytes) else None,
)
def test_json_that_is_no_document_is_corrupt(read: Read, stored: bytes, plain: bytes) -> None:
    with pytest.raises(CorruptData):
        read(codec.compress(plain, 3))


@readers
def test_a_document_of_more_than_the_limit_is_corrupt(read: Read, stored: bytes) -> None:
    bomb = codec.compress(b" " * (documents.MAX_DOCUMENT_BYTES + 1), 3)

    with pytest.raises(CorruptData, match="claims"):
        read(bomb)


@readers
def test_each_field_that_is_missing_is_corrupt_or_optional(read: Read, stored: bytes) -> None:
    optional = {"source", "figures"}
    for name in opened(stored).keys() - optional:
        without = written({key: value for key, value in opened(stored).items() if key != name})

        with pytest.raises(CorruptData):
            read(without)


@pytest.mark.parametrize("stored", [STORED_ENTRY, STORED_RECIPE], ids=["entry", "recipe"])
def test_the_references_of_a_newer_document_can_be_read(stored: bytes) -> None:
    newer = changed(stored, lambda document: document.update(format=7, requires=["time-travel"]))

    assert documents.peek(newer).refs == documents.peek(stored).refs


def test_the_references_of_a_document_are_those_it_was_written_with() -> None:
    found = [documents.peek(stored).refs for stored in (STORED_ENTRY, STORED_RECIPE)]

    assert found == [RECIPE_REFS, RECIPE.packs]


TRICKS = [
    ["", ID],
    [".", ID],
    ["..", ID],
    ["main", ""],
    ["main", "../" + ID],
    ["main", ID + "/../../x"],
    ["main", ID + "\n"],
    ["main", f"{TOP}.{ID}"],
    ["main", f"../recipes/{TOP[7:]}.{ID}"],
    ["main", ID, "more"],
    ["main", None],
    [None, ID],
    "main",
    {"scope": "main", "id": ID},
]


@readers
@pytest.mark.parametrize("trick", TRICKS)
def test_references_that_are_none_are_corrupt(read: Read, stored: bytes, trick: Json) -> None:
    with pytest.raises(CorruptData):
        read(changed(stored, lambda document: document["refs"].__setitem__(0, trick)))


@pytest.mark.parametrize("trick", TRICKS)
def test_references_that_are_none_stop_prune_from_reading_on(trick: Json) -> None:
    with pytest.raises(CorruptData):
        documents.peek(written({"format": 1, "refs": [trick]}))


@given(st.binary(max_size=100))
def test_base64_is_read_back(data: bytes) -> None:
    assert documents.from_base64(documents.to_base64(data)) == data


@pytest.mark.parametrize("text", ["a", "ab=", "YQ==YQ==", "Y Q==", "YQ==\n", "é", "-_-_", "====="])
def test_what_is_no_base64_is_corrupt(text: str) -> None:
    with pytest.raises(CorruptData):
        documents.from_base64(text)


# Entries


def test_a_flushed_entry_is_read_back() -> None:
    entry = replace(
        ENTRY,
        kind="flushed",
        documents={},
        media_types={},
        images=(),
        blobs=(),
        refs=(),
        source=Source(),
    )

    assert read_entry(encode_entry(entry)) == entry


def test_the_entry_of_a_cache_names_its_index_among_its_documents() -> None:
    index = b'{"schemaVersion":2,"manifests":[]}'
    entry = replace(
        ENTRY,
        kind="buildkit-cache",
        documents={digest_of(index): index},
        media_types={digest_of(index): "application/vnd.oci.image.index.v1+json"},
        images=(),
        index=digest_of(index),
    )
    assert read_entry(encode_entry(entry)) == entry

    for wrong in (None, digest_of(b"another")):
        with pytest.raises(CorruptData):
            read_entry(encode_entry(replace(entry, index=wrong)))


def test_an_entry_may_name_a_layer_that_is_not_kept() -> None:
    entry = replace(ENTRY, blobs=(ENTRY.blobs[0], Blob(TOP, 9, LAYER, None)))

    read = read_entry(encode_entry(entry))

    assert read.recipe_refs() == {BASE: RECIPE_REFS[1]}


def test_an_entry_tells_the_recipe_of_each_layer() -> None:
    assert read_entry(STORED_ENTRY).recipe_refs() == {BASE: RECIPE_REFS[1], TOP: RECIPE_REFS[0]}


def test_an_entry_gives_the_parsed_config_of_its_images() -> None:
    entry = read_entry(STORED_ENTRY)

    configs = [entry.config(image) for image in entry.images]

    assert [config.digest for config in configs] == [TOP_ID, BASE_ID]
    assert [config.diff_ids for config in configs] == [(BASE, TOP), (BASE,)]


@pytest.mark.parametrize("field", ["project", "scope", "service", "platform"])
def test_an_entry_under_another_key_is_corrupt(field: str) -> None:
    moved = changed(STORED_ENTRY, lambda document: document.update({field: "other"}))

    with pytest.raises(CorruptData, match="another key"):
        read_entry(moved)


@pytest.mark.parametrize("scope", ["", ".", "..", "feature~2Fx", "feature/x/"])
def test_an_entry_with_an_impossible_scope_is_corrupt(scope: str) -> None:
    moved = changed(STORED_ENTRY, lambda document: document.update(scope=scope))

    with pytest.raises(CorruptData, match="another key"):
        read_entry(moved)


def test_an_entry_with_another_id_is_corrupt() -> None:
    moved = changed(STORED_ENTRY, lambda document: document.update(id=OTHER_ID))

    with pytest.raises(CorruptData, match="another key"):
        read_entry(moved)


def test_an_entry_of_another_project_is_corrupt() -> None:
    with pytest.raises(CorruptData, match="another key"):
        decode_entry(STORED_ENTRY, "other", ENTRY_KEY)


ENTRY_DAMAGES: dict[str, Callable[[Json], object]] = {
    "unknown kind": lambda d: d.update(kind="video"),
    "no time zone": lambda d: d.update(basis="2025-01-02T03:04:05"),
    "no time": lambda d: d.update(basis="yesterday"),
    "no image": lambda d: d.update(images=[]),
    "changed config": lambda d: d["documents"][0].update(
        data=documents.to_base64(TOP_CONFIG + b" ")
    ),
    "config that is not base64": lambda d: d["documents"][0].update(data="%"),
    "config under no digest": lambda d: d["documents"][0].update(digest="x"),
    "config missing": lambda d: d["documents"].pop(0),
    "image without digest": lambda d: d["images"][0].update(id="latest"),
    "config without digest": lambda d: d["images"][0].update(config="x"),
    "diff_ids unlike the config": lambda d: d["images"][0]["diff_ids"].reverse(),
    "a diff_id less": lambda d: d["images"][0]["diff_ids"].pop(),
    "a layer less": lambda d: d["images"][0]["layers"].pop(),
    "a layer more": lambda d: d["images"][0]["layers"].append(BASE),
    "a layer that is not listed": lambda d: d["blobs"].pop(0),
    "a layer that is no digest": lambda d: d["blobs"][0].update(digest="../x"),
    "a negative size": lambda d: d["blobs"][0].update(size=-1),
    "a recipe beyond the references": lambda d: d["blobs"][0].update(recipe=2),
    "a negative recipe": lambda d: d["blobs"][0].update(recipe=-1),
    "the recipe of another layer": lambda d: d["blobs"][0].update(recipe=0),
    "a pack for a recipe": lambda d: d["refs"].__setitem__(1, ["main", ID]),
    "a parent that is not there": lambda d: d["images"][0].update(parent=digest_of(b"x")),
    "an empty tag": lambda d: d["images"][0].update(tags=[""]),
    "a tag with a space": lambda d: d["images"][0].update(tags=["a b"]),
    "a tag with a control character": lambda d: d["images"][0].update(tags=["a\x1b[2J"]),
    "a tag of absurd length": lambda d: d["images"][0].update(tags=["a" * 401]),
    "an id for a tag": lambda d: d["images"][0].update(tags=[TOP_ID]),
    "a digest in a tag": lambda d: d["images"][0].update(tags=[f"app@{TOP_ID}"]),
    "a tag that no engine shows so": lambda d: d["images"][0].update(
        tags=["docker.io/library/app:1"]
    ),
    "a tag for a shell": lambda d: d["images"][0].update(tags=["app:1;reboot"]),
    "absurdly many tags": lambda d: d["images"][0].update(tags=["app:1"] * (MAX_TAGS + 1)),
    "the same image twice": lambda d: d["images"].append(d["images"][1]),
    "the same layer twice": lambda d: d["blobs"].append(d["blobs"][1]),
    "the same document twice": lambda d: d["documents"].append(d["documents"][1]),
    "an image that is its own parent": lambda d: d["images"][1].update(parent=BASE_ID),
    "images that are each other's parents": lambda d: d["images"][1].update(parent=TOP_ID),
    "a flushed entry with images": lambda d: d.update(kind="flushed"),
    "a layer of absurd size": lambda d: d["blobs"][0].update(size=MAX_BLOB_BYTES + 1),
    "a size of 400 digits": lambda d: d["blobs"][0].update(size=10**400),
    "a negative figure": lambda d: d["figures"].update(uploaded_bytes=-1),
    "a figure of 400 digits": lambda d: d["figures"].update(image_bytes=10**400),
    "a duration without an end": lambda d: d["figures"].update(seconds=1e300),
    "a duration longer than any": lambda d: d["figures"].update(seconds=1e17),
    "a name of absurd length": lambda d: d["refs"][0].__setitem__(0, "/" * 100_000),
    "absurdly many references": lambda d: d.update(refs=d["refs"] * MAX_BLOBS),
    "absurdly many layers": lambda d: d.update(blobs=d["blobs"] * MAX_BLOBS),
    "absurdly many images": lambda d: d.update(images=d["images"] * MAX_IMAGES),
}


@pytest.mark.parametrize("change", ENTRY_DAMAGES.values(), ids=ENTRY_DAMAGES.keys())
def test_an_entry_that_contradicts_itself_is_corrupt(change: Callable[[Json], object]) -> None:
    with pytest.raises(CorruptData) as caught:
        read_entry(changed(STORED_ENTRY, change))

    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"images": ENTRY.images * MAX_IMAGES}, id="images"),
        pytest.param({"blobs": ENTRY.blobs * MAX_BLOBS}, id="layers"),
    ],
)
def test_an_entry_that_readers_would_refuse_is_not_written(more: Json) -> None:
    with pytest.raises(StoreError, match="cannot be cached"):
        encode_entry(replace(ENTRY, **more))


def test_a_config_that_many_images_share_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []

    def parse(data: bytes) -> ImageConfig:
        calls.append(data)
        return parse_config(data)

    monkeypatch.setattr(entry_checks, "parse_config", parse)

    def change(document: Json) -> None:
        top = document["images"][0]
        more = [{**top, "id": digest_of(b"%d" % n), "tags": []} for n in range(50)]
        document["images"] += more

    read_entry(changed(STORED_ENTRY, change))

    assert len(calls) == 2


def test_images_that_lead_through_the_same_manifests_again_and_again_are_refused() -> None:
    described = {"mediaType": LAYER, "digest": TOP, "size": 1}
    large = json.dumps({"layers": [described] * 10_000}).encode()

    def document_of(data: bytes) -> Json:
        return {
            "digest": digest_of(data),
            "media_type": OCI_INDEX,
            "data": documents.to_base64(data),
        }

    def change(document: Json) -> None:
        document["documents"].append(document_of(large))
        child = {"mediaType": OCI_MANIFEST, "digest": digest_of(large), "size": len(large)}
        for number in range(100):
            index = json.dumps({"manifests": [child], "number": number}).encode()
            document["documents"].append(document_of(index))
            document["images"].append({**document["images"][0], "id": digest_of(index), "tags": []})

    with pytest.raises(CorruptData, match="too many documents"):
        read_entry(changed(STORED_ENTRY, change))


def test_an_entry_whose_config_is_none_is_corrupt() -> None:
    def change(document: Json) -> None:
        data = b"[" * 50_000
        document["documents"].append(
            {"digest": digest_of(data), "media_type": CONFIG, "data": documents.to_base64(data)}
        )
        document["images"][0]["config"] = digest_of(data)

    with pytest.raises(CorruptData, match="config"):
        read_entry(changed(STORED_ENTRY, change))


@pytest.mark.parametrize("bad", ["\x1b[2J", "\r", "\u202e", "\x9b", "a\nb"])
def test_control_characters_of_foreign_texts_are_replaced(bad: str) -> None:
    def change(document: Json) -> None:
        document["agent"] = bad
        document["engine"] = {"version": bad, "image_store": bad}
        document["source"] = {"revision": bad, "branch": bad, "job_url": bad}
        document["documents"][0]["media_type"] = document["blobs"][0]["media_type"] = bad

    entry = read_entry(changed(STORED_ENTRY, change))

    source = (entry.source.revision, entry.source.branch)
    types = (*entry.media_types.values(), *(blob.media_type for blob in entry.blobs))
    texts = (entry.agent, entry.engine.version, entry.engine.image_store, *source, *types)
    assert all(text is not None and text.isprintable() for text in texts)
    assert entry.source.job_url is None


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://ci.example.com/jobs/1?x=[y]&z=%20#step:3", True),
        ("http://localhost:8080", True),
        ("https://[2001:db8::1]/jobs", True),
        ("javascript:alert(1)", False),
        ("JavaScript:alert(1)//https://ci.example.com", False),
        ("file:///etc/passwd", False),
        ("data:text/html,<script>", False),
        ("//ci.example.com/1", False),
        ("https://github.com@evil.example/1", False),
        ('https://ci.example.com/"onmouseover=alert(1)', False),
        ("https://ci.example.com/<b>", False),
        ("https://ci.example.com/a b", False),
        ("https://ci.exаmple.com/1", False),  # noqa: RUF001  # the point: a Cyrillic letter
        ("https://ci.example.com/" + "a" * 2000, False),
        (" https://ci.example.com/", False),
    ],
)
def test_only_addresses_on_the_web_count_as_links(url: str, kept: bool) -> None:
    def change(document: Json) -> None:
        document["source"]["job_url"] = url

    entry = read_entry(changed(STORED_ENTRY, change))

    assert entry.source.job_url == (url if kept else None)


@readers
def test_control_characters_of_a_requirement_are_replaced(read: Read, stored: bytes) -> None:
    newer = changed(stored, lambda document: document.update(requires=["\x1b[2J"]))

    with pytest.raises(UnsupportedFormat) as caught:
        read(newer)

    assert str(caught.value).isprintable()


# Recipes


def columns(**lists: Json) -> Callable[[Json], object]:
    return lambda document: document["streams"][1].update(lists)


RECIPE_DAMAGES: dict[str, Callable[[Json], object]] = {
    "another blob": lambda d: d.update(digest=BASE),
    "no digest": lambda d: d.update(digest="x"),
    "unknown codec": lambda d: d.update(codec="lzma"),
    "unknown method": lambda d: d.update(method="zip"),
    "method with fewer streams": lambda d: d.update(method="raw"),
    "a stream less": lambda d: d["streams"].pop(),
    "a stream more": lambda d: d["streams"].append(d["streams"][0]),
    "no streams": lambda d: d.update(streams=[], size=0),
    "sum too small": lambda d: d.update(size=1_500_101),
    "sum too large": lambda d: d.update(size=1_500_099),
    "negative size": lambda d: d.update(size=-1),
    "short column of packs": columns(pack=[0]),
    "long column of offsets": columns(offset=[0, 0, 0]),
    "short column of stored sizes": columns(stored=[1]),
    "long column of plain sizes": columns(plain=[1_000_000, 500_000, 0]),
    "an id less": columns(blake3=documents.to_base64(b"a" * CHUNK_ID_BYTES)),
    "an id that is too short": columns(blake3=documents.to_base64(b"a" * (2 * CHUNK_ID_BYTES - 1))),
    "an id too many": columns(blake3=documents.to_base64(b"a" * 3 * CHUNK_ID_BYTES)),
    "ids that are not base64": columns(blake3="%"),
    "a pack beyond the references": columns(pack=[0, 2]),
    "a negative pack": columns(pack=[0, -1]),
    "a negative offset": columns(offset=[0, -1]),
    "an offset beyond the pack": columns(offset=[0, PACK_BYTES]),
    "an end beyond the pack": columns(offset=[0, PACK_BYTES - 450_000 + 1]),
    "an offset of absurd size": columns(offset=[0, 1 << 64]),
    "nothing stored": columns(stored=[900_000, 0]),
    "more stored than a chunk can weigh": columns(stored=[MAX_STORED_CHUNK_BYTES + 1, 1]),
    "more stored than a frame of so few bytes can weigh": columns(
        plain=[1_499_999, 1], stored=[900_000, 1 + MAX_FRAME_BYTES + 1]
    ),
    "a size of 400 digits": lambda d: d.update(size=10**400),
    "absurdly many chunks": lambda d: d["streams"][1].update(
        pack=[0] * MAX_CHUNKS, offset=[0] * MAX_CHUNKS
    ),
    "an empty chunk": columns(plain=[1_500_000, 0]),
    "a negative chunk": columns(plain=[1_500_001, -1]),
    "a chunk over the largest": columns(plain=[MAX_BYTES + 1, 1_500_000 - MAX_BYTES - 1]),
    "a fraction": columns(offset=[0, 1.5]),
    "a text for a number": columns(offset=[0, "1"]),
    "a recipe for a pack": lambda d: d["refs"].__setitem__(0, ["main", f"{TOP[7:]}.{ID}"]),
}


@pytest.mark.parametrize("change", RECIPE_DAMAGES.values(), ids=RECIPE_DAMAGES.keys())
def test_a_recipe_that_makes_no_sense_is_corrupt(change: Callable[[Json], object]) -> None:
    with pytest.raises(CorruptData):
        read_recipe(changed(STORED_RECIPE, change))


def test_a_recipe_that_readers_would_refuse_is_not_written() -> None:
    chunk = Chunk(b"a" * 32, 1, PACKS[0], 0, 10)

    with pytest.raises(StoreError, match="too large to be cached"):
        encode_recipe(Recipe(TOP, MAX_CHUNKS + 1, "raw", ((chunk,) * (MAX_CHUNKS + 1),)))


def test_a_chunk_may_end_where_its_pack_does() -> None:
    edge = changed(STORED_RECIPE, columns(offset=[0, PACK_BYTES - 450_000]))

    assert read_recipe(edge).streams[1][1].offset == PACK_BYTES - 450_000


@pytest.mark.parametrize("name", [f"{BASE[7:]}.{ID}", ID])
def test_a_recipe_under_the_name_of_another_blob_is_corrupt(name: str) -> None:
    with pytest.raises(CorruptData, match="another blob"):
        decode_recipe(STORED_RECIPE, Ref("main", name))


def test_a_recipe_of_an_empty_blob_is_read_back() -> None:
    recipe = Recipe(digest_of(b""), 0, "raw", ((),))
    ref = Ref("main", f"{recipe.digest[7:]}.{ID}")

    assert decode_recipe(encode_recipe(recipe), ref) == recipe


def test_a_recipe_tells_what_it_needs() -> None:
    assert (RECIPE.packs, RECIPE.stored_bytes) == (PACKS, 1_350_060)


def test_the_recipe_of_a_layer_of_1_gb_is_below_200_kb() -> None:
    noise = random.Random(0)
    packs = [Ref("main", ID[:-2] + f"{number:02x}") for number in range(16)]
    offsets = dict[Ref, int]()

    def chunk(plain: int) -> Chunk:
        pack, stored = noise.choice(packs), noise.randrange(plain // 5, plain // 2)
        offset = offsets.get(pack, 0)
        offsets[pack] = (offset + stored) % (PACK_BYTES - MAX_BYTES)
        return Chunk(noise.randbytes(CHUNK_ID_BYTES), plain, pack, offset, stored)

    spread = AVERAGE_BYTES // 2
    payload = [chunk(AVERAGE_BYTES + noise.randint(-spread, spread)) for _ in range(3816)]
    headers = [chunk(1 << 20) for _ in range(40)]
    size = sum(one.plain_bytes for one in (*headers, *payload))
    recipe = Recipe(TOP, size, "tar", (tuple(headers), tuple(payload)))

    stored = encode_recipe(recipe)

    assert read_recipe(stored) == recipe
    assert size > 1_000_000_000
    assert len(stored) < 200_000


# Configs of images


def test_a_config_is_read_with_its_history() -> None:
    config = parse_config(TOP_CONFIG)

    assert config.history == (Step("RUN step 0"), Step("RUN step 1"))


STEP = {"created": "2026-01-02T03:04:05Z", "created_by": "RUN a"}


@pytest.mark.parametrize(
    ("parent", "child", "built"),
    [
        ([], [], True),
        ([STEP], [STEP, {"created_by": "RUN b"}], True),
        ([{**STEP, "created": "2026-01-02T03:04:05.000Z"}], [STEP, STEP], True),
        ([{**STEP, "created": "2026-01-02T05:04:05+02:00"}], [STEP, STEP], True),
        ([{**STEP, "created": "2026-01-02T03:04:06Z"}], [STEP, STEP], False),
        ([{**STEP, "created": "2026-01-02T03:04:05"}], [STEP, STEP], False),
        ([{**STEP, "created": "never"}], [STEP, STEP], False),
        ([{**STEP, "author": "somebody"}], [STEP, STEP], False),
        ([{**STEP, "empty_layer": True}], [STEP, STEP], False),
        ([STEP], [STEP], False),
        ([STEP], [], False),
        ([], [STEP, STEP], False),
        ([STEP], [STEP, STEP, STEP], False),
    ],
)
def test_an_image_was_built_on_another_if_its_history_goes_on_from_there(
    parent: list[Json], child: list[Json], built: bool
) -> None:
    before, after = (
        parse_config(json.dumps({"history": history}).encode()) for history in (parent, child)
    )

    assert after.was_built_on(before) is built


@pytest.mark.parametrize("text", [b"{}", b'{"rootfs":null}', b'{"rootfs":{"type":"layers"}}'])
def test_a_config_without_layers_has_none(text: bytes) -> None:
    assert parse_config(text).diff_ids == ()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"rootfs":{"diff_ids":["x"]}}',
        b'{"rootfs":{"diff_ids":"x"}}',
        b'{"history":[{"created_by":"\xff"}]}',
        b'{"x":' + b"[" * 100_000,
        json.dumps({"rootfs": {"diff_ids": [BASE] * (MAX_LAYERS + 1)}}).encode(),
        json.dumps({"history": [{}] * (MAX_STEPS + 1)}).encode(),
        json.dumps({"history": [{}] * 1_000_000}).encode(),
    ],
    ids=[
        "empty",
        "list",
        "no digest",
        "no list",
        "not UTF-8",
        "nested",
        "too many layers",
        "too many steps",
        "too many values",
    ],
)
def test_what_is_no_config_is_corrupt(text: bytes) -> None:
    with pytest.raises(CorruptData):
        parse_config(text)


# Any bytes at all


def places(document: Json, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths of all values in a JSON document."""
    inner: list[tuple[Any, ...]] = []
    if isinstance(document, dict):
        inner = [p for name, value in document.items() for p in places(value, (*path, name))]
    elif isinstance(document, list):
        inner = [p for number, value in enumerate(document) for p in places(value, (*path, number))]
    return [*([path] if path else []), *inner]


NUMBERS = [0, 1, -1, 1.5, 1e300, 2**31, 2**63, 2**64, -(2**63), 10**25]
TEXTS = ["", "..", "\0", "é", "main", ID, TOP, BASE, "9999-12-31T23:59:59-23:59"]
odd_values = st.recursive(
    st.sampled_from([None, True, False, *NUMBERS, *TEXTS]) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "digest", "format", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def hostile(draw: st.DrawFn, stored: bytes) -> bytes:
    """Make a document with a few values replaced or removed, or its stored bytes damaged."""
    if draw(st.booleans()):
        data = bytearray(draw(st.sampled_from([stored, zstandard.decompress(stored)])))
        for place in draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=3)):
            data[place] = draw(st.integers(0, 255))
        return bytes(data) if data[:4] == stored[:4] else codec.compress(bytes(data), 1)
    document = opened(stored)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(places(document)))
        at = document
        for name in path:
            at = at[name]
        if draw(st.integers(0, 4)) == 0:
            del at[last]
        else:
            at[last] = draw(odd_values)
        if not document:
            break
    return written(document)


@given(
    hostile(STORED_ENTRY)
    | st.binary(max_size=100)
    | st.binary(max_size=99).map(lambda b: codec.compress(b, 1))
)
@example(changed(STORED_ENTRY, lambda d: d.update(basis="9999-12-31T23:59:59-23:59")))
def test_whatever_is_read_as_an_entry_is_refused_or_can_be_used(stored: bytes) -> None:
    try:
        entry = read_entry(stored)
    except (CorruptData, UnsupportedFormat) as error:
        assert "\n" not in str(error)  # noqa: PT017
        return

    assert all(entry.config(image).diff_ids == tuple(image.diff_ids) for image in entry.images)
    assert set(entry.recipe_refs().values()) <= set(entry.refs)
    assert read_entry(encode_entry(entry)) == entry


@given(hostile(STORED_RECIPE) | st.binary(max_size=100))
def test_whatever_is_read_as_a_recipe_is_refused_or_can_be_used(stored: bytes) -> None:
    try:
        recipe = read_recipe(stored)
    except (CorruptData, UnsupportedFormat):
        return

    assert all(
        0 <= chunk.offset < chunk.offset + chunk.stored_bytes <= PACK_BYTES
        for stream in recipe.streams
        for chunk in stream
    )
    assert read_recipe(encode_recipe(recipe)) == recipe


@given(hostile(STORED_RECIPE) | st.binary(max_size=100))
def test_whatever_references_are_read_are_valid_or_refused(stored: bytes) -> None:
    try:
        refs = documents.peek(stored).refs
    except CorruptData:
        refs = ()

    assert all(ref.key("p").startswith("p/scopes/") for ref in refs)


@given(hostile(codec.compress(TOP_CONFIG, 3)) | st.binary(max_size=100))
def test_whatever_is_read_as_a_config_is_refused_or_has_digests(stored: bytes) -> None:
    try:
        plain = codec.decompress(stored, limit_bytes=1 << 20)
        diff_ids = parse_config(plain).diff_ids
    except CorruptData:
        diff_ids = ()

    assert diff_ids == tuple(map(Digest, diff_ids))
