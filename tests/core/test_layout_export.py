"""Of a containerd store, only images of which something is not stored yet are saved."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tars import config_json

from longshore.core.digests import Digest, digest_of
from longshore.core.entry import Blob
from longshore.core.export_plan import EntryContents
from longshore.core.keys import Ref
from longshore.core.layout import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from longshore.core.layout_export import describe_layout_images, plan_layout_save
from longshore.errors import EngineError

GZIP, IN_TOTO = OCI_LAYER + "+gzip", "application/vnd.in-toto+json"
BASE, TOP, ARM = b"\x1f\x8bbase", b"\x1f\x8btop", b"\x1f\x8barm"
PROOF = b'{"_type":"statement"}' + bytes(300_000)


@dataclass(frozen=True)
class Held:
    """An image as an engine holds it."""

    id: Digest
    diff_ids: Sequence[Digest]
    tags: Sequence[str] = ()
    parent: Digest | None = None


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


def described(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def manifest(layers: Sequence[bytes], kind: str = GZIP) -> bytes:
    config = described(OCI_CONFIG, config_json(layers))
    return encode({"config": config, "layers": [described(kind, layer) for layer in layers]})


def by_digest(*documents: bytes) -> dict[Digest, bytes]:
    return {digest_of(data): data for data in documents}


BASE_MANIFEST, TOP_MANIFEST, ARM_MANIFEST = manifest([BASE]), manifest([BASE, TOP]), manifest([ARM])
PROOF_MANIFEST = manifest([PROOF], IN_TOTO)
INDEX = encode(
    {
        "manifests": [
            described(OCI_MANIFEST, m) for m in (ARM_MANIFEST, TOP_MANIFEST, PROOF_MANIFEST)
        ]
    }
)
# The engine has pulled no arm64; its manifest is not there.
DOCUMENTS = by_digest(
    INDEX,
    TOP_MANIFEST,
    PROOF_MANIFEST,
    BASE_MANIFEST,
    config_json([BASE, TOP]),
    config_json([BASE]),
    config_json([PROOF]),
)
BLOBS = {digest_of(data): len(data) for data in (BASE, TOP, PROOF)}
BASE_IMAGE = Held(digest_of(BASE_MANIFEST), [digest_of(BASE)])
TOP_IMAGE = Held(
    digest_of(INDEX), list(map(digest_of, (BASE, TOP))), ["web:1", "web:2"], BASE_IMAGE.id
)
CHAIN = [TOP_IMAGE, BASE_IMAGE]


def saved(
    blobs: Collection[Digest], documents: Mapping[Digest, bytes], chain: Sequence[Held] = CHAIN
) -> tuple[Digest, ...]:
    return plan_layout_save(chain, blobs, documents).images


def without(data: bytes) -> dict[Digest, bytes]:
    return {digest: d for digest, d in DOCUMENTS.items() if d != data}


def test_of_an_empty_cache_everything_is_saved() -> None:
    assert saved((), {}) == (TOP_IMAGE.id, BASE_IMAGE.id)


def test_what_is_all_there_is_not_asked_for() -> None:
    assert saved(BLOBS, DOCUMENTS) == ()


@pytest.mark.parametrize("lost", [INDEX, TOP_MANIFEST, config_json([BASE, TOP])])
def test_an_image_that_lacks_only_a_document_is_named(lost: bytes) -> None:
    assert saved(BLOBS, without(lost)) == (TOP_IMAGE.id,)


@pytest.mark.parametrize("lost", [TOP, PROOF])
def test_an_image_that_lacks_only_a_blob_is_named(lost: bytes) -> None:
    assert saved(BLOBS.keys() - {digest_of(lost)}, DOCUMENTS) == (TOP_IMAGE.id,)


def test_every_image_that_lacks_a_layer_is_named() -> None:
    assert saved(BLOBS.keys() - {digest_of(BASE)}, DOCUMENTS) == (TOP_IMAGE.id, BASE_IMAGE.id)


def test_an_image_of_two_services_is_named_once() -> None:
    assert saved((), {}, [BASE_IMAGE, BASE_IMAGE]) == (BASE_IMAGE.id,)


@pytest.mark.parametrize("foreign", [b"", b"[]", b'{"manifests":[{}]}'])
def test_documents_of_some_scope_that_make_no_sense_do_not_end_the_export(foreign: bytes) -> None:
    assert saved(BLOBS, DOCUMENTS | {TOP_IMAGE.id: foreign}) == (TOP_IMAGE.id,)


def test_a_layer_that_some_scope_keeps_among_its_documents_is_not_stored() -> None:
    documents = DOCUMENTS | by_digest(TOP)

    assert saved(BLOBS.keys() - {digest_of(TOP)}, documents) == (TOP_IMAGE.id,)
    assert digest_of(TOP) in {blob.digest for blob in describe(CHAIN, documents).blobs}


@given(st.sets(st.sampled_from(sorted(BLOBS))), st.sets(st.sampled_from(sorted(DOCUMENTS))))
def test_what_is_not_saved_can_be_written_down(blobs: set[Digest], names: set[Digest]) -> None:
    documents = {name: DOCUMENTS[name] for name in names}
    for image in CHAIN:
        if not saved(blobs, documents, [image]):
            describe([image], documents, {digest: BLOBS[digest] for digest in blobs})


# Writing down


def ref(digest: Digest) -> Ref:
    return Ref("main", f"{digest[7:]}.019424f8-632e-7001-8203-040506070809")


def describe(
    chain: Sequence[Held],
    documents: Mapping[Digest, bytes] = DOCUMENTS,
    blobs: Mapping[Digest, int] = BLOBS,
) -> EntryContents:
    sizes = {digest: (ref(digest), size) for digest, size in blobs.items()}
    return describe_layout_images(chain, documents, sizes)


def test_an_image_is_written_down_as_the_engine_holds_it() -> None:
    image, base = describe(CHAIN).images

    assert (image.id, image.config) == (TOP_IMAGE.id, digest_of(config_json([BASE, TOP])))
    assert (image.tags, image.parent) == (["web:1", "web:2"], BASE_IMAGE.id)
    assert image.diff_ids == TOP_IMAGE.diff_ids
    assert image.layers == [digest_of(BASE), digest_of(TOP)]
    assert (base.id, base.parent) == (BASE_IMAGE.id, None)


def test_a_parent_that_is_not_in_the_entry_is_left_out() -> None:
    assert describe([TOP_IMAGE]).images[0].parent is None


def test_all_documents_that_an_image_leads_to_are_written_down_with_their_media_types() -> None:
    contents = describe([TOP_IMAGE])

    expected = without(BASE_MANIFEST)
    del expected[digest_of(config_json([BASE]))]
    assert contents.documents == expected
    assert contents.media_types == {
        digest_of(INDEX): OCI_INDEX,
        digest_of(TOP_MANIFEST): OCI_MANIFEST,
        digest_of(PROOF_MANIFEST): OCI_MANIFEST,
        digest_of(config_json([BASE, TOP])): OCI_CONFIG,
        digest_of(config_json([PROOF])): OCI_CONFIG,
    }


def test_a_blob_of_several_images_is_written_down_once() -> None:
    contents = describe(CHAIN)

    kinds = {digest_of(BASE): GZIP, digest_of(TOP): GZIP, digest_of(PROOF): IN_TOTO}
    assert contents.blobs == tuple(
        Blob(digest, BLOBS[digest], kind, number)
        for number, (digest, kind) in enumerate(kinds.items())
    )
    assert contents.refs == tuple(map(ref, kinds))


def test_an_image_with_other_layers_than_its_manifest_is_refused() -> None:
    with pytest.raises(EngineError, match=TOP_IMAGE.id):
        describe([replace(TOP_IMAGE, diff_ids=[digest_of(TOP)])])


# Platforms of which the engine has the manifest only: it saves that without what it names


def test_a_platform_of_which_only_the_manifest_is_there_is_left_out() -> None:
    documents = DOCUMENTS | by_digest(ARM_MANIFEST)

    assert saved(BLOBS, documents) == ()
    contents = describe(CHAIN, documents)
    assert digest_of(ARM_MANIFEST) in contents.documents
    assert {blob.digest for blob in contents.blobs} == BLOBS.keys()


def test_a_platform_that_is_all_there_is_kept() -> None:
    documents = DOCUMENTS | by_digest(ARM_MANIFEST, config_json([ARM]))

    assert saved(BLOBS, documents) == (TOP_IMAGE.id,)
    contents = describe(CHAIN, documents, BLOBS | {digest_of(ARM): len(ARM)})
    assert digest_of(ARM) in {blob.digest for blob in contents.blobs}
