"""A blob becomes named chunks, and comes back from a pack bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.tars import (
    TRAILER,
    Tar,
    any_bytes,
    cut_sizes,
    cut_up,
    file_part,
    header,
    layer_tar,
    well_formed_tars,
)

from longshore.core import codec
from longshore.core.chunking import HEADER_CHUNK_BYTES, MAX_BYTES
from longshore.core.cutting import HEADERS, BlobCutter, BlobFacts, Cut
from longshore.core.digests import digest_of
from longshore.core.keys import Ref
from longshore.core.recipe import Chunk, Recipe, decode_recipe, encode_recipe
from longshore.core.tarsplit import TarJoiner

PACK_ID = "019424f8-632e-7001-8203-040506070809"
RECIPE_ID = "019424f8-632e-7001-8203-0405060708ff"
NOISE = hashlib.shake_256(b"contents").digest(6 << 20)
# Two files whose contents make several chunks, many whose headers make more than one.
LARGE = layer_tar(
    {"large": NOISE, "again": NOISE[: 5 << 20]} | {f"file {n}": b"x" for n in range(1200)}
)


def cut(pieces: Iterable[bytes]) -> tuple[list[Cut], BlobFacts]:
    cutter = BlobCutter()
    cuts: list[Cut] = []
    for piece in pieces:
        # The caller's buffer may be used again as soon as `feed` has returned.
        buffer = bytearray(piece)
        now = cutter.feed(memoryview(buffer))
        cuts += [replace(one, data=memoryview(bytes(one.data))) for one in now]
        buffer[:] = b"\xaa" * len(buffer)
    last, facts = cutter.finish()
    return cuts + last, facts


def streams_of(cuts: Sequence[Cut], count: int) -> list[bytes]:
    return [b"".join(c.data for c in cuts if c.stream == stream) for stream in range(count)]


def store(cuts: Sequence[Cut], facts: BlobFacts) -> tuple[bytes, bytes, Ref]:
    """Do what an export does: each new chunk compressed, into one pack; and a recipe."""
    pack, placed = bytearray(), dict[bytes, Chunk]()
    for one in cuts:
        if one.id not in placed:
            stored = codec.compress(one.data, 3)
            ref = Ref("feature/x", PACK_ID)
            placed[one.id] = Chunk(one.id, len(one.data), ref, len(pack), len(stored))
            pack += stored
    streams = tuple(tuple(placed[chunk] for chunk in stream) for stream in facts.streams)
    ref = Ref("feature/x", f"{facts.digest[7:]}.{RECIPE_ID}")
    recipe = Recipe(facts.digest, facts.size_bytes, facts.method, streams)
    return bytes(pack), encode_recipe(recipe), ref


def restore(pack: bytes, stored_recipe: bytes, ref: Ref) -> bytes:
    """Do what an import does."""
    recipe = decode_recipe(stored_recipe, ref)
    plain: list[list[bytes]] = []
    for stream in recipe.streams:
        plain.append([])
        for chunk in stream:
            stored = pack[chunk.offset : chunk.offset + chunk.stored_bytes]
            plain[-1].append(codec.decompress(stored, limit_bytes=chunk.plain_bytes))
            assert blake3(plain[-1][-1]).digest() == chunk.id
    if recipe.method == "raw":
        return b"".join(plain[0])
    joiner, out = TarJoiner(), bytearray()
    left = [iter(stream) for stream in plain]
    while True:
        feed = joiner.feed_payload if joiner.wants_payload else joiner.feed_header
        piece = next(left[joiner.wants_payload], None)
        if piece is None:
            break
        out += b"".join(feed(piece))
    joiner.finish()
    return bytes(out)


@given(data=any_bytes(), sizes=cut_sizes())
def test_any_blob_comes_back_from_its_pack_and_recipe(data: bytes, sizes: list[int]) -> None:
    pack, recipe, ref = store(*cut(cut_up(data, sizes)))

    assert restore(pack, recipe, ref) == data


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(LARGE, id="tar"),
        pytest.param(LARGE[: len(LARGE) * 2 // 3], id="tar cut short"),
        pytest.param(LARGE + NOISE, id="tar with garbage behind"),
        pytest.param(NOISE, id="raw"),
        pytest.param(bytes(MAX_BYTES * 2), id="zeros"),
    ],
)
def test_a_large_blob_comes_back_from_its_pack_and_recipe(data: bytes) -> None:
    pack, recipe, ref = store(*cut(cut_up(data, [1_000_003])))

    assert restore(pack, recipe, ref) == data


def test_a_chunk_that_occurs_twice_is_stored_once() -> None:
    pack, _, _ = store(*cut([LARGE]))

    assert len(pack) < len(LARGE) * 3 // 4


@given(data=any_bytes(), sizes=cut_sizes())
def test_the_facts_do_not_depend_on_the_pieces(data: bytes, sizes: list[int]) -> None:
    _, whole = cut([data])

    assert cut(cut_up(data, sizes))[1] == whole


@pytest.mark.parametrize("sizes", [[65_536], [1 << 20], [4 << 20], [1, 511, 3_000_000]])
def test_the_facts_of_a_large_blob_do_not_depend_on_the_pieces(sizes: list[int]) -> None:
    _, whole = cut([LARGE])

    assert cut(cut_up(LARGE, sizes))[1] == whole


@given(data=any_bytes())
def test_the_facts_are_the_same_byte_by_byte(data: bytes) -> None:
    short = data[:2000]

    assert cut(cut_up(short, [1]))[1] == cut([short])[1]


@given(data=any_bytes(), sizes=cut_sizes())
def test_digest_and_size_are_those_of_the_blob(data: bytes, sizes: list[int]) -> None:
    _, facts = cut(cut_up(data, sizes))

    assert (facts.digest, facts.size_bytes) == (digest_of(data), len(data))


@given(data=any_bytes(), sizes=cut_sizes())
def test_the_facts_name_the_chunks_in_their_order(data: bytes, sizes: list[int]) -> None:
    cuts, facts = cut(cut_up(data, sizes))

    assert facts.streams == tuple(
        tuple(one.id for one in cuts if one.stream == stream)
        for stream in range(len(facts.streams))
    )


def test_a_chunk_is_named_by_its_blake3() -> None:
    cuts, _ = cut([LARGE])

    assert all(one.id == blake3(one.data).digest() for one in cuts)


@given(tar=well_formed_tars().filter(lambda tar: len(tar.parts) > 1))
def test_a_tar_is_stored_as_its_headers_and_its_contents(tar: Tar) -> None:
    cuts, facts = cut([tar.data])

    assert facts.method == "tar"
    assert streams_of(cuts, 2) == [tar.headers, tar.payload]


@given(st.binary(max_size=511) | st.binary(max_size=2000).map(lambda rest: b"\x1f\x8b" + rest))
def test_what_does_not_begin_as_a_tar_is_one_stream(data: bytes) -> None:
    cuts, facts = cut([data])

    assert (facts.method, len(facts.streams)) == ("raw", 1)
    assert streams_of(cuts, 1) == [data]


@pytest.mark.parametrize("data", [b"", TRAILER, header()[:511]], ids=["nothing", "zeros", "short"])
def test_what_has_no_whole_header_is_raw(data: bytes) -> None:
    assert cut([data])[1].method == "raw"


def test_of_an_empty_blob_there_is_no_chunk() -> None:
    cuts, facts = cut([])

    assert (cuts, facts.streams, facts.digest) == ([], ((),), digest_of(b""))


def test_a_tar_without_contents_has_an_empty_payload_stream() -> None:
    _, facts = cut([header(kind=b"5") + TRAILER])

    assert [len(stream) for stream in facts.streams] == [1, 0]


def test_headers_are_cut_at_fixed_steps() -> None:
    cuts, _ = cut([header(kind=b"5") * 5000])

    assert [len(one.data) for one in cuts if one.stream == HEADERS] == [
        HEADER_CHUNK_BYTES,
        HEADER_CHUNK_BYTES,
        5000 * 512 - 2 * HEADER_CHUNK_BYTES,
    ]


def test_a_file_that_is_touched_changes_no_chunk_of_contents() -> None:
    part = file_part(NOISE)
    touched = part.header[:136] + b"14731000000\0" + part.header[148:]

    before, after = (cut([head + NOISE + TRAILER])[1] for head in (part.header, touched))

    assert before.streams[1] == after.streams[1]
    assert before.streams[0] != after.streams[0]
