"""Of an engine's archive, what is wanted is taken, checked against its name, and taken once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Sequence

import pytest
from hypothesis import given, settings
from tests.support.tars import (
    config_json,
    cut_sizes,
    cut_up,
    layer_tar,
    legacy_archive,
    oci_archive,
)

from longshore.core import sorting
from longshore.core.archive import TRAILER, blob_name, member_header, small_member
from longshore.core.cutting import BlobFacts, Cut
from longshore.core.digests import Digest, digest_of, hex_of
from longshore.core.sorting import MAX_CONFIG_BYTES, ArchiveSorter, BlobDone, Item
from longshore.errors import EngineError

BASE = layer_tar({"base": hashlib.shake_256(b"base").digest(400_000)})
TOP = layer_tar({"top": b"top" * 1000})
LAYERS = [BASE, TOP]
CONFIG = config_json(LAYERS)
DIGESTS = frozenset(map(digest_of, LAYERS))
DOCUMENTS = frozenset([digest_of(CONFIG)])
NONE: frozenset[Digest] = frozenset()

both_forms = pytest.mark.parametrize(
    "archive",
    [
        pytest.param(legacy_archive(LAYERS), id="legacy"),
        pytest.param(oci_archive(LAYERS), id="OCI"),
    ],
)


class Sorted:
    """What a sorter made of an archive."""

    def __init__(
        self,
        pieces: Iterable[bytes],
        *,
        blobs: Container[Digest] = DIGESTS,
        documents: Container[Digest] = DOCUMENTS,
        known: Container[bytes] = frozenset(),
    ) -> None:
        sorter = ArchiveSorter(blobs=blobs, documents=documents, known=known)
        self.items: list[Item] = []
        for piece in pieces:
            self.items += sorter.feed(piece)
        self.items += sorter.finish()
        self.documents = sorter.documents

    @property
    def chunks(self) -> list[bytes]:
        return [item.id for item in self.items if isinstance(item, Cut)]

    @property
    def facts(self) -> list[BlobFacts]:
        return [item.facts for item in self.items if isinstance(item, BlobDone)]


@both_forms
def test_the_wanted_layers_are_taken(archive: bytes) -> None:
    done = Sorted([archive])

    assert {facts.digest for facts in done.facts} == DIGESTS


@both_forms
def test_the_wanted_config_is_taken_byte_for_byte(archive: bytes) -> None:
    assert Sorted([archive]).documents == {digest_of(CONFIG): CONFIG}


@both_forms
def test_a_config_that_is_not_wanted_is_left(archive: bytes) -> None:
    assert Sorted([archive], documents=NONE).documents == {}


@both_forms
def test_nothing_is_left_for_the_end_of_the_archive(archive: bytes) -> None:
    sorter = ArchiveSorter(blobs=DIGESTS, documents=DOCUMENTS, known=frozenset())
    sorter.feed(archive)

    assert sorter.finish() == []


@pytest.mark.parametrize("make", [legacy_archive, oci_archive])
@settings(max_examples=20)
@given(sizes=cut_sizes().map(lambda sizes: [size * 997 for size in sizes]))
def test_the_pieces_do_not_matter(
    make: Callable[[Sequence[bytes]], bytes], sizes: list[int]
) -> None:
    archive = make(LAYERS)
    whole = Sorted([archive])

    cut = Sorted(cut_up(archive, sizes))

    assert (cut.facts, cut.chunks, cut.documents) == (whole.facts, whole.chunks, whole.documents)


@both_forms
def test_a_blob_is_done_behind_the_last_of_its_chunks(archive: bytes) -> None:
    seen: set[bytes] = set()
    for item in Sorted([archive]).items:
        if isinstance(item, Cut):
            seen.add(item.id)
        else:
            assert isinstance(item, BlobDone)
            assert seen.issuperset(chunk for stream in item.facts.streams for chunk in stream)


def test_layers_that_are_not_wanted_produce_nothing() -> None:
    assert Sorted([oci_archive(LAYERS)], blobs=NONE).items == []


def test_of_two_layers_only_the_wanted_one_is_taken() -> None:
    done = Sorted([oci_archive(LAYERS)], blobs={digest_of(TOP)})

    assert [facts.digest for facts in done.facts] == [digest_of(TOP)]


@both_forms
def test_known_chunks_are_not_taken_again(archive: bytes) -> None:
    known = frozenset(Sorted([archive]).chunks)

    assert Sorted([archive], known=known).chunks == []


@both_forms
def test_a_blob_of_known_chunks_is_done_all_the_same(archive: bytes) -> None:
    first = Sorted([archive])

    again = Sorted([archive], known=frozenset(first.chunks))

    assert again.facts == first.facts


def test_a_chunk_that_two_layers_share_is_taken_once() -> None:
    content = hashlib.shake_256(b"shared").digest(300_000)
    layers = [layer_tar({"a": content}), layer_tar({"b": content})]
    done = Sorted([oci_archive(layers)], blobs=frozenset(map(digest_of, layers)))

    first, second = (facts.streams[1] for facts in done.facts)

    assert first == second
    assert len(done.chunks) == len(set(done.chunks))


def test_a_layer_that_is_a_link_to_another_is_taken_once() -> None:
    done = Sorted([legacy_archive([BASE, TOP, BASE])], documents=NONE)

    assert [facts.digest for facts in done.facts] == [digest_of(BASE), digest_of(TOP)]


def test_a_layer_that_is_not_what_its_name_says_is_refused() -> None:
    archive = small_member(blob_name(digest_of(BASE)), TOP) + TRAILER

    with pytest.raises(EngineError, match=f"{digest_of(TOP)} under the name of"):
        Sorted([archive])


@pytest.mark.parametrize(
    "name", [blob_name(digest_of(CONFIG)), f"{hex_of(digest_of(CONFIG))}.json"]
)
def test_a_config_that_is_not_what_its_name_says_is_refused(name: str) -> None:
    archive = small_member(name, CONFIG + b" ") + TRAILER

    with pytest.raises(EngineError, match="under the name of"):
        Sorted([archive])


def test_an_empty_layer_under_the_name_of_another_is_refused() -> None:
    archive = small_member(blob_name(digest_of(BASE)), b"") + TRAILER

    with pytest.raises(EngineError, match="under the name of"):
        Sorted([archive])


def test_a_wrong_blob_that_is_not_wanted_does_no_harm() -> None:
    archive = small_member(blob_name(digest_of(b"other")), TOP) + TRAILER

    assert Sorted([archive]).items == []


def test_the_name_of_one_member_does_not_bind_the_next() -> None:
    archive = (
        small_member(blob_name(digest_of(TOP)), TOP)
        + small_member("0123/layer.tar", BASE)
        + TRAILER
    )

    assert [facts.digest for facts in Sorted([archive]).facts] == [digest_of(TOP), digest_of(BASE)]


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "repositories",
        "0123/json",
        "0123/VERSION",
        "layer.tar",
        f"x/{blob_name(digest_of(BASE))}",
        f"{blob_name(digest_of(BASE))}/x",
        f"blobs/sha512/{hex_of(digest_of(BASE))}",
    ],
)
def test_other_members_pass_by(name: str) -> None:
    assert Sorted([small_member(name, BASE) + TRAILER]).items == []


def test_a_config_of_impossible_size_is_refused_before_it_is_read() -> None:
    head = member_header(blob_name(digest_of(CONFIG)), MAX_CONFIG_BYTES + 1)

    with pytest.raises(EngineError, match="a config of"):
        Sorted([head])


def test_a_config_of_the_largest_size_is_taken() -> None:
    config = CONFIG + b" " * (sorting.MAX_CONFIG_BYTES - len(CONFIG))
    archive = small_member(blob_name(digest_of(config)), config) + TRAILER

    assert list(Sorted([archive], documents={digest_of(config)}).documents) == [digest_of(config)]


@both_forms
def test_an_archive_that_was_cut_short_is_refused(archive: bytes) -> None:
    with pytest.raises(EngineError, match="ended early"):
        Sorted([archive[: len(archive) // 2]])
