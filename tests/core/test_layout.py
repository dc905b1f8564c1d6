"""Documents of images are followed to their leaves, whatever they hold, and written one way."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.tars import config_json

from longshore.core import layout
from longshore.core.digests import Digest, digest_of
from longshore.core.layout import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Tree,
    belongs_in_entry,
    image_tree,
    walk,
    write_index,
    write_manifest,
)
from longshore.errors import CorruptData

Json = Any
GZIP = OCI_LAYER + "+gzip"
IN_TOTO = "application/vnd.in-toto+json"
LAYERS = [b"base layer", b"top layer"]
DIFF_IDS = [digest_of(layer) for layer in LAYERS]
STORED = [b"\x1f\x8b" + layer for layer in LAYERS]
CONFIG = config_json(LAYERS)


def encode(document: Json) -> bytes:
    return json.dumps(document).encode()


def named(media_type: str, data: bytes, **more: Json) -> dict[str, Json]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def manifest(config: bytes, layers: list[bytes], kind: str = GZIP, **more: Json) -> bytes:
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": named(OCI_CONFIG, config),
            "layers": [named(kind, layer) for layer in layers],
        }
        | more
    )


def index(*manifests: dict[str, Json], **more: Json) -> bytes:
    return encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(manifests)} | more)


def by_digest(*documents: bytes) -> dict[Digest, bytes]:
    return {digest_of(data): data for data in documents}


STATEMENT = encode({"_type": "https://in-toto.io/Statement/v0.1"})
OUR_MANIFEST = manifest(CONFIG, STORED)
ATTESTATION_CONFIG = config_json([STATEMENT])
ATTESTATION = manifest(ATTESTATION_CONFIG, [STATEMENT], IN_TOTO)
ARM_MANIFEST = manifest(config_json([b"arm layer"]), [b"\x1f\x8barm layer"])
OUR_INDEX = index(
    named(OCI_MANIFEST, OUR_MANIFEST, platform={"architecture": "amd64", "os": "linux"}),
    named(OCI_MANIFEST, ARM_MANIFEST, platform={"architecture": "arm64", "os": "linux"}),
    named(OCI_MANIFEST, ATTESTATION, annotations={"vnd.docker.reference.type": "attestation"}),
)
HERE = by_digest(OUR_INDEX, OUR_MANIFEST, CONFIG, ATTESTATION, ATTESTATION_CONFIG, STATEMENT)


# Walking


def test_every_document_is_found_behind_one_that_names_it() -> None:
    tree = walk([digest_of(OUR_INDEX)], HERE)

    assert tree.documents == {
        digest_of(OUR_INDEX): OCI_INDEX,
        digest_of(OUR_MANIFEST): OCI_MANIFEST,
        digest_of(ATTESTATION): OCI_MANIFEST,
        digest_of(CONFIG): OCI_CONFIG,
        digest_of(ATTESTATION_CONFIG): OCI_CONFIG,
        digest_of(STATEMENT): IN_TOTO,
    }
    assert next(iter(tree.documents)) == digest_of(OUR_INDEX)


def test_layers_that_are_not_at_hand_are_blobs_as_their_manifest_describes_them() -> None:
    tree = walk([digest_of(OUR_INDEX)], HERE)

    assert tree.blobs == {
        digest_of(layer): Descriptor(GZIP, digest_of(layer), len(layer)) for layer in STORED
    }


def test_the_manifest_of_a_platform_that_was_not_pulled_is_absent_and_no_blob() -> None:
    assert walk([digest_of(OUR_INDEX)], HERE).absent == {digest_of(ARM_MANIFEST)}


def test_an_attestation_that_is_not_at_hand_is_a_blob() -> None:
    without = {digest: data for digest, data in HERE.items() if data != STATEMENT}

    tree = walk([digest_of(OUR_INDEX)], without)

    assert tree.blobs[digest_of(STATEMENT)].media_type == IN_TOTO
    assert digest_of(STATEMENT) not in tree.documents


@pytest.mark.parametrize("kind", [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST])
def test_the_root_is_what_it_says_it_is(kind: str) -> None:
    root = encode({"schemaVersion": 2, "mediaType": kind})

    assert walk([digest_of(root)], by_digest(root)).documents == {digest_of(root): kind}


@pytest.mark.parametrize("said", [None, "", "application/json"])
@pytest.mark.parametrize(("document", "kind"), [(OUR_MANIFEST, OCI_MANIFEST), (index(), OCI_INDEX)])
def test_a_root_that_does_not_say_what_it_is_is_told_by_its_config(
    document: bytes, kind: str, said: str | None
) -> None:
    plain = json.loads(document)
    del plain["mediaType"]
    root = encode(plain if said is None else plain | {"mediaType": said})

    assert walk([digest_of(root)], by_digest(root)).documents == {digest_of(root): kind}


def test_dockers_own_media_types_are_followed() -> None:
    inner = manifest(CONFIG, [], mediaType=DOCKER_MANIFEST)
    root = index(named(DOCKER_MANIFEST, inner), mediaType=DOCKER_LIST)

    tree = walk([digest_of(root)], by_digest(root, inner, CONFIG))

    assert tree.documents[digest_of(inner)] == DOCKER_MANIFEST
    assert tree.documents[digest_of(CONFIG)] == OCI_CONFIG


def test_a_blob_that_several_manifests_name_is_there_once() -> None:
    one, other = manifest(CONFIG, STORED), manifest(CONFIG, [*STORED, STORED[0]])
    root = index(*(named(OCI_MANIFEST, document) for document in (one, other, one)))

    tree = walk([digest_of(root)], by_digest(root, one, other))

    assert list(tree.blobs) == [digest_of(CONFIG), *map(digest_of, STORED)]


def test_several_roots_are_followed() -> None:
    other = index()

    tree = walk([digest_of(OUR_INDEX), digest_of(other)], HERE | by_digest(other))

    assert {digest_of(OUR_INDEX), digest_of(other)} <= tree.documents.keys()


@pytest.mark.parametrize("field", ["config", "layers", "manifests"])
def test_what_go_writes_as_null_is_nothing(field: str) -> None:
    root = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, field: None})

    assert walk([digest_of(root)], by_digest(root)).documents == {digest_of(root): OCI_INDEX}
    assert image_tree(digest_of(root), [], by_digest(root)) is None


@pytest.mark.parametrize("length", [1, 2, 5])
def test_documents_that_name_each_other_in_a_circle_are_followed_once(length: int) -> None:
    """No digest can be found for such documents; whoever reads them must not rely on that."""
    names = [digest_of(b"%d" % number) for number in range(length)]
    documents = {
        name: index({"mediaType": OCI_INDEX, "digest": following, "size": 1})
        for name, following in zip(names, [*names[1:], names[0]], strict=True)
    }

    assert walk([names[0]], documents).documents == dict.fromkeys(names, OCI_INDEX)


def test_a_manifest_that_names_its_own_index_as_a_layer_ends() -> None:
    root, leaf = digest_of(b"root"), digest_of(b"leaf")
    documents = {
        root: index({"mediaType": OCI_MANIFEST, "digest": leaf, "size": 1}),
        leaf: encode({"layers": [{"mediaType": OCI_INDEX, "digest": root, "size": 1}]}),
    }

    assert walk([root], documents) == Tree({root: OCI_INDEX, leaf: OCI_MANIFEST}, {}, set())


def test_a_chain_of_indexes_may_be_long() -> None:
    documents: dict[Digest, bytes] = {}
    top = index()
    for _ in range(3000):
        documents |= by_digest(top)
        top = index(named(OCI_INDEX, top))

    assert len(walk([digest_of(top)], documents | by_digest(top)).documents) == 3001


def test_absurdly_many_manifests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_MAX_NODES", 100)
    leaves = [index(note=str(number)) for number in range(100)]
    fitting = index(*(named(OCI_INDEX, leaf) for leaf in leaves[1:]))
    too_many = index(*(named(OCI_INDEX, leaf) for leaf in leaves))

    assert len(walk([digest_of(fitting)], by_digest(fitting, *leaves)).documents) == 100
    with pytest.raises(CorruptData, match="more than 100 manifests"):
        walk([digest_of(too_many)], by_digest(too_many, *leaves))


def test_the_same_manifest_named_absurdly_often_costs_no_time() -> None:
    leaf = index()
    root = index(*itertools.repeat(named(OCI_INDEX, leaf), 30_000))

    assert len(walk([digest_of(root)], by_digest(root, leaf)).documents) == 2


WRONG: list[bytes] = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"layers":' * 50_000,
    b'{"unknown":' * 50_000,
    encode({"manifests": {}}),
    encode({"layers": ["text"]}),
    encode({"layers": [{}]}),
    encode({"config": []}),
    encode({"mediaType": 7}),
    encode({"config": {"mediaType": OCI_CONFIG, "size": 1}}),
    encode({"config": {"mediaType": OCI_CONFIG, "size": 1, "digest": None}}),
    encode({"config": {"digest": digest_of(b""), "size": 1}}),
    encode({"layers": [{"mediaType": GZIP, "digest": digest_of(b""), "size": "1"}]}),
    encode({"layers": [{"mediaType": GZIP, "digest": digest_of(b""), "size": 1.5}]}),
    encode({"layers": [{"mediaType": GZIP, "digest": "sha512:" + "0" * 128, "size": 1}]}),
    encode({"layers": [{"mediaType": GZIP, "digest": "sha256:" + "A" * 64, "size": 1}]}),
    encode({"layers": [{"mediaType": GZIP, "digest": "../../etc/passwd", "size": 1}]}),
    encode({"layers": [{"mediaType": GZIP, "digest": "", "size": 1}]}),
]


@pytest.mark.parametrize("document", WRONG, ids=range(len(WRONG)))
def test_what_is_no_index_or_manifest_is_corrupt(document: bytes) -> None:
    with pytest.raises(CorruptData):
        walk([digest_of(document)], by_digest(document))


@pytest.mark.parametrize("document", WRONG, ids=range(len(WRONG)))
def test_what_is_none_further_down_is_corrupt_too(document: bytes) -> None:
    root = index(named(OCI_MANIFEST, document))

    with pytest.raises(CorruptData):
        walk([digest_of(root)], by_digest(root, document))


@pytest.mark.parametrize("size", [-1, 0, 2**63, 2**80])
def test_the_size_that_a_document_claims_for_another_is_no_reason_to_fail(size: int) -> None:
    root = encode({"config": {"mediaType": OCI_CONFIG, "digest": digest_of(b""), "size": size}})

    assert set(walk([digest_of(root)], by_digest(root)).blobs) == {digest_of(b"")}


@st.composite
def near_documents(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two documents of which the first may name the second, each nearly right."""
    scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    media_types = st.sampled_from([OCI_INDEX, OCI_MANIFEST, OCI_CONFIG, GZIP, IN_TOTO, ""])
    inner = draw(st.sampled_from([*WRONG[:4], CONFIG, OUR_MANIFEST, index()]))
    digests = st.sampled_from([digest_of(inner), digest_of(CONFIG), "sha256:", ""])
    descriptors = st.fixed_dictionaries(
        {},
        optional={
            "mediaType": media_types | scalars,
            "digest": digests | scalars,
            "size": st.integers() | scalars,
            "annotations": st.none() | st.dictionaries(st.text(max_size=3), scalars, max_size=2),
        },
    )
    several = st.lists(descriptors | scalars, max_size=3)
    fields = {
        "mediaType": media_types | scalars,
        "config": descriptors | scalars,
        "layers": several | scalars,
        "manifests": several | scalars,
    }
    return encode(draw(st.fixed_dictionaries({}, optional=fields))), inner


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def follow(root: bytes, documents: Mapping[Digest, bytes]) -> None:
    """Follow documents by both functions; they may find them corrupt, and no more."""
    try:
        tree = walk([digest_of(root)], documents)
    except CorruptData:
        tree = Tree()
    assert tree.documents.keys() <= documents.keys()
    assert not tree.blobs.keys() & documents.keys()
    assert not tree.absent & documents.keys()
    try:
        found = image_tree(digest_of(root), DIFF_IDS, documents)
    except CorruptData:
        return
    assert found is None or found.config in documents


@given(JSON)
def test_any_json_is_followed_or_corrupt(value: Json) -> None:
    root = encode(value)
    follow(root, by_digest(root))


@given(st.binary(max_size=50))
def test_any_bytes_are_followed_or_corrupt(root: bytes) -> None:
    follow(root, by_digest(root))


@given(near_documents())
@example((index(named(OCI_MANIFEST, CONFIG)), CONFIG))
def test_what_is_nearly_right_is_followed_or_corrupt(pair: tuple[bytes, bytes]) -> None:
    follow(pair[0], by_digest(*pair, CONFIG))


# One image


def test_the_image_of_an_index_is_the_manifest_with_its_diff_ids() -> None:
    found = image_tree(digest_of(OUR_INDEX), DIFF_IDS, HERE)

    assert found is not None
    assert found.config == digest_of(CONFIG)
    assert [layer.digest for layer in found.layers] == [digest_of(layer) for layer in STORED]
    assert next(iter(found.documents)) == digest_of(OUR_INDEX)
    assert found.documents.keys() == HERE.keys()
    assert found.blobs.keys() == set(map(digest_of, STORED))


def test_of_two_platforms_that_are_there_the_one_with_the_diff_ids_counts() -> None:
    documents = HERE | by_digest(ARM_MANIFEST, config_json([b"arm layer"]))

    arm = image_tree(digest_of(OUR_INDEX), [digest_of(b"arm layer")], documents)
    ours = image_tree(digest_of(OUR_INDEX), DIFF_IDS, documents)

    assert arm is not None
    assert ours is not None
    assert arm.config == digest_of(config_json([b"arm layer"]))
    assert ours.config == digest_of(CONFIG)
    assert arm.blobs == ours.blobs


def test_an_image_may_be_a_bare_manifest() -> None:
    found = image_tree(digest_of(OUR_MANIFEST), DIFF_IDS, by_digest(OUR_MANIFEST, CONFIG))

    assert found is not None
    assert list(found.documents) == [digest_of(OUR_MANIFEST), digest_of(CONFIG)]


@pytest.mark.parametrize("lost", [OUR_INDEX, OUR_MANIFEST, CONFIG])
def test_an_image_is_not_found_without_what_leads_to_its_layers(lost: bytes) -> None:
    left = {digest: data for digest, data in HERE.items() if data != lost}

    assert image_tree(digest_of(OUR_INDEX), DIFF_IDS, left) is None


@pytest.mark.parametrize(
    "diff_ids", [[], DIFF_IDS[:1], DIFF_IDS[::-1], [*DIFF_IDS, DIFF_IDS[0]], [digest_of(STATEMENT)]]
)
def test_an_image_with_other_layers_is_not_found(diff_ids: list[Digest]) -> None:
    assert image_tree(digest_of(OUR_INDEX), diff_ids, HERE) is None


def test_an_image_without_layers_is_found() -> None:
    config = config_json([])
    root = encode({"config": named(OCI_CONFIG, config), "layers": None})

    found = image_tree(digest_of(root), [], by_digest(root, config))

    assert found is not None
    assert (found.config, found.layers) == (digest_of(config), ())


def test_what_is_no_layer_makes_no_image() -> None:
    """An attestation's config lists what is not unpacked as layers."""
    assert image_tree(digest_of(ATTESTATION), [digest_of(STATEMENT)], HERE) is None


def test_a_config_that_is_none_is_corrupt() -> None:
    broken = b"[]"
    root = manifest(broken, STORED)

    with pytest.raises(CorruptData):
        image_tree(digest_of(root), DIFF_IDS, by_digest(root, broken))


# What an entry holds itself


@pytest.mark.parametrize(
    "media_type",
    [
        OCI_INDEX,
        OCI_MANIFEST,
        DOCKER_LIST,
        DOCKER_MANIFEST,
        OCI_CONFIG,
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.buildkit.cacheconfig.v0",
    ],
)
def test_what_leads_to_layers_belongs_in_the_entry_whatever_its_size(media_type: str) -> None:
    assert belongs_in_entry(media_type, 1 << 30)


@pytest.mark.parametrize(
    "media_type",
    [
        OCI_LAYER,
        GZIP,
        OCI_LAYER + "+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ],
)
def test_a_layer_is_a_blob_whatever_its_size(media_type: str) -> None:
    assert not belongs_in_entry(media_type, 1)


def test_other_things_belong_in_the_entry_up_to_256_kib() -> None:
    assert belongs_in_entry(IN_TOTO, 256 << 10)
    assert not belongs_in_entry(IN_TOTO, (256 << 10) + 1)


# Writing


def test_a_manifest_is_written_the_same_for_ever() -> None:
    """Its digest is the id of an image from a graphdriver store on a containerd store."""
    written = write_manifest(
        Descriptor(OCI_CONFIG, "sha256:" + "c" * 64, 1234),
        [
            Descriptor(OCI_LAYER, "sha256:" + "1" * 64, 10_240),
            Descriptor(GZIP, "sha256:" + "2" * 64, 0),
        ],
    )

    assert written == (
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        b'"config":{"mediaType":"application/vnd.oci.image.config.v1+json",'
        b'"digest":"sha256:' + b"c" * 64 + b'","size":1234},'
        b'"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar",'
        b'"digest":"sha256:' + b"1" * 64 + b'","size":10240},'
        b'{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",'
        b'"digest":"sha256:' + b"2" * 64 + b'","size":0}]}'
    )
    assert digest_of(written) == (
        "sha256:9f306ef7e652be769bd88aef208b7ef715754ecd4aaa17fa1e591722ab669019"
    )


def test_a_manifest_without_layers_says_so() -> None:
    written = write_manifest(Descriptor(OCI_CONFIG, digest_of(b""), 0), [])

    assert json.loads(written)["layers"] == []


def test_an_index_is_written_the_same_for_ever() -> None:
    written = write_index(
        [
            Descriptor(OCI_MANIFEST, digest_of(b"1"), 1, {"io.containerd.image.name": "a:1"}),
            Descriptor(OCI_MANIFEST, digest_of(b"2"), 2),
        ]
    )

    assert written == (
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",'
        b'"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        b'"digest":"sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",'
        b'"size":1,"annotations":{"io.containerd.image.name":"a:1"}},'
        b'{"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        b'"digest":"sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35",'
        b'"size":2}]}'
    )


def test_an_index_of_nothing_says_so() -> None:
    assert json.loads(write_index([]))["manifests"] == []


def test_what_is_written_is_followed() -> None:
    config = Descriptor(OCI_CONFIG, digest_of(CONFIG), len(CONFIG))
    layers = [Descriptor(OCI_LAYER, digest_of(layer), len(layer)) for layer in LAYERS]
    inner = write_manifest(config, layers)
    root = write_index([Descriptor(OCI_MANIFEST, digest_of(inner), len(inner))])

    tree = walk([digest_of(root)], by_digest(root, inner, CONFIG))

    assert tree.documents.keys() == set(map(digest_of, (root, inner, CONFIG)))
    assert list(tree.blobs.values()) == layers
