"""Cut points depend on the contents alone, and are part of format 1."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore.core.chunking import (
    AVERAGE_BYTES,
    HEADER_CHUNK_BYTES,
    MAX_BYTES,
    MIN_BYTES,
    ContentCutter,
    FixedCutter,
)

MIB = 1 << 20
NOISE = hashlib.shake_256(b"longshore").digest(8 * MIB)
LINES = b"".join(
    b"%06d: a line of a file that is nearly like the one before\n" % number
    for number in range(60_000)
)

# Other cut points would find no chunk of what is stored. They may change with the format's number
# only, and this test is what says so.
NOISE_CUTS = [
    184300, 302090, 305973, 330090, 70796, 163866, 233975, 80583, 474414, 312181, 288149, 404452,
    324097, 290273, 83710, 135179, 141626, 291291, 646699, 373122, 352685, 317229, 382986, 650515,
    188152, 876650, 183525,
]  # fmt: skip
LINES_CUTS = [1048576, 641817, 196856, 255121, 1048576, 394063, 14991]


def cut(cutter: ContentCutter | FixedCutter, pieces: Iterable[bytes | memoryview]) -> list[bytes]:
    chunks: list[bytes] = []
    for piece in pieces:
        chunks += map(bytes, cutter.feed([memoryview(piece)]))
    return chunks + [bytes(chunk) for chunk in cutter.finish()]


def in_pieces(data: bytes, sizes: list[int]) -> Iterable[memoryview]:
    view, position, turn = memoryview(data), 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        yield view[position : position + size]
        position += size
        turn += 1


@pytest.mark.parametrize(
    ("data", "lengths"),
    [
        pytest.param(NOISE, NOISE_CUTS, id="noise"),
        pytest.param(LINES, LINES_CUTS, id="text"),
        pytest.param(bytes(5 * MIB), [MIB] * 5, id="zeros"),
    ],
)
def test_the_cut_points_of_format_1_are_pinned(data: bytes, lengths: list[int]) -> None:
    assert [len(chunk) for chunk in cut(ContentCutter(), [data])] == lengths


def test_the_chunk_sizes_of_format_1_are_pinned() -> None:
    sizes = (MIN_BYTES, AVERAGE_BYTES, MAX_BYTES, HEADER_CHUNK_BYTES)

    assert sizes == (65_536, 262_144, 1_048_576, 1_048_576)


@settings(max_examples=25)
@given(st.lists(st.integers(20_000, 3 * MIB), min_size=1, max_size=6))
def test_the_cut_points_do_not_depend_on_the_pieces(sizes: list[int]) -> None:
    chunks = cut(ContentCutter(), in_pieces(NOISE, sizes))

    assert [len(chunk) for chunk in chunks] == NOISE_CUTS


@pytest.mark.parametrize("number", range(4))
def test_the_cut_points_do_not_depend_on_where_a_piece_ends_near_a_cut(number: int) -> None:
    end = sum(NOISE_CUTS[: number + 1])
    near = range(end - 9, end + 10)
    pieces = [NOISE[: near[0]], *(NOISE[at : at + 1] for at in near), NOISE[near[-1] + 1 :]]

    chunks = cut(ContentCutter(), pieces)

    assert [len(chunk) for chunk in chunks] == NOISE_CUTS


@pytest.mark.parametrize("size", [MIN_BYTES - 1, MIN_BYTES, MIN_BYTES + 1, MAX_BYTES])
def test_pieces_as_large_as_the_limits_change_nothing(size: int) -> None:
    chunks = cut(ContentCutter(), in_pieces(NOISE, [size]))

    assert [len(chunk) for chunk in chunks] == NOISE_CUTS


@settings(max_examples=25)
@given(st.binary(min_size=1, max_size=40), st.integers(0, 5 * MIB))
def test_all_chunks_but_the_last_are_within_the_limits(pattern: bytes, size: int) -> None:
    data = (pattern * (size // len(pattern) + 1))[:size]

    *chunks, last = cut(ContentCutter(), [data]) or [b""]

    assert all(MIN_BYTES <= len(chunk) <= MAX_BYTES for chunk in chunks)
    assert len(last) <= MAX_BYTES


@settings(max_examples=25)
@given(st.lists(st.integers(0, 900_000), max_size=4))
def test_the_chunks_are_the_stream(ends: list[int]) -> None:
    pieces = [NOISE[: end + 1] for end in ends]

    assert b"".join(cut(ContentCutter(), pieces)) == b"".join(pieces)


def test_an_insertion_changes_only_the_chunks_around_it() -> None:
    changed = NOISE[: 3 * MIB] + b"one more file" + NOISE[3 * MIB :]

    new = set(cut(ContentCutter(), [changed])) - set(cut(ContentCutter(), [NOISE]))

    assert len(new) <= 2


def test_several_pieces_at_once_are_one_stream() -> None:
    view = memoryview(NOISE)
    cutter = ContentCutter()

    chunks = [*cutter.feed([view[:5], view[5:MIB], view[MIB:]]), *cutter.finish()]

    assert [len(chunk) for chunk in chunks] == NOISE_CUTS


@pytest.mark.parametrize("cutter", [ContentCutter(), FixedCutter()])
def test_of_nothing_there_is_no_chunk(cutter: ContentCutter | FixedCutter) -> None:
    assert cut(cutter, [b"", b""]) == []


@pytest.mark.parametrize("cutter", [ContentCutter(), FixedCutter()])
def test_a_stream_below_the_smallest_chunk_is_one_chunk(
    cutter: ContentCutter | FixedCutter,
) -> None:
    assert cut(cutter, [b"ab", b"c"]) == [b"abc"]


@pytest.mark.parametrize(
    ("size", "lengths"),
    [
        (MIB - 1, [MIB - 1]),
        (MIB, [MIB]),
        (MIB + 1, [MIB, 1]),
        (3 * MIB, [MIB, MIB, MIB]),
        (3 * MIB + 5, [MIB, MIB, MIB, 5]),
    ],
)
@pytest.mark.parametrize("pieces", [[4 * MIB], [MIB], [100_001], [1, 777_777]])
def test_the_fixed_cutter_cuts_every_mebibyte(
    size: int, lengths: list[int], pieces: list[int]
) -> None:
    data = NOISE[:size]

    chunks = cut(FixedCutter(), in_pieces(data, pieces))

    assert [len(chunk) for chunk in chunks] == lengths
    assert b"".join(chunks) == data


def test_the_chunks_stay_when_the_pieces_they_came_from_are_gone() -> None:
    block = bytearray(NOISE[: 4 * MIB])
    cutter = ContentCutter()
    chunks = cutter.feed([memoryview(block)])

    block[:] = bytes(len(block))

    assert bytes(chunks[0]) == NOISE[: NOISE_CUTS[0]]


def test_what_the_fixed_cutter_holds_stays_when_the_pieces_are_gone() -> None:
    block = bytearray(b"abc")
    cutter = FixedCutter()
    cutter.feed([memoryview(block)])

    block[:] = b"xyz"

    assert [bytes(chunk) for chunk in cutter.finish()] == [b"abc"]
