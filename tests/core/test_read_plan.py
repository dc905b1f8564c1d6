"""Reads are few where chunks lie together, and never many times what a recipe needs."""

from __future__ import annotations

from itertools import chain

from hypothesis import example, given
from hypothesis import strategies as st

from longshore.core.digests import Digest
from longshore.core.keys import Ref
from longshore.core.read_plan import ReadPlan, plan_reads, weigh
from longshore.core.recipe import PACK_BYTES, Chunk, Recipe

RANGE, GAP = 8 << 20, 128 << 10
PACKS = [Ref("main", f"019424f8-632e-7001-8203-04050607080{n}") for n in range(3)]
DIGEST = Digest("sha256:" + "0" * 64)


def chunk(offset: int, stored: int, pack: int = 0) -> Chunk:
    return Chunk(b"x" * 32, stored, PACKS[pack], offset, stored)


def recipe(*streams: list[Chunk]) -> Recipe:
    size = sum(one.plain_bytes for stream in streams for one in stream)
    return Recipe(DIGEST, size, "tar" if len(streams) == 2 else "raw", tuple(map(tuple, streams)))


def plan(*recipes: Recipe) -> ReadPlan:
    return plan_reads(recipes, max_range_bytes=RANGE, max_gap_bytes=GAP)


chunks = st.builds(
    chunk,
    st.integers(0, 300).map(lambda n: n * 50_000),
    st.sampled_from([1, 100, 49_999, 50_000, 120_000, 1 << 20]),
    st.integers(0, 2),
)


@given(st.lists(st.lists(st.lists(chunks, max_size=30), min_size=1, max_size=2), max_size=3))
@example([[[chunk(0, 1), chunk(GAP, 1), chunk(2 * GAP, 1)]]])
def test_each_chunk_lies_in_its_read_and_no_read_is_for_nothing(
    blobs: list[list[list[Chunk]]],
) -> None:
    recipes = [recipe(*streams) for streams in blobs]

    found = plan(*recipes)

    for blob in found.blobs:
        for stream, segments in zip(blob.recipe.streams, blob.streams, strict=True):
            assert [one.chunk for one in chain(*segments)] == list(stream)
            for one in chain(*segments):
                read = found.reads[one.read]
                assert (read.pack, read.start + one.at) == (one.chunk.pack, one.chunk.offset)
                assert one.at + one.chunk.stored_bytes <= read.length
    assert found.read_bytes <= 2 * sum(one.stored_bytes for one in recipes)
    assert all(read.length <= RANGE for read in found.reads)
    assert all(read.start + read.length <= PACK_BYTES for read in found.reads)


@given(st.lists(chunks, max_size=60))
def test_what_is_held_of_a_stream_is_no_more_than_one_read_may_be(stream: list[Chunk]) -> None:
    found = plan(recipe(stream))

    (segments,) = found.blobs[0].streams
    needed = [{one.read for one in segment} for segment in segments]
    assert all(needed)
    assert sum(map(len, needed)) == len(found.reads)  # no read is of two segments
    for reads in needed:
        assert sum(found.reads[read].length for read in reads) <= RANGE


@given(st.lists(st.lists(chunks, max_size=30), min_size=1, max_size=2))
def test_reads_are_in_the_order_in_which_each_stream_needs_them(streams: list[list[Chunk]]) -> None:
    (blob,) = plan(recipe(*streams)).blobs

    for segments in blob.streams:
        first = list(dict.fromkeys(one.read for one in chain(*segments)))
        assert first == sorted(first)


def test_chunks_of_an_earlier_export_that_stand_between_new_ones_cost_one_read_more() -> None:
    new = [chunk(n * 90_000, 90_000) for n in range(40)]
    old = [chunk(50_000_000 + n * 9_000, 9_000) for n in range(20)]
    older = [chunk(n * 9_000, 9_000, pack=1) for n in range(20)]
    takes_turns = [*zip(new[0::2], old, new[1::2], older, strict=True)]

    found = plan(recipe([*chain(*takes_turns)]))

    assert [(read.pack, read.start, read.length) for read in found.reads] == [
        (PACKS[0], 0, 40 * 90_000),
        (PACKS[0], 50_000_000, 20 * 9_000),
        (PACKS[1], 0, 20 * 9_000),
    ]


def test_neighbours_with_a_small_gap_come_in_one_read() -> None:
    found = plan(recipe([chunk(0, 90_000), chunk(90_000 + GAP, 90_000)]))

    assert [(read.start, read.length) for read in found.reads] == [(0, 180_000 + GAP)]


def test_a_gap_is_not_read_if_it_is_most_of_what_would_be_read() -> None:
    found = plan(recipe([chunk(0, 1), chunk(GAP, 1), chunk(2 * GAP, 1)]))

    assert [read.length for read in found.reads] == [1, 1, 1]


def test_a_chunk_that_comes_again_and_again_is_read_once() -> None:
    zeros = chunk(1000, 60)

    found = plan(recipe([chunk(0, 1000), *[zeros] * 10_000, chunk(1060, 1000)]))

    assert [(read.start, read.length) for read in found.reads] == [(0, 2060)]


@given(st.lists(chunks, max_size=40))
def test_a_recipe_is_weighed_by_its_chunks_and_its_reads(stream: list[Chunk]) -> None:
    one = recipe(stream)

    weight = weigh(one, max_range_bytes=RANGE, max_gap_bytes=GAP)

    per_chunk = weigh(recipe([chunk(0, 1)] * 2), max_range_bytes=RANGE, max_gap_bytes=GAP) - weigh(
        recipe([chunk(0, 1)]), max_range_bytes=RANGE, max_gap_bytes=GAP
    )
    per_read = weigh(recipe([chunk(0, 1)]), max_range_bytes=RANGE, max_gap_bytes=GAP) - per_chunk
    assert weight == len(stream) * per_chunk + len(plan(one).reads) * per_read
    assert min(per_chunk, per_read) > 100
