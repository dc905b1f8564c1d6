"""The engine's archive is read in all its forms; what is written, any tar reader can read."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tars import (
    BLOCK,
    any_bytes,
    base256,
    cut_sizes,
    cut_up,
    header,
    layer_tar,
    legacy_archive,
    oci_archive,
    pax_record,
    record,
)

from longshore.core.archive import TRAILER as END
from longshore.core.archive import (
    ArchiveReader,
    ManifestItem,
    Member,
    MemberEnd,
    blob_name,
    manifest_json,
    member_header,
    padding,
    small_member,
)
from longshore.core.digests import digest_of
from longshore.core.tarwalk import MAX_PAX_BYTES
from longshore.errors import EngineError

BASE, TOP = layer_tar({"bin/sh": b"#!" * 700}), layer_tar({"app": b"app" * 400, "empty": b""})
LEGACY = legacy_archive([BASE, TOP, BASE])
OCI = oci_archive([BASE, TOP, BASE])


@dataclass
class Read:
    members: list[tuple[str, int, bytes]]
    ended: bool


def read(pieces: Iterable[bytes]) -> Read:
    """Feed a reader; a member counts only if its end was told, in its place."""
    reader = ArchiveReader()
    members: list[tuple[str, int, bytes]] = []
    current: tuple[Member, bytearray] | None = None
    for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, Member):
                assert current is None
                current = (event, bytearray())
            elif isinstance(event, MemberEnd):
                assert current is not None
                members.append((current[0].name, current[0].size_bytes, bytes(current[1])))
                current = None
            else:
                assert current is not None
                assert event
                current[1].extend(event)
    return Read(members, reader.ended)


def files_of(archive: bytes) -> list[tuple[str, int, bytes]]:
    """Read the regular files of an archive with Python's reader."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = []
        for info in tar:
            if info.isreg():
                file = tar.extractfile(info)
                assert file is not None
                found.append((info.name, info.size, file.read()))
        return found


both_forms = pytest.mark.parametrize("form", ["legacy", "OCI"])
ARCHIVES = {"legacy": LEGACY, "OCI": OCI}


@both_forms
def test_an_archive_is_read_whole(form: str) -> None:
    archive = ARCHIVES[form]

    assert read([archive]) == Read(files_of(archive), ended=True)


@both_forms
def test_an_archive_is_read_byte_by_byte(form: str) -> None:
    archive = ARCHIVES[form]

    assert read(cut_up(archive, [1])) == Read(files_of(archive), ended=True)


@both_forms
@given(sizes=cut_sizes())
def test_an_archive_is_read_in_any_pieces(form: str, sizes: list[int]) -> None:
    archive = ARCHIVES[form]

    assert read(cut_up(archive, sizes)) == Read(files_of(archive), ended=True)


@both_forms
@given(sizes=cut_sizes(), garbage=st.binary(min_size=1, max_size=2000))
def test_what_follows_the_end_is_passed_over(form: str, sizes: list[int], garbage: bytes) -> None:
    archive = ARCHIVES[form]
    data = archive + garbage + member_header("not in it", 3) + b"abc"

    assert read(cut_up(data, sizes)) == Read(files_of(archive), ended=True)


def test_a_layer_that_is_a_link_is_no_member() -> None:
    names = [name for name, _, _ in read([LEGACY]).members if name.endswith("/layer.tar")]

    assert len(names) == 2


@both_forms
@given(st.data())
def test_an_archive_that_was_cut_short_is_refused(form: str, data: st.DataObject) -> None:
    archive = ARCHIVES[form]
    # The marker itself is two blocks; one of them is enough to know.
    content = len(archive.rstrip(b"\0"))
    length = data.draw(st.integers(0, content))
    reader = ArchiveReader()
    reader.feed(archive[:length])

    with pytest.raises(EngineError, match="ended early"):
        reader.finish()


@both_forms
def test_a_whole_archive_passes(form: str) -> None:
    reader = ArchiveReader()
    reader.feed(ARCHIVES[form])

    reader.finish()


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(b"<html>" + b"x" * BLOCK, id="an answer that is no archive"),
        pytest.param(header(size_field=b"\xff" * 12), id="a negative size"),
        pytest.param(header(kind=b"S", magic=b"ustar  \0"), id="a sparse file"),
        pytest.param(header(kind=b"x", size=MAX_PAX_BYTES + 1), id="a record that is too large"),
    ],
)
def test_what_is_no_archive_is_refused(archive: bytes) -> None:
    with pytest.raises(EngineError):
        read([archive])


@given(data=any_bytes(), sizes=cut_sizes())
def test_bytes_of_any_kind_are_read_or_refused(data: bytes, sizes: list[int]) -> None:
    refused = False
    try:
        read(cut_up(data, sizes))
    except EngineError:
        refused = True

    assert refused in (True, False)  # no other exception came


def test_records_are_passed_over() -> None:
    archive = record(pax_record(b"mtime", b"1.5")) + small_member("a", b"b") + END

    assert read([archive]).members == [("a", 1, b"b")]


def test_the_prefix_of_a_posix_header_belongs_to_the_name() -> None:
    block = bytearray(member_header("name", 0))
    block[345:351] = b"folder"

    assert read([bytes(block)]).members == [("folder/name", 0, b"")]


def test_what_gnu_keeps_behind_its_header_is_no_part_of_the_name() -> None:
    block = bytearray(header(b"name", magic=b"ustar  \0"))
    block[345:356] = b"14731000000"

    assert read([bytes(block)]).members == [("name", 0, b"")]


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 9 << 30, 1 << 42])
def test_a_member_of_8_gib_and_more_is_announced_with_its_size(size: int) -> None:
    reader = ArchiveReader()

    assert reader.feed(member_header("blob", size)) == [Member("blob", size)]


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 9 << 30, 1 << 42])
def test_python_reads_the_header_of_a_member_of_8_gib_and_more(size: int) -> None:
    info = tarfile.TarInfo.frombuf(member_header("blob", size), "utf-8", "strict")

    assert (info.name, info.size, info.isreg()) == ("blob", size, True)


def test_a_member_whose_size_only_a_pax_record_tells_is_announced_with_it() -> None:
    # Go's archive/tar, hence the engine, writes members of 8 GiB and more like this.
    reader = ArchiveReader()
    head = record(pax_record(b"size", b"%d" % (9 << 30))) + header(b"blob", 0)

    assert reader.feed(head) == [Member("blob", 9 << 30)]


def test_a_member_in_base_256_is_read_to_its_end() -> None:
    archive = header(b"a", size_field=base256(3)) + b"abc" + padding(3) + END

    assert read([archive]).members == [("a", 3, b"abc")]


@given(
    st.dictionaries(
        st.text("abz/._-", min_size=1, max_size=100).filter(lambda name: name.strip("/.")),
        st.binary(max_size=1100),
        max_size=6,
    )
)
def test_what_is_written_both_readers_read_back(files: dict[str, bytes]) -> None:
    archive = b"".join(small_member(name, data) for name, data in files.items()) + END

    members = read([archive]).members

    assert [(name, data) for name, _, data in members] == list(files.items())
    assert [data for _, _, data in files_of(archive)] == list(files.values())


def test_what_is_written_is_from_1970_and_of_root() -> None:
    info = tarfile.TarInfo.frombuf(member_header("a", 1), "utf-8", "strict")

    assert (info.mtime, info.uid, info.gid, info.mode) == (0, 0, 0, 0o644)


def test_a_name_over_100_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        member_header("é" * 51, 0)


@pytest.mark.parametrize(("size", "length"), [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)])
def test_padding_goes_to_the_next_block(size: int, length: int) -> None:
    assert padding(size) == bytes(length)


def test_the_manifest_is_as_docker_writes_it() -> None:
    base, top, config = digest_of(b"base"), digest_of(b"top"), digest_of(b"config")
    parent = digest_of(b"parent")

    manifest = json.loads(
        manifest_json(
            [
                ManifestItem(config, ["app:1", "app:2"], [base, top], parent),
                ManifestItem(parent, [], [base]),
            ]
        )
    )

    assert manifest == [
        {
            "Config": f"blobs/sha256/{config[7:]}",
            "RepoTags": ["app:1", "app:2"],
            "Layers": [f"blobs/sha256/{base[7:]}", f"blobs/sha256/{top[7:]}"],
            "Parent": parent,
        },
        {
            "Config": f"blobs/sha256/{parent[7:]}",
            "RepoTags": None,
            "Layers": [f"blobs/sha256/{base[7:]}"],
        },
    ]


def test_a_blob_is_named_as_in_an_oci_layout() -> None:
    digest = digest_of(b"x")

    assert blob_name(digest) == f"blobs/sha256/{digest[7:]}"
