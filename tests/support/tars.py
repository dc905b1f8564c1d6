"""Tars for tests: layers in every dialect, damaged ones, and archives as the engines write them.

A `Tar` knows which of its bytes are file contents, because it was put together from headers and
contents; nobody has to parse it to know what a parser must find.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hypothesis import strategies as st

BLOCK: Final = 512
TRAILER: Final = bytes(2 * BLOCK)

Format = Literal[0, 1, 2]  # tarfile's numbers for USTAR, GNU and PAX

_FORMATS: tuple[Format, ...] = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
_KINDS = (
    tarfile.REGTYPE,
    tarfile.AREGTYPE,
    tarfile.CONTTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_EDGES = (0, 1, 2, 511, 512, 513, 1023, 1024, 1025, 1536)


@dataclass(frozen=True, slots=True)
class Part:
    """A member of a tar, or its end: headers, contents, and what follows up to the next block."""

    header: bytes
    content: bytes = b""
    padding: bytes = b""


@dataclass(frozen=True, slots=True)
class Tar:
    """A well-formed tar, and which of its bytes are contents."""

    parts: tuple[Part, ...]

    @property
    def data(self) -> bytes:
        """The tar itself."""
        return b"".join(part.header + part.content + part.padding for part in self.parts)

    @property
    def payload(self) -> bytes:
        """The contents of its files, in order."""
        return b"".join(part.content for part in self.parts)

    @property
    def headers(self) -> bytes:
        """All the rest, in order."""
        return b"".join(part.header + part.padding for part in self.parts)


def header(
    name: bytes = b"f",
    size: int = 0,
    *,
    kind: bytes = b"0",
    size_field: bytes | None = None,
    magic: bytes = b"ustar\x0000",
    checksum: bytes | None = None,
) -> bytes:
    """Write a header block field by field.

    Args:
        size_field: the 12 bytes of the size, if they are not to be octal.
        magic: of POSIX by default, `ustar  \\0` of GNU, and nothing of Unix v7.
        checksum: the 8 bytes of the checksum, if they are not to be right.
    """
    block = bytearray(BLOCK)
    block[0 : len(name[:100])] = name[:100]
    block[100:124] = b"0000644\x000000000\x000000000\x00"
    block[124:136] = size_field if size_field is not None else b"%011o\0" % size
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257 : 257 + len(magic)] = magic
    block[148:156] = b" " * 8
    block[148:156] = checksum if checksum is not None else b"%06o\0 " % sum(block)
    assert len(block) == BLOCK
    return bytes(block)


def base256(size: int) -> bytes:
    """Write a size field as GNU tar does where octal digits do not suffice."""
    return b"\x80" + size.to_bytes(11, "big")


def pax_record(key: bytes, value: bytes) -> bytes:
    """Write one PAX record, whose length counts itself."""
    rest = b" " + key + b"=" + value + b"\n"
    length = next(n for n in itertools.count(len(rest) + 1) if n == len(b"%d" % n) + len(rest))
    return b"%d" % length + rest


def record(content: bytes, kind: bytes = b"x") -> bytes:
    """Write a member that belongs to the next one: PAX records, or a GNU long name."""
    return header(b"record", len(content), kind=kind) + content + bytes(-len(content) % BLOCK)


def file_part(content: bytes, head: bytes | None = None, padding: bytes | None = None) -> Part:
    """Put a file together, with an ordinary header and zeros as padding unless told."""
    return Part(
        header(size=len(content)) if head is None else head,
        content,
        bytes(-len(content) % BLOCK) if padding is None else padding,
    )


# Strategies are made once: hypothesis examines each new one, which takes longer than drawing.
_SIZES = st.sampled_from(_EDGES) | st.integers(0, 2500)
_CONTENTS = st.one_of(
    st.builds(
        lambda size, seed: hashlib.shake_128(seed).digest(size), _SIZES, st.binary(max_size=4)
    ),
    st.builds(lambda size: header(size=size) * 2, _SIZES),
    st.just(TRAILER),
)
_PLAIN_NAMES = st.text("abz09._-/é漢", min_size=1, max_size=20)
_NAMES = st.one_of(
    _PLAIN_NAMES,
    # Lone surrogates are how Python spells bytes that are not UTF-8.
    st.text("a\udc80\udcff", min_size=1, max_size=10),
    st.builds(lambda size, end: "d" * size + end, st.integers(90, 300), _PLAIN_NAMES),
)
_XATTRS = st.none() | st.text("a=\n1 é", max_size=700)
_PLACES = st.integers(0, 1 << 20)
# Nothing says that padding is zero, and there are layers where it is not.
_FILLERS = st.sampled_from([b"\0", b"\xff", b"p"])


def contents() -> st.SearchStrategy[bytes]:
    """Make contents of files, many of them at the edges of blocks, some that look like headers."""
    return _CONTENTS


@st.composite
def _python_parts(draw: st.DrawFn, form: Format) -> Part:
    def name() -> str:
        # A file whose name ends in a slash is a folder to some readers.
        drawn = draw(_NAMES).rstrip("/") or "f"
        return drawn if form != tarfile.USTAR_FORMAT else drawn[-25:]

    choice = draw(_PLACES)
    info = tarfile.TarInfo(name())
    info.type = _KINDS[choice % len(_KINDS)]
    info.mode = (0o644, 0o4755, 0)[choice % 7 % 3]
    info.mtime = 1.5 if form == tarfile.PAX_FORMAT and choice % 5 == 0 else 1_700_000_000
    # Larger numbers are written in base-256 (GNU) or as PAX records.
    info.uid = 1 << 24 if form != tarfile.USTAR_FORMAT and choice % 11 < 5 else 1000
    if info.type in (tarfile.LNKTYPE, tarfile.SYMTYPE):
        info.linkname = name()
    if info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = 5, 1
    if form == tarfile.PAX_FORMAT and (value := draw(_XATTRS)) is not None:
        info.pax_headers = {"SCHILY.xattr.user.note": value}
    if info.type not in _FILES:
        # GNU tar writes hard links with the size of their file, and without its contents.
        info.size = 700 if choice % 13 < 4 else 0
        return Part(info.tobuf(form, "utf-8", "surrogateescape"))
    content = draw(_CONTENTS)
    info.size = len(content)
    head = info.tobuf(form, "utf-8", "surrogateescape")
    return Part(head, content, draw(_FILLERS) * (-len(content) % BLOCK))


_SIZE_7 = record(pax_record(b"size", b"7"))
# Headers that Python's tarfile would not write: of a size; of a wrong size behind PAX records.
_ODD_HEADERS: tuple[Callable[[int], bytes], ...] = (
    lambda size: header(size=size, magic=b""),  # Unix v7
    lambda size: header(size=size, magic=b"", kind=b"\0"),
    lambda size: header(size=size, magic=b"ustar  \0"),
    lambda size: header(size=size, kind=b"7"),
    lambda size: header(size=size, kind=b"V"),
    lambda size: header(size_field=base256(size)),
    lambda size: header(size_field=b"%11o " % size),
    lambda size: header(size_field=b"%-12o" % size),
    lambda size: header(size_field=b"%012o" % size),
    lambda size: header(size=size, checksum=b"garbage!"),
    # What a global header or a link says of sizes is no file's size.
    lambda size: record(pax_record(b"size", b"7"), b"g") + header(size=size),
    lambda size: _SIZE_7 + header(size=99, kind=b"1") + header(size=size),
    lambda size: record(b"") + header(size=size),
    lambda size: record(pax_record(b"size", b"many")) + header(size=size),
    lambda size: record(b"no records") + header(size=size),
)
_OVERRIDDEN_HEADERS: tuple[Callable[[bytes, int], bytes], ...] = (
    lambda size, wrong: record(size) + header(size=wrong),
    lambda size, wrong: record(size) + header(size=wrong, magic=b""),
    lambda size, wrong: record(pax_record(b"path", b"x" * 600) + size) + header(size=wrong),
    lambda size, wrong: record(pax_record(b"size", b"7") + size) + header(size=wrong),
    lambda size, wrong: _SIZE_7 + record(size) + header(size=wrong),
    lambda size, wrong: (
        record(size) + record(b"name\0", b"L") + record(b"to\0", b"K") + header(size=wrong)
    ),
)


def odd_headers(size: int, wrong: int = 511) -> list[bytes]:
    """Write the header of a file of some size in all ways that are allowed, if rare.

    Args:
        wrong: what the size field says where a PAX record overrides it.
    """
    override = pax_record(b"size", b"%d" % size)
    return [
        *(write(size) for write in _ODD_HEADERS),
        *(write(override, wrong) for write in _OVERRIDDEN_HEADERS),
    ]


@st.composite
def _odd_parts(draw: st.DrawFn) -> Part:
    content, choice = draw(_CONTENTS), draw(_PLACES)
    heads = odd_headers(len(content), (0, 1, 511, 1 << 30)[choice % 5 % 4])
    padding = draw(_FILLERS) * (-len(content) % BLOCK)
    return Part(heads[choice % len(heads)], content, padding)


_ENDS = st.sampled_from(
    [
        Part(TRAILER),
        Part(b""),  # no trailer at all
        Part(bytes(BLOCK)),
        Part(bytes(20 * BLOCK)),
        Part(bytes(100)),
        Part(TRAILER + b"trailing garbage"),
        # What follows the trailer counts as header, even if it looks like another member.
        Part(TRAILER + header(size=3) + b"abc" + bytes(509)),
    ]
)
_GLOBALS = Part(tarfile.TarInfo.create_pax_global_header({"comment": "c" * 40}))
_USTAR = st.lists(_python_parts(tarfile.USTAR_FORMAT), max_size=5)
_GNU = st.lists(_python_parts(tarfile.GNU_FORMAT), max_size=5)
_PAX = st.lists(_python_parts(tarfile.PAX_FORMAT), max_size=5)
# A global header stands before a member: Python's tarfile takes one at the end for damage.
_PYTHON = _USTAR | _GNU | _PAX | _PAX.map(lambda parts: [_GLOBALS, *parts] if parts else [])
_MIXED = st.lists(_python_parts(tarfile.GNU_FORMAT) | _odd_parts(), max_size=5)
_WELL_FORMED = st.builds(lambda parts, end: Tar((*parts, end)), _PYTHON | _MIXED, _ENDS)
_PYTHON_TARS = _PYTHON.map(lambda parts: Tar((*parts, Part(TRAILER))))

# Members that a parser has to give up at, or that claim far more than there is.
_UNREADABLE = st.sampled_from(
    [
        header(size=512, kind=b"S", magic=b"ustar  \0") + bytes(512),  # old GNU sparse
        header(size_field=b"\xff" * 12),  # a negative size
        header(size_field=b"\x80" + b"\xff" * 11),
        header(size_field=bytes(12)),
        header(size_field=b"0000000x000\0"),
        header(size=8**11 - 1),
        header(size_field=base256((1 << 63) - 1)),
        header(size=1 << 30, kind=b"x"),
        header(size=1 << 30, kind=b"g"),
        header(size_field=base256((1 << 63) - 1), kind=b"L"),
        header(size=5, magic=b"", checksum=b"000000\0 "),
        record(pax_record(b"size", b"9" * 18)) + header(size=1),
        record(pax_record(b"size", b"9" * 40)) + header(size=1),
        record(pax_record(b"size", b"-5")) + header(size=1),
        record(b"99999 size=5\n") + header(size=1),
        record(b"0 size=5\n" * 9) + header(size=1),
        header(kind=b"x", size=5),  # cut short within its records
    ]
)
_BEFORE_DAMAGE = st.one_of(
    _WELL_FORMED.map(lambda tar: tar.data),
    st.builds(
        lambda tar, member, rest: tar.data.removesuffix(TRAILER) + member + rest,
        _WELL_FORMED,
        _UNREADABLE,
        _CONTENTS,
    ),
    _CONTENTS,
    st.binary(max_size=1500),
)
_DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["truncate", "flip", "field", "insert", "remove", "append"]),
        _PLACES,
        st.binary(min_size=1, max_size=40),
    ),
    max_size=3,
)
_CUT_SIZES = st.lists(
    st.sampled_from([1, 2, 3, 511, 512, 513, 1024]) | st.integers(0, 3000), min_size=1, max_size=8
).filter(any)


def well_formed_tars() -> st.SearchStrategy[Tar]:
    """Make tars of which it is known what a parser has to find in them."""
    return _WELL_FORMED


def python_tars() -> st.SearchStrategy[Tar]:
    """Make tars of one dialect, and with a trailer, as Python's tarfile can read them back."""
    return _PYTHON_TARS


@st.composite
def any_bytes(draw: st.DrawFn) -> bytes:
    """Make well-formed tars, hostile and damaged ones, and bytes that never were a tar."""
    data = draw(_BEFORE_DAMAGE)
    for damage, place, noise in draw(_DAMAGES):
        at = place % (len(data) + 1)
        match damage:
            case "truncate":
                data = data[:at]
            case "flip":
                data = data[:at] + bytes(b ^ noise[0] for b in data[at : at + 1]) + data[at + 1 :]
            case "field":  # of a block: its size, its checksum, its kind, its magic
                at += (124, 125, 135, 148, 156, 257)[place % 6] - at % BLOCK
                data = data[:at] + (b"x", b"7", b"\x80", b"\0")[place % 4] + data[at + 1 :]
            case "insert":
                data = data[:at] + noise * (1 + place % 20) + data[at:]
            case "remove":
                data = data[:at] + data[at + (1, 511, 512, 513)[place % 4] :]
            case _:
                data += draw(_WELL_FORMED).data
    return data


def cut_sizes() -> st.SearchStrategy[list[int]]:
    """Make sizes to cut bytes by, one after the other and then from the start again."""
    return _CUT_SIZES


def cut_up(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Cut bytes into pieces, some of them empty if a size is 0."""
    position = 0
    for size in itertools.cycle(sizes):
        if position >= len(data):
            return
        yield data[position : position + size]
        position += size


def layer_tar(files: dict[str, bytes]) -> bytes:
    """Make the tar of a layer."""
    return _tar([(_info(name, len(data)), data) for name, data in files.items()])


def config_json(layers: Sequence[bytes]) -> bytes:
    """Make a config document for layers that are given as tars, base first."""
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    history = [{"created_by": f"RUN step {number}"} for number in range(len(layers))]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "history": history}
    return json.dumps(config).encode()


def legacy_archive(layers: Sequence[bytes]) -> bytes:
    """Make an archive as engines up to 24 do: a folder for each layer; repeated ones are links."""
    config = config_json(layers)
    first: dict[bytes, str] = {}
    members: list[tuple[tarfile.TarInfo, bytes]] = []
    names: list[str] = []
    for number, layer in enumerate(layers):
        folder = hashlib.sha256(b"%d" % number).hexdigest()
        folder_info = tarfile.TarInfo(folder)
        folder_info.type = tarfile.DIRTYPE
        members.append((folder_info, b""))
        members.append((_info(f"{folder}/VERSION", 3), b"1.0"))
        members.append((_info(f"{folder}/json", 2), b"{}"))
        name = f"{folder}/layer.tar"
        names.append(name)
        if layer in first:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"../{first[layer]}"
            members.append((link, b""))
        else:
            first[layer] = name
            members.append((_info(name, len(layer)), layer))
    digits = hashlib.sha256(config).hexdigest()
    members.append((_info(f"{digits}.json", len(config)), config))
    manifest = json.dumps([{"Config": f"{digits}.json", "RepoTags": ["app:1"], "Layers": names}])
    members.append((_info("manifest.json", len(manifest)), manifest.encode()))
    members.append((_info("repositories", 2), b"{}"))
    return _tar(members)


def oci_archive(layers: Sequence[bytes]) -> bytes:
    """Make an archive as engines from 25 on do: an OCI layout, and `manifest.json` beside it."""
    config = config_json(layers)
    members: list[tuple[tarfile.TarInfo, bytes]] = []
    for folder in ("blobs", "blobs/sha256"):
        info = tarfile.TarInfo(folder)
        info.type = tarfile.DIRTYPE
        members.append((info, b""))
    blobs = {f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}": blob for blob in (config, *layers)}
    members += [(_info(name, len(blobs[name])), blobs[name]) for name in sorted(blobs)]
    manifest = [
        {
            "Config": f"blobs/sha256/{hashlib.sha256(config).hexdigest()}",
            "RepoTags": ["app:1"],
            "Layers": [f"blobs/sha256/{hashlib.sha256(layer).hexdigest()}" for layer in layers],
        }
    ]
    for name, document in (
        ("index.json", {"schemaVersion": 2, "manifests": []}),
        ("manifest.json", manifest),
        ("oci-layout", {"imageLayoutVersion": "1.0.0"}),
    ):
        data = json.dumps(document).encode()
        members.append((_info(name, len(data)), data))
    return _tar(members)


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def _tar(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
