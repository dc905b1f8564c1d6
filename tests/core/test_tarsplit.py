"""Any bytes survive being split and joined; of a tar, the payload is the contents of its files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import example, given
from tests.support.tars import (
    BLOCK,
    TRAILER,
    Part,
    Tar,
    any_bytes,
    base256,
    cut_sizes,
    cut_up,
    file_part,
    header,
    odd_headers,
    pax_record,
    python_tars,
    record,
    well_formed_tars,
)

from longshore.core.tarsplit import TarJoiner, TarSplitter
from longshore.core.tarwalk import MAX_PAX_BYTES
from longshore.errors import CorruptData


def split(pieces: Iterable[bytes]) -> tuple[bytes, bytes]:
    splitter = TarSplitter()
    headers, payload = bytearray(), bytearray()
    for piece in pieces:
        header_pieces, payload_pieces = splitter.feed(piece)
        headers += b"".join(header_pieces)
        payload += b"".join(payload_pieces)
    return bytes(headers), bytes(payload)


def join(headers: Iterable[bytes], payload: Iterable[bytes]) -> bytes:
    """Drive the joiner as its contract says: by what it wants, to the end of both streams."""
    joiner = TarJoiner()
    joined = bytearray()
    header_pieces, payload_pieces = iter(headers), iter(payload)
    while True:
        if joiner.wants_payload and (piece := next(payload_pieces, None)) is not None:
            joined += b"".join(joiner.feed_payload(piece))
        elif (piece := next(header_pieces, None)) is not None:
            joined += b"".join(joiner.feed_header(piece))
        elif (piece := next(payload_pieces, None)) is not None:
            joined += b"".join(joiner.feed_payload(piece))
        else:
            joiner.finish()
            return bytes(joined)


@given(data=any_bytes(), sizes=cut_sizes(), header_sizes=cut_sizes(), payload_sizes=cut_sizes())
def test_any_bytes_survive_split_and_join_in_any_pieces(
    data: bytes, sizes: list[int], header_sizes: list[int], payload_sizes: list[int]
) -> None:
    headers, payload = split(cut_up(data, sizes))

    joined = join(cut_up(headers, header_sizes), cut_up(payload, payload_sizes))

    assert joined == data


@given(data=any_bytes(), sizes=cut_sizes())
def test_the_split_does_not_depend_on_the_pieces(data: bytes, sizes: list[int]) -> None:
    whole = split([data])

    assert split(cut_up(data, sizes)) == whole


@given(data=any_bytes())
def test_the_split_is_the_same_byte_by_byte(data: bytes) -> None:
    short = data[: 8 * BLOCK]

    assert split(cut_up(short, [1])) == split([short])


@given(data=any_bytes())
def test_the_streams_join_byte_by_byte(data: bytes) -> None:
    short = data[: 8 * BLOCK]
    headers, payload = split([short])

    assert join(cut_up(headers, [1]), cut_up(payload, [1])) == short


@given(tar=well_formed_tars(), sizes=cut_sizes())
@example(tar=Tar((file_part(b"x" * BLOCK), Part(TRAILER))), sizes=[BLOCK])
def test_the_payload_stream_is_exactly_the_contents_of_the_files(
    tar: Tar, sizes: list[int]
) -> None:
    _, payload = split(cut_up(tar.data, sizes))

    assert payload == tar.payload


@given(tar=well_formed_tars(), sizes=cut_sizes())
def test_the_header_stream_has_all_but_the_contents(tar: Tar, sizes: list[int]) -> None:
    headers, _ = split(cut_up(tar.data, sizes))

    assert headers == tar.headers


@given(tar=python_tars())
def test_pythons_own_reader_finds_the_same_contents(tar: Tar) -> None:
    with tarfile.open(fileobj=io.BytesIO(tar.data), errors="surrogateescape") as opened:
        read = [opened.extractfile(member) for member in opened if member.isreg()]
        contents = b"".join(file.read() for file in read if file is not None)

    assert contents == split([tar.data])[1]


@pytest.mark.parametrize("number", range(len(odd_headers(700))))
def test_a_size_is_found_wherever_a_header_may_have_it(number: int) -> None:
    odd = Part(odd_headers(700)[number], b"x" * 700, bytes(324))
    tar = Tar((file_part(b"before"), odd, file_part(b"behind"), Part(TRAILER)))

    assert split([tar.data]) == (tar.headers, tar.payload)


def test_a_pax_size_holds_for_one_member_only() -> None:
    override = record(pax_record(b"size", b"3"))
    tar = Tar((file_part(b"abc", override + header(size=1)), file_part(b"behind")))

    assert split([tar.data])[1] == b"abcbehind"


def test_behind_pax_records_over_the_limit_all_is_header() -> None:
    large = record(bytes(MAX_PAX_BYTES + 1))

    assert split([large + file_part(b"content").header + b"content"])[1] == b""


@given(data=any_bytes(), header_sizes=cut_sizes(), payload_sizes=cut_sizes())
def test_the_joiner_keeps_what_comes_before_it_is_wanted(
    data: bytes, header_sizes: list[int], payload_sizes: list[int]
) -> None:
    headers, payload = split([data])
    joiner = TarJoiner()

    joined = [joiner.feed_payload(piece) for piece in cut_up(payload, payload_sizes)]
    joined += [joiner.feed_header(piece) for piece in cut_up(headers, header_sizes)]

    assert b"".join(view for views in joined for view in views) == data


def test_the_joiner_keeps_payload_that_comes_before_it_is_wanted() -> None:
    joiner = TarJoiner()
    early = [joiner.feed_payload(b"ab"), joiner.feed_payload(b"c")]

    joined = joiner.feed_header(header(size=3))

    assert (early, b"".join(joined)) == ([[], []], header(size=3) + b"abc")


def test_the_joiner_keeps_headers_that_come_before_they_are_wanted() -> None:
    joiner = TarJoiner()
    first, second = header(size=3), bytes(509) + header(kind=b"5")
    pieces = [joiner.feed_header(piece) for piece in (first, second, TRAILER)]

    pieces.append(joiner.feed_payload(b"abc"))

    assert b"".join(view for views in pieces for view in views) == first + b"abc" + second + TRAILER


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(header(size=700, kind=b"S", magic=b"ustar  \0"), id="old GNU sparse file"),
        pytest.param(header(size_field=b"\xff" * 12), id="negative base-256 size"),
        pytest.param(header(size_field=base256(1 << 63)), id="size of 2**63"),
        pytest.param(header(size_field=base256(1 << 85)), id="size of 2**85"),
        pytest.param(header(size_field=b"00000z00000\0"), id="size with a letter"),
        pytest.param(header(size_field=bytes(12)), id="no size"),
        pytest.param(header(size=5, magic=b"", checksum=b"000001\0 "), id="v7, wrong checksum"),
        pytest.param(header(size=5, magic=b"", checksum=bytes(8)), id="v7, no checksum"),
        pytest.param(header(size=MAX_PAX_BYTES + 1, kind=b"x"), id="PAX records over the limit"),
        pytest.param(bytes(BLOCK), id="end of the archive"),
    ],
)
def test_from_a_header_that_is_not_accepted_on_all_is_header(member: bytes) -> None:
    rest = member + file_part(b"looks like a file").header + b"looks like a file"

    headers, payload = split([file_part(b"kept").header + b"kept" + bytes(508) + rest])

    assert (payload, headers[-len(rest) :]) == (b"kept", rest)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(header(size_field=base256(1 << 40)), id="base-256"),
        pytest.param(header(size=8**11 - 1), id="octal"),
        pytest.param(record(pax_record(b"size", b"9" * 18)) + header(), id="PAX"),
    ],
)
def test_of_a_member_that_claims_more_than_there_is_all_is_payload(head: bytes) -> None:
    headers, payload = split([head + b"all that there is"])

    assert (headers, payload) == (head, b"all that there is")


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_links_devices_and_folders_have_no_payload_whatever_their_size(kind: bytes) -> None:
    tar = header(size=600, kind=kind) + file_part(b"content").header + b"content"

    assert split([tar])[1] == b"content"


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_the_content_of_a_record_is_header(kind: bytes) -> None:
    head = record(b"a record" * 100, kind) + header(size=7)

    assert split([head + b"content"]) == (head, b"content")


def test_pax_records_of_the_largest_size_count() -> None:
    size = pax_record(b"size", b"4")
    room = MAX_PAX_BYTES - len(size) - len(b"1000000 comment=\n")
    records = pax_record(b"comment", b"c" * room) + size
    assert len(records) == MAX_PAX_BYTES
    head = record(records) + header()

    assert split(cut_up(head + b"abcd", [100_000])) == (head, b"abcd")


@pytest.mark.parametrize(
    ("headers", "payload"),
    [
        pytest.param(header(size=3), b"abcd", id="payload left over"),
        pytest.param(header(kind=b"5"), b"a", id="payload without a file"),
        pytest.param(header(size=3) + bytes(509), b"ab", id="header left over"),
    ],
)
def test_streams_that_do_not_belong_together_are_refused(headers: bytes, payload: bytes) -> None:
    with pytest.raises(CorruptData, match="do not fit together"):
        join([headers], [payload])


@pytest.mark.parametrize("sizes", [[1], [512], [100, 1, 700]])
def test_the_joiner_holds_nothing_back(sizes: Sequence[int]) -> None:
    joiner = TarJoiner()
    head = record(pax_record(b"size", b"600")) + header()

    known = b"".join(b"".join(joiner.feed_header(piece)) for piece in cut_up(head, sizes))

    assert known == head


def test_the_joiner_wants_payload_exactly_where_a_file_has_some() -> None:
    joiner = TarJoiner()
    wanted = [joiner.wants_payload]

    joiner.feed_header(header(size=3))
    wanted.append(joiner.wants_payload)
    joiner.feed_payload(b"ab")
    wanted.append(joiner.wants_payload)
    joiner.feed_payload(b"c")
    wanted.append(joiner.wants_payload)

    assert wanted == [False, True, True, False]
