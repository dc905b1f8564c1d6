"""What is read of a layer's tar-split file, whoever wrote that."""

from __future__ import annotations

import base64
import gzip
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.overlay_root import compressed, file, segment, split_parts, split_tar
from tests.support.tars import Tar, cut_sizes, cut_up, python_tars, well_formed_tars

from longshore.core.tarsplit_json import MAX_FILES, MAX_LINE_BYTES, Block, BlockPlanner
from longshore.errors import CorruptData


def plan(pieces: Iterable[bytes], block_bytes: int = 1 << 20) -> Iterator[Block]:
    planner = BlockPlanner(block_bytes)
    for piece in pieces:
        yield from planner.feed(piece)
    last = planner.finish()
    if last is not None:
        yield last


def rebuild(blocks: Iterable[Block], files: dict[bytes, bytes]) -> Iterator[bytes]:
    for block in blocks:
        data = bytearray(b"?" * block.size_bytes)
        for at, piece in block.segments:
            data[at : at + len(piece)] = piece
        for at, name, offset, length in block.files:
            data[at : at + length] = files[name][offset : offset + length]
        yield bytes(data)


@given(well_formed_tars(), st.integers(1, 5000), cut_sizes())
def test_any_tar_comes_back_whatever_the_blocks(
    tar: Tar, block_bytes: int, sizes: Sequence[int]
) -> None:
    split = split_parts(tar)

    blocks = list(plan(cut_up(compressed(split.lines), sizes), block_bytes))

    assert b"".join(rebuild(blocks, split.files)) == tar.data
    assert all(block.size_bytes <= block_bytes for block in blocks)


@given(python_tars())
def test_what_python_writes_comes_back(tar: Tar) -> None:
    split = split_tar(tar.data)

    assert b"".join(rebuild(plan([compressed(split.lines)]), split.files)) == tar.data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no gzip at all",
        compressed([segment(b"x")])[:-1],
        compressed([segment(b"x")])[:-8] + bytes(8),
        compressed([segment(b"x")]) + b"more",
        gzip.compress(b'{"type":2,"payload":"eA=="}'),
        gzip.compress(b"[]\n"),
        gzip.compress(b'{"type":2,"payload":"!"}\n'),
        gzip.compress(b"\xff\n"),
        compressed([{"type": 3}]),
        compressed([file(b"name", -1)]),
        compressed([file(b"name", 1 << 80)]),
        compressed([file(b"", 1)]),
        compressed([file(b"x" * 4097, 1)]),
    ],
    ids=[
        "empty",
        "no gzip",
        "truncated",
        "wrong checksum",
        "more behind its end",
        "half a line",
        "no object",
        "no base64",
        "no UTF-8",
        "unknown type",
        "negative size",
        "impossible size",
        "no name",
        "long name",
    ],
)
def test_what_no_engine_writes_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptData):
        list(plan([data]))


def test_a_line_without_end_and_a_file_without_end_take_no_memory() -> None:
    line = gzip.compress(b'{"type":2,"payload":"' + b"A" * (8 * MAX_LINE_BYTES), 9)
    endless = plan([compressed([file(b"name", 1 << 62)])])
    tracemalloc.start()
    try:
        with pytest.raises(CorruptData, match="a line has more than"):
            list(plan([line]))
        taken = [next(endless).files[0][2] for _ in range(100)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert taken[:3] == [0, 1 << 20, 2 << 20]
    assert peak < 3 * MAX_LINE_BYTES


def test_a_block_holds_so_many_files_at_most() -> None:
    blocks = list(plan([compressed([file(b"name", 1)] * (2 * MAX_FILES + 1))]))

    assert [len(block.files) for block in blocks] == [MAX_FILES, MAX_FILES, 1]


def test_files_without_contents_are_never_read() -> None:
    lines = [file(b".wh.gone", 0), segment(b"header"), file(b"link", 0)]

    (block,) = plan([compressed(lines)])

    assert (block.files, block.segments) == ([], [(0, b"header")])
    assert base64.b64decode(lines[1]["payload"]) == b"header"
