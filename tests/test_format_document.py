"""`docs/format.md` is normative, so the code has to read its examples, tables and limits."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyfastcdc import FastCDC

from longshore.core import (
    chunking,
    codec,
    documents,
    entry,
    entry_checks,
    envelope,
    gc_documents,
    images,
    keys,
    recipe,
)
from longshore.core.cutting import BlobCutter
from longshore.core.entry import decode_entry
from longshore.core.envelope import Envelope, seal
from longshore.core.keys import Ref, entry_key, parse_entry_key, segment
from longshore.core.recipe import decode_recipe
from longshore.core.tarsplit import TarSplitter
from longshore.core.tarwalk import MAX_PAX_BYTES, header_size, pax_size
from longshore.errors import UnsupportedFormat
from longshore.ops.lookup import find_entry
from longshore.ops.reachable import MAX_AGE_OF_BASIS, Reading
from longshore.ops.rebuilding import build_archive
from longshore.store.memory import MemoryStore

TEXT = (Path(__file__).parent.parent / "docs" / "format.md").read_text(encoding="utf-8")
STORED_AT = datetime(2026, 11, 22, 13, 8, 3, tzinfo=UTC)


def block(kind: str) -> str:
    """Return the one code block with this info string."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def table(before: str) -> list[list[str]]:
    """Return the rows of the first table behind a text, without its head."""
    rest = TEXT[TEXT.index(before) + len(before) :]
    lines = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert lines is not None
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[0].splitlines()]
    return rows[2:]


def code(cell: str) -> str:
    return cell.strip("`")


def stored(kind: str) -> bytes:
    """Return an example document as it would be stored, without envelope."""
    return codec.compress(block(kind).encode(), 3)


EXAMPLE_KEYS = block("keys").split()
PACK = base64.b64decode(block("pack").replace("\n", ""))
RECIPE_REF = Ref(*json.loads(block("json entry"))["refs"][0])
PACK_REF = Ref(*json.loads(block("json recipe"))["refs"][0])


# Keys


def test_the_examples_of_names_are_written_so() -> None:
    rows = table("documents hold names in full.")

    for name, written in rows[:-1]:
        assert segment(code(name)) == code(written)
    assert len(rows) == 6


def test_the_example_of_a_cut_segment_is_written_so() -> None:
    hashed = re.search(r"`x`, 250 times \| `x`, 166 times, and `(~~[0-9a-f]{32})`", TEXT)

    assert hashed is not None
    assert segment("x" * 250) == "x" * 166 + hashed[1]


def test_the_example_keys_are_the_keys_of_the_example_documents() -> None:
    entry_of = json.loads(block("json entry"))
    flushed = json.loads(block("json flushed"))
    names = ("project", "scope", "service", "platform", "id")

    assert [
        entry_key(*(entry_of[name] for name in names)),
        RECIPE_REF.key("shop"),
        PACK_REF.key("shop"),
        entry_key(*(flushed[name] for name in names)),
    ] == EXAMPLE_KEYS


# Fields


def fields(struct: Any) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(struct)]


@pytest.mark.parametrize(
    ("before", "struct"),
    [
        pytest.param("Every document has these fields:", documents.Header, id="header"),
        pytest.param("One signature has the fields:", envelope.Signature, id="signature"),
        pytest.param("### Entry\n", entry._Wire, id="entry"),
        pytest.param("\n`engine`:\n", entry.EngineFacts, id="engine"),
        pytest.param("One of `documents`:", entry.Document, id="document"),
        pytest.param("One of `images`:", entry.Image, id="image"),
        pytest.param("One of `blobs`:", entry.Blob, id="blob"),
        pytest.param("\n`source`,", entry.Source, id="source"),
        pytest.param("\n`figures`:\n", entry.Figures, id="figures"),
        pytest.param("### Recipe\n", recipe._Document, id="recipe"),
        pytest.param("One of `streams`,", recipe._Stream, id="stream"),
        pytest.param("### What prune notes down", gc_documents._Wire, id="gc"),
    ],
)
def test_every_field_of_a_document_is_described_and_no_other(before: str, struct: Any) -> None:
    assert sorted(code(row[0]) for row in table(before)) == sorted(fields(struct))


@pytest.mark.parametrize(
    ("before", "struct"),
    [
        pytest.param("### Entry\n", entry._Wire, id="entry"),
        pytest.param("### Recipe\n", recipe._Document, id="recipe"),
        pytest.param("### What prune notes down", gc_documents._Wire, id="gc"),
    ],
)
def test_what_is_optional_is_said_to_be(before: str, struct: Any) -> None:
    described = {code(name) for name, _, text in table(before) if text.startswith("optional")}

    assert described == {
        field.encode_name for field in msgspec.structs.fields(struct) if not field.required
    }


def test_the_example_entry_has_every_field() -> None:
    example = json.loads(block("json entry"))

    assert sorted({*example, "index"}) == sorted(fields(entry._Wire))
    for name, struct in (
        ("documents", entry.Document),
        ("images", entry.Image),
        ("blobs", entry.Blob),
    ):
        assert sorted(example[name][0]) == sorted(fields(struct))
    assert sorted(example["source"]) == sorted(fields(entry.Source))
    assert sorted(example["figures"]) == sorted(fields(entry.Figures))


# Limits and parameters

UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "TiB": 1 << 40}


def test_the_limits_are_those_of_the_code() -> None:
    described: dict[str, int] = {}
    for what, limit in table("### Limits"):
        number, _, unit = limit.partition(" ")
        described[what] = int(number) * UNITS.get(unit, 1)

    assert described == {
        "key segment": keys.MAX_SEGMENT_BYTES,
        "characters of a name": keys.MAX_NAME,
        "signatures": envelope.MAX_SIGNATURES_BYTES,
        "document, as stored": documents.MAX_STORED_DOCUMENT_BYTES,
        "document, JSON": documents.MAX_DOCUMENT_BYTES,
        "values of a document": documents.MAX_VALUES,
        "frame's window": codec._MAX_WINDOW_BYTES,
        "chunk, plain": chunking.MAX_BYTES,
        "chunk, as stored": recipe.MAX_STORED_CHUNK_BYTES,
        "what a chunk as stored may have more than in plain": recipe.MAX_FRAME_BYTES,
        "pack": recipe.PACK_BYTES,
        "blob": recipe.MAX_BLOB_BYTES,
        "chunks of a blob": recipe.MAX_CHUNKS,
        "PAX records of one header": MAX_PAX_BYTES,
        "layers of an image": images.MAX_LAYERS,
        "steps in the history of a config": images.MAX_STEPS,
        "values of a config, manifest or index": images.MAX_VALUES,
        "images of an entry": entry_checks.MAX_IMAGES,
        "blobs of an entry": entry_checks.MAX_BLOBS,
        "references of an entry": entry_checks.MAX_BLOBS,
        "documents of an entry": entry_checks.MAX_DOCUMENTS,
        "tags of an entry": entry_checks.MAX_TAGS,
        "documents that the images of an entry lead through": entry_checks.MAX_FOLLOWED_BYTES,
        "characters of a tag": entry_checks.MAX_TAG,
        "age of the basis, in hours": MAX_AGE_OF_BASIS // timedelta(hours=1),
    }


def test_the_chunker_is_given_the_parameters_that_are_described() -> None:
    described = {code(name): int(value) for name, value in table("as PyPI `pyfastcdc`")}

    data = hashlib.shake_256(b"format").digest(6 << 20)
    cutter = chunking.ContentCutter()
    ours = [len(chunk) for chunk in [*cutter.feed([memoryview(data)]), *cutter.finish()]]
    assert ours == [chunk.length for chunk in FastCDC(**described).cut_buf(data)]  # type: ignore[arg-type]
    assert described["min_size"] == chunking.MIN_BYTES
    assert described["max_size"] == chunking.MAX_BYTES


def test_the_header_stream_is_cut_where_it_says() -> None:
    found = re.search(r"header stream is cut every ([0-9,]+) bytes", TEXT)

    assert found is not None
    assert int(found[1].replace(",", "")) == chunking.HEADER_CHUNK_BYTES


def test_the_magic_is_the_one_that_is_described() -> None:
    (magic,) = [row[2] for row in table("An entry is stored as:") if row[0] == "magic"]

    assert magic == "`LNGSHR1` and a line feed"
    assert envelope.MAGIC == b"LNGSHR1\n"
    assert seal(Envelope(b"payload")) == b"LNGSHR1\n" + bytes(4) + b"payload"


# The tar walk


def test_size_fields_are_read_as_the_table_says() -> None:
    rows = table("are less than 2^63.")

    for written, size in rows:
        header = bytearray(512)
        header[124:136] = bytes.fromhex(code(written))
        header[257:262] = b"ustar"
        assert header_size(bytes(header)) == (None if size == "not accepted" else int(size))
    assert len(rows) == 8


def test_pax_records_are_read_as_the_table_says() -> None:
    rows = table("Go on at position + *length*.")

    for written, size in rows:
        records = code(written).replace("\\n", "\n").encode()
        assert pax_size(records) == (None if size == "none" else int(size))
    assert len(rows) == 5


def described_walk(data: bytes) -> tuple[bytes, bytes]:
    """Split a tar as the numbered steps of the page say, and not as the code does."""
    headers, payload = bytearray(), bytearray()
    position, pax = 0, None

    def take(into: bytearray, count: int) -> bytes:
        nonlocal position
        taken = data[position : position + count]
        into += taken
        position += len(taken)
        return taken

    while len(data) - position >= 512:
        head = data[position : position + 512]
        size = header_size(head)
        if size is None:
            break
        take(headers, 512)
        kind = chr(head[156])
        if kind in "123456":
            pax = None
        elif kind == "x":
            if size > 1 << 20:
                break
            if size:
                records = take(headers, size)
                if len(records) < size:
                    break
                pax = pax_size(records)
                take(headers, -size % 512)
        elif kind in "gLK":
            take(headers, size + -size % 512)
        else:
            if pax is not None:
                size, pax = pax, None
            take(payload, size)
            take(headers, -size % 512)
    take(headers, len(data))
    return bytes(headers), bytes(payload)


def member(kind: bytes, size: int, content: bytes = b"") -> bytes:
    header = bytearray(512)
    header[124:136] = b"%011o\0" % size
    header[156:157] = kind
    header[257:262] = b"ustar"
    return bytes(header) + content + bytes(-len(content) % 512)


PAX = b"13 size=2000\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(member(b"0", 700, b"a" * 700) + member(b"0", 0), id="files"),
        pytest.param(member(b"2", 700) + member(b"7", 3, b"abc") + bytes(1024), id="link"),
        pytest.param(
            member(b"x", len(PAX), PAX) + member(b"0", 1, b"b" * 2000) + bytes(1024), id="pax size"
        ),
        pytest.param(
            member(b"x", len(PAX), PAX)
            + member(b"L", 600, b"n" * 600)
            + member(b"0", 1, b"b" * 2000)
            + member(b"0", 1, b"c"),
            id="pax size before a long name",
        ),
        pytest.param(
            member(b"x", len(PAX), PAX) + member(b"5", 0) + member(b"0", 1, b"c"),
            id="pax size of a folder",
        ),
        pytest.param(
            member(b"x", len(PAX), PAX) + member(b"x", 0) + member(b"0", 1, b"b" * 2000),
            id="no records behind pax size",
        ),
        pytest.param(
            member(b"x", (1 << 20) + 1, b"r" * 600) + member(b"0", 1, b"c"), id="large records"
        ),
        pytest.param(member(b"x", 900, b"r" * 100), id="records cut short"),
        pytest.param(member(b"S", 5, b"abcde") + member(b"0", 1, b"c"), id="sparse"),
        pytest.param(member(b"0", 5, b"abcde") + b"x" * 600 + member(b"0", 1, b"c"), id="junk"),
        pytest.param(member(b"0", 5, b"abcde") + b"x" * 100, id="short block"),
        pytest.param(member(b"0", 5000, b"abcde"), id="content cut short"),
    ],
)
def test_the_steps_that_are_described_split_a_tar_as_the_code_does(data: bytes) -> None:
    headers, payload = TarSplitter().feed(data)

    assert (b"".join(headers), b"".join(payload)) == described_walk(data)


# Documents


def example_layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo("hello.txt")
        info.size = 6
        tar.addfile(info, io.BytesIO(b"hello\n"))
    return buffer.getvalue()[:2048]


def test_the_example_layer_is_cut_into_the_chunks_of_the_recipe() -> None:
    found = decode_recipe(stored("json recipe"), RECIPE_REF)

    cutter = BlobCutter()
    cutter.feed(memoryview(example_layer()))
    _, facts = cutter.finish()

    assert (facts.digest, facts.size_bytes) == (found.digest, found.size_bytes)
    assert facts.method == found.method
    assert facts.streams == tuple(tuple(chunk.id for chunk in s) for s in found.streams)


async def test_the_example_can_be_found_and_rebuilt() -> None:
    store = MemoryStore(now=lambda: STORED_AT)
    await store.put(EXAMPLE_KEYS[2], PACK)
    await store.put(EXAMPLE_KEYS[1], stored("json recipe"))
    await store.put(EXAMPLE_KEYS[0], seal(Envelope(stored("json entry"))))
    reading = Reading(store, "shop", ("main",))

    hit = await find_entry(reading, "web", "linux-amd64")
    assert hit is not None
    (ref,) = hit.entry.recipe_refs().values()
    archive = b"".join(
        [
            part
            async for part in build_archive(
                store,
                "shop",
                files=(),
                recipes=[await reading.read_recipe(ref)],
                window_bytes=1 << 20,
                fetched=lambda _: None,
            )
        ]
    )

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        (layer,) = tar.getmembers()
        content = tar.extractfile(layer)
        assert content is not None
        assert content.read() == example_layer()


async def test_the_example_of_a_flushed_scope_holds_nothing() -> None:
    store = MemoryStore(now=lambda: datetime(2026, 11, 22, 18, 30, tzinfo=UTC))
    await store.put(EXAMPLE_KEYS[3], seal(Envelope(stored("json flushed"))))

    assert await find_entry(Reading(store, "shop", ("feature/x",)), "web", "linux-arm64-v8") is None


async def test_the_example_of_a_cache_is_found_as_one_and_never_as_images() -> None:
    example = json.loads(block("json cache"))
    key = entry_key(*(example[n] for n in ("project", "scope", "service", "platform", "id")))
    store = MemoryStore(now=lambda: datetime(2026, 11, 22, 13, 8, tzinfo=UTC))
    await store.put(key, seal(Envelope(stored("json cache"))))
    reading, name = Reading(store, "shop", ("main",)), example["service"]

    hit = await find_entry(reading, name, "linux-amd64", "buildkit-cache")

    assert hit is not None
    assert (hit.entry.index, name) == (example["index"], entry.cache_name("web"))
    assert await find_entry(reading, name, "linux-amd64") is None
    assert await find_entry(reading, "web", "linux-amd64", kind=None) is None


def read_as_entry(data: bytes) -> object:
    key = parse_entry_key(EXAMPLE_KEYS[0])
    assert key is not None
    return decode_entry(data, "shop", key)


def read_as_recipe(data: bytes) -> object:
    return decode_recipe(data, RECIPE_REF)


@pytest.mark.parametrize("read", [read_as_entry, read_as_recipe])
def test_the_example_of_a_newer_document_is_told_from_a_damaged_one(
    read: Callable[[bytes], object],
) -> None:
    with pytest.raises(UnsupportedFormat, match="lazy-layers"):
        read(stored("json newer"))


def test_what_a_newer_document_refers_to_can_be_read() -> None:
    assert documents.peek(stored("json newer")).refs == (PACK_REF,)


@pytest.mark.parametrize(
    ("kind", "read"), [("json entry", read_as_entry), ("json recipe", read_as_recipe)]
)
def test_an_unknown_field_is_ignored(kind: str, read: Callable[[bytes], object]) -> None:
    more = {**json.loads(block(kind)), "colour": "blue"}

    assert read(codec.compress(json.dumps(more).encode(), 3)) == read(stored(kind))
