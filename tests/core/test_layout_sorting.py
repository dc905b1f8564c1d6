"""Of an archive of a containerd store, what leads to the layers is kept, and all else is cut."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tars import config_json, cut_sizes, cut_up, layer_tar

from longshore.core import layout_sorting
from longshore.core.archive import TRAILER, small_member
from longshore.core.cutting import BlobFacts, Cut
from longshore.core.digests import Digest, digest_of
from longshore.core.layout import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from longshore.core.layout_sorting import LayoutSorter
from longshore.core.sorting import MAX_CONFIG_BYTES, BlobDone, Item
from longshore.core.tarsplit import TarJoiner
from longshore.errors import EngineError

ATTACHED_BYTES = 256 << 10  # of what is no layer; more than that goes to the blobs
NOTHING: frozenset[Digest] = frozenset()


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


@dataclass
class Images:
    """Images in a containerd store, and what of them is a document."""

    targets: list[Digest] = field(default_factory=list)
    documents: dict[Digest, bytes] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)

    def add(
        self, layers: Sequence[bytes], attestations: Sequence[bytes] = (), *, bare: bool = False
    ) -> Digest:
        """Add an image; `bare` is without an index. Returns its target."""
        config = config_json(layers)
        manifest = encode(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": self._document(OCI_CONFIG, config),
                "layers": [self._blob(OCI_LAYER + "+gzip", layer) for layer in layers],
            }
        )
        described = self._document(OCI_MANIFEST, manifest)
        if not bare:
            absent = {"mediaType": OCI_MANIFEST, "digest": digest_of(b"arm"), "size": 3}
            more = [self._attestation(data) for data in attestations]
            described = self._document(
                OCI_INDEX, encode({"schemaVersion": 2, "manifests": [described, absent, *more]})
            )
        self.targets.append(described["digest"])
        return self.targets[-1]

    def _attestation(self, data: bytes) -> dict[str, Any]:
        keep = self._document if len(data) <= ATTACHED_BYTES else self._blob
        layers = [keep("application/vnd.in-toto+json", data)]
        config = self._document(OCI_CONFIG, config_json([data]))
        return self._document(OCI_MANIFEST, encode({"config": config, "layers": layers}))

    def _document(self, media_type: str, data: bytes) -> dict[str, Any]:
        self.documents[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def _blob(self, media_type: str, data: bytes) -> dict[str, Any]:
        self.blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def archive(self, **changed: bytes | None) -> bytes:
        """Write what `docker save` writes: blobs by their digests, then the names.

        Args:
            changed: contents that a member has instead of its own, or `None` if it is lost.
        """
        named = {f"blobs/sha256/{d[7:]}": data for d, data in (self.documents | self.blobs).items()}
        members = dict(sorted((named | changed).items()))
        members |= {"index.json": b'{"manifests":[]}', "manifest.json": b"[]"}
        members["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
        files = [small_member(name, data) for name, data in members.items() if data is not None]
        return b"".join(files) + TRAILER


class Sorted:
    """What a sorter made of an archive."""

    def __init__(
        self,
        pieces: Iterable[bytes],
        targets: Sequence[Digest],
        *,
        stored: Container[Digest] = NOTHING,
        known: Container[bytes] = frozenset(),
    ) -> None:
        sorter = LayoutSorter(targets=targets, stored=stored, known=known)
        self.items: list[Item] = []
        for piece in pieces:
            self.items += sorter.feed(piece)
        self.items += sorter.finish()
        self.documents = sorter.documents

    @property
    def facts(self) -> dict[Digest, BlobFacts]:
        return {i.facts.digest: i.facts for i in self.items if isinstance(i, BlobDone)}

    def rebuilt(self) -> dict[Digest, bytes]:
        """Put all blobs together again."""
        chunks = {item.id: bytes(item.data) for item in self.items if isinstance(item, Cut)}
        return {digest: rebuild(facts, chunks) for digest, facts in self.facts.items()}


def rebuild(facts: BlobFacts, chunks: dict[bytes, bytes]) -> bytes:
    if facts.method == "raw":
        return b"".join(chunks[chunk] for chunk in facts.streams[0])
    joiner, joined = TarJoiner(), bytearray()
    left = [iter(stream) for stream in facts.streams]
    while (chunk := next(left[joiner.wants_payload], None)) is not None:
        feed = joiner.feed_payload if joiner.wants_payload else joiner.feed_header
        joined += b"".join(feed(chunks[chunk]))
    joiner.finish()
    return bytes(joined)


def noise(seed: int, size: int) -> bytes:
    return hashlib.shake_256(b"%d" % seed).digest(size)


SIZES = st.sampled_from([0, 1, 511, 513, 70_000, 300_000])


@st.composite
def layers(draw: st.DrawFn) -> bytes:
    content = noise(draw(st.integers(0, 9)), draw(SIZES))
    match draw(st.sampled_from(["tar", "braced", "gzip", "json", "tiny", "nothing", "empty tar"])):
        case "tar":
            return layer_tar({"file": content})
        case "braced":  # a tar begins with the name of its first member
            return layer_tar({"{file}": content})
        case "gzip":
            return b"\x1f\x8b\x08\x00" + content
        case "json":
            return b"{" + content
        case "tiny":
            return b"%d" % len(content)
        case "nothing":
            return b""
        case _:
            return bytes(1024)


ATTESTATIONS = st.builds(
    lambda number, size: b'{"_type":%d}' % number + b" " * size,
    st.integers(0, 3),
    st.sampled_from([0, 1000, ATTACHED_BYTES, ATTACHED_BYTES + 1]),
)


@st.composite
def images(draw: st.DrawFn) -> Images:
    """Make one to three images, whose layers some share."""
    pool = draw(st.lists(layers(), min_size=1, max_size=4, unique=True))
    several = st.lists(st.sampled_from(pool), max_size=4)
    made = Images()
    for _ in range(draw(st.integers(1, 3))):
        attestations = draw(st.lists(ATTESTATIONS, max_size=2))
        made.add(draw(several), attestations, bare=draw(st.booleans()))
    return made


@settings(max_examples=60)
@given(images(), st.data())
def test_documents_lead_to_the_layers_and_blobs_are_all_else(made: Images, data: Any) -> None:
    stored = data.draw(
        st.sets(st.sampled_from(sorted(made.blobs))) if made.blobs else st.just(set())
    )
    sizes = [size * 997 for size in data.draw(cut_sizes())]

    done = Sorted(cut_up(made.archive(), sizes), made.targets, stored=stored)

    assert done.documents == made.documents
    assert done.rebuilt() == {d: blob for d, blob in made.blobs.items() if d not in stored}


@settings(max_examples=20)
@given(images(), cut_sizes())
def test_the_pieces_do_not_matter(made: Images, sizes: list[int]) -> None:
    whole = Sorted([made.archive()], made.targets)

    cut = Sorted(cut_up(made.archive(), [size * 997 for size in sizes]), made.targets)

    assert (cut.items, cut.documents) == (whole.items, whole.documents)


@settings(max_examples=20)
@given(images())
def test_known_chunks_are_not_taken_again(made: Images) -> None:
    first = Sorted([made.archive()], made.targets)
    known = {item.id for item in first.items if isinstance(item, Cut)}

    again = Sorted([made.archive()], made.targets, known=known)

    assert [item for item in again.items if isinstance(item, Cut)] == []
    assert again.facts == first.facts


@settings(max_examples=20)
@given(images())
def test_a_blob_is_done_behind_the_last_of_its_chunks(made: Images) -> None:
    seen: set[bytes] = set()
    for item in Sorted([made.archive()], made.targets).items:
        if isinstance(item, Cut):
            assert item.id not in seen
            seen.add(item.id)
        else:
            assert isinstance(item, BlobDone)
            assert seen.issuperset(chunk for stream in item.facts.streams for chunk in stream)


def test_of_what_no_target_leads_to_only_blobs_are_taken() -> None:
    made, other = Images(), Images()
    target = made.add([b"\x1f\x8bours"])
    other.add([b"\x1f\x8btheirs"])
    made.documents |= other.documents
    made.blobs |= other.blobs

    done = Sorted([made.archive()], [target])

    assert not done.documents.keys() & other.documents.keys()
    assert done.facts.keys() == made.blobs.keys()


def two_images() -> Images:
    made = Images()
    made.add([layer_tar({"{a}": noise(1, 100_000)}), b"\x1f\x8b" + noise(2, 1000), b"{}"])
    made.add([b"\x1f\x8b" + noise(2, 1000)], [b'{"_type":1}', b"{" + noise(3, ATTACHED_BYTES)])
    return made


MEMBERS = sorted(f"blobs/sha256/{d[7:]}" for d in two_images().documents | two_images().blobs)


@pytest.mark.parametrize("number", range(len(MEMBERS)))
@pytest.mark.parametrize("at", [0, -1])
def test_a_wrong_byte_in_any_blob_is_refused(number: int, at: int) -> None:
    made = two_images()
    data = bytearray((made.documents | made.blobs)[Digest("sha256:" + MEMBERS[number][13:])])
    data[at] ^= 1

    with pytest.raises(EngineError, match=f"under the name of sha256:{MEMBERS[number][13:]}"):
        Sorted([made.archive(**{MEMBERS[number]: bytes(data)})], made.targets)


@pytest.mark.parametrize("number", range(len(MEMBERS)))
def test_a_blob_without_its_bytes_is_refused(number: int) -> None:
    made = two_images()

    with pytest.raises(EngineError, match="under the name of"):
        Sorted([made.archive(**{MEMBERS[number]: b""})], made.targets)


def test_what_is_stored_passes_by_unread() -> None:
    made = two_images()
    wrong = {f"blobs/sha256/{d[7:]}": b"other bytes" for d in made.blobs}

    done = Sorted([made.archive(**wrong)], made.targets, stored=made.blobs)

    assert (done.items, done.documents) == ([], made.documents)


@pytest.mark.parametrize("number", [0, 1])
def test_an_archive_without_one_of_its_images_is_refused(number: int) -> None:
    made = two_images()
    lost = f"blobs/sha256/{made.targets[number][7:]}"

    with pytest.raises(EngineError, match=f"lacks the image {made.targets[number]}"):
        Sorted([made.archive(**{lost: None})], made.targets)


def test_an_image_that_is_no_document_is_refused() -> None:
    made = Images()
    made.add([], bare=True)
    target = made._blob("", b"{but no JSON")["digest"]

    with pytest.raises(EngineError, match="cannot be followed"):
        Sorted([made.archive()], [target])


@settings(max_examples=30)
@given(st.floats(0, 1, exclude_max=True))
def test_an_archive_that_was_cut_short_is_refused(part: float) -> None:
    made = two_images()
    archive = made.archive()[: -len(TRAILER)]

    with pytest.raises(EngineError, match="ended early"):
        Sorted([archive[: int(len(archive) * part)]], made.targets)


def test_what_may_be_a_document_is_held_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_sorting, "MAX_HELD_BYTES", 20_000)
    made = Images()
    made.add([b"{" + noise(number, 3000) for number in range(50)])
    sorter = LayoutSorter(targets=made.targets, stored=NOTHING, known=frozenset())
    for piece in cut_up(made.archive(), [1000]):
        sorter.feed(piece)
        assert sum(map(len, sorter.documents.values())) <= 20_000


def test_what_finds_no_room_is_cut_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Images()
    made.add([b"{" + noise(number, 3000) for number in range(50)])
    documents = sum(map(len, made.documents.values()))
    monkeypatch.setattr(layout_sorting, "MAX_HELD_BYTES", documents + 50 * 3001 - 1)
    assert max(made.blobs) > max(made.documents)  # a layer comes last, and finds no room

    done = Sorted([made.archive()], made.targets)

    assert (done.documents, done.rebuilt()) == (made.documents, made.blobs)


def test_large_attestations_leave_room_for_the_documents_of_all_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lists of packages begin as documents do, and have megabytes."""
    made = Images()
    for number in range(10, 22):
        listed = b'{"packages":%d}' % number + b" " * ATTACHED_BYTES
        made.add([noise(number, 10)], [listed])
    needed = sum(map(len, made.documents.values()))
    monkeypatch.setattr(layout_sorting, "MAX_HELD_BYTES", 8 * len(listed) + needed - 1)

    done = Sorted([made.archive()], made.targets)

    assert (done.documents, done.rebuilt()) == (made.documents, made.blobs)


@pytest.mark.parametrize(("size", "held"), [(MAX_CONFIG_BYTES, 1), (MAX_CONFIG_BYTES + 1, 0)])
def test_what_is_too_large_for_a_document_is_cut_at_once(size: int, held: int) -> None:
    layer = b"{" + bytes(size - 1)
    made = Images()
    made.add([layer])
    sorter = LayoutSorter(targets=made.targets, stored=NOTHING, known=frozenset())
    items = sorter.feed(made.archive())

    assert len([item for item in items if isinstance(item, BlobDone)]) == 1 - held
    assert (digest_of(layer) in sorter.documents) == bool(held)


@pytest.mark.parametrize("name", ["index.json", "manifest.json", "oci-layout", "blobs/x", "x/y"])
def test_members_that_are_no_blobs_pass_by(name: str) -> None:
    made = two_images()
    done = Sorted([small_member(name, b"{" + noise(1, 500)) + made.archive()], made.targets)

    assert (done.documents, done.rebuilt()) == (made.documents, made.blobs)
